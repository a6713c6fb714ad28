"""Shapes that JSON must have. A shape is a function: a value and its place in, what is wrong with it out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from retrain.manifest.finding import Finding, Place

Shape = Callable[[object, Place], Iterator[Finding]]


def text(pattern: str = "", means: str = "", *, most: int = 0) -> Shape:
    """A text that `pattern` describes as a whole, in words `means`, of at most so many characters."""
    wanted = re.compile(pattern)

    def shape(value: object, place: Place) -> Iterator[Finding]:
        if not isinstance(value, str):
            yield Finding(place, f"must be a text, not {_kind(value)}")
        elif pattern and not wanted.fullmatch(value):
            yield Finding(place, f"must be {means}, not {value!r}")
        elif most and len(value) > most:
            yield Finding(place, f"has {len(value)} characters; {most} is the most")

    return shape


def words(*allowed: str) -> Shape:
    """One of these texts."""

    def shape(value: object, place: Place) -> Iterator[Finding]:
        if value not in allowed:
            yield Finding(place, f"must be {' or '.join(allowed)}, not {value!r}")

    return shape


def whole(low: int, high: int) -> Shape:
    """A whole number from `low` to `high`."""

    def shape(value: object, place: Place) -> Iterator[Finding]:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            yield Finding(place, f"must be a whole number from {low} to {high}, not {value!r}")

    return shape


def scalar(value: object, place: Place) -> Iterator[Finding]:
    """A text, a number, true or false."""
    if not isinstance(value, (str, int, float)):
        yield Finding(place, f"must be a text, a number, true or false, not {_kind(value)}")


def anything(_value: object, _place: Place) -> Iterator[Finding]:
    """Whatever stands there."""
    yield from ()


def record(
    required: Mapping[str, Shape],
    optional: Mapping[str, Shape] | None = None,
    *,
    others: tuple[str, Shape] | None = None,
) -> Shape:
    """An object with these fields; `others` is a pattern of further names and the shape of what they hold."""
    known = {**required, **(optional or {})}

    def shape(value: object, place: Place) -> Iterator[Finding]:
        if not isinstance(value, dict):
            yield Finding(place, f"must be an object, not {_kind(value)}")
            return
        for name in required:
            if name not in value:
                yield Finding(place, f"lacks {name}")
        for name, inner in value.items():
            if name in known:
                yield from known[name](inner, place / name)
            elif others is not None and re.fullmatch(others[0], name):
                yield from others[1](inner, place / name)
            else:
                yield Finding(place / name, f"is not known here{_instead(name, list(known))}")

    return shape


def named(pattern: str, means: str, inner: Shape) -> Shape:
    """An object whose names are free, within `pattern`, in words `means`; each holds the same shape."""

    def shape(value: object, place: Place) -> Iterator[Finding]:
        if not isinstance(value, dict):
            yield Finding(place, f"must be an object, not {_kind(value)}")
            return
        for name, one in value.items():
            if not re.fullmatch(pattern, name):
                yield Finding(place / name, f"is no name that is taken here: {means}")
            yield from inner(one, place / name)

    return shape


def text_or(inner: Shape) -> Shape:
    """A text that is not empty, or else `inner`."""
    plain = text(r"(?s).+", "a text that is not empty")
    return lambda value, place: plain(value, place) if isinstance(value, str) else inner(value, place)


def _instead(name: str, known: Sequence[str]) -> str:
    near = next((one for one in known if one.lower() == name.lower()), None)
    return f"; is it meant to be {near}?" if near else ""


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), "that")
