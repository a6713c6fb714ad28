"""The servers under test, each a process of its own on loopback, all with the same model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ripeloop.errors import SettingsError

ROOT = Path(__file__).parents[2]
READY_WITHIN = 60.0
STOP_WITHIN = 10.0

FP32, INT8, FLASK_2024, FLASK_2018 = "classifier", "classifier, int8", "container of 2024", "container of 2018"


@dataclass(frozen=True, slots=True)
class Server:
    """One running server."""

    name: str
    port: int
    pid: int


@contextmanager
def classifier(name: str, export: Path, folder: Path, *flags: str) -> Iterator[Server]:
    """`python -m classifier` with that model; what it writes goes into `folder`."""
    port = _free_port()
    arguments = ["-m", "classifier", "--host", "127.0.0.1", "--port", str(port), "--model", str(export), *flags]
    with _running(name, port, arguments, folder) as server:
        yield server


@contextmanager
def flask(name: str, module: str, export: Path, folder: Path) -> Iterator[Server]:
    """One of the two Flask servers, `flask2018` or `flask2024`."""
    port = _free_port()
    with _running(name, port, ["-m", f"bench.classifier.{module}", str(export), str(port)], folder) as server:
        yield server


@contextmanager
def _running(name: str, port: int, arguments: Sequence[str], folder: Path) -> Iterator[Server]:
    # a module's settings in the caller's environment must not change what is measured
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("CLASSIFIER_", "IOTEDGE_"))}
    clean["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), clean.get("PYTHONPATH", "")]))
    log = folder / f"{port}.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=clean, stdout=subprocess.DEVNULL, stderr=written
        )
        try:
            _wait_until_it_listens(process, name, port, log)
            yield Server(name, port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], name: str, port: int, log: Path) -> None:
    end = time.monotonic() + READY_WITHIN
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise SettingsError(f"the server {name!r} did not start; its last words: {' '.join(last) or 'none'}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
