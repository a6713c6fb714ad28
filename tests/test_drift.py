"""The drift score: what it is for any two sets of answers, and that it rises when the traffic changes."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some
from prometheus_client.parser import text_string_to_metric_families

from classifier.models.model import load
from classifier.numbers.drift import ENOUGH, SIZE, Window, chance, distance, measured, pooled, why_none
from classifier.numbers.metrics import Metrics
from classifier.numbers.summary import Counts, status, summary
from classifier.numbers.thresholds import Thresholds
from classifier.rollout.live import Live
from classifier.serving.classify import Classifier
from colours import TAGS, files, picture, zipped
from ripeloop.package import Package, write
from ripeloop.prediction import Prediction, parse_time
from ripeloop.uncertainty import Policy
from ripeloop.validation import BINS, TagFigures, Validation, bin_of
from ripeloop.validation import measured as validated
from serving import serving

COUNTS = some.lists(some.integers(0, 1000), min_size=4, max_size=4).filter(any)
TAU = 1e-9


def filled(said: Sequence[tuple[str, float]], size: int = SIZE) -> Window:
    window = Window(size)
    for tag, confidence in said:
        window.add(tag, confidence)
    return window


def figures(said: Sequence[tuple[str, float]]) -> Validation:
    return validated(TAGS, [[Prediction(tag, confidence)] for tag, confidence in said])


@given(COUNTS, some.integers(1, 9))
def test_equal_shares_are_no_distance_apart(one: list[int], times: int) -> None:
    assert distance(one, one) == 0
    assert distance(one, [times * count for count in one]) < 1e-6


@given(COUNTS, COUNTS)
def test_the_distance_is_the_same_both_ways_and_at_most_one(one: list[int], other: list[int]) -> None:
    assert 0 <= distance(one, other) <= 1
    assert math.isclose(distance(one, other), distance(other, one), abs_tol=TAU)


@given(COUNTS, COUNTS, COUNTS)
def test_a_detour_is_never_shorter(one: list[int], other: list[int], third: list[int]) -> None:
    assert distance(one, other) <= distance(one, third) + distance(third, other) + 1e-6


@given(COUNTS, COUNTS, some.integers(0, 9))
def test_the_more_is_mixed_in_the_longer_the_distance(one: list[int], other: list[int], tenths: int) -> None:
    def mixed(share: int) -> list[int]:
        return [(10 - share) * a * sum(other) + share * b * sum(one) for a, b in zip(one, other, strict=True)]

    assert distance(one, mixed(tenths)) <= distance(one, mixed(tenths + 1)) + 1e-6


def test_what_never_meets_is_one_apart() -> None:
    assert distance([5, 0], [0, 9]) == 1


@given(some.lists(some.tuples(some.sampled_from(TAGS), some.floats(0, 1)), min_size=1, max_size=60))
def test_a_window_holds_the_newest_answers_and_no_more(said: list[tuple[str, float]]) -> None:
    window, newest = filled(said, 10), said[-10:]
    assert window.images == len(newest) == sum(window.bins)
    assert {tag: count for tag, count in window.tags.items() if count} == {
        tag: sum(one == tag for one, _ in newest) for tag, _ in newest
    }
    assert all(window.bins[bin_of(confidence)] for _, confidence in newest)


def drawn(seed: int, count: int) -> list[tuple[str, float]]:
    dice = random.Random(seed)
    return [(dice.choices(TAGS, (6, 3, 1))[0], 1 - dice.random() ** 2 / 2) for _ in range(count)]


def test_chance_alone_hardly_ever_exceeds_what_is_told_of_it() -> None:
    for known, seen in ((100, 200), (600, 1000), (2000, 200)):
        drifts = [measured(figures(drawn(n, known)), filled(drawn(n + 1000, seen))) for n in range(100)]
        assert sum(drift.score > drift.chance for drift in drifts) <= 4  # one is expected
        assert sum(drift.score > drift.chance / 2 for drift in drifts) > 10  # and it is no empty word


@pytest.mark.parametrize(("tags", "known", "seen"), [(200, 2000, 1000), (100, 5000, 1000), (50, 1000, 200)])
def test_many_rare_tags_are_no_drift(tags: int, known: int, seen: int) -> None:
    zipf = [1 / rank for rank in range(1, tags + 1)]
    names = [str(rank) for rank in range(tags)]

    def exceeds(seed: int) -> bool:
        dice = random.Random(seed)
        said = Counter(dice.choices(names, zipf, k=known))
        alike = tuple(TagFigures(name, said[name], 0.5, (said[name],) + (0,) * (BINS - 1)) for name in names)
        drift = measured(Validation(alike), filled([(name, 0.05) for name in dice.choices(names, zipf, k=seen)]))
        return drift.score > drift.chance

    assert sum(map(exceeds, range(200))) <= 8  # two or three are expected; with every tag on its own, up to 36


def test_a_change_among_rare_tags_still_shows() -> None:
    names = [str(number) for number in range(200)]
    before, after = Counter(random.Random(1).choices(names, k=2000)), random.Random(2).choices(names[:100], k=1000)
    figures = tuple(TagFigures(name, before[name], 0.5, (before[name],) + (0,) * (BINS - 1)) for name in names)
    drift = measured(Validation(figures), filled([(name, 0.05) for name in after]))
    assert drift.score > 2 * drift.chance


@given(some.lists(some.tuples(some.integers(0, 50), some.integers(0, 50)), min_size=1, max_size=30))
def test_rare_cells_are_put_together_and_none_is_lost(cells: list[tuple[int, int]]) -> None:
    one, other = [a for a, _ in cells], [b for _, b in cells]
    assume(any(one) and any(other))
    ones, others = pooled(one, other)
    assert (sum(ones), sum(others)) == (sum(one), sum(other))
    share = min(sum(one), sum(other)) / (sum(one) + sum(other))
    assert len(ones) == 1 or all((a + b) * share > 4.999 for a, b in zip(ones, others, strict=True))
    assert distance(ones, others) <= distance(one, other) + 1e-6


@given(COUNTS, COUNTS)
def test_chance_is_less_for_more_images(one: list[int], other: list[int]) -> None:
    assert 0 <= chance([9 * a for a in one], [9 * b for b in other]) <= chance(one, other) <= 1


def test_why_there_is_no_score() -> None:
    said = drawn(1, ENOUGH)
    assert "validation.json" in why_none(None, filled(said))
    assert f"a score needs {ENOUGH}" in why_none(figures(said), filled(said[1:]))
    assert why_none(figures(said), filled(said)) == ""


async def test_the_score_rises_when_the_traffic_changes(tmp_path: Path) -> None:
    def shade(number: int, *, lamp: float) -> bytes:
        """Mostly red, and the less so the darker the lamp."""
        dice = random.Random(number)
        level = [round(lamp * value) for value in (255, dice.randrange(60, 200), 40)]
        return picture(tuple(level if number % 4 else reversed(level)), (8, 8))

    plain = load(zipped(tmp_path / "export.zip"))
    answers = [plain.predict(shade(number, lamp=1)) for number in range(600)]
    write(tmp_path / "package.zip", Package(files(), validation=validated(TAGS, answers)))
    model, counts, policy = load(tmp_path / "package.zip"), Counts(), Policy(audit_rate=0)
    classifier = Classifier(Live(model), counts, Thresholds(policy))
    numbers: list[dict[str, float]] = []
    told: list[dict[str, Any]] = []

    async with serving(classifier, metrics=Metrics(classifier, counts)) as client:

        async def post(start: int, count: int, lamp: float) -> None:
            for number in range(start, start + count):
                async with client.post("/image", data=shade(number, lamp=lamp)) as response:
                    assert response.status == 200
            async with client.get("/metrics") as response:
                page = await response.text()
            samples = (s for family in text_string_to_metric_families(page) for s in family.samples)
            numbers.append({s.name + str(s.labels.get("of", "")): s.value for s in samples if "drift" in s.name})
            told.append(status(counts, model, {}, (0, 0), policy)["drift"])

        await post(1000, ENOUGH - 1, 1)
        await post(2000, 1, 1)
        await post(3000, ENOUGH, 0.3)
    assert numbers[0] == {"classifier_drift_images": ENOUGH - 1}
    assert told[0] == {"reason": f"{ENOUGH - 1} images answered by this model so far, a score needs {ENOUGH}"}
    before, after = told[1:]
    assert before["score"] <= before["chance"] < 0.2 < after["score"]
    assert numbers[2] == {
        "classifier_driftconfidence": measured(model.validation, counts.window(model)).confidence,
        "classifier_drifttags": measured(model.validation, counts.window(model)).tags,
        "classifier_drift_chance": measured(model.validation, counts.window(model)).chance,
        "classifier_drift_images": 2 * ENOUGH,
    }
    now = parse_time("2026-11-22T08:00:00Z")
    assert json.loads(json.dumps(summary(Counts(), counts, now, now, model)))["drift"] == after
