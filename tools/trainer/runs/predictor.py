"""Answers of iterations: their exports, loaded by the very code that runs them on devices."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass

from classifier.models.model import Model, load
from classifier.pixels.decoding import TOO_LONG
from classifier.pixels.room import Room
from ripeloop.errors import BadImage, BadModel
from ripeloop.prediction import Prediction
from trainer.errors import Problem
from trainer.state.files import MODEL, Files
from trainer.state.iterations import Iteration, Iterations, TrainedTag
from trainer.state.uploads import size_of, well_shaped

log = logging.getLogger(__name__)

MODELS = 3  # kept loaded; each takes some 40 MB


@dataclass(frozen=True, slots=True)
class Score:
    """What a model says of one tag of an image."""

    tag: TrainedTag
    probability: float


class Predictor:
    """Loads models when they are asked for, and keeps the last few. Safe to use from several threads."""

    def __init__(self, iterations: Iterations, files: Files, room: Room) -> None:
        self._iterations = iterations
        self._files = files
        self._room = room
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, tuple[Model, tuple[TrainedTag, ...]]] = OrderedDict()

    def scores(self, iteration: Iteration, image: bytes) -> list[Score]:
        """What the iteration says of the image, the likeliest tag first. Raises Problem."""
        model, tags = self._model(iteration)
        try:
            answer = _answer(model, image)
        except BadImage as error:
            raise Problem("BadRequestImageFormat", str(error)) from error
        except BadModel as error:
            raise Problem("ErrorPrediction", str(error)) from error
        scored = [Score(tag, one.probability) for tag, one in zip(tags, answer, strict=True)]
        return sorted(scored, key=lambda one: -one.probability)

    def check_image(self, image: bytes, most: int) -> None:
        """Raises Problem for what no model is asked about."""
        if not image:
            raise Problem("BadRequestImageStream", "the request holds no image: send its bytes as imageData")
        if len(image) > most:
            raise Problem("BadRequestImageSizeBytes", f"the image has more than {most} bytes: send a smaller one")
        try:
            size = size_of(image, self._room)
        except BadImage as error:
            code = "BadRequestImageDimensions" if error.kind == TOO_LONG else "BadRequestImageFormat"
            raise Problem(code, str(error)) from error
        if not well_shaped(size):
            raise Problem("BadRequestImageAspectRatio", "the image is too narrow: its sides may differ 25 times")

    def forget(self, iteration: str) -> None:
        """Free the model of an iteration that is deleted."""
        with self._lock:
            self._loaded.pop(iteration, None)

    def _model(self, iteration: Iteration) -> tuple[Model, tuple[TrainedTag, ...]]:
        with self._lock:
            if iteration.id in self._loaded:
                self._loaded.move_to_end(iteration.id)
                return self._loaded[iteration.id]
            path = self._files.iteration(iteration.project, iteration.id) / MODEL
            try:
                model = load(path, room=self._room, fast=True)
            except BadModel as error:
                log.error("the model of iteration %s cannot be loaded: %s", iteration.id, error)
                words = "the iteration's model is lost or damaged, the log says more; train again"
                raise Problem("ErrorPredictionModelNotFound", words) from error
            tags = tuple(tag for tag in self._iterations.tags(iteration.id) if tag.place is not None)
            self._loaded[iteration.id] = model, tags
            while len(self._loaded) > MODELS:
                self._loaded.popitem(last=False)
            return model, tags


def _answer(model: Model, image: bytes) -> tuple[Prediction, ...]:
    """What the model says of the image as it is; only one too large to be decoded whole is decoded smaller."""
    try:
        return model.predict(image, exact=True)
    except BadImage:
        return model.predict(image)
