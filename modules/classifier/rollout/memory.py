"""What a device remembers of its models, and how an event changes it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from classifier.rollout.compared import Compared
from classifier.rollout.wanted import Wanted
from classifier.rollout.watch import Figures
from ripeloop.package import SHA256
from ripeloop.uncertainty import Policy, TagPolicy

TRIES = 3  # that may end with the process before a model is given up

SHADOWING, WATCHING, ACTIVE = "shadowing", "watching", "active"
ROLLED_BACK, FAILED = "rolled_back", "failed"

MAX_REASON = 300  # characters; reported properties are small
AGAIN = "; tried again when this module restarts, or when model is set to {} and back"
NOT_AGAIN = "; not tried again until model.attempt is raised"


@dataclass(frozen=True, slots=True)
class Kept:
    """A model that can be loaded here: the package of that SHA-256, or the model of the first start where it is "".

    `attempt` is Wanted.attempt when it was taken, 0 where there was none.
    """

    version: str = ""
    sha256: str = ""
    attempt: int = 0

    @classmethod
    def of(cls, wanted: Wanted) -> Self:
        """The package that is wanted."""
        return cls(wanted.version, wanted.sha256, wanted.attempt or 0)


@dataclass(frozen=True, slots=True)
class Trial:
    """The active model is on trial: how the one before it did, judged by which policy.

    `starts` counts how often the process started meanwhile.
    """

    before: Figures = field(default_factory=Figures)
    terms: Policy | None = None
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it stands: a word, the reason, and the version it is about. `since` is UTC, in `prediction.format_time`.

    `shadow` is how that version compared with the one that answered, where it was asked to.
    """

    state: str = ACTIVE
    reason: str = ""
    wanted: str = ""
    since: str = ""
    shadow: Compared | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What outlives the process. Every method gives the memory after an event."""

    active: Kept = Kept()
    previous: Kept | None = None
    trial: Trial | None = None
    outcome: Outcome = Outcome()
    refused: str = ""  # Wanted.sha256 or Wanted.whole of a package that is no good
    refused_attempt: int = 0  # of a Wanted.sha256: a higher one is tried
    tried: str = ""  # Wanted.sha256 of what was being loaded
    tries: int = 0

    def refuses(self, wanted: Wanted) -> bool:
        """Whether that was tried before, to no good end."""
        if not self.refused:
            return False
        anew = (wanted.attempt or 0) > self.refused_attempt
        return self.refused == wanted.whole or (self.refused == wanted.sha256 and not anew)

    def refused_as(self, wanted: Wanted) -> Self:
        """What is refused was asked for, maybe by another name: the old word holds for it."""
        return replace(self, outcome=replace(self.outcome, wanted=wanted.version))

    def loading(self, wanted: Wanted) -> Self:
        """A model is about to be loaded, which may end the process."""
        tries = self.tries if self.tried == wanted.sha256 else 0
        return replace(self, tried=wanted.sha256, tries=tries + 1)

    def ends_the_process(self, wanted: Wanted) -> bool:
        """Whether the process ended again and again while that was being loaded."""
        return self.tried == wanted.sha256 and self.tries >= TRIES

    def withstood(self) -> Self:
        """The process has lived beside a loaded candidate for a while: earlier ends were not its doing."""
        return replace(self, tries=min(self.tries, 1))

    def activated(self, wanted: Wanted, trial: Trial, now: str, shadow: Compared | None = None) -> Self:
        """It answers, on trial. What it replaces is kept, unless that was still on trial itself."""
        return replace(
            self,
            active=Kept.of(wanted),
            previous=self.previous if self.trial else self.active,
            trial=replace(self.trial, starts=0) if self.trial else trial,
            outcome=Outcome(WATCHING, "", wanted.version, now, shadow),
            refused="",
            tried="",
            tries=0,
        )

    def passed(self, remark: str, now: str) -> Self:
        """The trial is over; a later request that failed meanwhile stays what is told."""
        if self.outcome.state != WATCHING:
            return replace(self, trial=None)
        outcome = Outcome(ACTIVE, remark, self.active.version, now, self.outcome.shadow)
        return replace(self, trial=None, outcome=outcome)

    def confirmed(self, wanted: Wanted, now: str) -> Self:
        """What is wanted answers already, and goes by the wanted version from now on."""
        state, active = WATCHING if self.trial else ACTIVE, Kept.of(wanted)
        if state == self.outcome.state and active == self.active:
            return replace(self, refused="")
        return replace(self, active=active, refused="", outcome=Outcome(state, "", active.version, now))

    def failed(
        self, wanted: Wanted, reason: str, now: str, shadow: Compared | None = None, *, again: bool = False
    ) -> Self:
        """It never came to answer. Only where the cause is not the package's may the same request do better `again`."""
        outcome = Outcome(FAILED, _advised(reason, AGAIN if again else NOT_AGAIN), wanted.version, now, shadow)
        return replace(self, outcome=outcome, refused="" if again else wanted.whole, tried="", tries=0)

    def unwanted(self, now: str) -> Outcome:
        """How it stands where nothing is wanted: what failed is no news any more."""
        if self.outcome.state != FAILED:
            return replace(self.outcome, since=self.outcome.since or now)
        return Outcome(WATCHING if self.trial else ACTIVE, since=now)

    def stopped(self, wanted: Wanted, reason: str, now: str) -> Self:
        """A person stopped it on its way; the same model is not tried again."""
        outcome = Outcome(ROLLED_BACK, _advised(reason, NOT_AGAIN), wanted.version, now)
        return replace(
            self, outcome=outcome, refused=wanted.sha256, refused_attempt=wanted.attempt or 0, tried="", tries=0
        )

    def undone(self, to: Kept, reason: str, now: str) -> Self:
        """An older model answers again; what was active is not tried again."""
        return replace(
            self,
            active=to,
            previous=None,
            trial=None,
            outcome=Outcome(ROLLED_BACK, _advised(reason, NOT_AGAIN), self.active.version, now),
            refused=self.active.sha256,
            refused_attempt=self.active.attempt,
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
        """What `to_json` wrote; unknown fields are ignored.

        Raises ValueError, TypeError, AttributeError, OverflowError, RecursionError.
        """
        written: dict[str, Any] = json.loads(data)
        trial, outcome, previous = written.get("trial"), written.get("outcome") or {}, written.get("previous")
        return cls(
            active=_kept(written.get("active") or {}),
            previous=None if previous is None else _kept(previous),
            trial=trial and _trial(trial),
            outcome=_outcome(outcome),
            refused=str(written.get("refused", "")),
            refused_attempt=int(written.get("refused_attempt", 0)),
            tried=str(written.get("tried", "")),
            tries=int(written.get("tries", 0)),
        )


def _advised(reason: str, advice: str) -> str:
    return reason[: MAX_REASON - len(advice)] + advice


def _trial(written: Mapping[str, Any]) -> Trial:
    before, terms = Figures.from_json(written.get("before") or {}), written.get("terms")
    return Trial(before, terms and _policy(terms), starts=int(written.get("starts", 0)))


def _policy(written: Mapping[str, Any]) -> Policy:
    tags = {tag: TagPolicy(**_known(TagPolicy, own)) for tag, own in (written.get("tags") or {}).items()}
    return Policy(**_known(Policy, written) | {"tags": tags})


def _known(kind: type[Policy | TagPolicy], written: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in written.items() if name in names}


def _outcome(written: Mapping[str, Any]) -> Outcome:
    state, shadow = str(written.get("state", ACTIVE)), written.get("shadow")
    reason, wanted, since = (str(written.get(name, "")) for name in ("reason", "wanted", "since"))
    return Outcome(state, reason, wanted, since, shadow and Compared.from_json(shadow))


def _kept(written: Mapping[str, Any]) -> Kept:
    sha256 = str(written.get("sha256", ""))
    if sha256 and not SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256")
    return Kept(str(written.get("version", "")), sha256, int(written.get("attempt", 0)))
