"""An image without Docker: the Dockerfile's own steps, replayed in an empty folder; what starts there starts in it."""

import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
import venv
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from colours import TAGS, unsure_picture, zipped
from edge import free_port
from ripeloop.prediction import Flagged, image_id
from ripeloop.spool import Spool

ROOT = Path(__file__).parents[1]
MODULES = ("classifier", "sampler")
USER = "10001"
OURS = {"ripeloop", "classifier", "sampler", "retrain", "trainer", "localedge", "manifests", "demo"}

template = json.loads((ROOT / "deployment.template.json").read_text())


def instructions(dockerfile):
    """The (word, rest) of each instruction, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def in_context(path):
    """Does .dockerignore let this path, relative to the root, into the build? The last pattern that matches decides."""
    taken = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            rule = re.compile(
                re.escape(pattern.lstrip("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*") + "(/.*)?"
            )
            if rule.fullmatch(str(path)):
                taken = pattern.startswith("!")
    return taken


@dataclass
class Stage:
    """The files of one build stage under `root`, and what its instructions have set."""

    root: Path
    environ: dict[str, str]
    workdir: Path = field(init=False)
    said: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.workdir = self.root

    def place(self, path):
        """Where a path of the image lies here."""
        return self.root / path.lstrip("/") if path.startswith("/") else self.workdir / path

    def localized(self, text):
        """The same words with the image's absolute paths turned into ours."""
        return re.sub(r"(?<![^\s:='\"])/(?=\w)", f"{self.root}/", text)


