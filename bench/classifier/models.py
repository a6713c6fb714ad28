"""The model under test, in both flavours: trained in the run itself, on drawn pictures or on one's own."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from classifier.models.model import load
from demo.bananas import picture
from ripeloop.errors import SettingsError
from trainer.learning import folder as labelled
from trainer.learning.training import LEAST_IMAGES, train

FLAVOURS = ("fp32", "int8")
SEED = 2026
RIPENESS = {"unripe": (0.0, 0.3), "ripe": (0.3, 0.68), "overripe": (0.68, 1.0)}

Labelled = Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Flavour:
    """One form of the model: its export as a file, the graph in it, and how it did on images new to it.

    Image by image: `right`, whether its first tag was the right one; `answers`, the probabilities of the tags.
    """

    name: str
    export: Path
    onnx: bytes
    megabytes: float
    right: tuple[bool, ...]
    answers: tuple[tuple[float, ...], ...]

    @property
    def accuracy(self) -> float:
        """The share of the images it got right."""
        return sum(self.right) / len(self.right)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike two flavours answer the same images: the share with the same first tag, and the mean step of p.

    `gained` is what the other one's accuracy is more, `by_chance` the standard error of that.
    """

    same_tag: float
    mean_step: float
    gained: float
    by_chance: float


def drawn(each: int) -> Labelled:
    """So many drawn pictures of each tag, the same every time."""
    rng = np.random.default_rng(SEED)
    return {
        tag: [picture(SEED + row, nth, float(rng.uniform(low, high))).jpeg for nth in range(each)]
        for row, (tag, (low, high)) in enumerate(RIPENESS.items())
    }


def of_folder(folder: Path) -> Labelled:
    """The pictures in `folder/<tag>/`, mixed, always in the same order. Raises SettingsError."""
    found = labelled.find(folder)
    images = {tag: [labelled.read(path) for path in paths] for tag, paths in found.images.items()}
    few = [tag for tag, files in images.items() if len(files) < 2 * LEAST_IMAGES]
    if few or len(images) < 2:
        raise SettingsError(f"{folder} needs two tags with {2 * LEAST_IMAGES} pictures each: half are for the judging")
    return {tag: sorted(files, key=lambda file: sha256(file).digest()) for tag, files in images.items()}


def trained(images: Labelled, folder: Path) -> list[Flavour]:
    """Both flavours, trained on every other image and judged on the rest; their exports go into `folder`."""
    learnt = {tag: files[::2] for tag, files in images.items()}
    held_out = [(tag, file) for tag, files in images.items() for file in files[1::2]]
    flavours = []
    for name in FLAVOURS:
        path, export = folder / f"{name}.zip", train(learnt, int8=name == "int8").to_zip()
        path.write_bytes(export)
        with zipfile.ZipFile(path) as archive:
            onnx = archive.read("model.onnx")
        model = load(path)
        answers = [model.predict(file) for _, file in held_out]
        right = tuple(
            max(answer, key=lambda one: one.probability).tag == tag
            for (tag, _), answer in zip(held_out, answers, strict=True)
        )
        numbers = tuple(tuple(one.probability for one in answer) for answer in answers)
        flavours.append(Flavour(name, path, onnx, len(export) / 1e6, right, numbers))
    return flavours


def agreement(one: Flavour, other: Flavour) -> Agreement:
    """How alike they answered."""
    a, b = np.array(one.answers), np.array(other.answers)
    gains = np.array(other.right, float) - np.array(one.right, float)
    by_chance = float(gains.std() / np.sqrt(len(gains)))
    same_tag = float((a.argmax(1) == b.argmax(1)).mean())
    return Agreement(same_tag, float(np.abs(a - b).mean()), float(gains.mean()), by_chance)
