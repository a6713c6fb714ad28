"""From labelled images to a model that can be exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ripeloop.errors import Refused
from trainer.backbone import build_backbone
from trainer.calibration import Labels
from trainer.export import Iteration, check_tags, compose, export_zip
from trainer.features import extract
from trainer.head import CrossValidated, train_head
from trainer.weights import lite0_weights

# what Custom Vision asks for, too
LEAST_TAGS = 2
LEAST_IMAGES = 5


@dataclass(frozen=True, slots=True)
class TagFigures:
    """Of one tag, cross-validated: precision, right among those answered so; recall, found among those that are so."""

    tag: str
    images: int
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A model from pixels to the probabilities of `tags`, and what cross-validation says of it."""

    tags: tuple[str, ...]
    model: onnx.ModelProto
    figures: CrossValidated
    tag_figures: tuple[TagFigures, ...]

    def to_zip(self, iteration: Iteration = Iteration()) -> bytes:
        """The export, in Custom Vision's form; the same bytes whenever this model is exported as this iteration."""
        return export_zip(self.model, self.tags, iteration)


def train(
    images: Mapping[str, Sequence[bytes]],
    *,
    seed: int = 0,
    workers: int | None = None,
    on_done: Callable[[int], None] = lambda _done: None,
    backbone: onnx.ModelProto | None = None,
) -> Trained:
    """A model trained on `images`, files by tag; `on_done` is told how many images were looked at.

    The tags stand in alphabetical order. Raises Refused for too few tags or images or a tag that cannot be one, and
    BadTrainingImage, whose position counts through the tags in that order.
    """
    check_enough({tag: len(files) for tag, files in images.items()})
    tags = tuple(sorted(images))
    check_tags(tags)
    if backbone is None:
        backbone = build_backbone(lite0_weights())
    files = [file for tag in tags for file in images[tag]]
    labels = np.repeat(np.arange(len(tags)), [len(images[tag]) for tag in tags])
    features = extract(files, backbone, workers=workers, on_done=on_done)
    head, figures = train_head(features, labels, len(tags), seed=seed)
    return Trained(tags, compose(backbone, head, tags), figures, _tag_figures(tags, labels, figures))


def check_enough(counts: Mapping[str, int]) -> None:
    """Raises Refused, in words, where images by tag are too few to learn from."""
    if len(counts) < LEAST_TAGS:
        named = f"only {next(iter(counts))!r}" if counts else "none"
        raise Refused(f"there must be {LEAST_TAGS} tags or more to tell apart, there is {named}: add tagged images")
    few = [f"{tag!r} has {count}" for tag, count in sorted(counts.items()) if count < LEAST_IMAGES]
    if few:
        raise Refused(f"each tag needs {LEAST_IMAGES} images or more: {', '.join(few)}; add images or drop the tag")


def _tag_figures(tags: Sequence[str], labels: Labels, figures: CrossValidated) -> tuple[TagFigures, ...]:
    answers = figures.probabilities.argmax(axis=1)

    def of(number: int, tag: str) -> TagFigures:
        is_so, answered = labels == number, answers == number
        both = int((is_so & answered).sum())
        return TagFigures(tag, int(is_so.sum()), both / max(1, int(answered.sum())), both / int(is_so.sum()))

    return tuple(of(number, tag) for number, tag in enumerate(tags))
