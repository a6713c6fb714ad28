"""The admins' button: one run of a command that was configured at the start, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ripeloop.errors import Refused
from ripeloop.prediction import format_time

log = logging.getLogger(__name__)

SHOWN = 64 * 1024  # bytes of the log's end
ENDS_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """The newest run: `started` in UTC, empty where there was none since the start; None while it runs."""

    started: str = ""
    exit_code: int | None = None
    running: bool = False
    by: str = ""


class Retraining:
    """Runs `command` once at a time; its output goes to `log_file`."""

    def __init__(self, command: Sequence[str], log_file: Path) -> None:
        self._command, self._log = tuple(command), log_file
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self.run = Run()

    @property
    def offered(self) -> bool:
        """Whether there is a command to run."""
        return bool(self._command)

    async def start(self, by: str) -> None:
        """Begin a run. Raises Refused while one runs, or where there is nothing to run."""
        if not self._command:
            raise Refused("no retraining was configured: start `ripeloop label` with --retrain")
        if self.run.running:
            raise Refused("a retraining runs already")
        self.run = Run(format_time(datetime.now(UTC)), None, True, by)
        try:
            with self._log.open("wb") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=asyncio.subprocess.STDOUT
                )
        except OSError as error:
            self.run = Run(self.run.started, 127, False, by)
            raise Refused(
                f"{self._command[0]} cannot be started ({error.strerror or error}): correct --retrain"
            ) from error
        log.info("a retraining was started by %s", by)
        self._watch = asyncio.create_task(self._until_it_ends(self._process))

    async def said(self) -> str:
        """The end of what it said."""
        return await asyncio.to_thread(_end_of, self._log)

    async def close(self) -> None:
        """End what runs: it goes on where it was with the next run."""
        if self._process is None or self._watch is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(self._watch), ENDS_WITHIN)
        except TimeoutError:
            self._process.kill()
            await self._watch

    async def _until_it_ends(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        log.info("the retraining ended with %d", code)
        self.run = Run(self.run.started, code, False, self.run.by)


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - SHOWN))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
