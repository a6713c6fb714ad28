"""The WHERE of a route: text in, a function of the message out.

Only what is true lets a message pass. As in edge hub, application and system properties are text: comparing one with a
number is an error in the route, `as_number(name)` is the cure. `$body.…` has the type it has in the JSON, and is
defined only where the message says contentType application/json and contentEncoding utf-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from manifests import terms
from manifests.message import Message
from ripeloop.errors import SettingsError

_TOKEN = re.compile(
    r"""\s*(?: (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
             | (?P<text>'(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*")
             | (?P<sign><=|>=|<>|!=|\|\||\?\?|[=<>()+\-*/%,])
             | (?P<name>\{\$[A-Za-z_][\w.\[\]]*\} | \$?[A-Za-z_][\w.\[\]]*) )""",
    re.VERBOSE,
)


def compile_condition(text: str) -> Callable[[Message], bool]:
    """Whether a message meets the condition. Raises SettingsError for what edge hub would refuse."""
    parser = _Parser(_tokens(text))
    try:
        term = parser.coalesce()
    except RecursionError:
        raise SettingsError("the condition is nested too deeply") from None
    parser.end()
    return lambda message: term.read(message) is True


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at, text = [], 0, text.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise SettingsError(f"the condition cannot be read at {text[at : at + 20]!r}")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return tokens


class _Parser:
    """Recursive descent, the loosest binding first."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def coalesce(self) -> terms.Term:
        left = self._or()
        while self._took("??"):
            left = terms.coalesce(left, self._or())
        return left

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise SettingsError(f"the condition has {self._tokens[self._at][1]!r} where it should end")

    def _or(self) -> terms.Term:
        left = self._and()
        while self._took("OR"):
            left = terms.either(left, self._and())
        return left

    def _and(self) -> terms.Term:
        left = self._not()
        while self._took("AND"):
            left = terms.negate(terms.either(terms.negate(left), terms.negate(self._not())))
        return left

    def _not(self) -> terms.Term:
        if self._took("NOT"):
            return terms.negate(self._not())
        return self._comparison()

    def _comparison(self) -> terms.Term:
        left = self._sum()
        while sign := self._took(*terms.COMPARISONS):
            left = terms.compare(sign, left, self._sum())
        return left

    def _sum(self) -> terms.Term:
        left = self._product()
        while sign := self._took("+", "-", "||"):
            right = self._product()
            left = terms.call("concat", [left, right]) if sign == "||" else terms.calculate(sign, left, right)
        return left

    def _product(self) -> terms.Term:
        left = self._single()
        while sign := self._took("*", "/", "%"):
            left = terms.calculate(sign, left, self._single())
        return left

    def _single(self) -> terms.Term:
        if self._took("-"):
            return terms.calculate("-", terms.Term(lambda _: 0.0, terms.NUMBER), self._single())
        if self._took("("):
            inner = self.coalesce()
            self._expect(")")
            return inner
        kind, text = self._next()
        if kind == "number":
            number = float(text)
            return terms.Term(lambda _: number, terms.NUMBER)
        if kind == "text":
            plain = re.sub(r"\\(.)", r"\1", text[1:-1])
            return terms.Term(lambda _: plain, terms.TEXT)
        if kind == "name":
            return terms.call(text, self._arguments()) if self._took("(") else terms.named(text)
        raise SettingsError(f"the condition has {text!r} where a value should be")

    def _arguments(self) -> list[terms.Term]:
        arguments: list[terms.Term] = []
        if self._took(")"):
            return arguments
        arguments.append(self.coalesce())
        while self._took(","):
            arguments.append(self.coalesce())
        self._expect(")")
        return arguments

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise SettingsError("the condition ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _took(self, *words: str) -> str:
        """The next token where it is one of `words`, which are upper case."""
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        if kind == "text" or text.upper() not in words:
            return ""
        self._at += 1
        return text.upper()

    def _expect(self, sign: str) -> None:
        if not self._took(sign):
            raise SettingsError(f"the condition lacks a {sign!r}")
