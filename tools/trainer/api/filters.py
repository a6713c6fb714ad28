"""The filter language over images' metadata: `metadata=key1 eq 'value1' and key2 ne 'value2'`. Pure: text to SQL."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from trainer.errors import Problem

MAX_LENGTH = 4096  # characters
MAX_TERMS = 50
_PREFIX = re.compile(r"\s*metadata\s*=", re.IGNORECASE)
_TOKEN = re.compile(r"\s*(?:(\()|(\))|'((?:[^']|'')*)'|([^\s'()]+))")
_HOW = "write it like metadata=key1 eq 'value1' and key2 ne 'value2'"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on the column `images.id`, and its values."""

    sql: str
    values: tuple[str, ...]


def parse(text: str) -> Condition:
    """The condition a filter means; `and` binds closer than `or`. Raises Problem.

    An image without the key is not equal to any value.
    """
    prefix = _PREFIX.match(text)
    if len(text) > MAX_LENGTH or not prefix:
        raise _problem(f"the filter begins with metadata= and has at most {MAX_LENGTH} characters")
    reader = _Reader(_tokens(text[prefix.end() :]))
    condition = reader.either()
    if reader.left:
        raise _problem(f"{reader.left[0][1]!r} was not expected in the filter")
    return condition


_Token = tuple[str, str]  # kind and text


class _Reader:
    def __init__(self, tokens: list[_Token]) -> None:
        self.left = tokens
        self._terms = 0

    def either(self) -> Condition:
        return self._chain("or", self._both)

    def _both(self) -> Condition:
        return self._chain("and", self._term)

    def _chain(self, word: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self.left and self.left[0][0] == "word" and self.left[0][1].lower() == word:
            self.left.pop(0)
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        sql = f" {word.upper()} ".join(one.sql for one in parts)
        return Condition(f"({sql})", tuple(value for one in parts for value in one.values))

    def _term(self) -> Condition:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise _problem(f"the filter has more than {MAX_TERMS} terms")
        kind, text = self._next()
        if kind == "(":
            inside = self.either()
            if self._next()[0] != ")":
                raise _problem("a bracket of the filter is not closed")
            return inside
        operator, value = self._next(), self._next()
        if kind not in ("word", "text") or operator[0] != "word" or value[0] != "text":
            raise _problem(f"the filter is not understood at {text!r}")
        word = operator[1].lower()
        if word not in ("eq", "ne"):
            raise _problem(f"the filter knows eq and ne, not {operator[1]!r}")
        exists = "EXISTS (SELECT 1 FROM image_metadata WHERE image = images.id AND key = ? AND value = ?)"
        return Condition(exists if word == "eq" else f"NOT {exists}", (text, value[1]))

    def _next(self) -> _Token:
        if not self.left:
            raise _problem("the filter is cut short")
        return self.left.pop(0)


def _tokens(text: str) -> list[_Token]:
    tokens, place = list[_Token](), 0
    text = text.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise _problem(f"the filter is not understood at {text[place : place + 20]!r}")
        opened, closed, quoted, word = found.groups()
        if quoted is not None:
            tokens.append(("text", quoted.replace("''", "'")))
        else:
            tokens.append((opened or closed or "word", opened or closed or word))
        place = found.end()
    return tokens


def _problem(why: str) -> Problem:
    return Problem("BadRequestInvalid", f"{why}: {_HOW}")
