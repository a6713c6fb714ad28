"""Small holdouts of coloured pictures, and models that know the colours well, badly, or only in part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colours import files, model, picture, zipped

TAGS = ("red", "green", "blue")
_COLOURS = {"red": (215, 30, 30), "green": (30, 215, 30), "blue": (30, 30, 215)}


def coloured(tag: str, number: int) -> bytes:
    """A picture of that colour, another file for every number, some nearer to grey than others."""
    wash = number % 5 * 22
    red, green, blue = (value - wash if value > 100 else value + wash // 2 for value in _COLOURS[tag])
    return picture((red, green, blue), (40 + number % 60, 30 + number // 60))


def holdout(folder: Path, each: int = 20, tags: Sequence[str] = TAGS, audits: int = 0) -> Path:
    """`each` images of each tag, of which the first `audits` were kept by lot."""
    lines = []
    for tag in tags:
        (folder / tag).mkdir(parents=True)
        for number in range(each):
            (folder / tag / f"{number:03}.png").write_bytes(coloured(tag, number))
            reason = "audit" if number < audits else "low_confidence"
            lines.append(json.dumps({"file": f"{tag}/{number:03}.png", "reason": reason}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def seeing(path: Path, iteration: str = "seeing") -> Path:
    """Right about every picture."""
    return zipped(path, files(model(), IterationId=iteration))


def swapping(path: Path) -> Path:
    """Takes red for blue and blue for red."""
    return zipped(path, files(model(bgr=True), IterationId="swapping"))


def labelled(path: Path, labels: Sequence[str]) -> Path:
    """A model whose columns have these names."""
    content = files(model(columns=len(labels)), IterationId=path.stem)
    return zipped(path, content | {"labels.txt": "\n".join(labels).encode()})


def counts(found: Mapping[str, Any]) -> tuple[int, int]:
    return found["paired"]["gained"], found["paired"]["lost"]
