"""How far a fit is, though nobody knows beforehand how many steps it takes."""

from __future__ import annotations

from collections.abc import Callable

Told = Callable[[int, int], None]

PERCENT = 100
_SHARE = 1 / 12  # of what is left of a part, for each pass over the rows


def nobody(_done: int, _of: int) -> None:
    """Nobody listens."""


class Parts:
    """Tells `told` how many percent of so many parts are done; it never goes back."""

    def __init__(self, parts: int, told: Told) -> None:
        self._left, self._all, self._told = parts, parts, told
        self._inside, self._said = 0.0, -1
        self._say()

    def within(self, done: int, of: int) -> None:
        """So many `of` so many steps of this part are done."""
        self._inside = done / of
        self._say()

    def passed(self) -> None:
        """One more step of this part is done, of nobody knows how many: a share of what is left."""
        self._inside += (1 - self._inside) * _SHARE
        self._say()

    def ended(self) -> None:
        """A part is done; the last one only ends with `left`."""
        self.left(max(1, self._left - 1))

    def left(self, parts: int) -> None:
        """Only so many parts are left: what was not done of those before will never be."""
        self._left, self._inside = parts, 0.0
        self._say()

    def _say(self) -> None:
        done = int((self._all - self._left + self._inside) * PERCENT / self._all + 1e-9)
        done = min(done, PERCENT if self._left == 0 else PERCENT - 1)
        if done > self._said:
            self._said = done
            self._told(done, PERCENT)
