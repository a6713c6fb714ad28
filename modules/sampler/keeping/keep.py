"""Which flagged images are kept, and which of two is the more useful? Pure: what is known comes in as arguments.

Each image is judged once, in this order: known already, near-duplicate, budgets. Audit samples are the unbiased
measure of the model, so nothing but being known already stands in their way, and they take nobody's place. Where a
budget is spent, an image may take the place of a less useful one that still waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from ripeloop.prediction import Flagged, Prediction
from ripeloop.uncertainty import AUDIT, margin
from sampler.uploading.window import by_the_clock

DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
BUDGET = "budget"
QUOTA_TAG = "quota_tag"
QUOTA_REASON = "quota_reason"
DAMAGED = "damaged"
REFUSED = "refused"

AUDIT_USEFULNESS = 2.0
DHASH_BITS = 256
_STEPS = 20  # uncertainties within a twentieth count as the same, and diversity decides

Spent = Mapping[tuple[str, str], int]
"""How many places are taken, by the beginning of the time (as text) and the key."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be kept. 0 is no limit; tags and reasons have their number a day each, whichever it is.

    An image at most `near_distance` bits (of 256) from one of the last `near_minutes` is its near-duplicate; 0 bits is
    no search. While a budget is set an image waits `hold_minutes` before its upload, so that a better one can still
    take its place.
    """

    max_per_minute: int = 0
    max_per_hour: int = 0
    max_per_day: int = 0
    max_per_tag: int = 0
    max_per_reason: int = 0
    near_distance: int = 10
    near_minutes: float = 10.0
    hold_minutes: float = 10.0

    def has_budget(self) -> bool:
        """Whether an image may be dropped for there being too many."""
        limits = (self.max_per_minute, self.max_per_hour, self.max_per_day, self.max_per_tag, self.max_per_reason)
        return any(limits)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image to judge. `known`: the same bytes are a sample; `nearest`: bits to the nearest recent one, if any."""

    flagged: Flagged
    known: bool = False
    nearest: int | None = None

    @property
    def tag(self) -> str:
        """The likeliest tag."""
        return top_tag(self.flagged.predictions)

    @property
    def usefulness(self) -> float:
        """As `usefulness` says."""
        return usefulness(self.flagged.predictions, self.flagged.reason, self.nearest)


@dataclass(frozen=True, slots=True)
class Rival:
    """A waiting sample whose place may be taken."""

    id: str
    usefulness: float
    kept_at: datetime
    tag: str
    reason: str


@dataclass(frozen=True, slots=True)
class Short:
    """A budget without a place left, since when it counts and for which tag or reason alone; `word` names it."""

    word: str
    since: datetime
    tag: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Keep it, where `dropped` is None; then `instead_of` has to go for it, for the reason `word`."""

    dropped: str | None = None
    instead_of: Rival | None = None
    word: str = ""


# the least useful waiting sample that was kept since then, of that tag and reason where they are given
LeastUseful = Callable[[datetime, str | None, str | None], Rival | None]


def decide(candidate: Candidate, rules: Rules, spent: Spent, least_useful: LeastUseful, now: datetime) -> Decision:
    """Whether this image is kept at `now`, a local time with its zone."""
    if candidate.known:
        return Decision(DUPLICATE)
    if candidate.flagged.reason == AUDIT:
        return Decision()
    if candidate.nearest is not None and candidate.nearest <= rules.near_distance:
        return Decision(NEAR_DUPLICATE)
    short = list(_short(candidate, rules, spent, now))
    if not short:
        return Decision()
    tag = next((one.tag for one in short if one.tag is not None), None)
    reason = next((one.reason for one in short if one.reason is not None), None)
    rival = least_useful(max(one.since for one in short), tag, reason)  # gone, it frees a place in each of them
    if rival is None or rival.usefulness >= candidate.usefulness:
        return Decision(short[0].word)
    return Decision(instead_of=rival, word=short[0].word)


def usefulness(predictions: Sequence[Prediction], reason: str, nearest: int | None = None) -> float:
    """How much a label would teach, 0 to about 1: first how unsure the model was, then how unlike others it looks.

    An audit sample comes before all. Without a neighbour or a hash the looks count half.
    """
    if reason == AUDIT:
        return AUDIT_USEFULNESS
    unsure = int((1 - margin(predictions)) * _STEPS + 1e-9) / _STEPS
    unlike = 0.5 if nearest is None else min(1.0, 2 * nearest / DHASH_BITS)  # strangers differ in half of the bits
    return unsure + unlike * 0.99 / _STEPS


def top_tag(predictions: Sequence[Prediction]) -> str:
    """The likeliest tag; empty without predictions."""
    return max(predictions, key=lambda p: p.probability).tag if predictions else ""


def places(tag: str, reason: str, at: datetime) -> list[tuple[str, str]]:
    """The places a sample takes that is kept at `at`, a local time with its zone: keys of `Spent`."""
    if reason == AUDIT:
        return []
    minute, hour = (at.astimezone(UTC).strftime(form) for form in ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H"))
    day = at.strftime("%Y-%m-%d")  # the local date, however long the day is
    return [(minute, "minute"), (hour, "hour"), (day, "day"), (day, f"tag:{tag}"), (day, f"reason:{reason}")]


def starts(at: datetime) -> tuple[datetime, datetime, datetime]:
    """When the minute, the hour and the day of a local time began, in UTC."""
    minute = at.astimezone(UTC).replace(second=0, microsecond=0)
    return minute, minute.replace(minute=0), by_the_clock(at, time.min).astimezone(UTC)


def held_from(rules: Rules, *, short: bool, now: datetime) -> datetime | None:
    """What was kept later than this is not uploaded yet; None: nothing is held. `short`: the uplink has a budget."""
    if not (rules.has_budget() or short) or not rules.hold_minutes:
        return None
    return now - timedelta(minutes=rules.hold_minutes)


def _short(candidate: Candidate, rules: Rules, spent: Spent, now: datetime) -> Iterator[Short]:
    keys = places(candidate.tag, candidate.flagged.reason, now)
    limits = (rules.max_per_minute, rules.max_per_hour, rules.max_per_day, rules.max_per_tag, rules.max_per_reason)
    minute, hour, day = starts(now)
    shorts = (
        Short(BUDGET, minute),
        Short(BUDGET, hour),
        Short(BUDGET, day),
        Short(QUOTA_TAG, day, tag=candidate.tag),
        Short(QUOTA_REASON, day, reason=candidate.flagged.reason),
    )
    for key, most, short in zip(keys, limits, shorts, strict=True):
        if most and spent.get(key, 0) >= most:
            yield short
