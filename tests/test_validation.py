"""The figures of a model's validation, and their way through a package."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ripeloop.prediction import Prediction
from ripeloop.validation import BINS, EDGES, TagFigures, Validation, bin_of, measured

TAGS = ("red", "green", "blue")


def answer(tag: str, confidence: float) -> tuple[Prediction, ...]:
    rest = (1 - confidence) / 2
    return tuple(Prediction(one, confidence if one == tag else rest) for one in TAGS)


def test_the_figures_are_those_of_the_likeliest_tag() -> None:
    answers = [answer("red", 0.9), answer("red", 0.5), answer("green", 1.0)]
    validation = measured(TAGS, answers, ["red", "blue", "green"])
    red, green, blue = validation.tags
    assert (red.tag, red.images, red.confidence, red.accuracy) == ("red", 2, 0.7, 0.5)
    assert {number: count for number, count in enumerate(red.histogram) if count} == {bin_of(0.9): 1, bin_of(0.5): 1}
    assert (green.images, green.confidence, green.accuracy) == (1, 1.0, 1.0)
    assert blue == TagFigures("blue")
    assert validation.images == sum(validation.histogram) == 3
    assert measured(TAGS, answers).tags[0].accuracy is None


def test_an_edge_belongs_to_the_bin_above_it() -> None:
    assert [bin_of(edge) for edge in EDGES] == list(range(1, BINS))
    assert (bin_of(0.0), bin_of(0.0999), bin_of(1.0), bin_of(1.001)) == (0, 0, BINS - 1, BINS - 1)


CONFIDENCES = some.lists(some.tuples(some.sampled_from(TAGS), some.floats(0.34, 1)), min_size=1, max_size=30)


@given(CONFIDENCES, some.booleans())
def test_figures_come_back_as_they_were(said: list[tuple[str, float]], known: bool) -> None:
    truths = [TAGS[number % 3] for number in range(len(said))] if known else None
    validation = measured(TAGS, [answer(*one) for one in said], truths)
    back = Validation.from_json(validation.to_json())
    assert [(o.tag, o.images, o.histogram) for o in back.tags] == [
        (o.tag, o.images, o.histogram) for o in validation.tags
    ]
    for one, other in zip(back.tags, validation.tags, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-6)
        assert one.accuracy == (None if other.accuracy is None else pytest.approx(other.accuracy, abs=1e-6))


GOOD: dict[str, Any] = measured(TAGS, [answer("red", 0.9)], ["red"]).to_json()
RED = GOOD["tags"][0]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {},
        GOOD | {"edges": [0.5]},
        GOOD | {"tags": []},
        GOOD | {"tags": 7},
        GOOD | {"tags": [7]},
        GOOD | {"tags": [RED, RED]},
        GOOD | {"tags": GOOD["tags"][1:]},
        GOOD | {"tags": [RED] * 10_001},
        *(
            GOOD | {"tags": [RED | change]}
            for change in (
                {"tag": ""},
                {"tag": "red\n2026-11-22 ERROR forged"},
                {"tag": "\ud800"},
                {"tag": "x" * 2000},
                {"images": 2},
                {"images": True},
                {"histogram": [1] * 3},
                {"histogram": [0.5] * BINS},
                {"histogram": [*RED["histogram"][:-1], -1]},
                {"confidence": 1.5},
                {"confidence": float("nan")},
                {"confidence": None},
                {"accuracy": "good"},
                {"accuracy": -1},
            )
        ),
    ],
)
def test_figures_that_cannot_be_are_refused(fields: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Validation.from_json(fields)


def test_unknown_fields_are_ignored() -> None:
    assert Validation.from_json(GOOD | {"new": 1}).images == 1
