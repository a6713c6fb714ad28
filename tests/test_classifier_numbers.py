"""What the classifier tells: thresholds changed by the twin, the method `status`, summaries."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from classifier.summary import Counts, post_summaries, status, summary
from classifier.thresholds import Thresholds, follow, reported
from ripeloop.uncertainty import Policy
from wire import Wire

START = Policy(min_confidence=0.7, min_margin=0.2, max_entropy=0.0, audit_share=0.01)


def test_the_twin_changes_the_policy_live() -> None:
    thresholds = Thresholds(START)
    assert thresholds.apply({"policy": {"minConfidence": 0.9, "maxEntropy": 1.5, "unknown": True}, "other": 1}) == {}
    assert thresholds.policy == Policy(0.9, 0.2, 1.5, 0.01)


def test_a_bad_value_is_refused_and_the_one_before_stays() -> None:
    thresholds = Thresholds(START)
    thresholds.apply({"policy": {"minConfidence": 0.9}})
    refused = thresholds.apply({"policy": {"minConfidence": 7, "minMargin": 0.1}})
    assert list(refused) == ["policy.minConfidence"]
    assert thresholds.policy == Policy(0.9, 0.1, 0.0, 0.01)
    assert list(thresholds.apply({"policy": "loose"})) == ["policy"]
    assert thresholds.policy == Policy(0.9, 0.1, 0.0, 0.01)


@pytest.mark.parametrize("desired", [{}, {"policy": None}, {"policy": {}}])
def test_what_the_twin_no_longer_says_is_as_at_the_start(desired: dict[str, object]) -> None:
    thresholds = Thresholds(START)
    thresholds.apply({"policy": {"minConfidence": 0.9}})
    thresholds.apply(desired)
    assert thresholds.policy == START


@pytest.mark.parametrize("policy", [0, False, "", []])
def test_a_policy_that_is_no_object_is_refused_however_empty_it_is(policy: object) -> None:
    thresholds = Thresholds(START)
    thresholds.apply({"policy": {"minConfidence": 0.9}})
    assert thresholds.apply({"policy": policy}) == {"policy": f"must be an object, not {policy!r}"}
    assert thresholds.policy.min_confidence == 0.9


def test_refusals_are_reported_without_dots_and_cleared_when_all_is_well() -> None:
    fields = {"minConfidence": None, "minMargin": None, "maxEntropy": None, "auditShare": None}
    assert reported({}) == {"policy": fields}
    assert reported({"policy.minMargin": "x" * 999}) == {"policy": fields | {"minMargin": "x" * 200}}
    assert reported({"policy": "must be an object"}) == {"policy": "must be an object"}


async def test_the_policy_in_force_and_the_refusals_reach_the_twin() -> None:
    hub, thresholds = Wire(), Thresholds(START)
    task = asyncio.create_task(follow(hub, thresholds))
    hub.twin.put_nowait({"policy": {"minMargin": -1, "auditShare": 0.5}})
    async with asyncio.timeout(5):
        patch = await hub.news.get()
    task.cancel()
    assert patch["policy"] == {"minConfidence": 0.7, "minMargin": 0.2, "maxEntropy": 0.0, "auditShare": 0.5}
    assert "between 0 and 1" in patch["refused"]["policy"]["minMargin"]


def counted() -> Counts:
    counts = Counts(answered=100, refused=3, stored=8, confidence=90.0)
    counts.tags.update({"ripe": 70, "green": 30})
    counts.flagged.update({"low_confidence": 7, "audit": 2})
    counts.dropped.update({"duplicate": 1})
    counts.seconds.extend(n / 1000 for n in range(100))
    return counts


def test_the_status_tells_the_numbers_of_this_life() -> None:
    assert status(counted(), {"version": "v", "tags": ["a"]}, (1000, 2), START.to_reported()) == {
        "model": {"version": "v", "tags": ["a"]},
        "answered": 100,
        "refused": 3,
        "flagged": {"low_confidence": 7, "audit": 2},
        "dropped": {"duplicate": 1},
        "spool": {"bytes": 1000, "images": 2},
        "policy": {"minConfidence": 0.7, "minMargin": 0.2, "maxEntropy": 0.0, "auditShare": 0.01},
    }


def test_a_summary_tells_what_happened_between_two_moments() -> None:
    since = datetime(2026, 11, 22, 2, 10, tzinfo=UTC)
    before, now = Counts(answered=40, refused=3, confidence=36.0), counted()
    before.tags.update({"green": 30, "ripe": 10})
    before.flagged.update({"low_confidence": 7})
    assert summary(before, now, since, since + timedelta(minutes=1), "v") == {
        "from": "2026-11-22T02:10:00.000000Z",
        "to": "2026-11-22T02:11:00.000000Z",
        "model": "v",
        "answered": 60,
        "refused": 0,
        "flagged": {"audit": 2},
        "dropped": {"duplicate": 1},
        "tags": {"ripe": 60},
        "confidence": 0.9,
        "latency": {"p50": 50.0, "p99": 99.0},
    }


async def test_summaries_are_posted_and_add_up() -> None:
    hub, counts = Wire(), Counts()
    task = asyncio.create_task(post_summaries(hub, counts, lambda: "v", 0.05))
    await asyncio.sleep(0)  # it begins to count
    for _ in range(10):
        counts.answered += 1
        counts.flagged["audit"] += 1
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.15)
    task.cancel()
    bodies = [json.loads(body) for _, body, _ in hub.posted]
    assert {output for output, _, _ in hub.posted} == {"summary"}
    assert len(bodies) > 1
    assert sum(body["answered"] for body in bodies) == sum(body["flagged"]["audit"] for body in bodies) == 10
    assert all(body["answered"] for body in bodies)  # a quiet minute costs nothing
    assert [body["from"] for body in bodies[1:]] == [body["to"] for body in bodies[:-1]]
