"""The export of an iteration: asked for once, fetched in pieces, checked, and only then a file of that name."""

from __future__ import annotations

import asyncio
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from classifier.models import export as exports
from classifier.rollout import fetch
from retrain.customvision import CustomVision
from retrain.iteration import DONE, FAILED, ExportState
from retrain.turn.train.waiting import Pace, at_most
from ripeloop.disk import sync
from ripeloop.errors import BadModel, Offline, Refused, SettingsError

log = logging.getLogger(__name__)

PLATFORM = "ONNX"
INT8 = "ONNXInt8"
MAX_BYTES = exports.MAX_MODEL_BYTES + 64 * 1024 * 1024
TRIES = 8
"""How often in a row nothing more may arrive."""
HOUR = Pace(seconds=3600.0)

EXPORT_FAILED = "ExportFailed"
_UNDER_WAY = "BadRequestExportAlreadyInProgress"

Told = Callable[[str], None]
"""Hears what is being done."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The export's file, and whether it was there already."""

    path: Path
    iteration: str
    flavour: str
    already: bool = False


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One export of one iteration."""

    project: str
    iteration: str
    flavour: str

    @property
    def words(self) -> str:
        return f"the export of iteration {self.iteration} ({self.flavour or PLATFORM})"


def _nobody(_: str) -> None:
    """Nobody listens."""


async def fetch_export(
    service: CustomVision,
    project: str,
    iteration: str,
    out: Path,
    *,
    int8: bool = False,
    again: bool = False,
    replace: bool = False,
    told: Told = _nobody,
    pace: Pace = HOUR,
) -> Fetched:
    """Export the iteration as ONNX, unless it is exported, and fetch the zip to `out`: whole and right, or not at all.

    `int8`: in 8 bits, which only our own trainer can. `again`: ask once more for one that failed. `replace`: another
    file at `out` gives way. Killed and called again, this goes on where it was.

    Raises Refused, with the kind ExportFailed where the service could not make it; BadModel for a damaged export,
    SettingsError where `out` is another file, Unfinished where it lasts too long, NotFound, Offline, OSError.
    """
    wanted = _Wanted(project, iteration, INT8 if int8 else "")
    partial = out.with_name(f".{out.name}.{iteration}{wanted.flavour}.partial")
    if await asyncio.to_thread(_is_there, out, wanted, replace):
        await asyncio.to_thread(fetch.discard, partial)
        return Fetched(out, iteration, wanted.flavour, already=True)
    async with at_most(pace, wanted.words):
        await _check_exportable(service, wanted)
        await _made(service, wanted, again, told, pace)
        told(f"fetching {wanted.words}")
        await _fetched(service, wanted, partial, pace)
    await asyncio.to_thread(_put, partial, out)
    log.info("%s is %s", wanted.words, out)
    return Fetched(out, iteration, wanted.flavour)


def _is_there(out: Path, wanted: _Wanted, replace: bool) -> bool:
    """Whether `out` is that export already. Raises SettingsError where it is something else that is to stay."""
    if not out.parent.is_dir():
        raise SettingsError(f"there is no folder {out.parent} to write {out.name} to: make it, or say another place")
    if not out.exists():
        return False
    try:
        _check(out, wanted)
    except BadModel as error:
        if replace:
            return False
        raise SettingsError(
            f"{out} is there and is not {wanted.words} ({error}): move it, or write elsewhere"
        ) from error
    return True


async def _check_exportable(service: CustomVision, wanted: _Wanted) -> None:
    found = await asyncio.to_thread(service.iteration, wanted.project, wanted.iteration)
    if not found.completed:
        what = f"has failed ({found.why})" if found.failed else "is in training"
        raise Refused(f"{found.name} ({found.id}) {what}: only a trained iteration can be exported")
    if not found.exportable:
        raise Refused(
            f"{found.name} ({found.id}) was trained in a domain whose models stay in the cloud: set the project's "
            "domain to General (compact), and train again"
        )


async def _made(service: CustomVision, wanted: _Wanted, again: bool, told: Told, pace: Pace) -> ExportState:
    """The export once the service is done with it. Looks first: what is asked for twice is refused."""
    may_ask = True
    for pause in pace.pauses():
        found = await _look(service, wanted)
        if found is not None and found.status == DONE:
            return found
        if found is not None and found.status == FAILED and not (again and may_ask):
            raise Refused(f"the service could not make {wanted.words}: ask once more with --again", kind=EXPORT_FAILED)
        if found is None or found.status == FAILED:
            if may_ask:
                await _ask(service, wanted)
            may_ask = False
        told(f"waiting for {wanted.words}")
        await asyncio.sleep(pause)
    raise AssertionError("the pauses have no end")


async def _look(service: CustomVision, wanted: _Wanted) -> ExportState | None:
    """By platform and flavour, wherever it stands. Of several the one that is done."""
    found = [
        one
        for one in await asyncio.to_thread(service.exports, wanted.project, wanted.iteration)
        if (one.platform, one.flavour) == (PLATFORM, wanted.flavour)
    ]
    return min(found, key=lambda one: (one.status != DONE, one.status == FAILED), default=None)


async def _ask(service: CustomVision, wanted: _Wanted) -> None:
    log.info("asking for %s", wanted.words)
    try:
        await asyncio.to_thread(service.export, wanted.project, wanted.iteration, PLATFORM, wanted.flavour)
    except Refused as error:
        if error.kind != _UNDER_WAY:  # somebody was quicker, or the answer to our first try was lost
            raise


async def _fetched(service: CustomVision, wanted: _Wanted, partial: Path, pace: Pace) -> None:
    """All of it is in `partial`, checked. The address is asked for anew each time: its signature ends soon."""
    limits = fetch.FetchLimits(bytes=MAX_BYTES, total=pace.seconds)
    refused = damaged = False
    vain, pauses = 0, pace.pauses()
    while True:
        found, have = await _look(service, wanted), fetch.size(partial)
        if found is None or not found.address:
            raise Refused(f"the service says that {wanted.words} is done and has no address of it: ask again later")
        try:
            await fetch.fetch(found.address, partial, limits)
            return await asyncio.to_thread(_check, partial, wanted)
        except Offline as error:
            vain, pauses = (0, pace.pauses()) if fetch.size(partial) > have else (vain + 1, pauses)
            if vain == TRIES:
                raise
            log.warning("%s; %d bytes are here, going on from there", error, fetch.size(partial))
        except Refused:
            if refused:
                raise
            refused = True
        except BadModel as error:
            await asyncio.to_thread(fetch.discard, partial)
            if damaged:
                raise
            damaged = True
            log.warning("what was fetched is damaged, fetching it again: %s", error)
        await asyncio.sleep(next(pauses))


def _check(path: Path, wanted: _Wanted) -> None:
    """Return if it is a zip whose manifest vouches for its model, and speaks of this export. Raises BadModel."""
    found = exports.read(path)  # compares the model's SHA-1 with the manifest's, if that has one
    if not zipfile.is_zipfile(path):
        raise BadModel(f"{path} is no zip: export the iteration again")
    with zipfile.ZipFile(path) as archive:
        manifest = _manifest(archive)
    if not manifest.get("ModelFileSHA1"):
        raise BadModel(f"{exports.MANIFEST} has no SHA-1 of the model: nothing tells whether it arrived whole")
    int8 = manifest.get("Flavor") == INT8
    if found.iteration != wanted.iteration or int8 != (wanted.flavour == INT8):
        bits = " in 8 bits" if int8 else ""
        raise BadModel(f"{path} is the export of iteration {found.iteration or '(none)'}{bits}: another one is wanted")


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    """The manifest that the model was read by; nothing where there is none."""
    names = [name for name in archive.namelist() if PurePosixPath(name.replace("\\", "/")).name == exports.MANIFEST]
    if not names:
        return {}
    found: dict[str, Any] = json.loads(archive.read(min(names, key=lambda name: name.count("/") + name.count("\\"))))
    return found


def _put(partial: Path, out: Path) -> None:
    """The file under its name, on disk for sure."""
    sync(partial)
    partial.replace(out)
    sync(out.parent)
    fetch.discard(partial)
