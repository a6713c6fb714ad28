"""Back to the model before: of one device, or of a ring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrain.devices.fleet import Fleet
from retrain.release.journal import UNDONE, Attempt, Journal
from retrain.release.plan import CLASSIFIER, Place, name_of
from retrain.release.releasing import note_undone, wishes_of
from retrain.release.wishes import Held, Undone, Wish, Wishes
from ripeloop.blobs import Blobs
from ripeloop.errors import Refused

BY = "ripeloop rollback"


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What was wanted there, what is now, and why.

    Where `version` is empty, nothing is: each device took the model before, but for those in `kept`, with the reason.
    """

    place: str
    was: str
    version: str
    reason: str
    kept: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {name: getattr(self, name) for name in ("place", "was", "version", "reason", "kept")}


async def rollback(
    fleet: Fleet,
    place: Place,
    reason: str,
    store: Blobs | None = None,
    module: str = CLASSIFIER,
    *,
    further: bool = False,
) -> RolledBack:
    """Want again what was wanted there before the newest release; with a store, that package is not released again.

    An undo that was cut off is finished, and nothing else. Where the newest release is undone already, only `further`
    goes back one more. Raises Refused there, and where no release of ours is wanted; Offline, NotFound.
    """
    wishes = wishes_of(fleet, place, module)
    notes = None if store is None else Journal(store)
    undone = [] if notes is None else [attempt for attempt, fact in await notes.facts() if fact == UNDONE]
    here = Attempt.of(0, place, "").place
    last = next((one for one in reversed(undone) if one.place == here), None)
    wish, _ = await wishes.look()
    if last is not None and (left := _left(await wishes.held(), last, undone)) is not None:
        return await _undo(wishes, notes, place, left.sha256, left.version, reason)
    if notes is not None and last is not None and wish is None:
        await _tell_the_rest(wishes, notes, last, reason)
    if wish is None or not wish.number:
        raise Refused(
            f"nothing that was released is wanted of {name_of(place)}: `ripeloop release` wants another model"
        )
    if wish.outranked or wish.as_in:
        other = f"ring {wish.as_in}" if wish.as_in else "another ring"
        raise Refused(f"a newer release to {other} holds for {name_of(place)}: roll that one back")
    if notes is not None and last is not None and last.number > wish.number and not further:
        raise Refused(await _already(notes, last, place, wish), kind=UNDONE)
    return await _undo(wishes, notes, place, wish.sha256, wish.version, reason)


def _left(held: list[Held], last: Attempt, undone: list[Attempt]) -> Held | None:
    """Of the package that was undone there last, what an undo that was cut off has left."""
    known = set(undone)
    left = (one for one in held if Attempt.of(one.number, one.place, one.sha256) in known)
    return next((one for one in left if one.sha256[:12] == last.digest), None)


async def _undo(
    wishes: Wishes, notes: Journal | None, place: Place, sha256: str, version: str, reason: str
) -> RolledBack:
    never = set[str]()
    if notes is not None:
        await note_undone(notes, await wishes.held(), sha256, reason, BY)
        never = await notes.undone_versions()
    done: Undone = await wishes.undo(sha256, reason, never)
    return RolledBack(name_of(place), version, done.wish.version if done.wish else "", reason, done.kept)


async def _tell_the_rest(wishes: Wishes, notes: Journal, last: Attempt, reason: str) -> None:
    """Devices in which it answers still, for the undo was cut off before they were told."""
    sha256 = str((await notes.told(last, UNDONE) or {}).get("sha256") or "")
    if sha256:
        await wishes.undo(sha256, reason, await notes.undone_versions())


async def _already(notes: Journal, last: Attempt, place: Place, wish: Wish) -> str:
    about = await notes.told(last, UNDONE) or {}
    return (
        f"{about.get('version') or 'the newest release'} is undone there already ({about.get('reason') or 'no reason'}"
        f"), and {wish.version} is wanted of {name_of(place)}: --further undoes that, too"
    )
