"""A text as the tokens of a small language, taken one after the other."""

from __future__ import annotations

import re

from ripeloop.errors import RipeloopError


class Tokens:
    """What is left of a text to be read. `language` has a group for each kind of token; `text` is one of those kinds.

    `what` the text is stands in the errors, such as "the query"; they are of the class `wrong`. Raises `wrong` for what
    is no token.
    """

    def __init__(self, text: str, language: re.Pattern[str], what: str, wrong: type[RipeloopError]) -> None:
        self._what, self._wrong, self._at = what, wrong, 0
        self._tokens = list[tuple[str, str]]()
        at, text = 0, text.strip()
        while at < len(text):
            found = language.match(text, at)
            if found is None or found.lastgroup is None:
                raise wrong(f"{what} cannot be read at {text[at : at + 20]!r}")
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()

    def next(self) -> tuple[str, str]:
        """The kind and the text of the next one."""
        if self._at == len(self._tokens):
            raise self._wrong(f"{self._what} ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def took(self, *words: str) -> str:
        """The next token where it is one of `words`, which are upper case; else nothing is taken."""
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        if kind == "text" or text.upper() not in words:
            return ""
        self._at += 1
        return text.upper()

    def expect(self, word: str) -> None:
        """Take this word. Raises where another one stands there."""
        if not self.took(word):
            raise self._wrong(f"{self._what} lacks {word!r}")

    def end(self) -> None:
        """Raises where something is left."""
        if self._at < len(self._tokens):
            raise self._wrong(f"{self._what} has {self._tokens[self._at][1]!r} where it should end")
