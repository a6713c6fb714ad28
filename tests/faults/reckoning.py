"""After a scenario: the cloud's listing against what was flagged, and both against the sampler's own counters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection

from faults.device import Device
from faults.outcome import Outcome
from sampler.index.outbox import Counters, Outbox


async def reckoned(
    device: Device, fault: str, rounds: int, began: float, note: str = "", may: Collection[str] = ()
) -> Outcome:
    """Where everything that `device` flagged is; its sampler has ended, and `began` is of time.monotonic().

    `may`: for these reasons an image may stay away from the cloud; another one is no promise kept.
    """
    copies, damaged = await device.in_cloud()
    counters, reasons = _counted(device)
    reasons |= device.dropped
    flagged = set(device.flagged)
    missing = flagged - set(copies)
    # their answer never came, and then there was no room for them: the device cannot know that they arrived
    unheard = sum(id_ in copies and reason.startswith("evicted") for id_, reason in reasons.items())
    dropped = Counter(reasons[id_] for id_ in missing if id_ in reasons)
    told = [
        device.unsettled,
        ", ".join(f"{n} {reason} for no reason" for reason, n in sorted(dropped.items()) if reason not in may),
        disagreement(counters, len(copies) - unheard),
        "" if set(copies) <= flagged else "the cloud holds what nobody flagged",
    ]
    return Outcome(
        fault=fault,
        rounds=rounds,
        flagged=len(flagged),
        uploaded=len(flagged & set(copies)),
        dropped=dict(dropped),
        duplicated=sum(copies.values()) - len(copies),
        damaged=damaged,
        seconds=time.monotonic() - began,
        disagrees="; ".join(filter(None, told)),
        note=note,
    )


def disagreement(counters: Counters, in_cloud: int) -> str:
    """Where the counters do not add up, or do not agree with the number of images in the cloud; empty: nowhere."""
    evicted, dropped = sum(counters.evicted.values()), sum(counters.dropped.values())
    told = []
    if counters.flagged != counters.kept + dropped:
        told.append(f"flagged {counters.flagged} != kept {counters.kept} + dropped {dropped}")
    if counters.kept != counters.uploaded + counters.waiting + evicted + counters.set_aside:
        told.append(
            f"kept {counters.kept} != uploaded {counters.uploaded} + waiting {counters.waiting} + evicted {evicted} "
            f"+ set aside {counters.set_aside}"
        )
    if counters.uploaded != in_cloud:
        told.append(f"the counters say {counters.uploaded} uploaded, the cloud lists {in_cloud}")
    return "; ".join(told)


def _counted(device: Device) -> tuple[Counters, dict[str, str]]:
    """The counters, and by image the reason why it is not uploaded."""
    outbox = Outbox(device.folder / "state" / "outbox.db")
    try:
        drops = outbox.index.rows("SELECT id, reason FROM drops")
        gone = outbox.index.rows("SELECT id, state, why FROM samples WHERE state IN ('evicted', 'set_aside')")
        reasons = {row["id"]: row["reason"] for row in drops}
        reasons |= {row["id"]: "set_aside" if row["state"] == "set_aside" else f"evicted: {row['why']}" for row in gone}
        return outbox.counters(), reasons
    finally:
        outbox.close()
