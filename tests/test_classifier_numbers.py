"""What the classifier tells: the policy by package and twin, the method `status`, summaries."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from classifier.__main__ import main
from classifier.models.model import Model, load
from classifier.numbers.summary import Counts, post_summaries, status, summary
from classifier.numbers.thresholds import Thresholds, follow
from classifier.rollout.live import Live
from classifier.serving.classify import Classifier
from colours import TAGS, files, unsure_picture, zipped
from ripeloop.errors import SpoolFull
from ripeloop.package import Package, write
from ripeloop.prediction import Prediction
from ripeloop.sampling import Sampling
from ripeloop.uncertainty import Policy, TagPolicy
from ripeloop.validation import Validation, measured
from sampling import until
from wire import Wire

START = Policy(confidence_below=0.7, margin_below=0.2, entropy_above=0.0, audit_rate=0.01)
RED = {"red": TagPolicy(confidence_below=0.95)}
FINE = {"confidence_below": None, "margin_below": None, "entropy_above": None, "audit_rate": None, "tags": None}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(zipped(tmp_path_factory.mktemp("model") / "e.zip"))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return packed(tmp_path_factory.mktemp("model"), Sampling(margin_below=0.5, tags=RED))


def packed(folder: Path, thresholds: Sampling | None = None, validation: Validation | None = None) -> Model:
    path = folder / "package.zip"
    content = files(IterationId="calibrated")
    write(path, Package(content, thresholds=thresholds or Sampling(), validation=validation))
    return load(path)


def said(tag: str, confidence: float) -> tuple[Prediction, ...]:
    rest = (1 - confidence) / 2
    return tuple(Prediction(one, confidence if one == tag else rest) for one in TAGS)


def test_the_twin_changes_the_policy_live(plain: Model) -> None:
    thresholds = Thresholds(START)
    asked = {
        "confidence_below": 0.9,
        "entropy_above": 1.5,
        "unknown": True,
        "tags": [{"tag": "red", "margin_below": 0}],
    }
    thresholds.apply({"sampling": asked, "other": 1})
    assert thresholds.refused == FINE
    assert thresholds.of(plain) == Policy(0.9, 0.2, 1.5, 0.01, {"red": TagPolicy(margin_below=0)})


def test_a_bad_value_is_refused_and_the_one_before_stays(plain: Model) -> None:
    thresholds = Thresholds(START)
    thresholds.apply({"sampling": {"confidence_below": 0.9}})
    thresholds.apply({"sampling": {"confidence_below": 7, "margin_below": 0.1}})
    assert thresholds.refused == FINE | {"confidence_below": "must be between 0 and 1, not 7"}
    assert thresholds.of(plain) == Policy(0.9, 0.1, 0.0, 0.01)
    thresholds.apply({"sampling": "loose"})
    assert thresholds.refused == "must be an object, not 'loose'"
    assert thresholds.of(plain) == Policy(0.9, 0.1, 0.0, 0.01)


@pytest.mark.parametrize("desired", [{}, {"sampling": None}, {"sampling": {}}, {"policy": {"minMargin": 0}}])
def test_what_the_twin_no_longer_says_is_as_at_the_start(plain: Model, desired: dict[str, object]) -> None:
    thresholds = Thresholds(START)
    thresholds.apply({"sampling": {"confidence_below": 0.9}})
    thresholds.apply(desired)
    assert thresholds.of(plain) == START


@pytest.mark.parametrize("section", [0, False, "", []])
def test_a_section_that_is_no_object_is_refused_however_empty_it_is(plain: Model, section: object) -> None:
    thresholds = Thresholds(START)
    thresholds.apply({"sampling": {"confidence_below": 0.9}})
    thresholds.apply({"sampling": section})
    assert str(thresholds.refused).startswith("must be an object")
    assert thresholds.of(plain).confidence_below == 0.9


def test_a_package_comes_before_the_start_and_the_twin_before_both(plain: Model, calibrated: Model) -> None:
    thresholds = Thresholds(START)
    assert thresholds.of(plain) == START
    assert thresholds.of(calibrated) == Policy(0.7, 0.5, 0.0, 0.01, RED)
    thresholds.apply({"sampling": {"margin_below": 0.4, "audit_rate": 1}})
    assert thresholds.of(plain) == Policy(0.7, 0.4, 0.0, 1)
    assert thresholds.of(calibrated) == Policy(0.7, 0.4, 0.0, 1, RED)
    thresholds.apply({"sampling": {"confidence_below": 0}})
    assert thresholds.of(calibrated) == Policy(0, 0.5, 0.0, 0.01)


def test_a_long_reason_is_cut(plain: Model) -> None:
    thresholds = Thresholds(START)
    thresholds.apply({"sampling": {"tags": [{"tag": f"{n}", "confidence_below": 2} for n in range(1000)]}})
    assert isinstance(thresholds.refused, dict)
    assert len(str(thresholds.refused["tags"])) == 500


def test_the_policy_of_a_model_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    thresholds, counts, model = Thresholds(START), Counts(), packed(tmp_path)
    thresholds.of(model)
    counts.window(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert not counts.windows


@pytest.mark.parametrize("flag", ["--confidence-below", "--margin-below", "--entropy-above", "--audit-rate"])
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "-0.1", "1000.5"])
def test_a_flag_takes_no_number_that_a_twin_may_not_say(flag: str, bad: str) -> None:
    told = CliRunner().invoke(main, ["--model", "none.zip", flag, bad])
    assert told.exit_code == 2
    assert f"Invalid value for '{flag}'" in told.output


@pytest.mark.parametrize("flag", ["--handoff-wait", "--idle-seconds", "--summary-seconds", "--watch-seconds"])
@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_time_is_a_finite_number(flag: str, bad: str) -> None:
    told = CliRunner().invoke(main, ["--model", "none.zip", flag, bad])
    assert f"Invalid value for '{flag}'" in told.output


@asynccontextmanager
async def following(thresholds: Thresholds, live: Live) -> AsyncIterator[Wire]:
    hub = Wire()
    task = asyncio.create_task(follow(hub, thresholds, lambda: live.model))
    try:
        async with asyncio.timeout(5):
            yield hub
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_the_policy_in_force_and_the_refusals_reach_the_twin(plain: Model) -> None:
    async with following(Thresholds(START), Live(plain)) as hub:
        hub.twin.put_nowait({"sampling": {"margin_below": -1, "audit_rate": 0.5}})
        patch = await hub.news.get()
    in_force = {"confidence_below": 0.7, "margin_below": 0.2, "entropy_above": 0.0, "audit_rate": 0.5}
    assert patch == {
        "sampling": in_force | {"tags": [], "tags_left_out": 0},
        "refused": {"sampling": FINE | {"margin_below": "must be between 0 and 1, not -1"}},
    }


async def test_a_swap_and_a_rollback_change_the_policy_and_the_twin_hears(plain: Model, calibrated: Model) -> None:
    live, thresholds = Live(plain), Thresholds(START)
    async with following(thresholds, live) as hub:
        hub.twin.put_nowait({})
        told = [await hub.news.get()]
        live.swap(calibrated)
        told.append(await hub.news.get())
        live.swap(plain)
        told.append(await hub.news.get())
    assert [patch["sampling"]["margin_below"] for patch in told] == [0.2, 0.5, 0.2]
    red = [{"tag": "red", "confidence_below": 0.95}]
    assert [patch["sampling"]["tags"] for patch in told] == [[], red, []]


async def test_each_image_is_judged_by_the_thresholds_of_the_model_that_answered_it(
    plain: Model, tmp_path: Path
) -> None:
    loose = packed(tmp_path, Sampling(confidence_below=0, margin_below=0))
    live, thresholds = Live(plain), Thresholds(START)
    classifier = Classifier(live, Counts(), thresholds)
    await classifier.classify(unsure_picture(1))
    assert live.serving.figures.flagged == 1
    live.swap(loose)
    await classifier.classify(unsure_picture(1))
    assert live.serving.figures.flagged == 0
    classifier.close()


def counted() -> Counts:
    counts = Counts(answered=100, refused=3, failed=2, stored=8, confidence=90.0)
    counts.tags.update({"ripe": 70, "green": 30})
    counts.flagged.update({"low_confidence": 7, "audit": 2})
    counts.dropped.update({"duplicate": 1})
    counts.seconds.extend(n / 1000 for n in range(100))
    return counts


def test_the_status_tells_the_numbers_of_this_life(plain: Model) -> None:
    told: dict[str, Any] = status(counted(), plain, {"version": "v", "tags": ["a"]}, (1000, 2), START)
    assert "validation.json" in told.pop("drift")["reason"]
    assert told == {
        "model": {"version": "v", "tags": ["a"]},
        "answered": 100,
        "refused": 3,
        "failed": 2,
        "flagged": {"low_confidence": 7, "audit": 2},
        "dropped": {"duplicate": 1},
        "spool": {"bytes": 1000, "images": 2},
        "sampling": {
            "confidence_below": 0.7,
            "margin_below": 0.2,
            "entropy_above": 0.0,
            "audit_rate": 0.01,
            "tags": [],
            "tags_left_out": 0,
        },
    }


def test_a_summary_tells_what_happened_between_two_moments(plain: Model) -> None:
    since = datetime(2026, 11, 22, 2, 10, tzinfo=UTC)
    before, now = Counts(answered=40, refused=3, failed=2, confidence=36.0), counted()
    before.tags.update({"green": 30, "ripe": 10})
    before.flagged.update({"low_confidence": 7})
    assert summary(before, now, since, since + timedelta(minutes=1), plain) == {
        "from": "2026-11-22T02:10:00.000000Z",
        "to": "2026-11-22T02:11:00.000000Z",
        "model": plain.version,
        "answered": 60,
        "refused": 0,
        "failed": 0,
        "flagged": {"audit": 2},
        "dropped": {"duplicate": 1},
        "tags": {"ripe": 60},
        "confidence": 0.9,
        "latency": {"p50": 50.0, "p99": 99.0},
    }


def test_a_summary_tells_the_drift_once_there_are_images_enough(tmp_path: Path) -> None:
    validation = measured(TAGS, [said("red", 0.97)] * 300 + [said("blue", 0.97)] * 300)
    model, counts, now = packed(tmp_path, validation=validation), Counts(), datetime.now(UTC)
    for _ in range(199):
        counts.answer(said("red", 0.97), 0.01, model)
    assert "drift" not in summary(Counts(), counts, now, now, model)
    told = status(counts, model, {}, (0, 0), START)["drift"]
    assert told == {"reason": "199 images answered by this model so far, a score needs 200"}
    counts.answer(said("red", 0.97), 0.01, model)
    drift = summary(Counts(), counts, now, now, model)["drift"]
    assert drift == status(counts, model, {}, (0, 0), START)["drift"]
    assert drift["confidence"] == 0.0
    assert drift["score"] == drift["tags"] > 0.5
    assert 0 < drift["chance"] < 0.2
    assert drift["images"] == 200


async def test_summaries_are_posted_and_add_up(plain: Model) -> None:
    hub, counts = Wire(), Counts()
    task = asyncio.create_task(post_summaries(hub, counts, lambda: plain, 0.05))
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
    assert {properties["model"] for _, _, properties in hub.posted} == {plain.version}


class FullWire(Wire):
    """Has no room for the first message."""

    async def post(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        self.refusals = getattr(self, "refusals", 0) + 1
        if self.refusals == 1:
            raise SpoolFull("the mailbox is full")
        await super().post(output, body, properties)


@pytest.mark.parametrize("hub", [Wire(), FullWire()])
async def test_a_drop_of_a_quiet_minute_and_a_summary_that_found_no_room_are_told(plain: Model, hub: Wire) -> None:
    counts = Counts()
    task = asyncio.create_task(post_summaries(hub, counts, lambda: plain, 0.05))
    await asyncio.sleep(0)
    counts.answer([Prediction("red", 0.9)], 0.01, plain)
    counts.flagged["low_confidence"] += 1
    await until(lambda: len(hub.posted) == 1)
    counts.dropped["spool_error"] += 1
    await until(lambda: len(hub.posted) == 2)
    task.cancel()
    bodies = [json.loads(body) for _, body, _ in hub.posted]
    assert [(body["answered"], body["dropped"]) for body in bodies] == [(1, {}), (0, {"spool_error": 1})]
    assert bodies[0]["latency"]["p50"] == 10
    assert "latency" not in bodies[1]
