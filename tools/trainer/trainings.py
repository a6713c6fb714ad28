"""Trainings, one after the other, each in a process of its own: this one stays small and answers meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from ripeloop.disk import sync
from trainer.errors import Problem
from trainer.files import EVALUATION, REQUEST, RESULT, Files
from trainer.iterations import Iteration
from trainer.ledger import Ledger, Order

log = logging.getLogger(__name__)

SECONDS = 6 * 3600.0  # more than any training of 100,000 images takes; an advanced one's budget comes on top
SAY_SECONDS = 10.0
LAST_LINES = 20
MAX_LINE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is: so many `of` so many done of `what`."""

    what: str = "waiting for its turn"
    done: int = 0
    of: int = 0


class TrainingFailed(Exception):
    """The training process ended without a model; the text is for the person who wanted it."""


class Trainings:
    """Begins trainings and sees to their end. Used on the event loop's thread alone."""

    def __init__(self, ledger: Ledger, files: Files, *, seconds: float = SECONDS) -> None:
        self._ledger = ledger
        self._files = files
        self._seconds = seconds
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._process: tuple[str, asyncio.subprocess.Process] | None = None
        self._progress: dict[str, Progress] = {}

    def progress(self, iteration: str) -> Progress | None:
        """How far it is; None for one that is not in training."""
        return self._progress.get(iteration)

    async def begin(self, project: str, order: Order) -> Iteration:
        """A new iteration that is trained as soon as those before it are. Raises Problem."""
        iteration = await asyncio.to_thread(self._ledger.begin, project, order)
        self._progress[iteration.id] = Progress()
        self._waiting.put_nowait(iteration.id)
        return iteration

    def cancel(self, iteration: str) -> None:
        """End it if it is running: nobody wants it any more."""
        if self._process is not None and self._process[0] == iteration:
            with contextlib.suppress(ProcessLookupError):
                self._process[1].kill()

    async def recover(self) -> None:
        """What an earlier process was training has failed. To be called before anything is begun."""
        for iteration in await asyncio.to_thread(self._ledger.interrupted):
            log.warning("%s of project %s was interrupted: it has failed", iteration.name, iteration.project)
        await asyncio.to_thread(shutil.rmtree, self._files.folder / "jobs", ignore_errors=True)

    async def run(self) -> None:
        """Train what there is to train, for ever."""
        while True:
            id_ = await self._waiting.get()
            try:
                iteration = await asyncio.to_thread(self._ledger.in_training, id_)
                if iteration is not None:
                    await self._train(iteration)
            except Problem as error:  # the disk; what stands as in training has failed after the next start
                log.error("a training's end could not be noted: %s", error)
                with contextlib.suppress(Problem):
                    await asyncio.to_thread(self._ledger.failed, id_, str(error))
            finally:
                self._progress.pop(id_, None)

    async def _train(self, iteration: Iteration) -> None:
        log.info("training %s (%s) of project %s", iteration.name, iteration.training, iteration.project)
        started = time.monotonic()
        try:
            tags = await self._trained(iteration)
            seconds = time.monotonic() - started
            wanted = await asyncio.to_thread(self._ledger.completed, iteration.id, tags, seconds)
            if not wanted:
                await asyncio.to_thread(self._files.forget_iteration, iteration.project, iteration.id)
            log.info("%s is trained after %.1f s", iteration.name, seconds)
        except (TrainingFailed, OSError, Problem) as error:
            log.error("%s has failed: %s", iteration.name, error)
            why = str(error).replace(f"{self._files.folder}/", "")  # where it lies here is of no use to a client
            await asyncio.to_thread(self._ledger.failed, iteration.id, why, time.monotonic() - started)
            await asyncio.to_thread(self._files.forget_iteration, iteration.project, iteration.id)

    async def _trained(self, iteration: Iteration) -> list[str]:
        """The ids of the tags in the order of the model's outputs; its files lie in the iteration's folder."""
        job = self._files.job(iteration.id)
        await asyncio.to_thread(self._write_request, iteration)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "trainer.job", str(job),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        self._process = iteration.id, process
        try:
            async with asyncio.timeout(self._seconds + 3600 * iteration.hours):
                await self._follow(iteration, process)
        except TimeoutError:
            raise TrainingFailed("the training took longer than it may: train on fewer images") from None
        finally:
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()
        return await asyncio.to_thread(self._take_result, iteration)

    async def _follow(self, iteration: Iteration, process: asyncio.subprocess.Process) -> None:
        """Take the process's news until it ends. Raises TrainingFailed where it ends badly."""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        assert process.stderr is not None  # noqa: S101
        refused, said = "", 0.0
        errors = asyncio.create_task(_last_lines(process.stderr))
        try:
            async for line in process.stdout:
                news = _news(line)
                refused = str(news.get("error", refused))
                if "what" in news:
                    progress = Progress(str(news["what"]), int(news.get("done", 0)), int(news.get("of", 0)))
                    self._progress[iteration.id] = progress
                    if time.monotonic() - said >= SAY_SECONDS:
                        said = time.monotonic()
                        log.info("%s: %s %d/%d", iteration.name, progress.what, progress.done, progress.of)
            code = await process.wait()
            last = await errors
        finally:
            errors.cancel()
        if refused:
            raise TrainingFailed(refused)
        if code != 0:
            log.error("the training process ended with %d: %s", code, " | ".join(last))
            raise TrainingFailed(f"the training process ended unexpectedly ({code}): the log says more; train again")

    def _write_request(self, iteration: Iteration) -> None:
        job = self._files.job(iteration.id)
        job.mkdir(parents=True, exist_ok=True)
        self._files.features(iteration.project).mkdir(parents=True, exist_ok=True)
        (job / REQUEST).write_text(json.dumps(self._ledger.request(iteration)))

    def _take_result(self, iteration: Iteration) -> list[str]:
        job, home = self._files.job(iteration.id), self._files.iteration(iteration.project, iteration.id)
        tags = json.loads((job / RESULT).read_bytes())["tags"]
        if not (job / EVALUATION).exists():
            raise TrainingFailed("the training process left no figures: train again")
        (job / REQUEST).unlink()
        home.parent.mkdir(parents=True, exist_ok=True)
        os.replace(job, home)  # noqa: PTH105 - a folder, too
        sync(home.parent)
        return [str(tag) for tag in tags]


async def _last_lines(stream: asyncio.StreamReader) -> list[str]:
    """What the process complained of last."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    while chunk := await stream.read(65536):
        last.extend(line for line in chunk.decode("utf-8", "replace").splitlines() if line.strip())
    return list(last)


def _news(line: bytes) -> dict[str, Any]:
    """What a line tells; nothing where it is no news of ours."""
    try:
        news = json.loads(line)
    except ValueError:
        return {}
    return news if isinstance(news, dict) else {}
