"""Back to the model before: of one device, or of a ring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrain.devices.fleet import Fleet
from retrain.release.journal import UNDONE, Attempt, Journal
from retrain.release.plan import CLASSIFIER, Place, name_of
from retrain.release.releasing import wishes_of
from retrain.release.storing import utc_now
from ripeloop.blobs import Blobs
from ripeloop.errors import Refused


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What was wanted there, what is now (empty: nothing, each device took the model before), and why."""

    place: str
    was: str
    version: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {name: getattr(self, name) for name in ("place", "was", "version", "reason")}


async def rollback(
    fleet: Fleet, place: Place, reason: str, store: Blobs | None = None, module: str = CLASSIFIER
) -> RolledBack:
    """Want again what was wanted there before the newest release; with a store, that package is not released again.

    Raises Refused where no release of ours is wanted, Offline, NotFound.
    """
    wishes = wishes_of(fleet, place, module)
    wish, _ = await wishes.look()
    if wish is None or not wish.number:
        raise Refused(
            f"nothing that was released is wanted of {name_of(place)}: `ripeloop release` wants another model"
        )
    if wish.outranked or wish.as_in:
        other = f"ring {wish.as_in}" if wish.as_in else "another ring"
        raise Refused(f"a newer release to {other} holds for {name_of(place)}: roll that one back")
    if store is not None:
        about = {"reason": reason, "at": utc_now().isoformat(), "by": "ripeloop rollback"}
        await Journal(store).note(Attempt.of(wish.number, place, wish.sha256), UNDONE, about)
    now = await wishes.undo(wish.sha256, reason)
    return RolledBack(name_of(place), wish.version, now.version if now is not None else "", reason)
