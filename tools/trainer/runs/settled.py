"""What a training settled on, as its process leaves it for the service: a small file that may be damaged."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ripeloop.disk import write_whole
from trainer.state.files import RESULT


class Damaged(Exception):
    """The file is not what a training process writes; the text is for the person who wanted the training."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The ids of the `tags` in the order of the model's outputs, and the `choice`: the views and what stages count.

    Older trainings told of no choice.
    """

    tags: tuple[str, ...]
    choice: tuple[tuple[str, ...], tuple[float, ...]] | None = None

    def write(self, folder: Path) -> None:
        """Leave it in `folder`, whole or not at all."""
        choice = {} if self.choice is None else {"choice": self.choice}
        write_whole(folder / RESULT, json.dumps({"tags": self.tags} | choice).encode())


def read(folder: Path) -> Settled:
    """What `write` left in `folder`. Raises Damaged."""
    try:
        fields = json.loads((folder / RESULT).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"what the training settled on cannot be read ({error}): train again") from error
    if not isinstance(fields, dict) or not _all(fields.get("tags"), str):
        raise Damaged("what the training settled on names no tags: train again")
    return Settled(tuple(fields["tags"]), _choice(fields["choice"]) if "choice" in fields else None)


def check_tags(settled: Settled, wanted: Collection[str]) -> None:
    """Raises Damaged where the tags are not the `wanted` ones, each once: the file is of another training."""
    if sorted(settled.tags) != sorted(wanted):
        raise Damaged("what the training settled on is about other tags than it was asked for: train again")


def _choice(value: Any) -> tuple[tuple[str, ...], tuple[float, ...]]:
    match value:
        case [[*views], [*stages]] if _all(views, str) and _all(stages, int | float):
            return tuple(views), tuple(stages)
    raise Damaged("what the training settled on names no views and stages: train again")


def _all(values: Sequence[Any] | None, kind: Any) -> bool:
    """Whether it is a list of such values, with one or more in it."""
    return isinstance(values, list) and bool(values) and all(isinstance(value, kind) for value in values)
