"""The examples of docs/schedule: each scheduler's own syntax, and nothing in them that the command does not know."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from retrain.__main__ import main
from retrain.release.commands import USUAL

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "schedule"
FILES = sorted(path for path in EXAMPLES.iterdir() if path.is_file())
UNITS = sorted([*EXAMPLES.glob("*.service"), *EXAMPLES.glob("*.timer")])
PROGRAM = "/opt/ripeloop/.venv/bin/ripeloop"
# what each example must say, in its own way
KEYS = {"RIPELOOP_TRAINING_KEY", "RIPELOOP_CLOUD_BLOBS", "RIPELOOP_HUB"}


def text(name: str) -> str:
    return (EXAMPLES / name).read_text()


def command_of(words: list[str]) -> click.Command:
    """The command that these words name, below `ripeloop`."""
    found: click.Command = main
    for word in words:
        assert isinstance(found, click.Group)
        assert word in found.commands, f"there is no `ripeloop {word}`"
        found = found.commands[word]
    return found


def variables(command: click.Command) -> set[str]:
    """Every environment variable that sets an option of the command, or of `ripeloop` itself."""
    options = [option for one in (main, command) for option in one.params if isinstance(option, click.Option)]
    names = {f"RIPELOOP_{option.name}".upper() for option in main.params}
    for option in options:
        names |= {option.envvar} if isinstance(option.envvar, str) else set(option.envvar or ())
    return names


def logical_lines(script: str) -> list[str]:
    return [line for line in script.splitlines() if line.strip() and not line.lstrip().startswith("#")]


# -- all of them


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_variable_in_an_example_is_one_of_the_command(path: Path) -> None:
    named = set(re.findall(r"\bRIPELOOP_[A-Z_]+\b", path.read_text()))
    assert named <= variables(command_of(["retrain"]))


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_command_line_in_an_example_is_one_of_ours(path: Path) -> None:
    for words in re.findall(r"(?:`|bin/)ripeloop ((?:[a-z][a-z-]*|--[a-z-]+)(?: --[a-z-]+)*)", path.read_text()):
        parts = words.split()
        if parts[0].startswith("--"):
            continue
        command = command_of(parts[:1])
        flags = {flag for option in command.params for flag in option.opts} | {"--help"}
        assert set(parts[1:]) <= flags, words


def test_an_example_for_each_scheduler_runs_the_turn() -> None:
    for name in ("ripeloop.cron", "ripeloop-retrain.service", "github-actions.yml"):
        assert re.search(r"bin/ripeloop retrain$|bin/ripeloop retrain[ ;]", text(name), re.MULTILINE), name


def test_no_example_holds_a_key() -> None:
    for path in FILES:
        assert not re.search(r"AccountKey=[A-Za-z0-9+/]{20}|sig=[A-Za-z0-9%]{10}", path.read_text()), path.name


def test_the_keys_file_and_the_config_name_real_settings() -> None:
    given = {line.partition("=")[0] for line in logical_lines(text("retrain.env.example"))}
    assert given == KEYS
    for line in logical_lines(text("retrain.env.example")):
        (word,) = shlex.split(line)  # one word for a shell, whatever ; and & it holds
        assert word.partition("=")[2]


def test_the_config_holds_settings_of_the_turn_and_the_command_reads_it() -> None:
    done = CliRunner().invoke(main, ["--config", str(EXAMPLES / "ripeloop.toml"), "config", "--json"])
    assert done.exit_code == 0, done.output
    settings = json.loads(done.output)["settings"]
    ours = {one["setting"] for one in settings if one["from"].endswith("ripeloop.toml")}
    assert ours == {"endpoint", "project", "retrain.ring", "retrain.then"}
    names = {f"RIPELOOP_{name.removeprefix('retrain.').upper()}" for name in ours}
    assert names <= variables(command_of(["retrain"]))


@pytest.mark.parametrize(
    "names",
    [("ripeloop.toml", "retrain.env.example"), ("github-actions.yml",), ("kubernetes.yaml", "retrain.env.example")],
)
def test_nothing_that_the_turn_must_be_told_is_forgotten(names: tuple[str, ...]) -> None:
    tree = tomllib.loads(text("ripeloop.toml")) if "ripeloop.toml" in names else {}
    config = set(tree | tree.get("retrain", {}))
    told = {f"RIPELOOP_{name.upper()}" for name in config}
    told |= {name for file in names for name in re.findall(r"RIPELOOP_[A-Z_]+", text(file))}
    required = [option for option in command_of(["retrain"]).params if option.required]
    assert len(required) >= 4
    for option in required:
        assert told & ({option.envvar} if isinstance(option.envvar, str) else set(option.envvar or ())), option.name
    assert told >= {"RIPELOOP_HUB", "RIPELOOP_RING"}, "nothing would be released"


# -- cron


def cron_jobs() -> tuple[dict[str, str], list[list[str]]]:
    settings: dict[str, str] = {}
    jobs = []
    for line in logical_lines(text("ripeloop.cron")):
        if found := re.fullmatch(r"([A-Z_]+)=(\S+)", line):
            settings[found[1]] = found[2]
        else:
            jobs.append(line.split(maxsplit=6))
    return settings, jobs


@pytest.mark.parametrize(
    ("fields", "good"),
    [("17 2 * * *", True), ("*/15 0-6 1,15 * 1-5", True), ("60 2 * * *", False), ("17 24 * * *", False),
     ("17 2 0 * *", False), ("17 2 * 13 *", False), ("17 2 * * 8", False), ("17 2 * *", False), ("5-1 2 * * *", False)],
)  # fmt: skip
def test_the_check_of_cron_times_is_strict(fields: str, good: bool) -> None:
    assert is_cron(fields) is good


def is_cron(fields: str) -> bool:
    """Whether these five fields are a time of cron's."""
    bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
    parts = fields.split()
    return len(parts) == 5 and all(_in_bounds(part, *bound) for part, bound in zip(parts, bounds, strict=True))


