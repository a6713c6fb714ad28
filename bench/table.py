"""Tables for terminals and for Markdown, from the same rows."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A heading and rows of text; columns from `numbers` on are numbers and stand to the right."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int = 1

    def plain(self) -> str:
        """For a terminal."""
        lines = [self.heading, *self.rows]
        widths = [max(_width(line[column]) for line in lines) for column in range(len(self.heading))]
        return "\n".join(self._padded(line, widths) for line in lines)

    def markdown(self) -> str:
        """For a page."""
        marks = ["---" if column < self.numbers else "---:" for column in range(len(self.heading))]
        return "\n".join(f"| {' | '.join(line)} |" for line in [self.heading, marks, *self.rows])

    def _padded(self, line: Sequence[str], widths: Sequence[int]) -> str:
        cells = [
            cell + " " * (width - _width(cell)) if column < self.numbers else " " * (width - _width(cell)) + cell
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(char) else 1 for char in text)
