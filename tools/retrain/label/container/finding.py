"""Finds samples in an order, by filters, from a place on: down an index, however many samples there are.

A cell is a device, a reason and a tag; how many samples it holds is counted. A filter that leaves few cells is answered
cell by cell, each from its own stretch of an index, and what comes first of all of them is taken. One that leaves many
is answered along the whole order, where what is wanted cannot be rare.
"""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from retrain.label.container.cache import Found, Look
from retrain.label.container.filters import CELLS, NEWEST, OLDEST, USEFUL, Filters
from retrain.label.container.rows import whole

MOST_CELLS = 200
MOST = 1 << 63
FEW = 10_000  # rows that the database puts in order quickly

Place = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """One more that every row has to meet: SQL about `samples`, and its values. Ours alone, never a person's words."""

    sql: str = ""
    values: tuple[Any, ...] = ()

    def __and__(self, other: Condition) -> Condition:
        return Condition(self.sql + other.sql, self.values + other.values)


def condition(sql: str, *values: Any) -> Condition:
    """AND this."""
    return Condition(f" AND {sql}", values)


def count(look: Look, filters: Filters, states: Sequence[str]) -> int:
    """About how many there are: days are not counted."""
    row = look.row(f"SELECT ifnull(sum(n), 0) AS n {_counted(filters, states)}", _counted_values(filters, states))
    return int(row["n"]) if row else 0


def find(
    look: Look, filters: Filters, states: Sequence[str], also: Condition, most: int, after: Place | None = None
) -> list[Found]:
    """Up to `most` rows that come after the place `after`, in the order the filters say."""
    also = also & _days(filters)
    if filters.by:
        return _along(
            look, "samples_by", condition("by <> '' AND by = ?", filters.by) & _rest(filters, states, also), most, after
        )
    if filters.said:
        return _along(
            look,
            "samples_said",
            condition("said <> '' AND said = ?", filters.said) & _rest(filters, states, also),
            most,
            after,
        )
    if filters.order in (USEFUL, NEWEST, OLDEST) and not filters.cell:
        cells = None
    elif not (cells := _cells(look, filters, states)):
        return []
    if filters.order in (NEWEST, OLDEST):
        return _by_time(look, filters, states, cells, also, most, after)
    if filters.order == USEFUL:
        return _useful(look, filters, states, cells, also, most, after)
    return _by_word(look, CELLS.index(filters.order), cells or [], also, most, after)


def place_of(row: Found, filters: Filters) -> Place:
    """Where a row stands in that order: what comes next comes after it."""
    if filters.by or filters.said or filters.order == USEFUL:
        return row["place"], row["seq"]
    if filters.order in (NEWEST, OLDEST):
        return row["captured_at"], row["seq"]
    return row[filters.order], row["place"], row["seq"]


