"""The WHERE of a route: text in, a function of the message out.

Values are text, numbers, true, false, null or undefined. What is undefined makes a comparison undefined, and only what
is true lets a message pass. As in edge hub, application and system properties are text: comparing one with a number is
an error in the route, `as_number(name)` is the cure. `$body.…` has the type it has in the JSON, and is defined only
where the message says contentType application/json and contentEncoding utf-8.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from localedge.message import Message
from ripeloop.errors import SettingsError


class Undefined:
    """The value of what is not there."""


UNDEFINED: Final = Undefined()
TEXT, NUMBER, BOOL, ANY = "text", "a number", "true or false", "any"

Value = Any
Read = Callable[[Message], Value]


@dataclass(frozen=True, slots=True)
class _Term:
    read: Read
    kind: str = ANY


_TOKEN = re.compile(
    r"""\s*(?: (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
             | (?P<text>'(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*")
             | (?P<sign><=|>=|<>|!=|\|\||\?\?|[=<>()+\-*/%,])
             | (?P<name>\{\$[A-Za-z_][\w.\[\]]*\} | \$?[A-Za-z_][\w.\[\]]*) )""",
    re.VERBOSE,
)
_STEP = re.compile(r"[^.\[\]]+")
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
}
_FUNCTIONS: Final[Mapping[str, tuple[int, str, Callable[..., Value]]]] = {
    "abs": (1, NUMBER, abs),
    "ceiling": (1, NUMBER, math.ceil),
    "floor": (1, NUMBER, math.floor),
    "exp": (1, NUMBER, math.exp),
    "sqrt": (1, NUMBER, math.sqrt),
    "square": (1, NUMBER, lambda number: number * number),
    "sign": (1, NUMBER, lambda number: math.copysign(1, number) if number else 0.0),
    "power": (2, NUMBER, math.pow),
    "length": (1, NUMBER, len),
    "index_of": (2, NUMBER, str.find),
    "lower": (1, TEXT, str.lower),
    "upper": (1, TEXT, str.upper),
    "concat": (2, TEXT, operator.add),
    "starts_with": (2, BOOL, str.startswith),
    "ends_with": (2, BOOL, str.endswith),
    "contains": (2, BOOL, str.__contains__),
    "as_number": (1, NUMBER, float),
}
_TESTS: Final[Mapping[str, Callable[[Value], bool]]] = {
    "is_defined": lambda value: value is not UNDEFINED,
    "is_null": lambda value: value is None,
    "is_bool": lambda value: isinstance(value, bool),
    "is_number": lambda value: isinstance(value, float),
    "is_string": lambda value: isinstance(value, str),
}


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

    def coalesce(self) -> _Term:
        left = self._or()
        while self._took("??"):
            left = _coalesce(left, self._or())
        return left

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise SettingsError(f"the condition has {self._tokens[self._at][1]!r} where it should end")

    def _or(self) -> _Term:
        left = self._and()
        while self._took("OR"):
            left = _either(left, self._and())
        return left

    def _and(self) -> _Term:
        left = self._not()
        while self._took("AND"):
            left = _negate(_either(_negate(left), _negate(self._not())))
        return left

    def _not(self) -> _Term:
        if self._took("NOT"):
            return _negate(self._not())
        return self._comparison()

    def _comparison(self) -> _Term:
        left = self._sum()
        while sign := self._took(*_COMPARE):
            left = _compare(sign, left, self._sum())
        return left

    def _sum(self) -> _Term:
        left = self._product()
        while sign := self._took("+", "-", "||"):
            right = self._product()
            left = _call("concat", [left, right]) if sign == "||" else _calculate(sign, left, right)
        return left

    def _product(self) -> _Term:
        left = self._single()
        while sign := self._took("*", "/", "%"):
            left = _calculate(sign, left, self._single())
        return left

    def _single(self) -> _Term:
        if self._took("-"):
            return _calculate("-", _Term(lambda _: 0.0, NUMBER), self._single())
        if self._took("("):
            inner = self.coalesce()
            self._expect(")")
            return inner
        kind, text = self._next()
        if kind == "number":
            number = float(text)
            return _Term(lambda _: number, NUMBER)
        if kind == "text":
            plain = re.sub(r"\\(.)", r"\1", text[1:-1])
            return _Term(lambda _: plain, TEXT)
        if kind == "name":
            return _call(text, self._arguments()) if self._took("(") else _name(text)
        raise SettingsError(f"the condition has {text!r} where a value should be")

    def _arguments(self) -> list[_Term]:
        arguments: list[_Term] = []
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


def _name(text: str) -> _Term:
    constants: dict[str, Value] = {"true": True, "false": False, "null": None, "undefined": UNDEFINED}
    if text.lower() in constants:
        value = constants[text.lower()]
        return _Term(lambda _: value, BOOL if isinstance(value, bool) else ANY)
    plain = text.strip("{}")
    if plain.lower().startswith("$body."):
        steps = _STEP.findall(plain.partition(".")[2])
        return _Term(lambda message: _body(message, steps))
    if text.startswith("{"):
        return _Term(lambda message: message.system.get(plain[1:], UNDEFINED), TEXT)
    if text.startswith("$"):  # an application property of that very name comes first
        return _Term(lambda message: message.properties.get(text, message.system.get(text[1:], UNDEFINED)), TEXT)
    return _Term(lambda message: message.properties.get(text, UNDEFINED), TEXT)


def _body(message: Message, steps: list[str]) -> Value:
    if (
        message.system.get("contentType", "").partition(";")[0].strip().lower() != "application/json"
        or message.system.get("contentEncoding", "").lower() != "utf-8"
    ):
        return UNDEFINED
    try:
        value = json.loads(message.body)
        for step in steps:
            value = value[int(step)] if isinstance(value, list) else value[step]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return UNDEFINED
    if isinstance(value, (dict, list)):
        return UNDEFINED
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _compare(sign: str, left: _Term, right: _Term) -> _Term:
    kinds = {left.kind, right.kind} - {ANY}
    if len(kinds) > 1:
        raise SettingsError(
            f"the condition compares {' with '.join(sorted(kinds))}; properties are text, as_number(name) reads one"
        )
    decide = _COMPARE[sign]

    def read(message: Message) -> Value:
        one, other = left.read(message), right.read(message)
        if type(one) is not type(other) or one is UNDEFINED:
            return UNDEFINED
        if one is None:
            return sign in ("=", "<=", ">=")
        return decide(one, other)

    return _Term(read, BOOL)


def _calculate(sign: str, left: _Term, right: _Term) -> _Term:
    if {left.kind, right.kind} - {ANY, NUMBER}:
        raise SettingsError(f"the condition's {sign!r} needs two numbers; as_number(name) reads a property as one")
    return _Term(lambda message: _try(_ARITHMETIC[sign], left.read(message), right.read(message)), NUMBER)


def _either(left: _Term, right: _Term) -> _Term:
    for term in (left, right):
        if term.kind not in (BOOL, ANY):
            raise SettingsError(f"the condition joins {term.kind} with AND, OR or NOT, which need comparisons")

    def read(message: Message) -> Value:
        one, other = left.read(message), right.read(message)
        if one is True or other is True:
            return True
        return False if one is False and other is False else UNDEFINED

    return _Term(read, BOOL)


def _negate(term: _Term) -> _Term:
    if term.kind not in (BOOL, ANY):
        raise SettingsError(f"the condition joins {term.kind} with AND, OR or NOT, which need comparisons")

    def read(message: Message) -> Value:
        value = term.read(message)
        return not value if isinstance(value, bool) else UNDEFINED

    return _Term(read, BOOL)


def _coalesce(left: _Term, right: _Term) -> _Term:
    def read(message: Message) -> Value:
        value = left.read(message)
        return right.read(message) if value is UNDEFINED else value

    return _Term(read, left.kind if left.kind == right.kind else ANY)


def _call(name: str, arguments: list[_Term]) -> _Term:
    name = name.lower()
    if (test := _TESTS.get(name)) is not None and len(arguments) == 1:
        return _Term(lambda message: test(arguments[0].read(message)), BOOL)
    count, kind, function = _FUNCTIONS.get(name, (-1, ANY, abs))
    if count != len(arguments):
        raise SettingsError(f"the condition calls {name}() with {len(arguments)} values, which is not served")
    return _Term(lambda message: _try(function, *(argument.read(message) for argument in arguments)), kind)


def _try(function: Callable[..., Value], *values: Value) -> Value:
    """What `function` makes of the values; undefined where it cannot take them."""
    try:
        result = function(*values)
    except (TypeError, ValueError, ArithmeticError):
        return UNDEFINED
    return float(result) if isinstance(result, int) and not isinstance(result, bool) else result
