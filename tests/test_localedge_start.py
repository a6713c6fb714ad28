"""What stops `python -m localedge` from starting is said in one line that tells what to do."""

import json
import socket
import stat
import subprocess
import sys

import pytest

from edge import MQTT_PORT, free_gateway, free_port, manifest


@pytest.fixture
def start(tmp_path):
    """Start it with these flags on top of good ones; returns its exit code and what it said last."""

    def run(**flags):
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
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
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


def test_keys_and_sockets_are_for_their_owner_only(edge):
    for name in ("identities.json", "hub.env", "modules/sampler.env", "certificates/ca.key", "control.sock"):
        assert stat.S_IMODE((edge.state / name).stat().st_mode) == 0o600, name
