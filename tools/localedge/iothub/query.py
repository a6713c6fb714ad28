"""IoT Hub's query language over twins, as far as fleets are asked: SELECT … FROM … WHERE … GROUP BY.

Text in, a function of JSON documents out. What is not there is undefined, and so is each comparison with it; only what
is true is found. Keywords have any case, names the case of the JSON.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from manifests.tokens import Tokens
from ripeloop.errors import Refused

DEVICES, MODULES = "devices", "devices.modules"
Document = Mapping[str, Any]
Read = Callable[[Document], Any]


class _Undefined:
    """The value of what is not there."""


UNDEFINED: Final = _Undefined()

_TOKEN = re.compile(
    r"""\s*(?: (?P<number>-?\d+(?:\.\d+)?)
             | (?P<text>'(?:''|[^'])*' | "(?:""|[^"])*")
             | (?P<name>[A-Za-z_$][\w$]*(?:\.(?:[A-Za-z_$][\w$]*|\[\[[^\]]+\]\]))*)
             | (?P<sign><=|>=|<>|!=|[=<>(),*\[\]]) )""",
    re.VERBOSE,
)
_STEP = re.compile(r"\[\[([^\]]+)\]\]|[^.\[\]]+")
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"SELECT", "FROM", "WHERE", "GROUP", "BY", "AND", "OR", "NOT", "IN", "NIN", "AS", "COUNT", "IS_DEFINED"}


@dataclass(frozen=True, slots=True)
class _Column:
    """One value of a row: at `path`, or the number of documents where there is no path."""

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query that was read; no columns mean the whole document."""

    source: str
    columns: tuple[_Column, ...]
    groups: tuple[str, ...]
    where: Read | None

    def finds(self, document: Document) -> bool:
        """Whether the WHERE is true of the document."""
        return self.where is None or self.where(document) is True

    def rows(self, documents: Iterable[Document]) -> list[dict[str, Any]]:
        """The rows of the answer, in the order of the documents, or of the first of each group."""
        found = [document for document in documents if self.finds(document)]
        if not self.columns:
            return [dict(document) for document in found]
        if self.groups or any(not column.path for column in self.columns):
            return [self._row(group) for group in self._grouped(found)]
        return [self._row([document]) for document in found]

    def _grouped(self, found: list[Document]) -> list[list[Document]]:
        groups: dict[str, list[Document]] = {}
        for document in found:
            groups.setdefault(repr([_at(document, path) for path in self.groups]), []).append(document)
        return list(groups.values()) if self.groups else [found]

    def _row(self, documents: list[Document]) -> dict[str, Any]:
        row = {}
        for column in self.columns:
            value = _at(documents[0], column.path) if column.path else len(documents)
            if value is not UNDEFINED:
                row[column.name] = value
        return row


def parse(text: str) -> Query:
    """The query in a text. Raises Refused with what cannot be read."""
    try:
        return _Parser(Tokens(text, _TOKEN, "the query", Refused)).query()
    except RecursionError:
        raise Refused("the query is nested too deeply") from None


def parse_target(condition: str) -> Query:
    """A module configuration's target condition, `FROM devices.modules WHERE …`. Raises Refused."""
    query = parse(f"SELECT * {condition}")
    if query.source != MODULES:
        raise Refused("the target condition of a module configuration begins with FROM devices.modules WHERE")
    return query