def _in_bounds(field: str, low: int, high: int) -> bool:
    for one in field.split(","):
        span, _, step = one.partition("/")
        if step and not (step.isdigit() and 1 <= int(step) <= high):
            return False
        if span == "*":
            continue
        ends = span.split("-")
        if len(ends) > 2 or not all(end.isdigit() and low <= int(end) <= high for end in ends):
            return False
        if int(ends[0]) > int(ends[-1]):
            return False
    return True


def test_the_cron_file_is_one_job_of_a_user_and_its_shell_takes_it() -> None:
    settings, jobs = cron_jobs()
    ((*times, user, shell),) = jobs
    assert is_cron(" ".join(times))
    assert user == "ripeloop"
    assert "%" not in shell, "cron ends a command at a %"
    assert settings["MAILTO"]
    subprocess.run([settings["SHELL"], "-n", "-c", shell], check=True)
    assert text("ripeloop.cron").endswith("\n"), "cron leaves out a last line without an end"


@pytest.mark.parametrize(("code", "mailed"), [(0, False), (1, True), (2, True), (3, True)])
def test_cron_writes_a_mail_when_the_turn_ends_badly_and_else_none(tmp_path: Path, code: int, mailed: bool) -> None:
    """The very line, in a shell, with a stand-in that ends so."""
    settings, ((*_, shell),) = cron_jobs()
    program = tmp_path / "ripeloop"
    program.write_text(f'#!/bin/sh\necho "$1 $RIPELOOP_HUB"\nexit {code}\n')
    program.chmod(0o755)
    (tmp_path / "retrain.env").write_text("RIPELOOP_HUB='HostName=h;SharedAccessKey=a&b'\n")
    line = shell.replace(PROGRAM, str(program)).replace("/etc/ripeloop", str(tmp_path)).replace(
        "/var/lib/ripeloop", str(tmp_path)
    )  # fmt: skip
    done = subprocess.run([settings["SHELL"], "-c", line], capture_output=True, text=True, check=True)
    assert (tmp_path / "retrain.log").read_text() == "retrain HostName=h;SharedAccessKey=a&b\n"
    assert bool(done.stdout) is mailed
    assert not mailed or f"ended with {code}" in done.stdout


