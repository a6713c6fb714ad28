"""`python -m trainer train`: labelled images in a folder in, an export out."""

from __future__ import annotations

from functools import partial

import numpy as np
from rich.console import Console

from ripeloop.errors import SettingsError
from trainer import view
from trainer.learning import folder
from trainer.learning.export import write_export
from trainer.learning.features import BadTrainingImage, Source
from trainer.learning.training import Lesson, Trained, check_enough, learn
from trainer.settings import Settings


def run(settings: Settings, console: Console) -> Trained:
    """Train and write; `console` is told how far it is. Raises RipeloopError."""
    if settings.out.is_dir():
        raise SettingsError(f"{settings.out} is a folder; name the file to write, like {settings.out / 'model.zip'}")
    found = folder.find(settings.images)
    check_enough({tag: len(paths) for tag, paths in found.images.items()})
    if found.left_out:
        more = f" and {len(found.left_out) - 1} more" if len(found.left_out) > 1 else ""
        line = f"not an image by its name, left out: {found.left_out[0]}{more}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    try:
        with view.steps(console) as told:
            trained = learn(_lesson(found), int8=settings.int8, told=told)
    except BadTrainingImage as error:
        path = found.in_order[error.position]
        raise SettingsError(f"{path} cannot be learnt from: {error.reason}; replace it or take it away") from error
    write_export(settings.out, trained.to_zip())
    return trained


def _lesson(found: folder.Found) -> Lesson:
    """The images in the order of their tags and names; each is read when it is its turn."""
    tags = tuple(found.images)
    numbers = np.repeat(np.arange(len(tags)), [len(paths) for paths in found.images.values()])
    images = [Source(str(path), partial(folder.read, path)) for path in found.in_order]
    return Lesson(images, tags, np.eye(len(tags), dtype=np.bool_)[numbers])
