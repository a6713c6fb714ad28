"""A person's terminal: how wide it is, and words from outside as they may be shown there."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from retrain.shown import plain

PIPE_WIDTH = 200


def console() -> Console:
    """As wide as the terminal, or as COLUMNS says; else wide enough for whole names, where the output goes to a file.

    With NO_COLOR set it is plain text: bold is a code, too.
    """
    wide = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal() else PIPE_WIDTH
    return Console(width=wide, color_system=None if os.environ.get("NO_COLOR") else "auto")


def text(value: Any, style: str = "") -> Text:
    """Letter by letter as it came: a name from outside is no markup, no :emoji: and no order to the terminal."""
    if value is None:
        return Text("-", style)
    words = ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
    return Text(plain(words), style)
