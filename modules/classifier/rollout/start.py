"""The model a start begins with: the last good one, without the network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from classifier.models.model import Model
from classifier.pixels.freed import give_back
from classifier.rollout.memory import Kept, Memory
from classifier.rollout.shelf import Shelf
from classifier.rollout.wanted import Wanted
from ripeloop.errors import BadModel
from ripeloop.package import check_file, check_signature

log = logging.getLogger(__name__)

T = TypeVar("T")

LAST_REQUEST = 1.0  # seconds

Load = Callable[[Path], Model]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where models are loaded from: the shelf's packages, and `first`, the file of --model.

    The owner of `key` must have signed the packages; without a key unsigned ones do. The operator's own `first` needs
    no signature. One `thread` does all that is heavy: each one more would keep free memory of its own.
    """

    shelf: Shelf
    first: Path
    load: Load
    key: Ed25519PublicKey | None = None
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "loader"))

    async def beside(self, call: Callable[..., T], *args: Any) -> T:
        """What `call` returns, from the thread."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, call, *args)

    async def give_back(self) -> None:
        """Hand the memory of a model that was let go back to the system, once no request has it, as a rule."""
        await asyncio.sleep(LAST_REQUEST)
        await self.beside(give_back)

    def open(self, kept: Kept) -> Model:
        """The kept model, ready to answer; blocks. Raises BadModel."""
        if not kept.sha256:
            return self.load(self.first)
        package = self.shelf.package(kept.sha256)
        check_file(package, kept.sha256)
        try:
            self.check(kept.sha256, self.shelf.signature(kept.sha256))
        except OSError as error:
            raise BadModel(f"cannot read the signature of {package.name}: {error.strerror or error}") from error
        model = self.load(package)
        model.version = kept.version
        return model

    def older(self, previous: Kept) -> tuple[Model | None, Kept, str]:
        """That model, else the one of --model, and what it is; None and the reasons where neither can be loaded."""
        troubles = []
        for kept in dict.fromkeys((previous, Kept())):
            try:
                return self.open(kept), kept, ""
            except BadModel as error:
                troubles.append(str(error))
        return None, previous, "; ".join(troubles)

    def check(self, sha256: str, signature: str) -> None:
        """Return if a package with that signature may be used here. Raises BadModel."""
        if self.key is not None:
            check_signature(sha256, signature, self.key)

    def sign(self, wanted: Wanted) -> None:
        """Keep the signature of a wanted package that stands on the shelf, if it is a good one. Raises OSError."""
        with suppress(BadModel):  # a bad one must not take the place of a good one
            self.check(wanted.sha256, wanted.signature)
            if wanted.signature:
                self.shelf.sign(wanted.sha256, wanted.signature)


def begin(sources: Sources, now: str) -> tuple[Model, Memory]:
    """The active model, else the one before it, else that of --model; and what is to be remembered. Blocks.

    Raises BadModel where none can be loaded, and OSError.
    """
    before = sources.shelf.read()
    memory = before.started(now)
    if memory != before:
        sources.shelf.write(memory)  # before the model is loaded, which may end the process
    candidates = [memory.active, *([memory.previous] if memory.previous else []), Kept()]
    reasons: list[str] = []
    for kept in dict.fromkeys(replace(k, version="") if not k.sha256 else k for k in candidates):
        try:
            model = sources.open(kept)
        except BadModel as error:
            reasons.append(f"{kept.version}: {error}" if kept.version else _of_file(sources.first, str(error)))
            continue
        return model, _remembered(sources.shelf, memory, replace(kept, version=model.version), reasons, now)
    raise BadModel("; ".join(reasons))


def _of_file(path: Path, reason: str) -> str:
    """The reason, with the file it is about before it, unless its name stands in it already."""
    return reason if path.name in reason else f"{path}: {reason}"


def _remembered(shelf: Shelf, memory: Memory, loaded: Kept, reasons: list[str], now: str) -> Memory:
    if not reasons:
        return replace(memory, active=loaded)
    log.error("an older model answers: %s", "; ".join(reasons))
    memory = memory.fell_back(loaded, f"could not be loaded at the start: {reasons[0]}", now)
    shelf.write(memory)
    return memory
