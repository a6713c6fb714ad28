"""How a command ends: the exit code says whose turn it is, and with `--json` there is always a document."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from retrain.__main__ import main
from retrain.ending import told
from retrain.settings import json_option
from trainerservice import KEY, Service


def run(tmp_path: Path, endpoint: str, *words: str, key: str = KEY) -> tuple[Result, dict[str, Any]]:
    """`ripeloop tag --json` on an empty container."""
    told = ("tag", "--cloud-blobs", str(tmp_path), "--endpoint", endpoint, "--json", *words)
    ended = CliRunner(env={"RIPELOOP_TRAINING_KEY": key}).invoke(main, told)
    return ended, json.loads(ended.stdout)


@pytest.mark.parametrize("project", ["fruit", "3fac039f-2ee6-4d9f-9ae1-45eee85e6ae9"])
def test_a_project_that_is_not_there_is_a_wrong_setting(running: Service, tmp_path: Path, project: str) -> None:
    ended, document = run(tmp_path, running.url, "--project", project)
    assert (ended.exit_code, document["exit"]) == (2, 2)
    assert document["kind"] in ("project", "NotFoundProject")
    assert ended.stderr == f"error: {document['error']}\n"


def test_a_wrong_key_is_a_wrong_setting(running: Service, tmp_path: Path) -> None:
    ended, document = run(tmp_path, running.url, "--project", "fruit", key="another")
    assert (ended.exit_code, document["exit"], "check the key" in document["error"]) == (2, 2, True)


def test_a_wrong_endpoint_is_a_wrong_setting(tmp_path: Path) -> None:
    ended, document = run(tmp_path, "http://[::1", "--project", "fruit")
    assert (ended.exit_code, document["exit"], document["kind"]) == (2, 2, "SettingsError")


def test_a_data_set_that_may_not_be_read_ends_alike(running: Service, tmp_path: Path) -> None:
    words = (
        "dataset",
        "export",
        "--endpoint",
        running.url,
        "--project",
        "0b6a7a55-5c1f-4d0e-9a6b-0c1d2e3f4a5b",
        "--to",
        str(tmp_path / "d"),
    )
    ended = CliRunner(env={"RIPELOOP_TRAINING_KEY": KEY}).invoke(main, words)
    assert (ended.exit_code, ended.stdout, ended.stderr.startswith("error: ")) == (2, "", True)


def test_a_disk_that_is_full_is_named() -> None:
    @click.command()
    @json_option
    def fills(as_json: bool) -> None:
        async def write() -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "work/turns.db")

        told(write())

    ended = CliRunner().invoke(fills, ["--json"])
    document = json.loads(ended.stdout)
    assert (ended.exit_code, document["kind"], "work/turns.db" in document["error"]) == (2, "disk", True)


def test_what_a_person_stops_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = ("tag", "--cloud-blobs", str(tmp_path), "--project", "fruit", "--json")
        started = subprocess.Popen(
            [sys.executable, "-m", "retrain", *words, "--endpoint", f"http://127.0.0.1:{silent.getsockname()[1]}"],
            env={**os.environ, "RIPELOOP_TRAINING_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            silent.settimeout(60)
            with silent.accept()[0]:
                for _ in range(2):  # the first one waits for the answer of the service
                    time.sleep(0.3)
                    started.send_signal(signal.SIGINT)
                out, err = started.communicate(timeout=20)
        finally:
            started.kill()
            started.communicate()
    assert (started.returncode, json.loads(out)["kind"]) == (130, "stopped"), err
    assert "Traceback" not in err