def to_cursor(place: Place) -> str:
    """A place as it stands in an address."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def from_cursor(text: str, filters: Filters) -> Place | None:
    """The place in an address; None for none, or for what is no place in this order."""
    try:
        place = tuple(json.loads(base64.urlsafe_b64decode(text.encode())))
    except (ValueError, TypeError, RecursionError):
        return None
    kinds: tuple[type | tuple[type, ...], ...] = ((int, float), int)
    if not filters.by and not filters.said and filters.order != USEFUL:
        kinds = (str, int) if filters.order in (NEWEST, OLDEST) else (str, (int, float), int)
    fits = len(place) == len(kinds) and all(_is(one, kind) for one, kind in zip(place, kinds, strict=True))
    return place if fits else None


def _is(value: object, kind: type | tuple[type, ...]) -> bool:
    """Whether it is of that kind, and one that a database takes: a whole number of 64 bits, a word that is text."""
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    if isinstance(value, int):
        return -MOST <= value < MOST
    return not isinstance(value, str) or value == whole(value)


def residual(filters: Filters) -> Condition:
    """What every row has to meet of device, reason, tag and days."""
    return _in_cell(filters) & _days(filters)


Cell = tuple[str, str, str, str]
"""State, device, reason, tag."""
Cells = list[tuple[Cell, int]]


def _cells(look: Look, filters: Filters, states: Sequence[str]) -> Cells:
    """The cells that hold something, with how much."""
    query = (
        f"SELECT state, device, reason, tag, sum(n) AS n {_counted(filters, states)} "
        "GROUP BY state, device, reason, tag HAVING sum(n) > 0"
    )
    rows = look.rows(query, _counted_values(filters, states))
    return [((row["state"], row["device"], row["reason"], row["tag"]), row["n"]) for row in rows]


def _counted(filters: Filters, states: Sequence[str]) -> str:
    return f"FROM counts WHERE state IN ({_marks(states)})" + "".join(f" AND {name} = ?" for name in filters.cell)


def _counted_values(filters: Filters, states: Sequence[str]) -> tuple[str, ...]:
    return (*states, *filters.cell.values())


def _useful(
    look: Look, filters: Filters, states: Sequence[str], cells: Cells | None, also: Condition, most: int,
    after: Place | None,
) -> list[Found]:  # fmt: skip
    if _is_few(look, states, _days(filters)):
        stretches = [_stretch("samples_by_time", condition("state = ?", state)) for state in states]
        also = also & _in_cell(filters)
    elif cells is None or len(cells) > MOST_CELLS:
        stretches = [_stretch("samples_useful", condition("state = ?", state)) for state in states]
        also = also & _in_cell(filters)
    else:
        stretches = [_cell_stretch(cell) for cell, _ in cells]
    return _merged(look, stretches, also, most, after, _useful_place)


def _by_word(look: Look, nth: int, cells: Cells, also: Condition, most: int, after: Place | None) -> list[Found]:
    """By device, reason or tag, and by usefulness where that is the same."""
    found = list[Found]()
    for word in sorted({cell[1 + nth] for cell, _ in cells}):
        if after is not None and word < after[0]:
            continue
        stretches = [_cell_stretch(cell) for cell, _ in cells if cell[1 + nth] == word]
        inside = after[1:] if after is not None and word == after[0] else None
        found += _merged(look, stretches, also, most - len(found), inside, _useful_place)
        if len(found) >= most:
            break
    return found


def _by_time(
    look: Look, filters: Filters, states: Sequence[str], cells: Cells | None, also: Condition, most: int,
    after: Place | None,
) -> list[Found]:  # fmt: skip
    newest = filters.order == NEWEST
    way, sign = ("DESC", "<") if newest else ("ASC", ">")
    if after is not None:
        also = also & condition(f"(captured_at, seq) {sign} (?, ?)", *after)
    if cells is not None and sum(n for _, n in cells) <= FEW and len(cells) <= MOST_CELLS:
        stretches = [_cell_stretch(cell) for cell, _ in cells]
    else:
        stretches = [_stretch("samples_by_time", condition("state = ?", state)) for state in states]
        also = also & _in_cell(filters)
    found = list[Found]()
    for stretch in stretches:
        found += _rows(look, stretch, also, f"ORDER BY captured_at {way}, seq {way}", most)
    return sorted(found, key=_time_place, reverse=newest)[:most]


def _along(look: Look, index: str, wanted: Condition, most: int, after: Place | None) -> list[Found]:
    if after is not None:
        wanted = wanted & condition("(place, seq) > (?, ?)", *after)
    return _rows(look, _stretch(index, Condition()), wanted, "ORDER BY place, seq", most)


def _rest(filters: Filters, states: Sequence[str], also: Condition) -> Condition:
    return condition(f"state IN ({_marks(states)})", *states) & _in_cell(filters) & also


@dataclass(frozen=True, slots=True)
class _Stretch:
    index: str
    wanted: Condition


def _stretch(index: str, wanted: Condition) -> _Stretch:
    return _Stretch(index, wanted)


def _cell_stretch(cell: Cell) -> _Stretch:
    return _Stretch("samples_in_cells", condition("state = ? AND device = ? AND reason = ? AND tag = ?", *cell))


def _merged(
    look: Look, stretches: Sequence[_Stretch], also: Condition, most: int, after: Place | None,
    place: Callable[[Found], Place],
) -> list[Found]:  # fmt: skip
    """What comes first of all stretches: each gives as many as are wanted at most."""
    if after is not None:
        also = also & condition("(place, seq) > (?, ?)", *after)
    found = list[Found]()
    for stretch in stretches:
        found += _rows(look, stretch, also, "ORDER BY place, seq", most)
    return heapq.nsmallest(most, found, place)


def _rows(look: Look, stretch: _Stretch, also: Condition, order: str, most: int) -> list[Found]:
    wanted = stretch.wanted & also
    query = f"SELECT * FROM samples INDEXED BY {stretch.index} WHERE 1{wanted.sql} {order} LIMIT {most:d}"  # noqa: S608
    return look.rows(query, wanted.values)


def _is_few(look: Look, states: Sequence[str], days: Condition) -> bool:
    """Whether these days hold so few samples that they can be put in order for each question."""
    if not days.sql:
        return False
    wanted = condition(f"state IN ({_marks(states)})", *states) & days
    row = look.row(
        f"SELECT count(*) AS n FROM (SELECT 1 FROM samples INDEXED BY samples_by_time WHERE 1{wanted.sql} "  # noqa: S608
        f"LIMIT {FEW + 1})",
        wanted.values,
    )
    return row is not None and row["n"] <= FEW


def _in_cell(filters: Filters) -> Condition:
    wanted = Condition()
    for name, word in filters.cell.items():
        wanted = wanted & condition(f"+{name} = ?", word)
    return wanted


def _days(filters: Filters) -> Condition:
    begin, end = filters.moments
    wanted = condition("captured_at >= ?", begin) if begin else Condition()
    return wanted & condition("captured_at < ?", end) if end else wanted


def _useful_place(row: Found) -> Place:
    return row["place"], row["seq"]


def _time_place(row: Found) -> Place:
    return row["captured_at"], row["seq"]


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