class _Parser:
    """Recursive descent, the loosest binding first."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def query(self) -> Query:
        self._tokens.expect("SELECT")
        columns = () if self._tokens.took("*") else self._columns()
        self._tokens.expect("FROM")
        source = self._name().lower()
        if source not in (DEVICES, MODULES):
            raise Refused(f"the query is FROM {source}; {DEVICES} and {MODULES} can be asked here")
        where = self._either() if self._tokens.took("WHERE") else None
        groups: tuple[str, ...] = ()
        if self._tokens.took("GROUP"):
            self._tokens.expect("BY")
            groups = tuple(_relative(name) for name in self._names())
        self._tokens.end()
        return Query(source, columns, groups, where)

    def _columns(self) -> tuple[_Column, ...]:
        columns = [self._column()]
        while self._tokens.took(","):
            columns.append(self._column())
        return tuple(columns)

    def _column(self) -> _Column:
        path, name = "", "count"
        if self._tokens.took("COUNT"):
            self._tokens.expect("(")
            self._tokens.expect(")")
        else:
            path = _relative(self._name())
            *_, last = _STEP.finditer(path)
            name = last[1] or last[0]
        return _Column(path, self._name() if self._tokens.took("AS") else name)

    def _names(self) -> list[str]:
        names = [self._name()]
        while self._tokens.took(","):
            names.append(self._name())
        return names

    def _either(self) -> Read:
        left = self._both()
        while self._tokens.took("OR"):
            left = _either(left, self._both())
        return left

    def _both(self) -> Read:
        left = self._not()
        while self._tokens.took("AND"):
            left = _negated(_either(_negated(left), _negated(self._not())))
        return left

    def _not(self) -> Read:
        return _negated(self._not()) if self._tokens.took("NOT") else self._comparison()

    def _comparison(self) -> Read:
        left = self._single()
        if sign := self._tokens.took("=", "!=", "<>", *_ORDERS):
            return _compared(sign, left, self._single())
        if word := self._tokens.took("IN", "NIN"):
            among = _among(left, self._list())
            return among if word == "IN" else _negated(among)
        return left

    def _list(self) -> list[Any]:
        self._tokens.expect("[")
        values: list[Any] = []
        while not self._tokens.took("]"):
            values.append(self._single()({}))
            self._tokens.took(",")
        return values

    def _single(self) -> Read:
        if self._tokens.took("("):
            inner = self._either()
            self._tokens.expect(")")
            return inner
        if self._tokens.took("IS_DEFINED"):
            self._tokens.expect("(")
            path = _relative(self._name())
            self._tokens.expect(")")
            return lambda document: _at(document, path) is not UNDEFINED
        kind, text = self._tokens.next()
        value: Any = UNDEFINED
        if kind == "number":
            value = float(text)
        elif kind == "text":
            value = text[1:-1].replace(text[0] * 2, text[0])
        elif kind == "name" and text.lower() in ("true", "false", "null"):
            value = {"true": True, "false": False, "null": None}[text.lower()]
        elif kind == "name" and text.upper() not in _WORDS:
            path = _relative(text)
            return lambda document: _at(document, path)
        else:
            raise Refused(f"the query has {text!r} where a value should be")
        return lambda _: value

    def _name(self) -> str:
        kind, text = self._tokens.next()
        if kind != "name" or text.upper() in _WORDS:
            raise Refused(f"the query has {text!r} where a name should be")
        return text


def _relative(name: str) -> str:
    """The path in the document; a name may begin with that of the collection."""
    for prefix in (f"{MODULES}.", f"{DEVICES}."):
        if name.lower().startswith(prefix):
            return name[len(prefix) :]
    return name


def _at(document: Any, path: str) -> Any:
    for found in _STEP.finditer(path):
        name = found[1] or found[0]
        if not isinstance(document, Mapping) or name not in document:
            return UNDEFINED
        document = document[name]
    return document


def _compared(sign: str, left: Read, right: Read) -> Read:
    def read(document: Document) -> Any:
        one, other = left(document), right(document)
        if one is UNDEFINED or other is UNDEFINED:
            return UNDEFINED
        if sign in ("=", "!=", "<>"):
            return _same(one, other) == (sign == "=")
        return _ORDERS[sign](one, other) if _can_be_ordered(one, other) else UNDEFINED

    return read


def _among(left: Read, values: list[Any]) -> Read:
    def read(document: Document) -> Any:
        one = left(document)
        return UNDEFINED if one is UNDEFINED else any(_same(one, value) for value in values)

    return read


def _either(left: Read, right: Read) -> Read:
    def read(document: Document) -> Any:
        values = (left(document), right(document))
        if True in values:
            return True
        return False if all(value is False for value in values) else UNDEFINED

    return read


def _negated(term: Read) -> Read:
    def read(document: Document) -> Any:
        value = term(document)
        return not value if isinstance(value, bool) else UNDEFINED

    return read


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _can_be_ordered(one: Any, other: Any) -> bool:
    if isinstance(one, str):
        return isinstance(other, str)
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
