"""How far each device is with the model that is wanted of it. Pure: twins come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from retrain.devices.fleet import Twin

ACTIVE, WATCHING, FAILED, ROLLED_BACK = "active", "watching", "failed", "rolled_back"
UNTOLD = "untold"  # the hub has not brought it the wish yet
SILENT = "silent"  # nothing was heard about what is wanted
NONE = "none"  # nothing is wanted of it
BAD = (FAILED, ROLLED_BACK)
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One device: what is wanted, what answers there, how it stands, since when, and why."""

    device: str
    state: str
    wanted: str = ""
    reported: str = ""
    since: str = ""
    why: str = ""
    connected: bool = False
    answers: bool = False
    """Whether what is wanted answers there."""

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        names = ("device", "state", "wanted", "reported", "since", "why", "connected")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A device where it did not go well."""

    device: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Board:
    """How the devices of one place stand with one model."""

    place: str
    counts: Mapping[str, int] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    answering: int = 0

    @classmethod
    def of(cls, place: str, rows: Iterable[Row]) -> Board:
        """Count the rows."""
        rows = list(rows)
        troubles = (Trouble(row.device, row.state, row.why) for row in rows if row.state in BAD)
        return cls(place, dict(Counter(row.state for row in rows)), tuple(troubles), sum(row.answers for row in rows))

    @property
    def devices(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    def share(self, count: int) -> float:
        """`count` as a share of the devices; 0 where there are none."""
        return count / self.devices if self.devices else 0.0

    @property
    def words(self) -> str:
        """The counts in a line, the good first."""
        order = (ACTIVE, WATCHING)
        states = sorted(self.counts, key=lambda state: (order.index(state) if state in order else len(order), state))
        return ", ".join(f"{self.counts[state]} {state}" for state in states) or "no devices"

    @property
    def why(self) -> str:
        """The first trouble, and how many more."""
        if not self.troubles:
            return ""
        one, more = self.troubles[0], len(self.troubles) - 1
        reason = f"{one.device} {one.state}: {one.reason or 'no reason given'}"
        return f"{reason} (and {more} more)" if more else reason

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        troubles = [{"device": one.device, "state": one.state, "reason": one.reason} for one in self.troubles]
        return {"place": self.place, "devices": self.devices, "states": dict(self.counts), "troubles": troubles}


def row(twin: Twin, sha256: str | None = None) -> Row:
    """How a module stands with the package of this hash, or with what its twin wants now."""
    desired, reported = _model(twin.desired), _model(twin.reported)
    wanted = str(desired.get("version") or "")
    state, why, answers = NONE, "", False
    if sha256 is not None and desired.get("sha256") != sha256:
        state = UNTOLD
    elif desired:
        answers = bool(reported.get("sha256")) and reported.get("sha256") == desired.get("sha256")
        state, why = _stands(wanted, reported, answers)
    if state in (SILENT, UNTOLD) and not twin.connected:
        why = f"offline, last heard of {twin.active}" if twin.active else "was never connected"
    return Row(
        device=twin.device,
        state=state,
        wanted=wanted,
        reported=str(reported.get("version") or ""),
        since=str((reported.get("since") if state not in (SILENT, UNTOLD) else twin.changed) or ""),
        why=why,
        connected=twin.connected,
        answers=answers and state in (ACTIVE, WATCHING),
    )


def stands(desired: Mapping[str, Any], reported: Mapping[str, Any]) -> tuple[str, str]:
    """The state of what a twin's `model` wants, and the reason why it is not active, or a remark though it is."""
    answers = bool(reported.get("sha256")) and reported.get("sha256") == desired.get("sha256")
    return _stands(str(desired.get("version") or ""), reported, answers)


def _stands(wanted: str, reported: Mapping[str, Any], answers: bool) -> tuple[str, str]:
    """The state and the reason. What is reported of another version says nothing about this one."""
    state, reason = str(reported.get("state") or ""), str(reported.get("reason") or "")
    if not wanted or reported.get("wanted") != wanted or (state == ACTIVE and not answers):
        return SILENT, ""
    return state, reason


def _model(section: Mapping[str, Any]) -> Mapping[str, Any]:
    model = section.get("model")
    return model if isinstance(model, Mapping) else {}
