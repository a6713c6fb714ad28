"""What models say of the holdout: the code a device runs, over all images, each decoded once for each kind of input."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifier.models.model import Model
from classifier.pixels.imaging import InputSpec
from retrain.judging.holdout import Case, LeftOut
from ripeloop.errors import BadImage, SettingsError
from ripeloop.prediction import Prediction, image_id

Answer = tuple[Prediction, ...]

MAX_FILE_BYTES = 64 * 1024 * 1024
SUM_OFF = 0.1  # of a model in 8 or 16 bits the probabilities add up to 1 within a few hundredths


@dataclass(frozen=True, slots=True)
class Answered:
    """A case, the image's id, and what each model says of it, in the order of the models."""

    case: Case
    id: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """All cases that were answered, in their order, and those that could not be."""

    answered: tuple[Answered, ...]
    left_out: tuple[LeftOut, ...]


def ask(models: Sequence[Model], cases: Sequence[Case], seen: Callable[[int], None] = lambda _: None) -> Asked:
    """Ask every model about every case; `seen` hears how many are done.

    An image that cannot be read, is damaged, lies there twice or under two tags is left out, by name. Raises BadModel,
    and SettingsError for models of several tags an image.
    """
    outcomes: list[Answered | LeftOut] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a worker holds one image, and only answers are kept
        for outcome in pool.map(partial(_asked, models), cases):
            outcomes.append(outcome)
            seen(len(outcomes))
    answered = [one for one in outcomes if isinstance(one, Answered)]
    check_one_tag([answer for one in answered for answer in one.answers])
    answered, again = _once(answered)
    return Asked(tuple(answered), (*(one for one in outcomes if isinstance(one, LeftOut)), *again))


def check_one_tag(answers: Sequence[Answer]) -> None:
    """Return if these can be answers of models that give an image one tag. Raises SettingsError."""
    if any(abs(sum(p.probability for p in answer) - 1) > SUM_OFF for answer in answers):
        raise SettingsError(
            "the probabilities of an answer do not add up to 1, so the model gives an image several tags (multilabel): "
            "only models of a multiclass project can be judged or packed; make the project multiclass"
        )


def read(path: Path) -> bytes:
    """The bytes of an image. Raises BadImage."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadImage(f"it has more than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"it cannot be read: {error.strerror or error}") from error


def _asked(models: Sequence[Model], case: Case) -> Answered | LeftOut:
    tensors: dict[tuple[InputSpec, bool], NDArray[np.float32]] = {}
    answers = []
    try:
        image = read(case.path)
        for model in models:
            kind = model.spec, model.fast
            if kind not in tensors:
                tensors[kind] = model.prepared(image)
            answers.append(model.answer(tensors[kind]))
    except BadImage as error:
        return LeftOut(case.name, str(error))
    return Answered(case, image_id(image), tuple(answers))


def _once(answered: Sequence[Answered]) -> tuple[list[Answered], list[LeftOut]]:
    """Each image once; one that lies under two tags is of neither."""
    by_id: dict[str, list[Answered]] = {}
    for one in answered:
        by_id.setdefault(one.id, []).append(one)
    kept, left_out = [], []
    for same in by_id.values():
        tags = sorted({one.case.tag for one in same})
        if len(tags) > 1:
            why = f"the same image lies under {' and '.join(tags)[:200]}: only one can be right"
            left_out += [LeftOut(one.case.name, why) for one in same]
            continue
        audited = [one for one in same if one.case.audit]
        kept.append((audited or same)[0])
        left_out += [LeftOut(one.case.name, f"the same image as {kept[-1].case.name}")
                     for one in same if one is not kept[-1]]  # fmt: skip
    return kept, left_out
