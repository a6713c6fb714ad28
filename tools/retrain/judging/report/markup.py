"""Text into HTML: whatever a file or a tag is called, it stays text."""

from __future__ import annotations

from html import escape

from retrain.judging.chances import Share
from retrain.shown import DASH, percent, plain


def words(text: str) -> str:
    """`text` as it can stand in an element or a quoted attribute."""
    return escape(plain(text), quote=True)


def tag_name(text: str) -> str:
    """A tag as a person reads it: kept in its own direction, whatever script it is in."""
    return f"<bdi>{words(text)}</bdi>"


def share(one: Share) -> str:
    """A share and its interval."""
    if not one.of:
        return DASH
    return f'<b>{percent(one.value)}</b> <span class="range">{one.low * 100:.0f}{DASH}{percent(one.high, 0)}</span>'


def section(title: str, lead: str, body: str) -> str:
    """One part of the page: its heading, a plain sentence, its content; `title` and `lead` are HTML already."""
    return f"<section><h2>{title}</h2><p class=lead>{lead}</p>{body}</section>"
