"""One model on its way from an address to the memory, beside the one that answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from random import SystemRandom

from classifier.models import parity
from classifier.models.model import Model
from classifier.rollout.fetch import FetchLimits, copy, discard, fetch, pause, size
from classifier.rollout.memory import Kept
from classifier.rollout.shelf import Shelf
from classifier.rollout.start import Sources
from classifier.rollout.wanted import Wanted
from ripeloop.errors import BadModel, Offline, Refused
from ripeloop.package import check_file, read_golden

log = logging.getLogger(__name__)

DOWNLOADING, VERIFYING, LOADING, PARITY, WARMING = "downloading", "verifying", "loading", "parity", "warming"

Tell = Callable[..., None]
"""Takes the state, and a reason where there is one."""


async def prepared(
    wanted: Wanted, sources: Sources, limits: FetchLimits, tell: Tell, about_to_load: Callable[[], Awaitable[None]]
) -> Model:
    """The wanted model, on the shelf, ready to answer and known to answer right. Takes as long as the network does.

    Raises Refused where the cause is not the package, BadModel where it is, OSError of our own disk.
    """
    shelf, package = sources.shelf, sources.shelf.package(wanted.sha256)
    try:
        sources.check(wanted.sha256, wanted.signature)
    except BadModel as error:  # of the request or of this device's key: no byte of the package was read
        raise Refused(str(error)) from None
    if not await sources.beside(_stands, package, wanted.sha256):
        await _fetch(wanted, shelf, limits, tell)
    await sources.beside(sources.sign, wanted)
    await about_to_load()
    tell(LOADING)
    model = await sources.beside(sources.open, Kept(wanted.version, wanted.sha256))
    tell(PARITY)
    golden = await sources.beside(read_golden, package)
    if not golden.images:
        log.warning("model %s carries no golden images: nothing to compare its answers with", wanted.version)
    await sources.beside(parity.check, model, golden)
    tell(WARMING)
    for expected in golden.images[:3]:
        await sources.beside(partial(model.predict, expected.image, alone=True))
    return model


def _stands(package: Path, sha256: str) -> bool:
    if not package.exists():
        return False
    try:
        check_file(package, sha256)
    except BadModel as error:
        log.warning("%s is damaged, fetching it anew: %s", package, error)
        package.unlink()
        return False
    return True


async def _fetch(wanted: Wanted, shelf: Shelf, limits: FetchLimits, tell: Tell) -> None:
    """The wanted package is on the shelf when this returns. Raises Refused, BadModel, OSError."""
    partial = shelf.partial(wanted.sha256)
    resumed = size(partial) > 0
    while True:
        await _download(wanted, partial, limits, tell)
        tell(VERIFYING)
        try:
            await asyncio.to_thread(check_file, partial, wanted.sha256)
            break
        except BadModel:
            discard(partial)
            if not resumed:
                raise
            resumed = False  # a power cut may have left a hole in what was there: once more, from the beginning
    await asyncio.to_thread(shelf.put, partial, wanted.sha256)
    discard(partial)


async def _download(wanted: Wanted, partial: Path, limits: FetchLimits, tell: Tell) -> None:
    chance = SystemRandom().random
    tries, reason = 0, ""
    while True:
        tell(DOWNLOADING, reason)
        before = size(partial)
        try:
            if wanted.url:
                return await fetch(wanted.url, partial, limits)
            return await copy(Path(wanted.path), partial, limits)
        except Offline as error:
            if reason != str(error):
                log.warning("model %s: %s; trying on", wanted.version, error)
            reason = str(error)
        tries = 1 if size(partial) > before else tries + 1
        await asyncio.sleep(pause(tries, chance(), limits))
