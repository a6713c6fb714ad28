"""How well one model did on the holdout: right or wrong, tag by tag, and whether its probabilities can be believed.

Pure. The likeliest tag is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrain.judging.chances import Share
from ripeloop.prediction import Prediction

BINS = 10
LEAST_PROBABILITY = 1e-7  # what 32 bits can tell from 0; less would make one answer outweigh all others

Answer = Sequence[Prediction]


@dataclass(frozen=True, slots=True)
class TagRow:
    """One tag: how many of its images were found (`recall`), how many of those called so are (`precision`)."""

    tag: str
    recall: Share
    precision: Share
    known: bool = True
    """Whether the model has this tag."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers with a confidence from `low` to `high`: how many, their mean confidence, how many were right."""

    low: float
    high: float
    confidence: float
    right: Share


@dataclass(frozen=True, slots=True)
class Figures:
    """One model on the holdout.

    `calibration_error` is the mean gap between confidence and accuracy over ten bins, 0 to 1 (Naeini et al., 2015);
    `brier` the mean of Σ(p - truth)², 0 to 2; `log_loss` the mean of -ln p of the true tag, in nats. The last two are
    over the images whose tag the model has, and None where there are none. `confusion` counts (true tag, answer).
    """

    accuracy: Share
    tags: tuple[TagRow, ...]
    bins: tuple[Bin, ...]
    calibration_error: float
    brier: float | None
    log_loss: float | None
    confusion: Mapping[tuple[str, str], int]

    def to_json(self) -> dict[str, Any]:
        """The figures for a program."""
        return {
            "accuracy": self.accuracy.to_json(),
            "calibration_error": round(self.calibration_error, 6),
            "brier": None if self.brier is None else round(self.brier, 6),
            "log_loss": None if self.log_loss is None else round(self.log_loss, 6),
            "tags": [
                {"tag": row.tag, "known": row.known, "recall": row.recall.to_json(),
                 "precision": row.precision.to_json()}
                for row in self.tags
            ],
            "confusion": [
                {"tag": tag, "answer": answer, "images": count}
                for (tag, answer), count in sorted(self.confusion.items())
            ],
            "reliability": [
                {"low": one.low, "high": one.high, "confidence": round(one.confidence, 6),
                 "accuracy": one.right.to_json()}
                for one in self.bins
            ],
        }  # fmt: skip


def likeliest(answer: Answer) -> Prediction:
    """The tag with the highest probability; of equals the first, as devices answer."""
    return max(answer, key=lambda p: p.probability)


def figures(tags: Sequence[str], known: Sequence[str], truths: Sequence[str], answers: Sequence[Answer]) -> Figures:
    """The figures of a model that knows the tags `known`, in the order of `tags`; `truths` are the images' labels."""
    best = [likeliest(answer) for answer in answers]
    confusion: dict[tuple[str, str], int] = {}
    for truth, said in zip(truths, best, strict=True):
        confusion[truth, said.tag] = confusion.get((truth, said.tag), 0) + 1
    rights = [said.tag == truth for said, truth in zip(best, truths, strict=True)]
    bins = _bins([(said.probability, right) for said, right in zip(best, rights, strict=True)])
    gaps = (abs(one.confidence * one.right.of - one.right.hits) for one in bins)
    brier, log_loss = _losses(known, truths, answers)
    return Figures(
        Share(sum(rights), len(rights)),
        tuple(_row(tag, tag in known, confusion) for tag in tags),
        bins,
        math.fsum(gaps) / len(rights) if rights else 0.0,
        brier,
        log_loss,
        confusion,
    )


def _row(tag: str, known: bool, confusion: Mapping[tuple[str, str], int]) -> TagRow:
    right = confusion.get((tag, tag), 0)
    there = sum(count for (truth, _), count in confusion.items() if truth == tag)
    called = sum(count for (_, said), count in confusion.items() if said == tag)
    return TagRow(tag, Share(right, there), Share(right, called), known)


def _bins(answers: Sequence[tuple[float, bool]]) -> tuple[Bin, ...]:
    """The bins that hold anything, by confidence."""
    held: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in answers:
        held.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    return tuple(
        Bin(number / BINS, (number + 1) / BINS, math.fsum(c for c, _ in inside) / len(inside),
            Share(sum(right for _, right in inside), len(inside)))
        for number, inside in sorted(held.items())
    )  # fmt: skip


def _losses(
    known: Sequence[str], truths: Sequence[str], answers: Sequence[Answer]
) -> tuple[float | None, float | None]:
    squares, logs = [], []
    for truth, answer in zip(truths, answers, strict=True):
        if truth not in known:
            continue
        squares.append(math.fsum((p.probability - (p.tag == truth)) ** 2 for p in answer))
        of_truth = next(p.probability for p in answer if p.tag == truth)
        logs.append(-math.log(min(1.0, max(of_truth, LEAST_PROBABILITY))))
    if not logs:
        return None, None
    return math.fsum(squares) / len(squares), math.fsum(logs) / len(logs)