# -- systemd


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """The settings of a unit by section; what is no setting is an error."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] | None = None
    for line in logical_lines(text(name)):
        if heading := re.fullmatch(r"\[(Unit|Service|Timer|Install)\]", line):
            section = found.setdefault(heading[1], {})
            continue
        setting = re.fullmatch(r"([A-Z][A-Za-z]+)=(.*)", line)
        assert setting is not None, line
        assert section is not None, line
        section.setdefault(setting[1], []).append(setting[2])
    return found


def test_the_service_goes_on_where_later_may_help_and_else_tells_somebody() -> None:
    service = unit("ripeloop-retrain.service")
    assert service["Service"]["Type"] == ["oneshot"]
    assert service["Service"]["Restart"] == ["on-failure"]
    assert service["Service"]["RestartPreventExitStatus"] == ["1 2"]
    assert service["Unit"]["OnFailure"] == ["ripeloop-alert@%n.service"]
    (burst,), (wait,) = service["Unit"]["StartLimitBurst"], service["Service"]["RestartSec"]
    assert int(burst) * int(wait.removesuffix("min")) < 24 * 60, "it would never have failed"


def test_the_service_may_write_only_where_it_remembers() -> None:
    service = unit("ripeloop-retrain.service")["Service"]
    assert service["User"] == ["ripeloop"]
    assert service["ProtectSystem"] == ["strict"]
    (folder,) = service["StateDirectory"]
    (work,) = (line for line in service["Environment"] if line.startswith("RIPELOOP_WORK="))
    assert work.partition("=")[2].startswith(f"/var/lib/{folder}/")


def test_the_timer_makes_up_for_a_night_that_was_missed() -> None:
    timer = unit("ripeloop-retrain.timer")
    assert timer["Timer"]["Persistent"] == ["true"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this computer")
def test_systemd_itself_finds_nothing_to_say_of_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))

    def verified() -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = verified()
    assert (done.returncode, done.stderr) == (0, "")
    service = tmp_path / "ripeloop-retrain.service"
    service.write_text(service.read_text().replace("Restart=on-failure", "Restart=sometimes"))
    assert "sometimes" in verified().stderr


# -- GitHub Actions


def workflow() -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(text("github-actions.yml"))
    return found


def test_the_workflow_runs_by_the_clock_one_at_a_time_and_may_only_read() -> None:
    found = workflow()
    assert set(found) == {"name", True, "permissions", "concurrency", "jobs"}  # YAML takes `on` for true
    (schedule,) = found[True]["schedule"]
    assert is_cron(schedule["cron"])
    assert found["permissions"] == {"contents": "read"}
    assert found["concurrency"] == {"group": "retrain", "cancel-in-progress": False}


def test_the_steps_of_the_workflow_are_actions_at_a_version_or_scripts_a_shell_takes() -> None:
    (job,) = workflow()["jobs"].values()
    assert set(job) == {"runs-on", "timeout-minutes", "env", "steps"}
    for step in job["steps"]:
        assert set(step) <= {"name", "uses", "with", "env", "run", "if"}
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z/-]+@v\d+", step["uses"])
        else:
            subprocess.run(["bash", "-e", "-n", "-c", step["run"]], check=True)


def test_the_workflow_keeps_its_folder_and_its_keys_are_secrets() -> None:
    (job,) = workflow()["jobs"].values()
    steps = {step.get("name"): step for step in job["steps"]}
    given = steps["Retrain"]["env"]
    for name in KEYS:
        assert given[name] == f"${{{{ secrets.{name} }}}}"
    restored, saved = steps["Remember"]["with"], steps["Keep what was learnt"]["with"]
    assert restored["path"] == saved["path"] == job["env"]["RIPELOOP_WORK"]
    assert restored["key"] == saved["key"]
    assert steps["Keep what was learnt"]["if"] == "always()"
    extras = set(re.findall(r"--extra (\w+)", steps["Set up"]["run"]))
    assert extras == {"tools"}


@pytest.mark.parametrize(
    ("codes", "ends", "runs"),
    [((0,), 0, 1), ((1,), 1, 1), ((2,), 2, 1), ((3, 3, 0), 0, 3), ((3,) * 4, 3, 4), ((124, 137, 0), 0, 3)],
)
def test_the_workflow_tries_again_only_where_later_may_help(
    tmp_path: Path, codes: tuple[int, ...], ends: int, runs: int
) -> None:
    """The very script, with a stand-in that ends so, and without the waits."""
    (job,) = workflow()["jobs"].values()
    (script,) = (step["run"] for step in job["steps"] if step.get("name") == "Retrain")
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    answers = "".join(f"{nth}) exit {code};; " for nth, code in enumerate(codes, 1))
    (folder / "ripeloop").write_text(f"#!/bin/sh\necho >>runs\ncase $(wc -l <runs) in {answers} esac\n")
    (folder / "ripeloop").chmod(0o755)
    done = subprocess.run(["bash", "-e", "-c", "sleep() { :; }\n" + script], cwd=tmp_path, check=False)
    assert done.returncode == ends
    assert len((tmp_path / "runs").read_text()) == runs


def test_all_tries_of_the_workflow_end_before_it_is_stopped() -> None:
    (job,) = workflow()["jobs"].values()
    (script,) = (step["run"] for step in job["steps"] if step.get("name") == "Retrain")
    (waits,), (minutes,) = re.findall(r"for wait in ([\d ]+);", script), re.findall(r"kill-after=1m (\d+)m ", script)
    waited = [int(wait) for wait in waits.split()]
    assert int(job["env"]["RIPELOOP_RELEASE_WAIT"]) + USUAL.watch < (int(minutes) - 5) * 60, (
        "it would never see the end"
    )
    assert sum(waited) / 60 + len(waited) * (int(minutes) + 1) < job["timeout-minutes"] - 10


# -- Kubernetes


def objects() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(text("kubernetes.yaml"))}


def test_the_cron_job_runs_one_turn_at_a_time_and_tries_again_only_where_later_may_help() -> None:
    spec = objects()["CronJob"]["spec"]
    assert is_cron(spec["schedule"])
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["containers"]
    assert rule == {
        "action": "FailJob",
        "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [1, 2]},
    }
    assert job["backoffLimit"] >= 1
    assert job["template"]["spec"]["restartPolicy"] == "Never", "a failure policy needs it"
    command_of(container["args"])


def test_the_cron_jobs_pod_is_not_root_and_writes_only_where_it_remembers() -> None:
    found = objects()
    pod = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) in text("Dockerfile")
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"]["memory"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    (work,) = (name for name, volume in volumes.items() if "persistentVolumeClaim" in volume)
    assert volumes[work]["persistentVolumeClaim"]["claimName"] == found["PersistentVolumeClaim"]["metadata"]["name"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert given["RIPELOOP_WORK"] == mounts[work]
    assert all(isinstance(value, str) for value in given.values()), "Kubernetes takes texts alone"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this computer")
def test_kubernetes_own_types_hold_every_field(tmp_path: Path) -> None:
    """What kubectl reads into its types and writes again has lost the fields that there are none of."""
    mine = objects()["CronJob"]
    assert missing(mine, typed(mine, tmp_path)) == []
    mine["spec"]["startDeadlineSeconds"] = 1
    assert missing(mine, typed(mine, tmp_path)) == [".spec.startDeadlineSeconds"]


def typed(document: Any, folder: Path) -> Any:
    """The same after kubectl had it; this command is one that reads into types and asks no cluster."""
    (folder / "object.json").write_text(json.dumps(document))
    command = ["kubectl", "set", "serviceaccount", "--local", "--filename", str(folder / "object.json"), "nobody"]
    return json.loads(subprocess.run([*command, "--output", "json"], capture_output=True, check=True).stdout)


def missing(mine: Any, theirs: Any, at: str = "") -> list[str]:
    """The places that are only in `mine`."""
    if isinstance(mine, dict):
        gone = [f"{at}.{key}" for key in mine if not isinstance(theirs, dict) or key not in theirs]
        kept = [key for key in mine if f"{at}.{key}" not in gone]
        return gone + [place for key in kept for place in missing(mine[key], theirs[key], f"{at}.{key}")]
    if isinstance(mine, list):
        pairs = zip(mine, theirs, strict=True)
        return [place for nth, (one, other) in enumerate(pairs) for place in missing(one, other, f"{at}[{nth}]")]
    return []


def test_the_image_holds_all_that_the_command_imports_and_runs_as_nobody_special() -> None:
    dockerfile = text("Dockerfile")
    copied = {line.split()[1] for line in dockerfile.splitlines() if re.match(r"COPY [a-z]+ ", line)}
    assert copied == {"modules", "tools"}
    let_in = {line.removeprefix("!") for line in text("Dockerfile.dockerignore").splitlines() if line.startswith("!")}
    assert let_in == {"pyproject.toml", "uv.lock", *copied}
    assert "PYTHONPATH=" + ":".join(f"/app/{name}" for name in sorted(copied)) in dockerfile
    assert "--extra tools" in dockerfile
    users = re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE)
    assert users == ["10001:10001"]
    pinned = re.search(r"uv==([\d.]+)", dockerfile)
    assert pinned is not None
    assert f"UV_VERSION := {pinned[1]}\n" in (ROOT / "Makefile").read_text()
    assert f"uv=={pinned[1]}\n" in text("github-actions.yml")


# -- the page


def test_the_page_tells_of_every_file_and_every_exit_code() -> None:
    page = text("README.md")
    for path in FILES:
        if path.name != "README.md":
            assert path.name in page, path.name
    assert re.findall(r"^\| \*\*(\d)\*\* \|", page, re.MULTILINE) == ["0", "1", "2", "3"]
