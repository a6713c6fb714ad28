"""A newer model is asked about every labelled image, in the background: what a device with it would answer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from classifier.models.model import Model, load
from retrain.label.quality.predicted import Predicted, Said, Unreadable
from ripeloop.errors import BadImage, BadModel, Denied, NotFound, Offline, Refused, SettingsError

log = logging.getLogger(__name__)

REST = 0.02
"""Seconds of rest after each image: the people who label come first."""
AGAIN = 5.0
"""Seconds until labels that came meanwhile are looked for; longer where looking takes long."""
SELDOM, LONGEST = 20, 600.0
"""It rests so many times as long as it was busy, at most so many seconds."""


@dataclass(frozen=True, slots=True)
class Sought:
    """An image to ask about: its id, and the name of its blob."""

    id: str
    blob: str


Fetch = Callable[[str], Awaitable[bytes]]
"""The bytes of the blob of that name. Raises NotFound, Refused, Denied, Offline."""
Wanted = Callable[[], Awaitable[Sequence[Sought]]]
"""All labelled images, those that tell most first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How far it is: of so many labelled images so many are answered; `why` it does not go on, where it does not."""

    version: str
    done: int = 0
    of: int = 0
    why: str = ""


class Asker:
    """The model in `path`, as a device runs it. `asked` tells how far it is. Raises BadModel, SettingsError."""

    def __init__(self, path: Path, predicted: Predicted) -> None:
        self._model: Model = load(path)
        self._predicted = predicted
        self.sha256 = _sha256(path)
        self.asked = Asked(self._model.version)

    @property
    def version(self) -> str:
        """The model's version."""
        return self._model.version

    def said(self, images: Sequence[str]) -> dict[str, Said]:
        """What it said of those of `images` it was asked about."""
        return self._predicted.of(self.sha256, images)

    async def run(self, wanted: Wanted, fetch: Fetch, again: float = AGAIN, rest: float = REST) -> None:
        """Ask about every labelled image, and look for new ones, until cancelled. Ends by itself on a bad model."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.once(wanted, fetch, rest)
            except (Offline, Denied) as error:
                self._halted(str(error))
            except BadModel as error:
                self._halted(str(error))
                return
            await asyncio.sleep(max(again, min(SELDOM * (loop.time() - began), LONGEST)))

    async def once(self, wanted: Wanted, fetch: Fetch, rest: float = 0) -> None:
        """Ask about every image that was not asked about. Raises Offline, Denied, BadModel."""
        images = await wanted()
        known = await asyncio.to_thread(self.said, [image.id for image in images])
        left = [image for image in images if image.id not in known]
        self.asked = Asked(self.version, len(images) - len(left), len(images))
        for nth, image in enumerate(left, len(images) - len(left) + 1):
            said = await self._answer(image, fetch)
            if said is not None:
                await asyncio.to_thread(self._predicted.add, self.sha256, image.id, said)
            self.asked = Asked(self.version, nth, len(images))
            await asyncio.sleep(rest)

    async def _answer(self, image: Sought, fetch: Fetch) -> Said | None:
        """None for one that is gone, or that the storage does not hand out."""
        try:
            return await asyncio.to_thread(self._model.predict, await fetch(image.blob))
        except BadImage as error:
            return Unreadable(str(error))
        except Denied:
            raise
        except (NotFound, Refused):
            return None

    def _halted(self, why: str) -> None:
        if self.asked.why != why:
            log.warning("the newer model is not asked about more images: %s", why)
        self.asked = Asked(self.version, self.asked.done, self.asked.of, why)


def _sha256(path: Path) -> str:
    """Of the file, or of all files of an export's folder. Raises SettingsError."""
    files = sorted(inside for inside in path.rglob("*") if inside.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"the model {path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
