"""What stops `python -m localedge` from starting is said in one line that tells what to do."""

import json
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge import MQTT_PORT, free_gateway, free_port, manifest


@pytest.fixture
def start(tmp_path):
    """Start it with these flags on top of good ones; returns its exit code and what it said last."""

    def run(*, room="unlimited", **flags):
        gateway = free_gateway()
        (tmp_path / "deployment.json").write_text(json.dumps(manifest()))
        good = {
            "deployment": tmp_path / "deployment.json",
            "state": tmp_path / "s",
            "gateway": gateway,
            "hub-port": free_port(gateway),
        }
        command = [sys.executable, "-m", "localedge", "--log-level", "error"]
        for name, value in (good | flags).items():
            command += [f"--{name}", str(value)]
        within = ["sh", "-c", f'ulimit -f {room}; exec "$@"', "sh"]
        ended = subprocess.run([*within, *command], capture_output=True, text=True, timeout=30, check=False)
        return ended.returncode, ended.stderr.splitlines()

    return run


def test_a_missing_deployment(start, tmp_path):
    code, (line,) = start(deployment=tmp_path / "nowhere.json")
    assert code == 2
    assert "nowhere.json" in line
    assert "--deployment" in line


def test_a_missing_env_file(start, tmp_path):
    code, (line,) = start(**{"env-file": tmp_path / "nowhere.env"})
    assert code == 2
    assert "--env-file" in line


def test_a_deployment_and_an_env_file_that_are_no_text(start, tmp_path):
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    for flag in ("deployment", "env-file"):
        code, (line,) = start(**{flag: tmp_path / "picture"})
        assert code == 2
        assert f"--{flag}" in line
        assert "UTF-8" in line


@pytest.mark.parametrize("blocks", [0, 3, 40])  # none for certificates, for the database, for all its tables
def test_a_disk_without_room(start, tmp_path, blocks):
    code, (line,) = start(room=blocks)
    assert code == 2
    assert str(tmp_path / "s") in line
    assert "--state" in line


def test_a_disk_that_became_full(edge, start):
    edge.kill()
    code, (line,) = start(state=edge.state, room=0)
    assert code == 2
    assert f"cannot use the folder {edge.state}" in line
    assert "make room" in line


@pytest.mark.parametrize(("flag", "port"), [("--gateway", MQTT_PORT), ("--hub-port", 8484)])
def test_a_port_in_use(start, flag, port):
    gateway = free_gateway()
    with socket.create_server((gateway, port)):
        code, (line,) = start(gateway=gateway, **{"hub-port": 8484})
    assert code == 2
    assert f"{gateway}:{port} is in use" in line
    assert flag in line


def test_an_address_that_is_not_of_this_machine(start):
    code, (line,) = start(gateway="192.0.2.1")
    assert code == 2
    assert "--gateway" in line


def test_a_path_too_long_for_a_socket(start, tmp_path):
    code, (line,) = start(state=tmp_path / ("x" * 100))
    assert code == 2
    assert "107" in line
    assert "--state" in line


def test_a_workload_uri_that_is_none(start):
    code, (line,) = start(workload="tcp://somewhere")
    assert code == 2
    assert "unix:///path" in line


def test_a_state_folder_of_another_runtime(edge, start):
    code, (line,) = start(state=edge.state)
    assert code == 2
    assert "another localedge uses" in line


def modes(edge):
    return {
        str(path.relative_to(edge.state)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in edge.state.rglob("*")
        if path.name != "deployment.json"
    }


def test_what_the_runtime_keeps_is_for_its_owner_only(edge):
    found = modes(edge)
    folders = {"certificates", "modules"}
    secrets = {"edgehub.db", "edgehub.db-wal", "edgehub.db-shm", "identities.json", "hub.env", "modules/sampler.env"}
    assert found.keys() >= folders | secrets | {"certificates/ca.key", "control.sock", "workload.sock"}
    assert {name: "0o700" if name in folders else "0o600" for name in found} == found


def test_what_an_earlier_version_left_open_is_closed(edge):
    edge.kill()
    for name in ("edgehub.db", "edgehub.db-wal"):
        (edge.state / name).chmod(0o644)
    for name in ("certificates", "modules"):
        (edge.state / name).chmod(0o755)
    edge.start()
    found = modes(edge)
    assert {mode for name, mode in found.items() if name in ("certificates", "modules")} == {"0o700"}
    assert {mode for name, mode in found.items() if name.startswith("edgehub.db")} == {"0o600"}


PROJECT = Path(__file__).parents[1]


@pytest.mark.parametrize("names", [(".env.template",), (".env", ".env.template")])
def test_the_projects_deployment_starts_with_the_values_beside_it(edge_factory, names):
    edge = edge_factory(start=False)
    for name in names:
        shutil.copy(PROJECT / ".env.template", edge.state / name)
    shutil.copy(PROJECT / "deployment.template.json", edge.state / "deployment.json")
    edge.start()
    assert f"are from {edge.state / names[0]};" in edge.log


def test_a_variable_nobody_sets_is_explained_by_the_template(start, tmp_path):
    shutil.copy(PROJECT / "deployment.template.json", tmp_path / "alone.json")
    code, (line,) = start(deployment=tmp_path / "alone.json")
    assert code == 2
    assert "is not set" in line
    assert "--env-file" in line
    assert ".env.template" in line
