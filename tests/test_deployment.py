"""What Azure IoT Edge is told: its own tool, its schemas and our edge runtime all take the very same template."""

import base64
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import jsonschema
import pytest
import referencing
from click.testing import CliRunner

from localedge import deployment
from localedge.protocol.message import Message
from manifests.variables import expand
from retrain.__main__ import main
from retrain.devices.fleet import Fleet
from ripeloop.errors import Refused
from ripeloop.sampling import Sampling
from ripeloop.uncertainty import Policy
from sampler.telling.steering import Steering, steer

ROOT = Path(__file__).parents[1]
CONTRACTS = ROOT.parent / "shared" / "contracts"
TEMPLATE = ROOT / "deployment.template.json"
MODULES = ("classifier", "sampler")
PLATFORMS = ("amd64", "arm64v8")
# IoT Edge's own words; genconfig leaves them, and any variable that is not set, as they are
OWN_WORDS = {"$edgeAgent", "$edgeHub", "$upstream", "$schema-template"}
VARIABLE = re.compile(r"\$\{?([A-Z][A-Z0-9_]*)\}?(?![.\w-])")
SETTING = re.compile(r"(?P<comment>#\s?)?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)")

template = json.loads(TEMPLATE.read_text())
agent = template["modulesContent"]["$edgeAgent"]["properties.desired"]


def env_template(*, commented=False):
    """The settings of .env.template: those a deployment takes, or those commented out, which programs take."""
    found = [SETTING.fullmatch(line) for line in (ROOT / ".env.template").read_text().splitlines()]
    return {m["name"]: m["value"] for m in found if m and bool(m["comment"]) == commented}


def options(module):
    """Every setting of a module's command line, by its environment variable."""
    command = importlib.import_module(f"{module}.__main__").main
    found = [option for option in command.params if isinstance(option, click.Option)]
    return {f"{module.upper()}_{option.name.upper()}": option for option in found}


@pytest.fixture(scope="session")
def iotedgedev():
    """The Python that has Azure's tool: an environment of its own, made from its lock file on first use."""
    place = ROOT / ".cache" / f"genconfig-{sys.version_info.major}.{sys.version_info.minor}"
    own_uv = ROOT / ".uv" / "bin" / "uv"
    uv = str(own_uv) if own_uv.exists() else shutil.which("uv")
    if uv is None:
        pytest.fail("uv is missing: run the tests with `make test`")
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run(
        [uv, "sync", "--quiet", "--frozen", "--project", ROOT / "tests/genconfig", "--python", sys.executable],
        env=environ | {"UV_PROJECT_ENVIRONMENT": str(place), "UV_PYTHON_DOWNLOADS": "never"},
        check=True,
    )
    return place / "bin" / "python"


