"""Why was (almost) nothing captured or uploaded? The counters and the state of now, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sampler.index.outbox import Counters
from sampler.keeping.evict import DISK, QUOTA
from sampler.keeping.keep import BUDGET, DAMAGED, DUPLICATE, NEAR_DUPLICATE, QUOTA_REASON, QUOTA_TAG, REFUSED, Rules

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What `why` looks at. `closed` says why nothing may go out, `failing` why what goes out does not arrive.

    `in_spool` images wait in the spool; `trouble` is what is wrong now, by kind.
    """

    counters: Counters
    rules: Rules
    closed: str = ""
    failing: str = ""
    uplink_budget: bool = False
    in_spool: int = 0
    trouble: Mapping[str, str] = field(default_factory=dict)


def why(facts: Facts) -> list[str]:
    """A few sentences: what was captured and why not more, what was uploaded and why not more, what is wrong."""
    return [*_captured(facts), *_uploaded(facts), *(f"Wrong now: {words}." for words in facts.trouble.values())]


def _captured(facts: Facts) -> Iterator[str]:
    counters = facts.counters
    if not counters.flagged:
        if facts.in_spool:
            yield f"Nothing was kept or dropped yet: {facts.in_spool} images wait in the spool for the sampler."
        else:
            yield (
                "No image was flagged: the classifier was sure of all of them, or none was posted. Its method "
                "`status` tells which; its policy (confidence_below, margin_below, audit_rate) says what is unsure."
            )
        return
    dropped = sum(counters.dropped.values())
    yield f"Of {counters.flagged} flagged images {counters.kept} were kept and {dropped} dropped."
    for reason, n in _most_first(counters.dropped):
        share = "all" if n == dropped else f"{n}"
        yield f"Dropped, {share} of them: {_dropped(reason, facts.rules)}."


def _dropped(reason: str, rules: Rules) -> str:
    budgets = {
        "a minute (keep.max_per_minute)": rules.max_per_minute,
        "an hour (keep.max_per_hour)": rules.max_per_hour,
        "a day (keep.max_per_day)": rules.max_per_day,
    }
    limits = " and ".join(f"{n} {what}" for what, n in budgets.items() if n) or "as it was then"
    words = {
        DUPLICATE: "the very same image is kept already",
        NEAR_DUPLICATE: f"they look like an image kept shortly before: at most {rules.near_distance} of 256 bits "
        f"differ within {rules.near_minutes:g} minutes (keep.near_distance, keep.near_minutes)",
        BUDGET: f"the budget was spent and they were less useful than what it went to: {limits}",
        QUOTA_TAG: f"their tag has its number for the day: {rules.max_per_tag} (keep.max_per_tag)",
        QUOTA_REASON: f"their reason has its number for the day: {rules.max_per_reason} (keep.max_per_reason)",
        DAMAGED: "their spool files cannot be read and lie in the spool's folder `aside`: is the disk sound?",
        REFUSED: "the local store refuses them, the log says why; they lie in the spool's folder `aside`",
    }
    return words.get(reason, f"for the reason {reason}")


def _uploaded(facts: Facts) -> Iterator[str]:
    counters = facts.counters
    if not counters.kept:
        return
    yield f"Of {counters.kept} kept images {counters.uploaded} are in the cloud."
    if counters.waiting:
        since = f", the oldest since {counters.oldest_waiting}" if counters.oldest_waiting else ""
        yield f"{counters.waiting} wait to be uploaded ({counters.waiting_bytes / _MEGABYTE:.1f} MB){since}."
        yield from _not_going_out(facts)
    for reason, n in _most_first(counters.evicted):
        yield f"{n} were given up before they could be uploaded: {_evicted(reason)}."
    if counters.set_aside:
        yield (
            f"{counters.set_aside} are set aside: the cloud refused them, or their blobs are gone; "
            'the method `flush` with {"set_aside": true} tries them again.'
        )


def _not_going_out(facts: Facts) -> Iterator[str]:
    if facts.closed:
        yield f"Nothing goes out now: {facts.closed}."
    elif facts.failing:
        yield f"What goes out does not arrive: {facts.failing}."
    if facts.rules.hold_minutes and (facts.uplink_budget or facts.rules.has_budget()):
        yield (
            f"There is a budget, so each image waits {facts.rules.hold_minutes:g} minutes (keep.hold_minutes) for a "
            "more useful one that may take its place."
        )


def _evicted(reason: str) -> str:
    words = {
        QUOTA: "the local store was full (retention.max_bytes)",
        DISK: "the disk was nearly full (retention.free_bytes)",
        BUDGET: "more useful images took their places in the budget",
        QUOTA_TAG: "more useful images of their tag took their places",
        QUOTA_REASON: "more useful images flagged for the same reason took their places",
    }
    return words.get(reason, f"for the reason {reason}")


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((reason, n) for reason, n in counts.items() if n), key=lambda pair: -pair[1])
