"""The demo's own model: trained at set-up on a few pictures only, so that there is something to learn.

What was made is kept under a name that tells what it was made from: the second run finds it and makes nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from demo.bananas import TAGS, Drawn, at_night, picture, random_picture, tag_of
from ripeloop.errors import SettingsError
from ripeloop.prediction import image_id
from trainer.learning.export import write_export
from trainer.learning.training import train

FORM = 3  # change it when the same pictures would give another model or other drawings
TRAINED_ON_SEED, POSTED_SEED = 1, 2
# clear cases only, none near the ripenesses where the tag changes: that is what it has to learn
RIPENESSES = (0.02, 0.04, 0.06, 0.08, 0.1, 0.46, 0.48, 0.5, 0.52, 0.54, 0.9, 0.92, 0.94, 0.96, 0.98)

DAY, NIGHT, BOTH = "day", "night", "both"
"""In which light the pictures of a series are taken; in both, every other one is taken at night."""

Told = Callable[[int, int], None]
"""Is told how many of how many are done."""


def _untold(_done: int, _of: int) -> None:
    """Nobody is told."""


def ensure_starter_model(folder: Path, told: Told = _untold) -> Path:
    """The export of a model that has seen 15 drawn bananas, made in `folder` unless it is there."""
    path = folder / f"starter-{FORM}.zip"
    if not path.exists():
        drawn = [picture(TRAINED_ON_SEED, nth, ripeness) for nth, ripeness in enumerate(RIPENESSES)]
        tagged = ((tag_of(one.ripeness), one.jpeg) for one in drawn)
        write_export(path, _trained(_by_tag(tagged), told))
    return path


def ensure_hurried_model(folder: Path, told: Told = _untold) -> Path:
    """The same, but six of its 15 pictures were tagged wrong, in a hurry: right more often than not, and never sure."""
    return _ensure_mistagged(
        folder / f"hurried-{FORM}.zip", lambda nth, tag: _next(tag) if nth % 5 in (0, 3) else tag, told
    )


def ensure_bad_model(folder: Path, told: Told = _untold) -> Path:
    """The same, but four of five tags are wrong: a whole and valid model that is worse than a guess."""
    return _ensure_mistagged(folder / f"bad-{FORM}.zip", lambda nth, tag: _next(tag) if nth % 5 else tag, told)


def ensure_bad_model_of(images: Mapping[str, Sequence[Path]], folder: Path, told: Told = _untold) -> Path:
    """As `ensure_model_of`, with four of five files under a wrong tag."""
    tags = sorted(images)
    wrong: dict[str, list[Path]] = {tag: [] for tag in tags}
    for which, tag in enumerate(tags):
        for nth, path in enumerate(images[tag]):
            wrong[tags[(which + bool(nth % 5)) % len(tags)]].append(path)
    return ensure_model_of(wrong, folder, told)


def ensure_model_of(images: Mapping[str, Sequence[Path]], folder: Path, told: Told = _untold) -> Path:
    """The export of a model trained on these files by tag, made in `folder` unless it is there.

    Raises SettingsError for a file that cannot be read, BadTrainingImage for one that is no image.
    """
    content = {tag: [_read(path) for path in paths] for tag, paths in sorted(images.items())}
    ids = [(tag, [image_id(file) for file in files]) for tag, files in content.items()]
    path = folder / f"own-{FORM}-{hashlib.sha256(repr(ids).encode()).hexdigest()[:16]}.zip"
    if not path.exists():
        write_export(path, _trained(content, told))
    return path


def ensure_drawn(folder: Path, count: int, told: Told = _untold, first: int = 0, light: str = DAY) -> Path:
    """A folder of `count` drawn bananas from number `first` on, `<tag>/<name>.jpg`, made unless it is there."""
    name = f"drawn-{FORM}-{count}" if (first, light) == (0, DAY) else f"drawn-{FORM}-{light}-{first}-{count}"
    drawn = folder / name
    if drawn.is_dir():
        return drawn
    unfinished = folder / f"{drawn.name}.{os.getpid()}.tmp"
    try:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # drawing keeps a core busy
            made = pool.map(partial(_drawn, light), range(first, first + count), chunksize=8)
            for done, one in enumerate(made, start=1):
                _put(unfinished / one.tag, one)
                told(done, count)
        try:
            unfinished.rename(drawn)
        except OSError:
            if not drawn.is_dir():  # else another run was first: its pictures are the same
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return drawn


def _drawn(light: str, nth: int) -> Drawn:
    one = random_picture(POSTED_SEED, nth)
    return at_night(one, nth) if light == NIGHT or (light == BOTH and nth % 2) else one


def _ensure_mistagged(path: Path, tagged: Callable[[int, str], str], told: Told) -> Path:
    if not path.exists():
        drawn = [picture(TRAINED_ON_SEED, nth, ripeness) for nth, ripeness in enumerate(RIPENESSES)]
        write_export(path, _trained(_by_tag((tagged(nth, one.tag), one.jpeg) for nth, one in enumerate(drawn)), told))
    return path


def _next(tag: str) -> str:
    return TAGS[(TAGS.index(tag) + 1) % len(TAGS)]


def _put(folder: Path, one: Drawn) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / one.name).write_bytes(one.jpeg)


def _trained(images: Mapping[str, Sequence[bytes]], told: Told) -> bytes:
    total = sum(len(files) for files in images.values())
    return train(images, on_done=lambda done: told(done, total)).to_zip()


def _by_tag(tagged: Iterable[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    images: dict[str, list[bytes]] = {}
    for tag, file in tagged:
        images.setdefault(tag, []).append(file)
    return images


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