@pytest.fixture
def genconfig(iotedgedev, tmp_path):
    """Azure's tool on a copy of this solution: give a template and a platform, get its words and the manifest."""
    settings = tmp_path / "home" / ".iotedgedev" / "setting.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text("[DEFAULT]\nfirsttime = no\ncollect_telemetry = no\n")
    solution = tmp_path / "solution"
    for module in MODULES:
        shutil.copytree(ROOT / "modules" / module, solution / "modules" / module)
    shutil.copy(ROOT / ".env.template", solution / ".env")

    def run(text=TEMPLATE.read_text(), platform="amd64"):
        (solution / TEMPLATE.name).write_text(text)
        command = ["solution", "genconfig", "-f", TEMPLATE.name, "-P", platform, "--fail-on-validation-error"]
        done = subprocess.run(
            [iotedgedev, ROOT / "tests/genconfig/offline.py", *command],
            cwd=solution,
            env={"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )
        assert "collect_telemetry = no" in settings.read_text()
        manifest = solution / "config" / f"deployment.{platform}.json"
        return done, manifest.read_text() if manifest.exists() else ""

    return run


@pytest.mark.parametrize("platform", PLATFORMS)
def test_azures_own_tool_renders_the_template_and_its_schema_takes_it(genconfig, platform):
    done, manifest = genconfig(platform=platform)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Deployment manifest schema validation passed" in done.stdout
    assert "Validation for all createOptions passed" in done.stdout
    assert set(re.findall(r"\$[{\w-]+", manifest)) <= OWN_WORDS, "a variable is not set in .env.template"
    for module in MODULES:
        image = json.loads(manifest)["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"][module]
        assert image["settings"]["image"].endswith(f"/ripeloop-{module}:{version()}-{platform}")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_our_own_command_renders_the_very_same(genconfig, tmp_path, platform):
    out = tmp_path / "mine.json"
    flags = ["--platform", platform, "--env-file", str(ROOT / ".env.template"), "--laptop", "--out", str(out)]
    clean = {name: None for name in os.environ if name in env_template()}
    done = CliRunner(env=clean).invoke(main, ["manifest", "render", str(TEMPLATE), *flags])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text()) == json.loads(genconfig(platform=platform)[1])


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"restartPolicy": "always"', '"restartPolicy": "sometimes"'),
        ('"status": "running"', '"status": "asleep"'),
        ('"startupOrder": 1', '"startupOrder": "first"'),
        ('"priority": 5', '"priority": 10'),
        ('"routes": {', '"roads": {'),
    ],
)
def test_a_spoiled_template_is_refused(genconfig, good, bad):
    assert good in TEMPLATE.read_text()
    done, _ = genconfig(TEMPLATE.read_text().replace(good, bad))
    assert done.returncode != 0


@pytest.mark.skipif(not CONTRACTS.is_dir(), reason="the schemas of ../shared/contracts are not here")
def test_template_and_manifest_meet_the_newest_schemas(genconfig):
    schemas = {path.name: json.loads(path.read_text()) for path in CONTRACTS.glob("azure-iot-*.json")}
    registry = referencing.Registry().with_contents(
        (f"https://json.schemastore.org/{name}", schema) for name, schema in schemas.items()
    )

    def check(document, name):
        jsonschema.Draft4Validator(schemas[name], registry=registry).validate(document)

    check(template, "azure-iot-edge-deployment-template-4.0.json")
    manifest = json.loads(genconfig()[1])
    check(manifest, "azure-iot-edge-deployment-2.0.json")
    content = manifest["modulesContent"]
    check({"$edgeAgent": content["$edgeAgent"]}, "azure-iot-edgeagent-deployment-1.1.json")
    check({"$edgeHub": content["$edgeHub"]}, "azure-iot-edgehub-deployment-1.2.json")


def test_localedge_reads_template_and_manifest_alike(genconfig, tmp_path):
    (tmp_path / "manifest.json").write_text(genconfig()[1])
    from_template = deployment.load(TEMPLATE, env_template())
    from_manifest = deployment.load(tmp_path / "manifest.json", {})
    assert from_template.modules == from_manifest.modules == ("blobs", "sampler", "classifier")
    for module in (*from_template.modules, "$edgeHub"):
        assert from_template.desired[module] == from_manifest.desired[module]
    assert from_template.environment == from_manifest.environment
    assert [(r.name, r.endpoint, r.priority, r.time_to_live) for r in from_template.routes] == [
        (r.name, r.endpoint, r.priority, r.time_to_live) for r in from_manifest.routes
    ]


async def test_the_local_edge_runtime_runs_the_very_same_template(edge_factory):
    edge = edge_factory(template, flags=["--env-file", str(ROOT / ".env.template")])
    async with Fleet.open(edge.connection_string, edge.ca_file) as fleet:
        assert set(await fleet.modules("laptop")) == {"$edgeAgent", "$edgeHub", "blobs", "sampler", "classifier"}
        for module in MODULES:
            twin = await fleet.twin("laptop", module)
            assert twin.desired == template["modulesContent"][module]["properties.desired"]
        with pytest.raises(Refused):
            await fleet.apply("laptop", {"modulesContent": {"$edgeAgent": {}}})


