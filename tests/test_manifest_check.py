"""`ripeloop manifest check`: everything that is wrong with a manifest, at once, each with its place."""

from __future__ import annotations

import base64
import copy
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
from click.testing import CliRunner

from manifests.variables import read_env_file
from retrain.__main__ import main
from retrain.manifest.check import check
from retrain.manifest.fill import chunks, fill
from retrain.manifest.finding import Place
from retrain.manifest.solution import read_image
from retrain.manifest.volumes import FOLDERS
from retrain.settings import NOT_AS_WANTED, USAGE

ROOT = Path(__file__).parents[1]
CONTRACTS = ROOT.parent / "shared" / "contracts"
Document = dict[str, Any]


def sound() -> Document:
    """Our own template, filled with values of somebody's own."""
    values = read_env_file(ROOT / ".env.template") | {"BLOBS_KEY": base64.b64encode(secrets.token_bytes(64)).decode()}
    images = {f"MODULES.{name}": read_image(ROOT / "modules" / name, values).names["amd64"] for name in MODULES}
    return fill(json.loads((ROOT / "deployment.template.json").read_text()), values, images).manifest


MODULES = ("classifier", "sampler")
SOUND = sound()


def agent(manifest: Document) -> Document:
    found: Document = manifest["modulesContent"]["$edgeAgent"]["properties.desired"]
    return found


def hub(manifest: Document) -> Document:
    found: Document = manifest["modulesContent"]["$edgeHub"]["properties.desired"]
    return found


def told(change: Callable[[Document], object], *, laptop: bool = False) -> list[str]:
    """What is said of our manifest after a change, serious or not."""
    manifest = copy.deepcopy(SOUND)
    change(manifest)
    return [f"{finding.place}: {finding.says}" for finding in check(manifest, laptop=laptop)]


def with_options(module: str, change: Callable[[Document], object]) -> Callable[[Document], object]:
    """A change of a module's create options."""

    def changed(manifest: Document) -> None:
        both = {**agent(manifest)["systemModules"], **agent(manifest)["modules"]}
        settings = both[module]["settings"]
        names = sorted(name for name in settings if name.startswith("createOptions"))
        options = json.loads("".join(settings.pop(name) for name in names))
        change(options)
        settings.update(chunks(json.dumps(options)))

    return changed


def host(module: str, **values: Any) -> Callable[[Document], object]:
    return with_options(module, lambda options: options["HostConfig"].update(values))


def without(module: str, name: str) -> Callable[[Document], object]:
    return with_options(module, lambda options: options["HostConfig"].pop(name))


def module(name: str, **values: Any) -> Callable[[Document], object]:
    return lambda manifest: agent(manifest)["modules"][name].update(values)


def env(name: str, **values: str) -> Callable[[Document], object]:
    return lambda manifest: agent(manifest)["modules"][name]["env"].update(
        {key: {"value": value} for key, value in values.items()}
    )


def route(text: str, **more: Any) -> Callable[[Document], object]:
    return lambda manifest: hub(manifest)["routes"].update({"mine": {"route": text, **more}})


def image(name: str, of: str) -> Callable[[Document], object]:
    def changed(manifest: Document) -> None:
        both = {**agent(manifest)["systemModules"], **agent(manifest)["modules"]}
        both[name]["settings"]["image"] = of

    return changed


def desired(name: str, **values: Any) -> Callable[[Document], object]:
    return lambda manifest: (
        manifest["modulesContent"].setdefault(name, {"properties.desired": {}})["properties.desired"].update(values)
    )


def test_our_own_manifest_is_sound_and_nothing_is_warned_of() -> None:
    assert check(SOUND) == []


