"""How time and memory grow with the number of images: `python -m trainer.scale 2000 4000 8000`.

Each size is trained in a process of its own, on drawn pictures that are made when they are read.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image

from trainer.learning.cache import FeatureCache
from trainer.learning.features import Source
from trainer.learning.training import CHOOSING, Lesson, Trained, learn

TAGS = ("dots", "rings", "stripes")
_SIDE = 96


def drawn(number: int) -> bytes:
    """A small picture of tag number % 3, the same whenever it is asked for; some are hard to tell."""
    rng = np.random.default_rng(number)
    across, down = np.meshgrid(*[np.linspace(-1, 1, _SIDE)] * 2)
    across, down, pitch = across - rng.uniform(-0.5, 0.5), down - rng.uniform(-0.5, 0.5), rng.uniform(6, 16)
    pattern = (
        np.sin(pitch * across) * np.sin(pitch * down),
        np.sin(pitch * np.hypot(across, down)),
        np.sin(pitch * (across * np.cos(rng.uniform(0, 3)) + down)),
    )[number % len(TAGS)]
    noise = rng.normal(0, rng.uniform(0.2, 3.0), (_SIDE, _SIDE))
    light = rng.uniform(60, 200, 3) + (pattern + noise)[..., None] * rng.uniform(5, 40, 3)
    file = io.BytesIO()
    Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


def measured(images: int, folder: Path) -> str:
    """Train on so many images, then again with everything cached; a line of figures."""
    lesson = Lesson(
        [Source(str(number), partial(drawn, number)) for number in range(images)],
        TAGS,
        np.arange(len(TAGS)) == (np.arange(images) % len(TAGS))[:, None],
    )
    first, trained = _timed(lesson, folder)
    again, _ = _timed(lesson, folder)
    status = Path("/proc/self/status").read_text()
    peak, anonymous = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1000 for name in ("VmHWM", "RssAnon"))
    disk = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    times = "  ".join(f"{one:8.1f}" for one in (*first.all, *first.fitting, *again.all))
    return f"{images:>8}  {times}  {peak:7.0f}  {anonymous:7.0f}  {disk:7.0f}  {trained.figures.accuracy:7.3f}"


@dataclass(frozen=True, slots=True)
class _Taken:
    """Seconds on the clock, and of all cores: in all, and after the images were looked at."""

    all: tuple[float, float]
    fitting: tuple[float, float]


def _timed(lesson: Lesson, folder: Path) -> tuple[_Taken, Trained]:
    """How long a training takes, and what came of it."""
    looked: list[tuple[float, float]] = []

    def now() -> tuple[float, float]:
        return time.monotonic(), time.process_time()

    def told(what: str, _done: int, _of: int) -> None:
        if what == CHOOSING and not looked:
            looked.append(now())

    began = now()
    with FeatureCache(folder) as cache:
        trained = learn(lesson, cache=cache, folder=folder, told=told)
    ended = now()
    (clock, cores), *_ = looked
    return _Taken((ended[0] - began[0], ended[1] - began[1]), (ended[0] - clock, ended[1] - cores)), trained


@click.command()
@click.argument("sizes", type=click.IntRange(30), nargs=-1, required=True)
@click.option("--here", is_flag=True, hidden=True, help="In this process.")
def main(sizes: tuple[int, ...], here: bool) -> None:
    """Train on so many drawn pictures each; seconds, megabytes and the accuracy of each training.

    `fitting` is what comes after the images were looked at, `cached` the same training once more.

    \b
    Example:
      python -m trainer.scale 2000 4000 8000
    """
    if here:
        with tempfile.TemporaryDirectory() as folder:
            click.echo(measured(sizes[0], Path(folder)))
        return
    click.echo(
        "  images   seconds    of CPU   fitting    of CPU    cached    of CPU  peak MB  anon MB  disk MB accuracy"
    )
    for size in sizes:
        command = [sys.executable, "-m", "trainer.scale", "--here", str(size)]
        subprocess.run(command, check=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