@pytest.mark.parametrize(
    ("module", "output", "endpoints"),
    [
        ("classifier", "uncertain", ["sampler/uncertain"]),
        ("classifier", "summary", ["$upstream"]),
        ("sampler", "summary", ["$upstream"]),
        ("sampler", "uncertain", []),
        ("classifier", "unknown", []),
        ("blobs", "summary", []),
    ],
)
def test_each_message_goes_where_it_should(module, output, endpoints):
    message = Message(module, b"{}", output)
    routes = deployment.load(TEMPLATE, env_template()).routes
    assert [route.endpoint for route in routes if route.takes(message)] == endpoints


def test_predictions_go_up_for_posted_images_and_the_replies_to_modules_do_not():
    routes = deployment.load(TEMPLATE, env_template()).routes
    for source, endpoints in (("http", ["$upstream"]), ("message", [])):
        message = Message("classifier", b"{}", "predictions", properties={"source": source})
        assert [route.endpoint for route in routes if route.takes(message)] == endpoints


def test_summaries_outlive_a_week_without_a_network():
    hub = template["modulesContent"]["$edgeHub"]["properties.desired"]
    kept = {route["timeToLiveSecs"] for route in hub["routes"].values() if route["route"].endswith("$upstream")}
    assert kept == {7 * 24 * 3600}
    assert hub["storeAndForwardConfiguration"]["timeToLiveSecs"] == 7 * 24 * 3600


def test_the_desired_properties_name_every_setting():
    content = template["modulesContent"]
    wanted = content["classifier"]["properties.desired"]
    sampling, refused = Sampling.from_section(wanted["sampling"], Sampling())
    assert not refused
    assert sampling.to_section() == wanted["sampling"]
    assert sampling.over(Policy()) == Policy()
    assert set(wanted["sampling"]) == {"audit_rate"}  # any more would hide what a model's package says
    wanted = content["sampler"]["properties.desired"]
    steering, reasons = steer(wanted, Steering(), Steering())
    assert not [reason for section in reasons.values() for reason in section.values() if reason]
    assert steering.to_reported() == wanted


def test_no_desired_property_is_null_because_a_twin_cannot_hold_one():
    desired = [part["properties.desired"] for part in template["modulesContent"].values()]
    assert ": null" not in json.dumps(desired)


def test_everything_starts_again_and_the_classifier_starts_last():
    hub = agent["systemModules"]["edgeHub"]
    modules = {"edgeHub": hub, **agent["modules"]}
    assert {module["restartPolicy"] for module in modules.values()} == {"always"}
    assert sorted(modules, key=lambda name: modules[name]["startupOrder"]) == [
        "edgeHub", "blobs", "sampler", "classifier",
    ]  # fmt: skip
    assert len({module["startupOrder"] for module in modules.values()}) == len(modules)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_may_do_no_more_than_it_needs(module):
    host = host_config(module)
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"] is True
    assert "Privileged" not in host
    assert host["Memory"] >= 256 * 1024 * 1024


def test_the_spool_is_shared_and_all_else_is_not():
    mounts = {module: dict(bind.split(":") for bind in host_config(module)["Binds"]) for module in MODULES}
    folders = {module: set(binds.values()) for module, binds in mounts.items()}
    assert folders == {"classifier": {"/spool", "/models", "/state"}, "sampler": {"/spool", "/state"}}
    shared = set(mounts["classifier"]) & set(mounts["sampler"])
    assert {mounts["sampler"][volume] for volume in shared} == {"/spool"}


def test_logs_cannot_fill_the_disk():
    everything = [*agent["systemModules"].values(), *agent["modules"].values()]
    for module in everything:
        log = module["settings"]["createOptions"]["HostConfig"]["LogConfig"]["Config"]
        assert log["max-size"]
        assert log["max-file"]