WRONG = [
    (module("sampler", restartPolicy="sometimes"), "sampler.restartPolicy: must be always or on-unhealthy"),
    (lambda m: agent(m)["modules"]["sampler"].pop("restartPolicy"), "modules.sampler: lacks restartPolicy"),
    (module("sampler", startuporder=2), "startuporder: is not known here; is it meant to be startupOrder?"),
    (module("sampler", status="asleep"), "status: must be running or stopped"),
    (module("sampler", status="stopped"), "sampler has status stopped: it will not run"),
    (lambda m: agent(m).update(schemaVersion="1.0"), "schemaVersion: must be 1.1"),
    (lambda m: hub(m).update(schemaVersion="2.0"), "schemaVersion: must be 1.2 or 1.3 or 1.1"),
    (lambda m: m["modulesContent"].pop("$edgeHub"), "$.modulesContent: lacks $edgeHub"),
    (lambda m: hub(m).update(storeAndForwardConfiguration={"timeToLiveSecs": "a week"}), "must be a whole number"),
    (image("sampler", "registry/sampler:1@sha256:00"), "not both at once"),
    (image("sampler", "registry:5000/ripeloop-sampler"), "may be another image tomorrow"),
    (image("edgeAgent", "mcr.microsoft.com/azureiotedge-agent:1.5"), "agent:1.5 is no longer mended: write :1.6"),
    (image("edgeHub", "mcr.microsoft.com/azureiotedge-hub:latest"), "names no line of IoT Edge: write :1.6"),
    (image("edgeHub", "mcr.microsoft.com/azureiotedge-hub:1.7"), "edgeAgent and edgeHub are of two lines"),
    (route("FROM /messages/* TO $upstream"), "route mine: 'FROM /messages/* TO $upstream' is not FROM"),
    (route("FROM /messages/* WHERE a = 1 INTO $upstream"), "compares a number with text"),
    (route("FROM /messages/* INTO $upstream", priority=10), "priority: must be a whole number from 0 to 9"),
    (route("FROM /messages/modules/camera/* INTO $upstream"), "its source camera is no module"),
    (
        route('FROM /messages/modules/sampler/* INTO BrokeredEndpoint("/modules/printer/inputs/x")'),
        "its sink printer is no module",
    ),
    (
        route('FROM /messages/modules/sampler/* INTO BrokeredEndpoint("/modules/classifier/inputs/image")'),
        "classifier starts after sampler, its sender",
    ),
    (module("sampler", startupOrder=0), "sampler starts before blobs, where its images go"),
    (
        lambda m: agent(m)["systemModules"]["edgeHub"].update(startupOrder=9),
        "classifier starts before edgeHub (startupOrder 3 before 9): give edgeHub 0",
    ),
    (lambda m: agent(m)["systemModules"]["edgeHub"].pop("startupOrder"), "blobs starts before edgeHub"),
    (with_options("classifier", lambda o: o.update(User="root")), "classifier runs as User root: leave it out"),
    (with_options("sampler", lambda o: o.update(User="0:10001")), "sampler runs as User 0:10001"),
    (host("sampler", Privileged=True), "sampler is Privileged"),
    (host("sampler", CapAdd=["SYS_ADMIN"]), "sampler adds rights (CapAdd ['SYS_ADMIN'])"),
    (without("sampler", "CapDrop"), "sampler keeps rights of root"),
    (without("blobs", "SecurityOpt"), "blobs may gain rights"),
    (without("sampler", "Memory"), "sampler has no HostConfig.Memory"),
    (host("sampler", Memory=1000), "it has 1000"),
    (without("sampler", "LogConfig"), "sampler's log may fill the disk"),
    (host("sampler", Binds=["spool:/spool", "state"]), "the bind 'state' is not SOURCE:/FOLDER"),
    (host("sampler", Binds=["ripeloop-spool:/spool", "./state:/state"]), "'./state' is neither a volume's name"),
    (host("sampler", Binds=["ripeloop-spool:/spool", "/var/run/docker.sock:/s"]), "which gives it the device"),
    (host("sampler", Binds=["ripeloop-spool:/spool", "two:/spool/"]), "mounts two things at /spool"),
    (host("sampler", Binds=["other:/spool", "b:/state"]), "the modules do not share the spool"),
    (host("sampler", Binds=["ripeloop-sampler:/state"]), "sampler has no volume at /spool"),
    (host("classifier", Binds=["ripeloop-spool:/spool", "s:/state"]), "classifier has no volume at /models"),
    (host("edgeHub", Binds=["ripeloop-hub:/elsewhere"]), "edgeHub has no volume at its StorageFolder"),
    (lambda m: agent(m)["systemModules"]["edgeHub"]["env"].pop("StorageFolder"), "edgeHub has no volume at its"),
    (
        host("classifier", PortBindings={"80/tcp": [{"HostPort": "443"}]}),
        "classifier and edgeHub take the same port 443",
    ),
    (
        host("classifier", PortBindings={"80/tcp": [{"HostPort": 80}]}),
        "must be a port from 1 to 65535 as a text, not 80",
    ),
    (host("classifier", PortBindings={"http": []}), "'http' in PortBindings is no port of the container"),
    (
        lambda m: agent(m)["modules"]["sampler"]["settings"].update(createOptions="{"),
        "settings.createOptions: is not JSON",
    ),
    (lambda m: agent(m)["modules"]["sampler"]["settings"].update(createOptions="[]"), "must be an object, not a list"),
    (
        lambda m: agent(m)["modules"]["sampler"]["settings"].update(createOptions03="{}"),
        "lacks createOptions01: what comes after it is never read",
    ),
    (
        lambda m: agent(m)["modules"]["sampler"]["settings"].update(createOptions=" " * 600),
        "has 600 characters; 512 is the most",
    ),
    (env("blobs", LOCAL_STORAGE_ACCOUNT_NAME="My-Account"), "must be 3 to 24 small letters and digits"),
    (env("blobs", LOCAL_STORAGE_ACCOUNT_KEY="c2hvcnQ="), "must be 64 bytes in base64"),
    (env("blobs", LOCAL_STORAGE_ACCOUNT_KEY=base64.b64encode(b"k" * 64).decode()), "is the example's key, or another"),
    (env("blobs", LOCAL_STORAGE_ACCOUNT_NAME="another"), "names another account than blobs has"),
    (
        env("blobs", LOCAL_STORAGE_ACCOUNT_KEY=base64.b64encode(secrets.token_bytes(64)).decode()),
        "holds another key than blobs has",
    ),
    (
        env("sampler", SAMPLER_LOCAL_BLOBS="BlobEndpoint=http://store:11002/laptop"),
        "looks for blobs at store, which is no",
    ),
    (host("blobs", Binds=["blobs:/data"]), "blobs has nothing at /blobroot"),
    (desired("blobs", deviceToCloudUploadProperties={"uploadOn": True}), "blobs uploads by itself"),
    (desired("sampler", wide={str(n): "x" * 4000 for n in range(9)}), "bytes; the limit is 32768"),
    (desired("sampler", long="x" * 5000), "long: a value over 4096 bytes"),
    (desired("sampler", **{"a.b": 1}), "holds a dot"),
    (desired("sampler", keep=None), '"properties.desired"].keep: is null'),
    (desired("printer", ink=1), "printer is no module of this deployment"),
    (env("sampler", TZ="$DEVICE_TIME_ZONE"), "still holds the variable DEVICE_TIME_ZONE"),
    (module("classifier", restartPolicy="never"), "classifier stays away once it ends"),
    (lambda m: hub(m).update(routes={}), "the sampler finds its images only when it looks by itself"),
    (lambda m: hub(m)["routes"].pop("samplerSummary"), "no route takes /messages/modules/sampler/outputs/summary"),
    (env("classifier", CLASSIFIER_DECODE="fst"), "CLASSIFIER_DECODE: classifier does not start with it: 'fst' is not"),
    (env("classifier", CLASSIFIER_PORT="eighty"), "'eighty' is not a valid integer"),
    (env("classifier", CLASSIFIER_URL_HOSTS="cam 1"), "CLASSIFIER_URL_HOSTS: classifier does not start with it"),
    (env("classifier", CLASSIFIER_MODEL=""), "CLASSIFIER_MODEL: classifier does not start without it"),
    (env("classifier", CLASSIFIER_PORTT="80"), "reads no such variable: is it meant to be CLASSIFIER_PORT?"),
    (env("classifier", CLASIFIER_PORT="80"), "CLASIFIER_PORT: classifier reads no such variable"),
    (env("sampler", SAMPLER_UPLOAD_WINDOW="at night"), "SAMPLER_UPLOAD_WINDOW: sampler does not start with it"),
    (desired("classifier", sampling={"confidence_below": 7}), "must be between 0 and 1, not 7"),
    (desired("classifier", sampling=7), "].sampling: the module would refuse it: must be an object"),
    (desired("classifier", sampling={"margin": 0.1}), "].sampling.margin: the module does not read it"),
    (desired("classifier", model={"version": "2"}), "model.sha256 must be"),
    (desired("sampler", upload={"on": "maybe"}), "].upload.on: the module would refuse it: must be true or false"),
    (desired("sampler", keepp={"max_per_hour": 7}), "].keepp: the module does not read it: is it meant to be keep?"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_is_said(change: Callable[[Document], object], said: str) -> None:
    found = told(change)
    assert any(said in line for line in found), found


@pytest.mark.parametrize("name", MODULES)
def test_the_folders_that_need_a_volume_are_those_the_image_makes(name: str) -> None:
    made = re.search(r"install -d .* -m 0750 (.*)$", (ROOT / "modules" / name / "Dockerfile").read_text(), re.MULTILINE)
    assert made is not None
    assert set(made[1].split()) == set(FOLDERS[f"ripeloop-{name}"])


def test_what_a_module_takes_besides_its_own_variables_is_not_found_wrong() -> None:
    for change in (
        env("classifier", CUDA_VISIBLE_DEVICES="0", CLASSIFIER_MARGIN_BELOW="0.2", CLASSIFIER_MODEL_KEY=""),
        env("sampler", SAMPLER_UPLOAD_WINDOW="02:00-05:00"),
        env("blobs", CLASSIFIER_PORTT="80"),
        desired("sampler", keep={"max_per_day": 100}, upload={"on": False, "window": "02:00-05:00"}),
        desired("classifier", sampling={"tags": [{"tag": "ripe", "margin_below": 0.1}]}, report={"predictions": True}),
    ):
        assert told(change) == []


@pytest.mark.parametrize("name", ["r:5000/x/ripeloop-sampler:2-arm64v8", f"r/ripeloop-sampler@sha256:{'0a' * 32}"])
def test_our_modules_are_known_by_their_images_names(name: str) -> None:
    def change(manifest: Document) -> None:
        image("sampler", name)(manifest)
        env("sampler", SAMPLER_HTTP_PROT="1")(manifest)

    (found,) = told(change)
    assert found.endswith("sampler reads no such variable: is it meant to be SAMPLER_HTTP_PORT?")


def test_a_classifier_alone_needs_no_route_to_a_sampler() -> None:
    def change(manifest: Document) -> None:
        del agent(manifest)["modules"]["sampler"], manifest["modulesContent"]["sampler"]
        del hub(manifest)["routes"]["samplerSummary"], hub(manifest)["routes"]["uncertain"]

    assert told(change) == []


def test_ports_of_two_addresses_or_two_kinds_do_not_meet() -> None:
    def at(port: str, **more: str) -> list[str]:
        return told(host("classifier", PortBindings={port: [{"HostPort": "8883", **more}]}))

    assert at("80/udp") == []
    assert len(at("80/tcp", HostIp="10.0.0.1")) == 1  # edgeHub listens on every address


def test_a_module_that_is_named_in_other_letters_is_the_same_module() -> None:
    assert told(route("FROM /messages/modules/Classifier/outputs/x INTO $upstream")) == []


def test_the_examples_key_is_all_right_on_a_laptop() -> None:
    example = {"LOCAL_STORAGE_ACCOUNT_KEY": base64.b64encode(b"k" * 64).decode()}

    def change(manifest: Document) -> None:
        env("blobs", **example)(manifest)
        words = agent(manifest)["modules"]["sampler"]["env"]["SAMPLER_LOCAL_BLOBS"]
        words["value"] = (
            words["value"].rpartition("AccountKey=")[0] + f"AccountKey={example['LOCAL_STORAGE_ACCOUNT_KEY']}"
        )

    assert told(change, laptop=True) == []
    assert len(told(change)) == 1


def test_no_key_is_ever_shown() -> None:
    def change(manifest: Document) -> None:
        env("blobs", LOCAL_STORAGE_ACCOUNT_KEY="S3cretS3cret")(manifest)
        agent(manifest)["runtime"]["settings"]["registryCredentials"]["images"]["password"] = ["S3cret"]

    found = told(change)
    assert len(found) == 3
    assert "S3cret" not in " ".join(found)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document below its root."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def spoiled() -> Iterator[tuple[str, Document]]:
    """Our manifest, wrong in one place each time: without it, or with something else there, or with more beside it."""
    for path in places(SOUND):
        for what in ("gone", None, 7, -1, "", "x y", [], {}, {"x": 1}):
            manifest = copy.deepcopy(SOUND)
            at: Any = manifest
            for key in path[:-1]:
                at = at[key]
            if what == "gone":
                del at[path[-1]]
            else:
                at[path[-1]] = what
            yield f"{Place(path)} {what!r}", manifest
        manifest = copy.deepcopy(SOUND)
        at = manifest
        for key in path[:-1]:
            at = at[key]
        if isinstance(at, dict):
            at["more $"] = 1
            yield f"{Place(path[:-1])} and more", manifest


@pytest.mark.skipif(not CONTRACTS.is_dir(), reason="the schemas of ../shared/contracts are not here")
def test_whatever_the_public_schemas_refuse_is_refused_here_too() -> None:
    schemas = {path.name: json.loads(path.read_text()) for path in CONTRACTS.glob("azure-iot-*.json")}
    registry = referencing.Registry().with_contents(
        (f"https://json.schemastore.org/{name}", schema) for name, schema in schemas.items()
    )
    public = [
        jsonschema.Draft4Validator(schemas[name], registry=registry)
        for name in ("azure-iot-edge-deployment-2.0.json", "azure-iot-edgeagent-deployment-1.1.json",
                     "azure-iot-edgehub-deployment-1.2.json")
    ]  # fmt: skip

    def refused(manifest: Document) -> bool:
        content = manifest.get("modulesContent")
        parts = [{name: content[name]} if isinstance(content, dict) and name in content else {}
                 for name in ("$edgeAgent", "$edgeHub")]  # fmt: skip
        return not all(one.is_valid(part) for one, part in zip(public, [manifest, *parts], strict=True))

    assert not refused(SOUND)
    missed, seen = [], 0
    for what, manifest in spoiled():
        if refused(manifest):
            seen += 1
            if not any(finding.serious for finding in check(manifest)):
                missed.append(what)
    assert missed == []
    assert seen > 300


def spoiled_options() -> Iterator[tuple[str, Document]]:
    """Our manifest with create options that are of another kind in one place."""
    for name in ("edgeHub", "blobs", "classifier"):
        seen: list[Document] = []
        with_options(name, lambda options, seen=seen: seen.append(options))(copy.deepcopy(SOUND))
        for path in places(seen[0]):
            for what in (None, 7, "", "x", [], [7], [[]], {}, {"x": 1}):

                def change(options: Document, path: tuple[Any, ...] = path, what: object = what) -> None:
                    at: Any = options
                    for key in path[:-1]:
                        at = at[key]
                    at[path[-1]] = what

                manifest = copy.deepcopy(SOUND)
                with_options(name, change)(manifest)
                yield f"{name} {Place(path)} {what!r}", manifest


def test_nothing_that_stands_anywhere_makes_the_check_itself_fail() -> None:
    for what, manifest in [*spoiled(), *spoiled_options()]:
        for finding in check(manifest):
            assert finding.says, what


def write(tmp_path: Path, manifest: Document) -> str:
    path = tmp_path / "deployment.amd64.json"
    path.write_text(json.dumps(manifest))
    return str(path)


def test_the_command_lists_every_error_at_once_and_ends_with_1(tmp_path: Path) -> None:
    manifest = copy.deepcopy(SOUND)
    for change in (
        module("sampler", restartPolicy="no"),
        route("FROM nowhere INTO $upstream"),
        without("sampler", "CapDrop"),
    ):
        change(manifest)
    done = CliRunner().invoke(main, ["manifest", "check", write(tmp_path, manifest)])
    assert done.exit_code == NOT_AS_WANTED
    lines = done.output.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "error", "warning"]
    asked = CliRunner().invoke(main, ["manifest", "check", write(tmp_path, manifest), "--json"])
    found = json.loads(asked.output)
    assert asked.exit_code == NOT_AS_WANTED
    assert not found["sound"]
    assert found["findings"][0] == {
        "place": '$.modulesContent["$edgeAgent"]["properties.desired"].modules.sampler.restartPolicy',
        "level": "error",
        "says": "must be always or on-unhealthy or on-failure or never, not 'no'",
    }


def test_warnings_alone_are_sound(tmp_path: Path) -> None:
    manifest = copy.deepcopy(SOUND)
    without("sampler", "CapDrop")(manifest)
    done = CliRunner().invoke(main, ["manifest", "check", write(tmp_path, manifest)])
    assert done.exit_code == 0
    assert "warning: " in done.output
    assert "is sound: 3 modules (blobs, sampler, classifier), 4 routes" in done.output


def test_a_template_is_told_to_be_rendered_first() -> None:
    done = CliRunner().invoke(main, ["manifest", "check", str(ROOT / "deployment.template.json")])
    assert done.exit_code == USAGE
    assert "is a template; render it first: ripeloop manifest render" in done.output
