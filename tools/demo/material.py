"""What a demo works with: the pictures of each stream, the model to begin with, and a bad one for the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from classifier.pixels.decoding import decode
from demo import starter
from demo.pictures import Picture, find, mixed, split_for_training
from demo.starter import BOTH, DAY, NIGHT
from ripeloop.errors import BadImage
from trainer.view import progress

FIRST, LATER, LAST = 100, 150, 100  # drawn pictures of the first turn, of each later one, and after the last
OWN_AT_MOST = 1000
OWN_A_TURN = 80  # own pictures a stream needs, for a turn to come of it
REPEATED = 12  # a camera sometimes posts the same frame twice


@dataclass(frozen=True, slots=True)
class Stream:
    """Pictures that a camera posts before a turn, or after the last one; `light` in a word, empty for own pictures."""

    light: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Material:
    """One stream for each turn and one more; the model that answers at first; and one that is worse than a guess.

    With a single stream there are no turns. `about` says in a sentence what the first model is; `known` are the files
    it was trained on, by tag, where later models shall learn from them, too.
    """

    streams: tuple[Stream, ...]
    model: Path
    bad: Path | None
    about: str
    known: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    @property
    def turns(self) -> int:
        """How many there can be."""
        return len(self.streams) - 1


def drawn(folder: Path, turns: int, count: int, console: Console) -> Material:
    """Bananas, by day and at night, and a model made in a hurry; `count` 0 is as many as is good."""
    models = folder / "model"
    with progress(console, "training a model on a few drawn bananas") as told:
        model = starter.ensure_hurried_model(models, told)
    if turns:
        with progress(console, "training a bad model, for the end") as told:
            bad = starter.ensure_bad_model(models, told)
    lights = (DAY, NIGHT, *[BOTH] * turns)[: turns + 1]
    counts = _counts(turns, count)
    streams, first = list[Stream](), 0
    for nth, (light, number) in enumerate(zip(lights, counts, strict=True), start=1):
        with progress(console, f"drawing bananas to post ({nth} of {len(counts)})") as told:
            found = starter.ensure_drawn(folder / "bananas", number, told, first, light)
        pictures = mixed(find(found))
        streams.append(Stream(_IN_WORDS[light], pictures + pictures[: REPEATED * (nth == 1)]))
        first += number
    about = "a model from 15 pictures, six of them tagged wrong in a hurry"
    return Material(tuple(streams), model, bad if turns else None, about)


def own(images: Path, folder: Path, turns: int, count: int, console: Console) -> Material:
    """The user's own pictures, in as many turns as they are enough for. Raises SettingsError."""
    models = folder / "model"
    training, rest = split_for_training(find(images.expanduser()), _is_image)
    if not training:
        console.print(
            "[yellow]A model that knows only bananas will answer.[/] To train one on your own pictures, put them in "
            "folders named by tag, ten or more of each of two tags.",
            soft_wrap=True,
        )
        with progress(console, "training a model on a few drawn bananas") as told:
            model = starter.ensure_starter_model(models, told)
        unknown = [Picture(picture.path, None) for picture in rest]  # its tags are none this model knows
        return Material((Stream("", mixed(unknown)[: count or OWN_AT_MOST]),), model, None, "a model of bananas")
    files = {tag: [picture.path for picture in found] for tag, found in training.items()}
    with progress(console, f"training a model on a few pictures of each tag ({', '.join(training)})") as told:
        model = starter.ensure_model_of(files, models, told)
    pictures = mixed(rest)[: count or OWN_AT_MOST]
    turns = min(turns, max(len(pictures) // OWN_A_TURN - 1, 0))
    streams = tuple(Stream("", pictures[nth :: turns + 1]) for nth in range(turns + 1))
    about = "a model from a few pictures of each tag"
    if not turns:
        console.print(f"With {2 * OWN_A_TURN} pictures to post, or more, a new model would be trained from them, too.")
        return Material(streams, model, None, about)
    with progress(console, "training a bad model, for the end") as told:
        return Material(streams, model, starter.ensure_bad_model_of(files, models, told), about, files)


_IN_WORDS = {DAY: "day", NIGHT: "night", BOTH: "both"}

Prepare = Callable[[Console], Material]


def prepare(images: Path | None, folder: Path, turns: int, count: int) -> Prepare:
    """The one of the two that is asked for."""
    if images is None:
        return partial(drawn, folder, turns, count)
    return partial(own, images, folder, turns, count)


def _counts(turns: int, count: int) -> list[int]:
    if count:
        each = max(count // (turns + 1), 1)
        return [count - each * turns, *[each] * turns]
    return [*[FIRST, *[LATER] * turns][:turns], LAST]


def _is_image(path: Path) -> bool:
    try:
        decode(path.read_bytes())
    except (BadImage, OSError):
        return False
    return True
