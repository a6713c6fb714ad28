"""What answers on the devices now, and how the candidate gets there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from retrain.devices.fleet import Fleet
from retrain.release import Board, Device, Place, Plan, Released, release
from retrain.release.plan import name_of
from retrain.release.releasing import WAITING
from retrain.release.storing import PACKAGES
from retrain.store import opened
from retrain.turn import past
from retrain.turn.outcome import OVERTAKEN, RELEASED, UNDONE, Done
from retrain.turn.past import Active
from retrain.turn.settings import Told, TurnSettings
from retrain.turn.state import Turn
from ripeloop.blobs import AzureBlobs, Blobs, is_there
from ripeloop.disk import write_whole
from ripeloop.errors import Changed, Refused, SettingsError, Unfinished
from ripeloop.package import sha256_of


async def find_active(settings: TurnSettings, turns: Sequence[Turn], wanted: str) -> Active | None:
    """The model that devices are told to run, by the SHA-256 of its package.

    Where they are told of none, or there is no hub, it is the one released last, or else the one that was named; None
    where there is none at all. Raises SettingsError where it is not to be had, Offline, Refused.
    """
    named = settings.judging.active
    if named is not None and not named.exists():
        raise SettingsError(f"there is no model {named}: --active names an export or a package")
    if wanted:
        found = past.packed_as(turns, settings.work, wanted) or await _fetched(settings, wanted)
        if found is None and named is None:
            raise SettingsError(
                f"devices are told to run the package {wanted[:12]}…, which is neither here nor in the storage: name "
                "its file with --active"
            )
    else:
        found = past.released(turns, settings.work)
    return found or (None if named is None else Active(named, "--active"))


async def wanted_of(settings: TurnSettings) -> str:
    """The SHA-256 of the package that most devices of the plan's widest place are told to run; empty without one.

    Raises Offline, Refused, NotFound.
    """
    if settings.hub is None:
        return ""
    plan, hub = _plan(settings)
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet:
        place: Place = plan.then or plan.first
        if isinstance(place, Device):
            twins = [await fleet.twin(place.id, plan.module)]
        else:
            twins = await fleet.modules_where(place.where(plan.module))
    wanted = Counter(sha256 for twin in twins if (sha256 := _told_to_run(twin.desired)))
    return wanted.most_common(1)[0][0] if wanted else ""


async def check_places(settings: TurnSettings) -> None:
    """Return if every place of the plan has a device. Raises SettingsError, NotFound, Offline, Refused."""
    if settings.hub is None:
        return
    plan, hub = _plan(settings)
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet:
        for place in (plan.first, plan.then):
            if isinstance(place, Device):
                await fleet.twin(place.id, plan.module)
            elif place is not None and not await fleet.modules_where(place.where(plan.module)):
                raise SettingsError(
                    f"no device is in {name_of(place)}, where the model goes: the tags of its module's twin say who is"
                )


async def check_storage(settings: TurnSettings) -> None:
    """Return if devices can be told where to fetch a package from. Asks nobody. Raises SettingsError."""
    if settings.hub is None or _plan(settings)[0].base_url:
        return
    async with _models(settings) as store:
        if isinstance(store, AzureBlobs) and store.account_key() is None:
            raise SettingsError(
                "devices could not fetch the model: --cloud-blobs needs a connection string with the account's key, to "
                "make links for them; or name with --base-url where they fetch from"
            )


async def release_package(
    settings: TurnSettings,
    package: Path,
    built: Mapping[str, Any],
    beaten: str,
    told: Told,
    *,
    began: datetime | None = None,
) -> Done:
    """Bring the package to the devices, which are still told to run what it was judged against: `beaten`, a SHA-256.

    `began`: when this was tried first; devices of the last ring are waited for so long, and no longer.
    Raises Unfinished while some are waited for, Offline, Refused.
    """
    plan, hub = _plan(settings)
    if await wanted_of(settings) not in (beaten, built["sha256"]):
        why = "devices were told to run another model since this one was judged: the next turn judges against that"
        return Done({}, why, OVERTAKEN, why)
    said = set[str]()

    def seen(phase: str, board: Board) -> None:
        line = f"release: {phase}, {board.place}: {board.words}"
        if line not in said:
            said.add(line)
            told(line)

    if hub is None:
        raise SettingsError("set RIPELOOP_HUB: a release needs the hub")
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet, _models(settings, make=True) as store:
        try:
            done = await release(fleet, store, package, str(built["signature"]), plan, seen)
        except Changed as error:
            return Done({}, str(error), OVERTAKEN, str(error))
        except Refused as error:
            if error.kind != UNDONE:  # it was there before, and was undone
                raise
            return Done({}, str(error), UNDONE, str(error))
    if done.outcome == WAITING and (late := late_words(settings, done, began)):
        return Done(done.to_json() | {"outcome": RELEASED}, late, RELEASED, late)
    if done.outcome == WAITING:
        raise Unfinished(f"{done.reason}: run it again to wait on, or end this turn with --give-up")
    outcome = RELEASED if done.ok else UNDONE
    answers = [f"{done.version} answers on the devices"] if done.ok else []
    why = "; ".join([*answers, *filter(None, [done.reason])])
    return Done(done.to_json(), why, outcome, why)


def late_words(settings: TurnSettings, done: Released, began: datetime | None) -> str:
    """Why those that have not reported are waited for no longer; empty while they are.

    Only where the ring is wide, and the model answers in it: the first one's silence is a person's matter.
    """
    plan, _ = _plan(settings)
    if plan.then is None or len(done.places) < 2 or not done.places[-1].answering or began is None:
        return ""
    if datetime.now(UTC) - began < settings.late_after:
        return ""
    days = settings.late_after / timedelta(days=1)
    return (
        f"{done.version} answers on {done.places[-1].answering} of {done.places[-1].devices} devices of "
        f"{done.places[-1].place}; the others have not reported for {days:g} days: they get it when they are back"
    )


def _told_to_run(desired: Mapping[str, Any]) -> str:
    model = desired.get("model")
    return str(model.get("sha256") or "") if isinstance(model, Mapping) else ""


async def _fetched(settings: TurnSettings, sha256: str) -> Active | None:
    """The package of that SHA-256 out of the storage, kept in the work folder."""
    path = settings.work / "active" / f"{sha256}.zip"
    if path.is_file() and await asyncio.to_thread(sha256_of, path) == sha256:
        return Active(path, "the devices' twins")
    async with _models(settings) as store:
        if not await is_there(store):
            return None
        names = [blob.name async for blob in store.list(PACKAGES) if blob.metadata.get("sha256") == sha256]
        if not names:
            return None
        content = await store.get(names[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob("*.zip"):
        old.unlink()
    await asyncio.to_thread(write_whole, path, content)
    if await asyncio.to_thread(sha256_of, path) != sha256:
        path.unlink()
        raise SettingsError(f"{names[0]} in the storage is not the package that its name says: delete it there")
    return Active(path, "the devices' twins")


def _models(settings: TurnSettings, *, make: bool = False) -> AbstractAsyncContextManager[Blobs]:
    store = settings.store
    return opened(store.address, store.models, store.api_version, make=make)


def _plan(settings: TurnSettings) -> tuple[Plan, Any]:
    if settings.release is None:
        raise SettingsError("say where the model goes first: --ring canary, or --device and its id")
    return settings.release, settings.hub
