"""What comes together in the grid: images that look alike and were judged alike, then others judged the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from retrain.label.asking.alike import LookAlikes
from retrain.label.asking.queue import GRID, Next, Queue
from retrain.label.container.cache import Found
from retrain.label.container.filters import Filters
from retrain.label.people import Person

GROUPS = 4  # for one screen; what is still free then is filled with others of the same suggestion


async def gathered(
    queue: Queue, alike: LookAlikes, person: Person, filters: Filters, have: Sequence[str], n: int
) -> tuple[Next, list[int]]:
    """Up to `n` samples for that person, leased, and how many of them make up each group of look-alikes, in order.

    The first is the one that comes next; what looks like it follows, the nearest first; then the next group. Others of
    the same suggestion fill the screen: each is a group of its own.
    """
    rows, left, sizes = list[Found](), 0, list[int]()
    for _ in range(GROUPS):
        group = await _group(queue, alike, person, filters, [*have, *_keys(rows)], n - len(rows))
        if not group.rows:
            break
        if not rows:
            left = group.left
            filters = replace(filters, tag=group.rows[0]["tag"])
        rows += group.rows
        sizes.append(len(group.rows))
        if len(rows) >= n:
            break
    if 0 < len(rows) < n and filters.tag:
        rest = await queue.next(person.name, person.admin, filters, GRID, [*have, *_keys(rows)], n - len(rows))
        rows += rest.rows
        sizes += [1] * len(rest.rows)
    return Next(rows, left), sizes


async def _group(
    queue: Queue, alike: LookAlikes, person: Person, filters: Filters, have: Sequence[str], n: int
) -> Next:
    seed = await queue.next(person.name, person.admin, filters, GRID, have, 1) if n > 0 else Next([], 0)
    if not seed.rows or n == 1:
        return seed
    keys = [key for key in await alike.of(seed.rows[0]) if key not in have][: n - 1]
    leased = {row["key"]: row for row in await queue.lease(keys, person.name, filters)}
    return Next([*seed.rows, *(leased[key] for key in keys if key in leased)], seed.left)


def _keys(rows: Sequence[Found]) -> list[str]:
    return [row["key"] for row in rows]
