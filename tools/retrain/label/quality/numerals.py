"""Numbers as people of each language write them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from retrain.shown import DASH, MINUS

_MARKS = {"en": (",", "."), "nb": ("\N{NO-BREAK SPACE}", ","), "nl": (".", ",")}
"""What parts thousands, and what parts decimals."""


@dataclass(frozen=True, slots=True)
class Numerals:
    """Numbers in the language `lang`; None is a dash."""

    lang: str

    def whole(self, number: int) -> str:
        """Such as 12,345."""
        return f"{number:,}".replace(",", self._marks[0])

    def decimal(self, number: float | None, digits: int = 2) -> str:
        """Such as 0.81."""
        if number is None:
            return DASH
        text = f"{number:.{digits}f}".replace(".", self._marks[1])
        return text.replace("-", MINUS)

    def percent(self, share: float | None, digits: int = 0) -> str:
        """A share, 0 to 1, such as 81 %."""
        return DASH if share is None else f"{self.decimal(share * 100, digits)}\N{NO-BREAK SPACE}%"

    def points(self, difference: float | None) -> str:
        """A difference of shares in percentage points, with its sign, such as +3."""
        if difference is None:
            return DASH
        return ("+" if round(difference * 100) > 0 else "") + self.decimal(difference * 100, 0)

    @property
    def _marks(self) -> tuple[str, str]:
        return _MARKS.get(self.lang, _MARKS["en"])
