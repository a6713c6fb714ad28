"""What a model said of the images it was validated on: the figures that what it says in the field is compared with."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ripeloop.prediction import Prediction
from ripeloop.sampling import is_text

EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Between the bins of a confidence, finer where good models are; an edge belongs to the bin above it."""
BINS = len(EDGES) + 1
MAX_TAGS = 10_000
MAX_IMAGES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TagFigures:
    """Of the validation images whose likeliest tag this is.

    `confidence` is their mean confidence, `histogram` how many had a confidence in each bin, `accuracy` the share of
    them that are of this tag, None where that is not known.
    """

    tag: str
    images: int = 0
    confidence: float = 0.0
    histogram: tuple[int, ...] = (0,) * BINS
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """The figures of each tag."""

    tags: tuple[TagFigures, ...]

    @property
    def images(self) -> int:
        """The images validated on."""
        return sum(one.images for one in self.tags)

    @property
    def histogram(self) -> tuple[int, ...]:
        """How many of all images had a confidence in each bin."""
        return tuple(sum(column) for column in zip(*(one.histogram for one in self.tags), strict=True))

    def to_json(self) -> dict[str, Any]:
        """The figures as they travel in a package."""
        listed = [
            {"tag": one.tag, "images": one.images, "confidence": round(one.confidence, 6),
             "histogram": list(one.histogram)}
            | ({} if one.accuracy is None else {"accuracy": round(one.accuracy, 6)})
            for one in self.tags
        ]  # fmt: skip
        return {"edges": list(EDGES), "tags": listed}

    @classmethod
    def from_json(cls, fields: object) -> Validation:
        """What `to_json` made; unknown fields are ignored. Raises ValueError, TypeError for figures that cannot be."""
        if not isinstance(fields, Mapping) or not isinstance(fields.get("tags"), list):
            raise TypeError("it lists no tags")
        if fields.get("edges") != list(EDGES):
            raise ValueError(f"its bins are not those with the edges {', '.join(map(str, EDGES))}")
        if len(fields["tags"]) > MAX_TAGS:
            raise ValueError(f"{len(fields['tags'])} tags, at most {MAX_TAGS} are taken")
        validation = cls(tuple(_figures(entry) for entry in fields["tags"]))
        if len({one.tag for one in validation.tags}) != len(validation.tags):
            raise ValueError("it lists a tag twice")
        if not validation.images:
            raise ValueError("it is about no image")
        return validation


def bin_of(confidence: float) -> int:
    """The number of the bin of that confidence, from 0."""
    return bisect_right(EDGES, confidence)


def measured(
    tags: Sequence[str], answers: Iterable[Sequence[Prediction]], truths: Sequence[str] | None = None
) -> Validation:
    """The figures of these answers, one an image, of a model with these tags; `truths` are the images' own tags."""
    said: dict[str, list[tuple[float, bool]]] = {tag: [] for tag in tags}
    for number, answer in enumerate(answers):
        best = max(answer, key=lambda p: p.probability)
        said[best.tag].append((best.probability, truths is not None and truths[number] == best.tag))
    return Validation(tuple(_of(tag, of_tag, known=truths is not None) for tag, of_tag in said.items()))


def _of(tag: str, said: Sequence[tuple[float, bool]], *, known: bool) -> TagFigures:
    if not said:
        return TagFigures(tag)
    histogram = [0] * BINS
    for confidence, _ in said:
        histogram[bin_of(confidence)] += 1
    images = len(said)
    mean = min(1.0, sum(confidence for confidence, _ in said) / images)  # models may round up to a little more
    return TagFigures(tag, images, mean, tuple(histogram), sum(right for _, right in said) / images if known else None)


def _figures(entry: object) -> TagFigures:
    if not isinstance(entry, Mapping):
        raise TypeError("a tag of it has no figures")
    tag, histogram, accuracy = entry.get("tag"), entry.get("histogram"), entry.get("accuracy")
    if not isinstance(tag, str) or not is_text(tag):
        raise ValueError("a tag of it has no name, or one that is no text")
    if not isinstance(histogram, list) or len(histogram) != BINS or not all(map(_is_count, histogram)):
        raise ValueError(f"{tag[:50]} needs a histogram of {BINS} counts")
    if not _is_count(entry.get("images")) or entry["images"] != sum(histogram):
        raise ValueError(f"the images of {tag[:50]} and of its histogram differ")
    if not _is_share(entry.get("confidence")) or not (accuracy is None or _is_share(accuracy)):
        raise ValueError(f"the confidence and the accuracy of {tag[:50]} must be between 0 and 1")
    confidence = float(entry["confidence"])
    return TagFigures(tag, entry["images"], confidence, tuple(histogram), None if accuracy is None else float(accuracy))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_IMAGES


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
