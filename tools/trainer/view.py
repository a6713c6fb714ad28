"""What a person sees of a training: how far it is, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from trainer.learning.training import Trained

PLAIN_SECONDS = 2.0


@contextmanager
def progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """What to tell how many of how many are done, where only one thing is being done."""
    with steps(console) as told:
        yield partial(told, what)


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """What to tell what is being done and how much of how much is: a bar on a terminal, else a line now and then.

    Nothing is shown while nothing is told.
    """
    text = TextColumn("{task.description}", markup=False)
    bar = Progress(text, BarColumn(), MofNCompleteColumn(), console=console, transient=True)
    task = bar.add_task("")
    said = time.monotonic()

    def told(what: str, done: int, of: int) -> None:
        nonlocal said
        if console.is_terminal:
            bar.start()
            bar.update(task, description=what, completed=done, total=of, refresh=done == of)
        elif time.monotonic() - said >= PLAIN_SECONDS or done == of:
            said = time.monotonic()
            console.print(f"{what}: {done}/{of}", markup=False, highlight=False, soft_wrap=True)

    try:
        yield told
    finally:
        if console.is_terminal:
            bar.stop()


def show(console: Console, trained: Trained) -> None:
    """The cross-validated figures: every image was judged by a fit that had not seen it."""
    figures = trained.figures
    images = sum(one.images for one in trained.tag_figures)
    console.print(
        f"cross-validated on {images} images: accuracy {figures.accuracy:.1%}, "
        f"calibration error {figures.calibration_error:.3f}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("tag", box=None, padding=(0, 3, 0, 0))
    for title in ("images", "precision", "recall"):
        table.add_column(title, justify="right")
    for one in trained.tag_figures:
        table.add_row(escape(one.tag), str(one.images), f"{one.precision:.1%}", f"{one.recall:.1%}")
    console.print(table)