class Replay:
    """What `docker build` would do with one Dockerfile, on a base image that is a fresh virtual environment."""

    def __init__(self, module, place):
        self.module = module
        self.base = place / "base"
        venv.create(self.base, with_pip=True, symlinks=True)
        self.place = place
        self.stages = {}
        for word, rest in instructions(ROOT / "modules" / module / "Dockerfile"):
            step = getattr(self, f"_{word.lower()}", None)
            if step is None:
                self.final.said[word] = rest
            else:
                step(rest)

    @property
    def final(self):
        return list(self.stages.values())[-1]

    def _from(self, rest):
        image, _, name = rest.partition(" AS ")
        root = self.place / f"stage{len(self.stages)}"
        root.mkdir()
        cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
        environ = {"PATH": f"{self.base}/bin:/usr/bin:/bin", "HOME": str(root), "UV_CACHE_DIR": cache}
        # how this machine reaches the package registry
        environ |= {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "HTTP", "http", "no_", "NO_"))}
        self.stages[name or f"{len(self.stages)}"] = Stage(root, environ)
        self.final.said["FROM"] = image

    def _env(self, rest):
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            value = self.final.localized(value)
            self.final.environ[name] = re.sub(r"\$(\w+)", lambda found: self.final.environ[found[1]], value)

    def _workdir(self, rest):
        self.final.workdir = self.final.place(rest)
        self.final.workdir.mkdir(parents=True, exist_ok=True)

    def _run(self, rest):
        if os.getuid() != 0:
            rest = re.sub(r" -[og] \d+", "", rest)  # only root may give files away
        subprocess.run(
            ["sh", "-euc", self.final.localized(rest)], cwd=self.final.workdir, env=self.final.environ, check=True
        )

    def _copy(self, rest):
        words = rest.split()
        source = ROOT
        if words[0].startswith("--from="):
            stage = self.stages[words.pop(0).removeprefix("--from=")]
            words[:-1] = [str(stage.place(word).relative_to(stage.root)) for word in words[:-1]]
            source = stage.root
        *wanted, to = words
        for name in wanted:
            target = self.final.place(to)
            if (source / name).is_dir():
                shutil.copytree(source / name, target, symlinks=True, ignore=self._left_out(source), dirs_exist_ok=True,
                                copy_function=os.link if source != ROOT else shutil.copy2)  # fmt: skip
            else:
                assert source != ROOT or in_context(Path(name))
                shutil.copy(source / name, target / Path(name).name if to.endswith("/") else target)

    @staticmethod
    def _left_out(source):
        def left_out(folder, names):
            return [n for n in names if source == ROOT and not in_context((Path(folder) / n).relative_to(ROOT))]

        return left_out

    def start(self, command, **settings):
        """Run a command line of the image as its process would run: its environment and nothing of ours."""
        mine = ("PATH", "HOME", "PYTHON", "ORT_", "CLASSIFIER_", "SAMPLER_")
        environ = {k: v for k, v in self.final.environ.items() if k.startswith(mine)} | settings
        program = shutil.which(command[0], path=environ["PATH"])
        return subprocess.Popen(
            [program, *command[1:]], cwd=self.final.workdir, env=environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, command, **settings):
        """Run a command line of the image to its end: the exit code and what it said."""
        process = self.start(command, **settings)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def says(self, code):
        """What a line of Python prints in the image."""
        code, said = self.run(["python", "-c", code])
        assert code == 0, said
        return said.strip()

    def fixed_files(self):
        """All that lies outside the volumes, with its time: in a container it cannot be written to."""
        volumes = {self.final.place(volume) for volume in ("/spool", "/models", "/state")}
        return {
            path: path.lstat().st_mtime_ns for path in self.final.root.rglob("*") if not volumes & {path, *path.parents}
        }

    @property
    def entrypoint(self):
        return json.loads(self.final.said["ENTRYPOINT"])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Both images, each replayed on first use; removed at the end, for they are large."""
    made = {}

    def image_of(module):
        if module not in made:
            made[module] = Replay(module, tmp_path_factory.mktemp(module))
        return made[module]

    yield image_of
    for image in made.values():
        shutil.rmtree(image.place)


@pytest.fixture(params=MODULES)
def image(request, images):
    return images(request.param)


@contextmanager
def running(process):
    """A process that must end with 0 when it is asked to."""
    try:
        yield process
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said


def until(holds, process, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_image_holds_its_own_module_and_no_other_code(image):
    app = image.final.workdir
    assert {path.name for path in app.iterdir()} == {".venv", "modules"}
    assert {path.name for path in (app / "modules").iterdir()} == {"ripeloop", image.module}
    copied = {path.name for path in (app / "modules").rglob("*")}
    assert not copied & {"Dockerfile", "module.json", ".env", "__pycache__"}


def test_nothing_of_the_tools_the_tests_or_the_other_module_can_be_imported(image):
    absent = OURS - {"ripeloop", image.module} | {"pytest", "mypy", "uv", "rich", "onnx", "hypothesis"}
    absent |= {"classifier": {"azure.storage", "sqlite_utils"}, "sampler": {"onnxruntime", "PIL", "numpy"}}[
        image.module
    ]
    code = f"""
