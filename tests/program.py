"""The classifier as a real process: `start("--model", …)`."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import pytest

READY_WITHIN = 30.0


class Process:
    """One classifier on a free port of 127.0.0.1; its log lines are read as it writes them."""

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "classifier"),
    ) -> None:
        command = [sys.executable, *program, "--host", "127.0.0.1", "--port", "0", *arguments]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("IOTEDGE_", "CLASSIFIER_"))}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=clean | dict(environ or {}))
        self.log = ""

    def url(self) -> str:
        """Where it listens, once it does."""
        deadline = time.monotonic() + READY_WITHIN
        while not (found := re.search(r"listening on (http://[\w.:]+)\b.*\n", self.log)):
            ready, _, _ = select.select([self._stderr], [], [], max(0, deadline - time.monotonic()))
            written = os.read(self._stderr.fileno(), 65536) if ready else b""
            assert written, f"the classifier did not start:\n{self.log}"
            self.log += written.decode()
        return found[1]

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code, after the signal; `log` then holds all it wrote."""
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> int:
        _, rest = self.process.communicate(timeout=READY_WITHIN)
        self.log += rest.decode()
        return self.process.returncode

    @property
    def _stderr(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr


@pytest.fixture
def start() -> Iterator[Any]:
    started: list[Process] = []

    def make(*arguments: str, **options: Any) -> Process:
        started.append(Process(arguments, **options))
        return started[-1]

    yield make
    for process in started:
        if process.process.poll() is None:
            process.end(signal.SIGKILL)
