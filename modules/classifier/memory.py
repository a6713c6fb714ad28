"""What a device remembers of its models, and how an event changes it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from classifier.wanted import Wanted
from classifier.watch import Figures
from ripeloop.package import SHA256

TRIES = 3  # that may end with the process before a model is given up

WATCHING, ACTIVE, ROLLED_BACK, FAILED = "watching", "active", "rolled_back", "failed"


@dataclass(frozen=True, slots=True)
class Kept:
    """A model that can be loaded here: the package of that SHA-256, or the model of the first start where it is ""."""

    version: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """The active model is on trial: how the one before it did, and how often the process started meanwhile."""

    before: Figures = field(default_factory=Figures)
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it stands: a word, the reason, and the version it is about. `since` is UTC, in `prediction.format_time`."""

    state: str = ACTIVE
    reason: str = ""
    wanted: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What outlives the process. Every method gives the memory after an event."""

    active: Kept = Kept()
    previous: Kept | None = None
    trial: Trial | None = None
    outcome: Outcome = Outcome()
    refused: str = ""  # Wanted.content or Wanted.whole
    tried: str = ""  # Wanted.content of what was being loaded
    tries: int = 0

    def refuses(self, wanted: Wanted) -> bool:
        """Whether that was tried before, to no good end."""
        return bool(self.refused) and self.refused in (wanted.content, wanted.whole)

    def loading(self, wanted: Wanted) -> Self:
        """A model is about to be loaded, which may end the process."""
        tries = self.tries if self.tried == wanted.content else 0
        return replace(self, tried=wanted.content, tries=tries + 1)

    def ends_the_process(self, wanted: Wanted) -> bool:
        """Whether the process ended again and again while that was being loaded."""
        return self.tried == wanted.content and self.tries >= TRIES

    def activated(self, wanted: Wanted, before: Figures, now: str) -> Self:
        """It answers, on trial. What it replaces is kept, unless that was still on trial itself."""
        return replace(
            self,
            active=Kept(wanted.version, wanted.sha256),
            previous=self.previous if self.trial else self.active,
            trial=Trial(self.trial.before if self.trial else before),
            outcome=Outcome(WATCHING, "", wanted.version, now),
            refused="",
            tried="",
            tries=0,
        )

    def passed(self, remark: str, now: str) -> Self:
        """The trial is over; a later request that failed meanwhile stays what is told."""
        if self.outcome.state != WATCHING:
            return replace(self, trial=None)
        return replace(self, trial=None, outcome=Outcome(ACTIVE, remark, self.active.version, now))

    def confirmed(self, now: str) -> Self:
        """What is wanted answers already."""
        state = WATCHING if self.trial else ACTIVE
        if state == self.outcome.state:
            return replace(self, refused="")
        return replace(self, refused="", outcome=Outcome(state, "", self.active.version, now))

    def failed(self, wanted: Wanted, reason: str, now: str) -> Self:
        """It never came to answer, and the same request would fail again."""
        outcome = Outcome(FAILED, reason, wanted.version, now)
        return replace(self, outcome=outcome, refused=wanted.whole, tried="", tries=0)

    def stopped(self, wanted: Wanted, reason: str, now: str) -> Self:
        """A person stopped it on its way; the same model is not tried again."""
        outcome = Outcome(ROLLED_BACK, reason, wanted.version, now)
        return replace(self, outcome=outcome, refused=wanted.content, tried="", tries=0)

    def undone(self, to: Kept, reason: str, now: str) -> Self:
        """An older model answers again; what was active is not tried again."""
        return replace(
            self,
            active=to,
            previous=None,
            trial=None,
            outcome=Outcome(ROLLED_BACK, reason, self.active.version, now),
            refused=f"{self.active.version} {self.active.sha256}",
            tried="",
            tries=0,
        )

    def fell_back(self, to: Kept, reason: str, now: str) -> Self:
        """At a start something older had to be taken; what is wanted may be fetched anew."""
        outcome = Outcome(ROLLED_BACK, reason, self.active.version, now)
        return replace(self, active=to, previous=None, trial=None, outcome=outcome)

    def started(self, now: str) -> Self:
        """The process starts: a trial that saw it start too often is lost."""
        if self.trial is None:
            return self
        starts = self.trial.starts + 1
        if starts > TRIES and self.previous is not None:
            return self.undone(self.previous, f"the process ended {starts - 1} times while the model was watched", now)
        return replace(self, trial=replace(self.trial, starts=starts))

    def settled(self) -> Self:
        """The process has lived for a while: earlier ends were not the model's doing."""
        return replace(self, trial=self.trial and replace(self.trial, starts=0))

    def to_json(self) -> bytes:
        """As it stands in the state file."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """What `to_json` wrote; unknown fields are ignored. Raises ValueError, TypeError, AttributeError."""
        fields: dict[str, Any] = json.loads(data)
        trial, outcome, previous = fields.get("trial"), fields.get("outcome") or {}, fields.get("previous")
        return cls(
            active=_kept(fields.get("active") or {}),
            previous=None if previous is None else _kept(previous),
            trial=trial and Trial(Figures.from_json(trial.get("before") or {}), int(trial.get("starts", 0))),
            outcome=Outcome(
                str(outcome.get("state", ACTIVE)), *(str(outcome.get(n, "")) for n in ("reason", "wanted", "since"))
            ),
            refused=str(fields.get("refused", "")),
            tried=str(fields.get("tried", "")),
            tries=int(fields.get("tries", 0)),
        )


def _kept(fields: Mapping[str, Any]) -> Kept:
    sha256 = str(fields.get("sha256", ""))
    if sha256 and not SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256")
    return Kept(str(fields.get("version", "")), sha256)
