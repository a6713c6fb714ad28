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
from manifests.tokens import Tokens
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
    parser = _Parser(Tokens(text, _TOKEN, "the condition", SettingsError))
    try:
        term = parser.coalesce()
    except RecursionError:
        raise SettingsError("the condition is nested too deeply") from None
    parser.end()
    return lambda message: term.read(message) is True


class _Parser:
    """Recursive descent, the loosest binding first."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def coalesce(self) -> terms.Term:
        left = self._or()
        while self._tokens.took("??"):
            left = terms.coalesce(left, self._or())
        return left

    def end(self) -> None:
        self._tokens.end()

    def _or(self) -> terms.Term:
        left = self._and()
        while self._tokens.took("OR"):
            left = terms.either(left, self._and())
        return left

    def _and(self) -> terms.Term:
        left = self._not()
        while self._tokens.took("AND"):
            left = terms.negate(terms.either(terms.negate(left), terms.negate(self._not())))
        return left

    def _not(self) -> terms.Term:
        if self._tokens.took("NOT"):
            return terms.negate(self._not())
        return self._comparison()

    def _comparison(self) -> terms.Term:
        left = self._sum()
        while sign := self._tokens.took(*terms.COMPARISONS):
            left = terms.compare(sign, left, self._sum())
        return left

    def _sum(self) -> terms.Term:
        left = self._product()
        while sign := self._tokens.took("+", "-", "||"):
            right = self._product()
            left = terms.call("concat", [left, right]) if sign == "||" else terms.calculate(sign, left, right)
        return left

    def _product(self) -> terms.Term:
        left = self._single()
        while sign := self._tokens.took("*", "/", "%"):
            left = terms.calculate(sign, left, self._single())
        return left

    def _single(self) -> terms.Term:
        if self._tokens.took("-"):
            return terms.calculate("-", terms.Term(lambda _: 0.0, terms.NUMBER), self._single())
        if self._tokens.took("("):
            inner = self.coalesce()
            self._tokens.expect(")")
            return inner
        kind, text = self._tokens.next()
        if kind == "number":
            number = float(text)
            return terms.Term(lambda _: number, terms.NUMBER)
        if kind == "text":
            plain = re.sub(r"\\(.)", r"\1", text[1:-1])
            return terms.Term(lambda _: plain, terms.TEXT)
        if kind == "name":
            return terms.call(text, self._arguments()) if self._tokens.took("(") else terms.named(text)
        raise SettingsError(f"the condition has {text!r} where a value should be")

    def _arguments(self) -> list[terms.Term]:
        arguments: list[terms.Term] = []
        if self._tokens.took(")"):
            return arguments
        arguments.append(self.coalesce())
        while self._tokens.took(","):
            arguments.append(self.coalesce())
        self._tokens.expect(")")
        return arguments
