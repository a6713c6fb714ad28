"""From labelled images to a model that can be exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ripeloop.errors import Refused
from ripeloop.prediction import Prediction
from ripeloop.validation import Validation, measured
from trainer.backbone import build_backbone
from trainer.calibration import Labels
from trainer.export import Iteration, check_tags, compose, export_zip
from trainer.features import extract
from trainer.head import CrossValidated, train_head
from trainer.int8 import quantized
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
        return export_zip(self.model, self.tags, iteration, self.validation)

    @property
    def validation(self) -> Validation:
        """What was said of each image by a fit that had not seen it; the images stand in the order of the tags."""
        truths = [one.tag for one in self.tag_figures for _ in range(one.images)]
        rows = self.figures.probabilities.tolist()
        answers = [[Prediction(tag, p) for tag, p in zip(self.tags, row, strict=True)] for row in rows]
        return measured(self.tags, answers, truths)


def train(
    images: Mapping[str, Sequence[bytes]],
    *,
    seed: int = 0,
    workers: int | None = None,
    on_done: Callable[[int], None] = lambda _done: None,
    backbone: onnx.ModelProto | None = None,
    int8: bool = False,
) -> Trained:
    """A model trained on `images`, files by tag; `on_done` is told how many images were looked at.

    `int8`: one in 8 bits, about twice as fast. The tags stand in alphabetical order. Raises Refused for too few tags
    or images or a tag that cannot be one, and BadTrainingImage, whose position counts through the tags in that order.
    """
    check_enough({tag: len(files) for tag, files in images.items()})
    tags = tuple(sorted(images))
    check_tags(tags)
    if backbone is None:
        backbone = build_backbone(lite0_weights())
    files = [file for tag in tags for file in images[tag]]
    if int8:
        backbone = quantized(backbone, files)
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
