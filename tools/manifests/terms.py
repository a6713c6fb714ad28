"""The parts a condition is made of: each reads a value from a message.

Values are text, numbers, true, false, null or undefined. What is undefined makes a comparison undefined.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from manifests.message import Message
from ripeloop.errors import SettingsError


class Undefined:
    """The value of what is not there."""


UNDEFINED: Final = Undefined()
TEXT, NUMBER, BOOL, ANY = "text", "a number", "true or false", "any"

Value = Any
Read = Callable[[Message], Value]


@dataclass(frozen=True, slots=True)
class Term:
    """A value to be read from a message."""

    read: Read
    kind: str = ANY
    """Its type, as far as the text alone tells."""


_STEP = re.compile(r"[^.\[\]]+")
COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
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


def named(text: str) -> Term:
    """A constant, a property, or a value in the body."""
    constants: dict[str, Value] = {"true": True, "false": False, "null": None, "undefined": UNDEFINED}
    if text.lower() in constants:
        value = constants[text.lower()]
        return Term(lambda _: value, BOOL if isinstance(value, bool) else ANY)
    plain = text.strip("{}")
    if plain.lower().startswith("$body."):
        steps = _STEP.findall(plain.partition(".")[2])
        return Term(lambda message: _body(message, steps))
    if text.startswith("{"):
        return Term(lambda message: message.system.get(plain[1:], UNDEFINED), TEXT)
    if text.startswith("$"):  # an application property of that very name comes first
        return Term(lambda message: message.properties.get(text, message.system.get(text[1:], UNDEFINED)), TEXT)
    return Term(lambda message: message.properties.get(text, UNDEFINED), TEXT)


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
        return UNDEFINED if isinstance(value, (dict, list)) else _as_number(value)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, OverflowError):
        return UNDEFINED


def compare(sign: str, left: Term, right: Term) -> Term:
    """A comparison. Raises SettingsError for two types that never compare."""
    kinds = {left.kind, right.kind} - {ANY}
    if len(kinds) > 1:
        raise SettingsError(
            f"the condition compares {' with '.join(sorted(kinds))}; properties are text, as_number(name) reads one"
        )
    decide = COMPARISONS[sign]

    def read(message: Message) -> Value:
        one, other = left.read(message), right.read(message)
        if type(one) is not type(other) or one is UNDEFINED:
            return UNDEFINED
        if one is None:
            return sign in ("=", "<=", ">=")
        return decide(one, other)

    return Term(read, BOOL)


def calculate(sign: str, left: Term, right: Term) -> Term:
    """Arithmetic. Raises SettingsError for what is no number."""
    if {left.kind, right.kind} - {ANY, NUMBER}:
        raise SettingsError(f"the condition's {sign!r} needs two numbers; as_number(name) reads a property as one")
    return Term(lambda message: _try(_ARITHMETIC[sign], left.read(message), right.read(message)), NUMBER)


def either(left: Term, right: Term) -> Term:
    """OR: undefined where neither is true and one is undefined. Raises SettingsError for what is no comparison."""
    _need_truth(left)
    _need_truth(right)

    def read(message: Message) -> Value:
        one, other = left.read(message), right.read(message)
        if one is True or other is True:
            return True
        return False if one is False and other is False else UNDEFINED

    return Term(read, BOOL)


def negate(term: Term) -> Term:
    """NOT. Raises SettingsError for what is no comparison."""
    _need_truth(term)

    def read(message: Message) -> Value:
        value = term.read(message)
        return not value if isinstance(value, bool) else UNDEFINED

    return Term(read, BOOL)


def coalesce(left: Term, right: Term) -> Term:
    """The first of two values that is defined."""

    def read(message: Message) -> Value:
        value = left.read(message)
        return right.read(message) if value is UNDEFINED else value

    return Term(read, left.kind if left.kind == right.kind else ANY)


def call(name: str, arguments: list[Term]) -> Term:
    """A function's value. Raises SettingsError for a function that is not served."""
    name = name.lower()
    if (test := _TESTS.get(name)) is not None and len(arguments) == 1:
        return Term(lambda message: test(arguments[0].read(message)), BOOL)
    count, kind, function = _FUNCTIONS.get(name, (-1, ANY, abs))
    if count != len(arguments):
        raise SettingsError(f"the condition calls {name}() with {len(arguments)} values, which is not served")
    return Term(lambda message: _try(function, *(argument.read(message) for argument in arguments)), kind)


def _try(function: Callable[..., Value], *values: Value) -> Value:
    """What `function` makes of the values; undefined where it cannot take them."""
    try:
        return _as_number(function(*values))
    except (TypeError, ValueError, ArithmeticError):
        return UNDEFINED


def _as_number(value: Value) -> Value:
    """Whole numbers as the one kind of number there is."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _need_truth(term: Term) -> None:
    if term.kind not in (BOOL, ANY):
        raise SettingsError(f"the condition joins {term.kind} with AND, OR or NOT, which need comparisons")
