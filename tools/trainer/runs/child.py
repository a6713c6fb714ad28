"""The one child process there is at a time, `trainer.job`, followed to its end: this process stays small meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

SAY_SECONDS = 10.0
LAST_LINES = 20
MAX_LINE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training or an export is: so many `of` so many done of `what`."""

    what: str = "waiting for its turn"
    done: int = 0
    of: int = 0


class JobFailed(Exception):
    """The child process ended without a model; the text is for the person who wanted it."""


class Child:
    """Runs one job at a time, as `python *program FOLDER`. Used on the event loop's thread alone."""

    def __init__(self, program: Sequence[str] = ("-m", "trainer.runs.job")) -> None:
        self._program = tuple(program)
        self._process: tuple[str, asyncio.subprocess.Process] | None = None

    def end(self, iteration: str) -> None:
        """End the process if it works for that iteration."""
        if self._process is not None and self._process[0] == iteration:
            with contextlib.suppress(ProcessLookupError):
                self._process[1].kill()

    async def run(self, iteration: str, folder: Path, seconds: float, told: Callable[[Progress], None]) -> None:
        """Do what `folder` asks for, which takes `seconds` at most. Raises JobFailed, OSError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *self._program, str(folder),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        self._process = iteration, process
        try:
            async with asyncio.timeout(seconds):
                await _follow(process, told)
        except TimeoutError:
            raise JobFailed("it took longer than it may: train on fewer images") from None
        finally:
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()


async def _follow(process: asyncio.subprocess.Process, told: Callable[[Progress], None]) -> None:
    """Take the process's news until it ends. Raises JobFailed where it ends badly."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    assert process.stderr is not None  # noqa: S101
    refused, said = "", 0.0
    errors = asyncio.create_task(_last_lines(process.stderr))
    try:
        async for line in process.stdout:
            news = _news(line)
            refused = str(news.get("error", refused))
            if (progress := _progress(news)) is not None:
                told(progress)
                if time.monotonic() - said >= SAY_SECONDS:
                    said = time.monotonic()
                    log.info("%s %d/%d", progress.what, progress.done, progress.of)
        code = await process.wait()
        last = await errors
    finally:
        errors.cancel()
    if refused:
        raise JobFailed(refused)
    if code != 0:
        log.error("the training process ended with %d: %s", code, " | ".join(last))
        raise JobFailed(f"the training process ended unexpectedly ({code}): the log says more; ask again")


async def _last_lines(stream: asyncio.StreamReader) -> list[str]:
    """What the process complained of last."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    while chunk := await stream.read(65536):
        last.extend(line for line in chunk.decode("utf-8", "replace").splitlines() if line.strip())
    return list(last)


def _progress(news: Mapping[str, Any]) -> Progress | None:
    match news:
        case {"what": str(what), "done": int(done), "of": int(of)}:
            return Progress(what, done, of)
    return None


def _news(line: bytes) -> dict[str, Any]:
    """What a line tells; nothing where it is no news of ours."""
    try:
        news = json.loads(line)
    except ValueError:
        return {}
    return news if isinstance(news, dict) else {}
