"""Trainings, and exports that take time, one after the other, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ripeloop.disk import sync
from ripeloop.errors import SettingsError
from trainer.errors import Problem
from trainer.learning.cache import forget_others
from trainer.runs import settled
from trainer.runs.child import Child, JobFailed, Progress
from trainer.runs.settled import Damaged
from trainer.state.exports import Exports
from trainer.state.files import EVALUATION, INT8, MODEL_INT8, REQUEST, Files
from trainer.state.iterations import Iteration
from trainer.state.ledger import Ledger, Order

log = logging.getLogger(__name__)

SECONDS = 6 * 3600.0  # more than any training of 100,000 images takes; an advanced one's budget comes on top


class Trainings:
    """Begins trainings and exports, and sees to their end. Used on the event loop's thread alone."""

    def __init__(
        self, ledger: Ledger, exports: Exports, files: Files, *, seconds: float = SECONDS, child: Child | None = None
    ) -> None:
        self._ledger = ledger
        self._exports = exports
        self._files = files
        self._seconds = seconds
        self._waiting: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._untidy: set[str] = set()
        self._child = child or Child()
        self._progress: dict[str, Progress] = {}

    def progress(self, iteration: str) -> Progress | None:
        """How far it is; None for one that is neither in training nor being exported."""
        return self._progress.get(iteration)

    async def begin(self, project: str, order: Order) -> Iteration:
        """A new iteration that is trained as soon as those before it are. Raises Problem."""
        iteration = await asyncio.to_thread(self._ledger.begin, project, order)
        self._progress[iteration.id] = Progress()
        self._waiting.put_nowait(partial(self._train, iteration.id))
        return iteration

    async def export(self, project: str, iteration: str, platform: str, flavor: str) -> None:
        """Export the iteration: at once, or as soon as what was asked for before is done. Raises Problem."""
        if not await asyncio.to_thread(self._exports.make, project, iteration, platform, flavor):
            self._progress[iteration] = Progress()
            self._waiting.put_nowait(partial(self._export, iteration))

    def tidy(self, project: str) -> None:
        """Forget the features of images that are gone, when no child process writes others."""
        if project not in self._untidy:
            self._untidy.add(project)
            self._waiting.put_nowait(partial(self._tidy, project))

    def cancel(self, iteration: str) -> None:
        """End what is done for it: nobody wants it any more."""
        self._child.end(iteration)

    async def recover(self) -> None:
        """What an earlier process was making has failed. To be called before anything is begun."""
        for iteration in await asyncio.to_thread(self._ledger.interrupted):
            log.warning("%s of project %s was interrupted: it has failed", iteration.name, iteration.project)
        for id_ in await asyncio.to_thread(self._exports.interrupted):
            log.warning("the export of iteration %s was interrupted: it has failed", id_)
        await asyncio.to_thread(shutil.rmtree, self._files.folder / "jobs", ignore_errors=True)
        for project in await asyncio.to_thread(self._ledger.projects):
            self.tidy(project)

    async def run(self) -> None:
        """Do what there is to do, for ever."""
        while True:
            job = await self._waiting.get()
            try:
                await job()
            except Problem as error:  # the disk; what stands as begun has failed after the next start
                log.error("the end of a training or an export could not be noted: %s", error)

    async def _train(self, id_: str) -> None:
        try:
            iteration = await asyncio.to_thread(self._ledger.in_training, id_)
            if iteration is not None:
                await self._wanted(iteration)
        except Problem as error:  # the disk
            log.error("a training's end could not be noted: %s", error)
            with contextlib.suppress(Problem):
                await asyncio.to_thread(self._ledger.failed, id_, str(error))
        finally:
            self._progress.pop(id_, None)

    async def _wanted(self, iteration: Iteration) -> None:
        log.info("training %s (%s) of project %s", iteration.name, iteration.training, iteration.project)
        started = time.monotonic()
        try:
            tags = await self._trained(iteration)
            seconds = time.monotonic() - started
            wanted = await asyncio.to_thread(self._ledger.completed, iteration.id, tags, seconds)
            if not wanted:
                await asyncio.to_thread(self._files.forget_iteration, iteration.project, iteration.id)
            log.info("%s is trained after %.1f s", iteration.name, seconds)
        except (JobFailed, Damaged, OSError, Problem) as error:
            log.error("%s has failed: %s", iteration.name, error)
            why = str(error).replace(f"{self._files.folder}/", "")  # where it lies here is of no use to a client
            await asyncio.to_thread(self._ledger.failed, iteration.id, why, time.monotonic() - started)
            await asyncio.to_thread(self._files.forget_iteration, iteration.project, iteration.id)

    async def _trained(self, iteration: Iteration) -> list[str]:
        """The ids of the tags in the order of the model's outputs; its files lie in the iteration's folder."""
        request = await asyncio.to_thread(self._ledger.request, iteration)
        await self._run(iteration, request, self._seconds + 3600 * iteration.hours)
        return await asyncio.to_thread(self._take_result, iteration)

    async def _export(self, id_: str) -> None:
        """Learn the model once more, in 8 bits, from what the iteration was trained on."""
        try:
            iteration = await asyncio.to_thread(self._exports.under_way, id_, INT8)
            if iteration is not None:
                await self._exported(iteration)
        finally:
            self._progress.pop(id_, None)

    async def _exported(self, iteration: Iteration) -> None:
        log.info("exporting %s of project %s in 8 bits", iteration.name, iteration.project)
        started = time.monotonic()
        try:
            request = await asyncio.to_thread(self._request_int8, iteration)
            await self._run(iteration, request, self._seconds)
            await asyncio.to_thread(self._take_int8, iteration)
            await asyncio.to_thread(self._exports.done, iteration.id, INT8)
            log.info("%s is exported in 8 bits after %.1f s", iteration.name, time.monotonic() - started)
        except (JobFailed, Damaged, OSError, Problem) as error:
            log.error("the export of %s in 8 bits has failed: %s", iteration.name, error)
            await asyncio.to_thread(self._exports.failed, iteration.id, INT8, str(error))
        finally:
            await asyncio.to_thread(self._files.forget_job, iteration.id)

    async def _tidy(self, project: str) -> None:
        self._untidy.discard(project)
        try:
            images = await asyncio.to_thread(self._ledger.bytes_known, project)
            await asyncio.to_thread(forget_others, self._files.features(project), images)
        except SettingsError as error:
            log.warning("features of deleted images are still there, until the next start: %s", error)

    async def _run(self, iteration: Iteration, request: dict[str, Any], seconds: float) -> None:
        await asyncio.to_thread(self._write_request, iteration, request)

        def told(progress: Progress) -> None:
            self._progress[iteration.id] = progress

        await self._child.run(iteration.id, self._files.job(iteration.id), seconds, told)

    def _write_request(self, iteration: Iteration, request: dict[str, Any]) -> None:
        job = self._files.job(iteration.id)
        job.mkdir(parents=True, exist_ok=True)
        self._files.features(iteration.project).mkdir(parents=True, exist_ok=True)
        (job / REQUEST).write_text(json.dumps(request))

    def _request_int8(self, iteration: Iteration) -> dict[str, Any]:
        """As the iteration was trained, on the same images, with what an advanced training settled on."""
        self._exports.check_images(iteration)
        found = settled.read(self._files.iteration(iteration.project, iteration.id))
        choice = {} if found.choice is None else {"choice": found.choice}
        return self._ledger.request(iteration) | {"int8": True, "seconds": 0.0} | choice

    def _take_int8(self, iteration: Iteration) -> None:
        home = self._files.iteration(iteration.project, iteration.id)
        os.replace(self._files.job(iteration.id) / MODEL_INT8, home / MODEL_INT8)  # noqa: PTH105 - as below
        sync(home)

    def _take_result(self, iteration: Iteration) -> list[str]:
        job, home = self._files.job(iteration.id), self._files.iteration(iteration.project, iteration.id)
        found = settled.read(job)
        asked = json.loads((job / REQUEST).read_bytes())
        settled.check_tags(found, [id_ for id_, _, negative in asked["tags"] if not (asked["multilabel"] and negative)])
        if not (job / EVALUATION).exists():
            raise JobFailed("the training process left no figures: train again")
        (job / REQUEST).unlink()
        home.parent.mkdir(parents=True, exist_ok=True)
        os.replace(job, home)  # noqa: PTH105 - a folder, too
        sync(home.parent)
        return list(found.tags)