import importlib.util
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
print(sorted(name for name in {sorted(absent)} if there(name)))"""
    assert image.says(code) == "[]"


def test_the_image_runs_its_own_python_and_no_tool_that_built_it(image):
    app = str(image.final.root)
    assert image.says("import sys; print(sys.prefix)").startswith(app)
    assert not [path for path in (image.final.workdir / ".venv" / "bin").iterdir() if path.name.startswith("uv")]


def test_the_user_is_not_root_and_owns_the_folders_it_writes_to(image):
    assert image.final.said["USER"] == f"{USER}:{USER}"
    mounts = template["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"][image.module]["settings"][
        "createOptions"
    ]["HostConfig"]["Binds"]
    for mount in mounts:
        folder = image.final.place(mount.split(":")[1])
        assert folder.is_dir(), f"{mount} is no folder of the image, so root would own the volume"
        if os.getuid() == 0:
            assert (str(folder.stat().st_uid), str(folder.stat().st_gid)) == (USER, USER)


def test_the_entry_point_explains_itself(image):
    code, said = image.run([*image.entrypoint, "--help"])
    assert code == 0
    assert f"{image.module.upper()}_SPOOL" in said


def test_the_classifiers_image_answers_a_camera_and_says_that_it_is_well(images, tmp_path):
    image, port = images("classifier"), str(free_port())
    zipped(image.final.place("/models") / "model.zip")
    before = image.fixed_files()
    process = image.start(image.entrypoint, CLASSIFIER_HOST="127.0.0.1", CLASSIFIER_PORT=port)
    check = json.loads(image.final.said["HEALTHCHECK"].partition("CMD ")[2])
    with running(process):
        until(lambda: image.run(check, CLASSIFIER_PORT=port)[0] == 0, process)
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        connection.request("POST", "/image", unsure_picture(1))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert {prediction["tagName"] for prediction in answer["predictions"]} == set(TAGS)
        until(lambda: Spool(image.final.place("/spool")).usage()[1] == 1, process)
    assert image.run(check, CLASSIFIER_PORT=port)[0] != 0
    assert image.fixed_files() == before


def test_the_classifiers_image_without_a_model_says_so_and_ends(images):
    image = images("classifier")
    code, said = image.run(image.entrypoint, CLASSIFIER_MODEL=str(image.final.place("/models/none.zip")))
    assert code == 2
    assert "there is no model at" in said


def test_the_samplers_image_brings_what_is_flagged_to_the_cloud(images, tmp_path):
    image, picture = images("sampler"), unsure_picture(2)
    spool = Spool(image.final.place("/spool"))
    record = Flagged(image_id(picture), datetime.now(UTC), "low_confidence", (), "v1", "image/png")
    assert spool.put(record, picture)
    before = image.fixed_files()
    process = image.start(image.entrypoint, SAMPLER_CLOUD_BLOBS=str(tmp_path), SAMPLER_SCAN_SECONDS="0.2")
    with running(process):
        until(lambda: [path.read_bytes() for path in tmp_path.rglob("*.png")] == [picture], process)
        until(lambda: not spool.ids(), process)
    assert image.fixed_files() == before


@pytest.mark.parametrize("module", MODULES)
def test_one_file_serves_both_platforms(module):
    described = json.loads((ROOT / "modules" / module / "module.json").read_text())["image"]
    folder = ROOT / "modules" / module
    assert set(described["tag"]["platforms"]) == {"amd64", "arm64v8"}
    assert {(folder / path).resolve() for path in described["tag"]["platforms"].values()} == {folder / "Dockerfile"}
    assert (folder / described["contextPath"]).resolve() == ROOT
    bases = [rest for word, rest in instructions(folder / "Dockerfile") if word == "FROM"]
    assert not [base for base in bases if "amd64" in base or "arm64" in base or "--platform" in base]


@pytest.mark.parametrize("module", MODULES)
def test_images_are_built_with_the_uv_that_wrote_the_lock_file(module):
    pinned = re.search(r"uv==([\d.]+)", (ROOT / "modules" / module / "Dockerfile").read_text())
    assert pinned is not None
    assert f"UV_VERSION := {pinned[1]}\n" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "path",
    [".env", ".env.template", "modules/classifier/.env", "modules/sampler/.env.local", ".git/config", ".venv/x",
     "tests/x", "tools/retrain/devices/fleet.py", "config/deployment.amd64.json", "modules/sampler/__pycache__/x.pyc",
     "modules/sampler/Dockerfile", "README.md"],
)  # fmt: skip
def test_secrets_and_all_that_no_image_needs_stay_out_of_the_build(path):
    assert not in_context(Path(path))


@pytest.mark.parametrize(
    "path", ["pyproject.toml", "uv.lock", "modules/ripeloop/hub.py", "modules/sampler/__main__.py"]
)
def test_what_an_image_needs_is_in_the_build(path):
    assert in_context(Path(path))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("module", MODULES)
def test_no_image_needs_a_compiler(module, machine):
    """paho-mqtt has no wheel, but no C code either."""
    packages = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    wanted = [entry["name"] for entry in packages["ripeloop"]["optional-dependencies"][module]]
    found = set()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted += [entry["name"] for entry in packages[name].get("dependencies", ())]
    image = re.compile(rf"(cp312-cp312|abi3|-none)-manylinux\w*.*_{machine}\b|-none-any")
    without = {
        name for name in found if not any(image.search(wheel["url"]) for wheel in packages[name].get("wheels", ()))
    }
    assert without == {"paho-mqtt"}
