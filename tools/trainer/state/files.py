"""Where images and models lie: whole files, on disk for sure before anything speaks of them."""

from __future__ import annotations

import io
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from classifier.pixels.decoding import decode
from classifier.pixels.room import Room
from ripeloop.disk import sync, write_whole
from trainer.errors import Problem

MODEL, MODEL_INT8, EVALUATION = "model.zip", "model-int8.zip", "evaluation.npz"
PLAIN, INT8 = "", "ONNXInt8"  # flavors of an export
REQUEST, RESULT = "request.json", "result.json"  # of a training process
IMAGES, PREDICTIONS = "images", "predictions"
SIDES = {"thumbnail": 256, "resized": 1024}  # longest sides in pixels


@dataclass(frozen=True, slots=True)
class Files:
    """The files below `folder`, in a folder for each project."""

    folder: Path

    def project(self, project: str) -> Path:
        """The project's own folder."""
        return self.folder / "projects" / project

    def image(self, project: str, id_: str, kind: str = IMAGES) -> Path:
        """An uploaded image, or one that was sent to be predicted."""
        return self.project(project) / kind / id_[:2] / id_

    def iteration(self, project: str, iteration: str) -> Path:
        """The folder of what a training made."""
        return self.project(project) / "iterations" / iteration

    def job(self, iteration: str) -> Path:
        """The folder a training or an export works in."""
        return self.folder / "jobs" / iteration

    def features(self, project: str) -> Path:
        """The folder for what trainings remember of images."""
        return self.project(project) / "features"

    def keep(self, project: str, id_: str, data: bytes, kind: str = IMAGES) -> None:
        """Store an image. Raises Problem."""
        path = self.image(project, id_, kind)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            raise _full(error) from error

    def link(self, project: str, id_: str, source: Path) -> None:
        """Store an image that is here already, sharing its bytes. Raises Problem."""
        path = self.image(project, id_)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, path)
            sync(path.parent)
        except OSError as error:
            raise _full(error) from error

    def forget(self, project: str, ids: Iterable[str], kind: str = IMAGES) -> None:
        """Remove images."""
        for id_ in ids:
            self.image(project, id_, kind).unlink(missing_ok=True)

    def forget_project(self, project: str) -> None:
        """Remove all of a project's files."""
        shutil.rmtree(self.project(project), ignore_errors=True)

    def forget_iteration(self, project: str, iteration: str) -> None:
        """Remove what a training made."""
        shutil.rmtree(self.iteration(project, iteration), ignore_errors=True)
        self.forget_job(iteration)

    def forget_job(self, iteration: str) -> None:
        """Remove the folder a training or an export worked in."""
        shutil.rmtree(self.job(iteration), ignore_errors=True)


def smaller(data: bytes, size: str, room: Room) -> bytes:
    """The image as a JPEG whose longest side is that of `size`, one of SIDES. Raises BadImage."""
    side = SIDES[size]

    def enough(full: tuple[int, int]) -> tuple[int, int]:
        part = min(1.0, side / max(full))
        return math.ceil(part * full[0]), math.ceil(part * full[1])

    image = decode(data, room, enough)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _full(error: OSError) -> Problem:
    return Problem("ErrorUnknown", f"the trainer's disk does not take it ({error.strerror}): is it full?")
