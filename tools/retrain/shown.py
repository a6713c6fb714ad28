"""Names from outside, as a person may see them."""

from __future__ import annotations

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def plain(text: str) -> str:
    """`text` letter by letter; what does not print, and so could turn or hide what stands around it, is replaced."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def percent(share: float | None, digits: int = 1) -> str:
    """A share, 0 to 1, as people write it; a dash for none."""
    return DASH if share is None else f"{share * 100:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of shares with its sign, in percentage points."""
    value = round(difference * 100, 1)
    return f"{'+' if value > 0 else MINUS if value < 0 else '±'}{abs(value):.1f}"


def changed(gained: int, lost: int) -> str:
    """How many images were gained and lost."""
    return f"+{gained} {MINUS}{lost}"
