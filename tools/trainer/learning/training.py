"""From labelled images to a model that can be exported."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from ripeloop.errors import Refused
from ripeloop.prediction import Prediction
from ripeloop.validation import Validation, measured
from trainer.learning.advanced import USUAL, Choice, Tried, best_of
from trainer.learning.backbone import build_backbone
from trainer.learning.cache import FeatureCache, NoCache
from trainer.learning.crossvalidation import CrossValidated, train_head
from trainer.learning.export import Iteration, check_tags, compose, export_zip
from trainer.learning.features import Extractor, Features, Source, extract
from trainer.learning.int8 import quantized
from trainer.learning.losses import Truth
from trainer.learning.weights import lite0_weights

# what Custom Vision asks for, too
LEAST_TAGS = 2
LEAST_IMAGES = 5

ANSWERED = 0.5  # where tags are independent: a tag is answered from this probability on

LOOKING = "looking at the images"
CHOOSING = "choosing"

Told = Callable[[str, int, int], None]


def nobody(_what: str, _done: int, _of: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class TagFigures:
    """Of one tag, cross-validated: precision, right among those answered so; recall, found among those that are so."""

    tag: str
    images: int
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A model from pixels to the probabilities of `tags`, and what cross-validation says of it.

    `independent`: an image may have any number of the tags. `choice` is what an advanced training settled on.
    `validation` holds what was said of each image by a fit that had not seen it; none where tags are independent.
    """

    tags: tuple[str, ...]
    model: onnx.ModelProto
    figures: CrossValidated
    tag_figures: tuple[TagFigures, ...]
    independent: bool = False
    choice: Choice = USUAL
    validation: Validation | None = None

    def to_zip(self, iteration: Iteration = Iteration()) -> bytes:
        """The export, in Custom Vision's form; the same bytes whenever this model is exported as this iteration."""
        return export_zip(self.model, self.tags, iteration, self.validation, independent=self.independent)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What to learn: images, their tags' names, and `truth` [images, tags], which image has which."""

    images: Sequence[Source]
    tags: tuple[str, ...]
    truth: Truth
    independent: bool = False


def learn(
    lesson: Lesson,
    *,
    backbone: onnx.ModelProto | None = None,
    int8: bool = False,
    cache: FeatureCache | NoCache = NoCache(),
    seconds: float = 0.0,
    choice: Choice = USUAL,
    folder: Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    told: Told = nobody,
) -> Trained:
    """A model that has learnt the `lesson`; `backbone` is what it is built on, EfficientNet-Lite0 unless given.

    `int8`: in 8 bits, about twice as fast on the device. `seconds` may be spent on trying more than the
    `choice` (an advanced training).
    `folder` holds for a while what does not fit into memory. `told` hears what is being done and how far it is; what it
    raises ends the training. Raises BadTrainingImage, Refused.
    """
    check_tags(lesson.tags)
    if backbone is None:
        backbone = build_backbone(lite0_weights())
    if int8:
        backbone = quantized(backbone, lesson.images)
    extractor = Extractor(backbone)
    images = len(lesson.images)

    def looked(choice: Choice, kept: FeatureCache | NoCache) -> Iterator[Features]:
        found = extract(lesson.images, extractor, views=choice.views, cache=kept, workers=workers)
        for done, one in enumerate(found, 1):
            told(LOOKING, done, images)
            yield one

    def attempt(choice: Choice, kept: FeatureCache | NoCache) -> Tried:
        head, figures = train_head(
            looked(choice, kept),
            lesson.truth,
            independent=lesson.independent,
            seed=seed,
            emphasis=choice.emphasis,
            folder=folder,
            told=lambda done, of: told(CHOOSING, done, of),
        )
        return Tried(choice, head, figures)

    with ExitStack() as closing:
        if seconds and isinstance(cache, NoCache):  # many choices look at the same images
            aside = closing.enter_context(tempfile.TemporaryDirectory(dir=folder))
            cache = closing.enter_context(FeatureCache(Path(aside)))
        best = best_of(lambda choice: attempt(choice, cache), seconds, time.monotonic, choice)
    model = compose(backbone, best.head, lesson.tags)
    tag_figures = _tag_figures(lesson, best.figures)
    validation = None if lesson.independent else _validation(lesson, best.figures)
    return Trained(lesson.tags, model, best.figures, tag_figures, lesson.independent, best.choice, validation)


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

    `int8`: one in 8 bits, about twice as fast. The tags stand in alphabetical order. Raises Refused for too few tags or
    images or a tag that cannot be one, and BadTrainingImage, whose position counts through the tags in that order.
    """
    check_enough({tag: len(files) for tag, files in images.items()})
    tags = tuple(sorted(images))
    numbers = np.repeat(np.arange(len(tags)), [len(images[tag]) for tag in tags])
    lesson = Lesson(
        [Source.of(file) for tag in tags for file in images[tag]], tags, np.eye(len(tags), dtype=np.bool_)[numbers]
    )

    def told(what: str, done: int, _of: int) -> None:
        if what == LOOKING:
            on_done(done)

    return learn(lesson, backbone=backbone, int8=int8, seed=seed, workers=workers, told=told)


def check_enough(counts: Mapping[str, int], least_tags: int = LEAST_TAGS) -> None:
    """Raises Refused, in words, where images by tag are too few to learn from."""
    if len(counts) < least_tags:
        named = f"only {next(iter(counts))!r}" if counts else "none"
        wanted = f"{least_tags} tags or more to tell apart" if least_tags > 1 else "a tag"
        raise Refused(f"there must be {wanted}, there is {named}: add tagged images")
    few = [f"{tag!r} has {count}" for tag, count in sorted(counts.items()) if count < LEAST_IMAGES]
    if few:
        raise Refused(f"each tag needs {LEAST_IMAGES} images or more: {', '.join(few)}; add images or drop the tag")


def _validation(lesson: Lesson, figures: CrossValidated) -> Validation:
    truths = [lesson.tags[number] for number in lesson.truth.argmax(axis=1).tolist()]
    answers = (
        [Prediction(tag, p) for tag, p in zip(lesson.tags, row.tolist(), strict=True)] for row in figures.probabilities
    )
    return measured(lesson.tags, answers, truths)


def _tag_figures(lesson: Lesson, figures: CrossValidated) -> tuple[TagFigures, ...]:
    if lesson.independent:
        answered = figures.probabilities >= ANSWERED
    else:
        answered = np.eye(len(lesson.tags), dtype=np.bool_)[figures.probabilities.argmax(axis=1)]

    def of(number: int, tag: str) -> TagFigures:
        is_so, said = lesson.truth[:, number], answered[:, number]
        both = int((is_so & said).sum())
        return TagFigures(tag, int(is_so.sum()), both / max(1, int(said.sum())), both / max(1, int(is_so.sum())))

    return tuple(of(number, tag) for number, tag in enumerate(lesson.tags))