def test_the_classifier_is_reached_on_the_devices_port():
    host = host_config("classifier")
    assert host["PortBindings"] == {"80/tcp": [{"HostPort": "$CLASSIFIER_HOST_PORT"}]}
    # the user in the image is not root; older engines keep ports below 1024 for root
    assert int(host["Sysctls"]["net.ipv4.ip_unprivileged_port_start"]) <= 80


def test_the_blob_module_has_a_legal_host_name_account_and_key():
    values = env_template()
    assert re.fullmatch(r"[a-z0-9]{3,24}", values["BLOBS_ACCOUNT"])
    assert len(base64.b64decode(values["BLOBS_KEY"], validate=True)) == 64
    address = agent["modules"]["sampler"]["env"]["SAMPLER_LOCAL_BLOBS"]["value"]
    host = re.search(r"BlobEndpoint=http://([a-z][a-z0-9-]*):11002/\$BLOBS_ACCOUNT;", address)
    assert host is not None
    assert host[1] in agent["modules"]


def test_the_blob_module_leaves_uploading_and_deleting_to_the_sampler():
    blobs = template["modulesContent"]["blobs"]["properties.desired"]
    assert blobs["deviceToCloudUploadProperties"]["uploadOn"] is False
    assert blobs["deviceAutoDeleteProperties"]["deleteOn"] is False


@pytest.mark.parametrize("module", MODULES)
def test_create_options_fit_the_eight_chunks_the_tool_writes(genconfig, module):
    manifest = json.loads(genconfig()[1])
    settings = manifest["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"][module]["settings"]
    chunks = [settings[name] for name in sorted(settings) if name.startswith("createOptions")]
    assert all(len(chunk) <= 512 for chunk in chunks)
    expected = expand(json.dumps(host_config(module)), env_template())
    assert json.loads("".join(chunks))["HostConfig"] == json.loads(expected)


def test_every_variable_of_the_deployment_is_explained_and_every_explained_one_is_used():
    sources = [TEMPLATE, *(ROOT / "modules" / module / "module.json" for module in MODULES)]
    used = {name for path in sources for name in VARIABLE.findall(path.read_text())} - {"MODULES"}
    assert used == set(env_template())


def test_each_setting_has_one_line_of_meaning():
    lines = (ROOT / ".env.template").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if SETTING.fullmatch(line):
            assert re.fullmatch(r"# [A-Z`].*[.!?)]", before), f"{line} needs a comment line above"


@pytest.mark.parametrize("module", MODULES)
def test_every_flag_of_a_module_is_explained_as_a_setting(module):
    explained = set(env_template()) | set(env_template(commented=True))
    assert set(options(module)) <= explained
    of_this_module = {name for name in explained if name.startswith(f"{module.upper()}_")}
    assert of_this_module - set(options(module)) <= {"CLASSIFIER_HOST_PORT"}


@pytest.mark.parametrize("module", MODULES)
def test_a_setting_that_is_commented_out_shows_its_default(module):
    command = importlib.import_module(f"{module}.__main__").main
    defaults = command.make_context(module, [], resilient_parsing=True).params
    for name, option in options(module).items():
        shown = env_template(commented=True).get(name)
        if shown is not None:
            default = defaults[option.name]
            assert option.type.convert(shown, None, None) == default if shown else not default, name


@pytest.mark.parametrize("module", MODULES)
def test_a_container_is_told_only_settings_the_module_has(module):
    the_systems = {"TZ"}
    assert set(agent["modules"][module]["env"]) - the_systems <= set(options(module))


@pytest.mark.parametrize("module", MODULES)
def test_the_versions_agree(module):
    described = json.loads((ROOT / "modules" / module / "module.json").read_text())
    assert described["image"]["tag"]["version"] == agent["modules"][module]["version"] == version()


@pytest.mark.parametrize("name", ["edgeAgent", "edgeHub"])
def test_the_runtime_is_of_the_supported_line(name):
    assert agent["systemModules"][name]["settings"]["image"].endswith(":1.6")


def version():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def host_config(module):
    return agent["modules"][module]["settings"]["createOptions"]["HostConfig"]
