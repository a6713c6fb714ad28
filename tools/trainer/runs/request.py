"""One training as the service asks for it: files and tag ids in, exports and cross-validated answers out."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ripeloop.errors import SettingsError
from trainer.learning import folder
from trainer.learning.advanced import USUAL, Choice
from trainer.learning.backbone import build_backbone
from trainer.learning.cache import FeatureCache
from trainer.learning.export import Iteration
from trainer.learning.features import Source
from trainer.learning.int8 import calibrated
from trainer.learning.training import LEAST_TAGS, Lesson, check_enough, learn, nobody
from trainer.learning.weights import lite0_weights
from trainer.state.files import INT8

log = logging.getLogger(__name__)

CALIBRATING, WRITING = "making the 8-bit backbone", "writing"


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """An uploaded image. `id` names its bytes for good; `tags` are the tags' ids, in multiclass just one."""

    id: str
    path: Path
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainingTag:
    """A tag; the images of the `negative` one show none of the others."""

    id: str
    name: str
    negative: bool = False


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What to train. `tags` stand in the order of labels.txt; `cache` is a folder that outlives the training.

    `seconds` is the budget of an advanced training, 0 for a regular one. `choice` is what it begins with. `int8`: the
    model in 8 bits, whose backbone is kept in `cache`, too.
    """

    images: tuple[TrainingImage, ...]
    tags: tuple[TrainingTag, ...]
    multilabel: bool
    cache: Path
    iteration_id: str
    seconds: float = 0.0
    choice: Choice = USUAL
    int8: bool = False


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The export as a zip, and what held-out images showed.

    `tags` are ids in the order of the model's outputs: all tags, but in multilabel without the negative one.
    `probabilities` [images, tags] are cross-validated, and `folds` [images] says who was judged together. `choice` is
    what an advanced training settled on.
    """

    export: bytes
    tags: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    folds: npt.NDArray[np.intp] | None
    choice: Choice


def train_request(request: TrainingRequest, on_progress: Callable[[str, int, int], None] = nobody) -> TrainingResult:
    """Train; `on_progress` hears what is being done, and how much of how much is. What it raises ends the training.

    Raises Refused for too few images or tags, BadTrainingImage with the position in the request, and SettingsError.
    """
    _check(request)
    tags = [tag for tag in request.tags if not (request.multilabel and tag.negative)]
    column = {tag.id: number for number, tag in enumerate(tags)}
    truth = np.zeros((len(request.images), len(tags)), np.bool_)
    for row, image in enumerate(request.images):
        truth[row, [column[tag] for tag in image.tags if tag in column]] = True
    lesson = Lesson(_sources(request.images), tuple(tag.name for tag in tags), truth, request.multilabel)
    backbone = build_backbone(lite0_weights())
    if request.int8:
        on_progress(CALIBRATING, 0, 1)
        backbone = calibrated(request.cache, backbone, lesson.images)
        on_progress(CALIBRATING, 1, 1)
    with FeatureCache(request.cache) as cache:
        trained = learn(
            lesson,
            backbone=backbone,
            cache=cache,
            seconds=request.seconds,
            choice=request.choice,
            folder=request.cache,
            told=on_progress,
        )
    log.info("trained with %s", trained.choice.name)
    on_progress(WRITING, 0, 1)
    export = trained.to_zip(Iteration(uuid.UUID(request.iteration_id), flavor=INT8 if request.int8 else None))
    on_progress(WRITING, 1, 1)
    figures = trained.figures
    return TrainingResult(export, tuple(column), figures.probabilities, figures.folds, trained.choice)


def _sources(images: Sequence[TrainingImage]) -> list[Source]:
    return [Source(image.id, partial(folder.read, image.path)) for image in images]


def _check(request: TrainingRequest) -> None:
    known = {tag.id: tag for tag in request.tags}
    counts = {tag.id: 0 for tag in request.tags}
    for image in request.images:
        if unknown := [tag for tag in image.tags if tag not in known]:
            raise SettingsError(f"image {image.id} has the tag {unknown[0]}, which the request does not name")
        if not request.multilabel and len(image.tags) != 1:
            raise SettingsError(f"image {image.id} has {len(image.tags)} tags; in multiclass each has just one")
        for tag in image.tags:
            counts[tag] += 1
    by_name = {tag.name: counts[tag.id] for tag in request.tags}
    if request.multilabel:
        check_enough({tag.name: counts[tag.id] for tag in request.tags if not tag.negative}, 1)
    check_enough(by_name, 1 if request.multilabel else LEAST_TAGS)
