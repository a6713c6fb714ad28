"""Who sees which image next: leased to one person at a time, a second person asked of some, known ones mixed in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import SystemRandom

from retrain.label.answering.writing import CHECK, DECIDE, FIRST
from retrain.label.container import finding
from retrain.label.container.cache import Cache, Found, Look
from retrain.label.container.filters import LABEL_STATE, REVIEW_STATE, USEFUL, Filters
from retrain.label.container.finding import Condition, condition
from retrain.label.container.rows import SHUFFLED
from retrain.label.container.samples import with_answers

LABEL, GRID, REVIEW, BROWSE = "label", "grid", "review", "browse"
MODES = (LABEL, GRID, REVIEW)

NOBODY = ""
"""Who leases what has an answer that waits."""
HELD_SECONDS = 24 * 3600.0
"""So long, at most."""

Chance = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pace:
    """`overlap` and `known`: shares of all images shown, 0 to 1. Leases and skips last so many seconds."""

    overlap: float
    known: float
    lease_seconds: float
    skip_seconds: float


@dataclass(frozen=True, slots=True)
class Next:
    """What to show: the rows, each with `asked` (why it is shown) and its answers; about how many are `left`."""

    rows: list[Found]
    left: int


class Queue:
    """Gives samples out. `chance` draws from [0, 1): whether this one is a second opinion, or one that is known."""

    def __init__(self, cache: Cache, pace: Pace, chance: Chance = SystemRandom().random) -> None:
        self._cache, self._pace, self._chance = cache, pace, chance

    async def begin(self) -> None:
        """After a start: what was leased for longer than anybody leases was leased by a clock that was wrong."""
        await self._cache.change(_shorten, time.time(), self._pace)

    async def next(self, person: str, admin: bool, filters: Filters, mode: str, have: Sequence[str], n: int) -> Next:
        """Up to `n` samples for that person, leased; those they `have` keep their lease and are not given again."""
        return await self._cache.change(self._next, _Asker(person, admin, tuple(have)), filters, mode, n)

    async def lease(self, keys: Sequence[str], person: str, filters: Filters = Filters()) -> list[Found]:
        """Those of `keys` that nobody else has and the filters leave, leased now."""
        return await self._cache.change(self._lease_keys, tuple(keys), person, filters)

    async def release(self, keys: Sequence[str], person: str) -> None:
        """Free for others."""
        await self._cache.change(_release, tuple(keys), person)

    async def skip(self, key: str, person: str) -> None:
        """Not for that person for a while, and free for others."""
        await self._cache.change(_skip, key, person, time.time() + self._pace.skip_seconds)

    def _next(self, look: Look, asker: _Asker, filters: Filters, mode: str, n: int) -> Next:
        now = time.time()
        look.run("DELETE FROM leases WHERE until < ?", (now,))
        states = filters.states(REVIEW_STATE if mode == REVIEW else LABEL_STATE)
        free = _free(asker, now)
        if mode == REVIEW:
            if not asker.admin:
                free = free & _not_by(asker.name)
            rows = [row | {"asked": DECIDE} for row in finding.find(look, filters, states, free, n)]
        else:
            filters, states = _still_open(filters), (LABEL_STATE,)
            rows = self._to_label(look, asker, filters, free, n, now, alone=mode == GRID)
        until = now + self._pace.lease_seconds
        look.run_all(
            "UPDATE leases SET until = ? WHERE key = ? AND person = ?", [(until, key, asker.name) for key in asker.have]
        )
        _lease(look, [row["key"] for row in rows], asker.name, until)
        return Next(with_answers(look, rows), finding.count(look, filters, states))

    def _to_label(
        self, look: Look, asker: _Asker, filters: Filters, free: Condition, n: int, now: float, *, alone: bool
    ) -> list[Found]:
        """`alone`: nothing but what nobody answered."""
        draws = [1.0 if alone else self._chance() for _ in range(n)]
        # in another order one that is out of it would show that its answer is known
        knowns = sum(draw < self._pace.known for draw in draws) if filters.order == USEFUL else 0
        # twice the share: of those, half have to wait for somebody else's first answer
        seconds = sum(self._pace.known <= draw < self._pace.known + 2 * self._pace.overlap for draw in draws)
        unskipped = free & _not_skipped(asker.name, now)
        rows = _second(look, asker.name, filters, unskipped, seconds)
        rows += finding.find(look, filters, (LABEL_STATE,), unskipped, n - len(rows))
        if len(rows) < n and not alone:
            rows += _second(look, asker.name, filters, unskipped & _not_among(rows), n - len(rows))
        if len(rows) < n:  # what was skipped comes again when nothing else is left
            rows += finding.find(look, filters, (LABEL_STATE,), free & _not_among(rows), n - len(rows))
        rows = [row | {"asked": FIRST} for row in rows]
        for known in _known(look, asker.name, filters, free, min(knowns, len(rows)), self._chance()):
            rows[int(self._chance() * len(rows))] = known | {"asked": CHECK}
        return _once(rows)

    def _lease_keys(self, look: Look, keys: tuple[str, ...], person: str, filters: Filters) -> list[Found]:
        now = time.time()
        free = _free(_Asker(person, admin=False, have=()), now) & condition(f"key IN ({_marks(keys)})", *keys)
        free = free & finding.residual(filters)
        rows = look.rows(f"SELECT * FROM samples WHERE 1{free.sql}", free.values)  # noqa: S608
        _lease(look, [row["key"] for row in rows], person, now + self._pace.lease_seconds)
        return with_answers(look, [row | {"asked": FIRST} for row in rows])


@dataclass(frozen=True, slots=True)
class _Asker:
    name: str
    admin: bool
    have: tuple[str, ...]


def _still_open(filters: Filters) -> Filters:
    """The filters of what is still to label: who said what does not matter there."""
    return Filters(filters.order, filters.device, filters.reason, filters.tag, filters.begin, filters.end)


def _free(asker: _Asker, now: float) -> Condition:
    """Leased to nobody else, and not on that person's screen."""
    leased = condition(
        "NOT EXISTS (SELECT 1 FROM leases WHERE leases.key = samples.key AND leases.until >= ? AND leases.person <> ?)",
        now,
        asker.name,
    )
    return leased & (condition(f"key NOT IN ({_marks(asker.have)})", *asker.have) if asker.have else Condition())


def _not_skipped(person: str, now: float) -> Condition:
    return condition(
        "NOT EXISTS (SELECT 1 FROM skips WHERE skips.person = ? AND skips.key = samples.key AND skips.until >= ?)",
        person,
        now,
    )


def _not_by(person: str) -> Condition:
    return condition("NOT EXISTS (SELECT 1 FROM answers WHERE answers.seq = samples.seq AND answers.by = ?)", person)


def _not_among(rows: Sequence[Found]) -> Condition:
    keys = [row["key"] for row in rows]
    return condition(f"key NOT IN ({_marks(keys)})", *keys) if keys else Condition()


def _second(look: Look, person: str, filters: Filters, free: Condition, n: int) -> list[Found]:
    """What somebody else has answered alone and a second person is wanted for."""
    found, other = list[Found](), ""
    wanted = free & finding.residual(filters)
    while len(found) < n:
        row = look.row("SELECT min(asks) AS asks FROM samples WHERE asks > ? AND asks <> ''", (other,))
        if row is None or row["asks"] is None:
            break
        other = row["asks"]
        if other != person:
            query = (
                f"SELECT * FROM samples INDEXED BY samples_second WHERE asks = ? AND asks <> ''{wanted.sql} "  # noqa: S608
                f"ORDER BY place, seq LIMIT {n - len(found):d}"
            )
            found += look.rows(query, (other, *wanted.values))
    return found


def _known(look: Look, person: str, filters: Filters, free: Condition, n: int, start: float) -> list[Found]:
    """Samples whose answer is certain, that this person has not answered, from a drawn place on."""
    if n <= 0:
        return []
    wanted = free & finding.residual(filters) & _not_by(person)
    query = (
        "SELECT * FROM samples INDEXED BY samples_settled WHERE settled = 1 AND shuffle >= ? AND shuffle < ?"  # noqa: S608
        f"{wanted.sql} ORDER BY shuffle LIMIT {n:d}"
    )
    middle = int(start * SHUFFLED)
    return (
        look.rows(query, (middle, SHUFFLED, *wanted.values))
        or look.rows(query, (0, middle, *wanted.values))
    )  # fmt: skip


def _lease(look: Look, keys: Sequence[str], person: str, until: float) -> None:
    look.run_all(
        "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET until = excluded.until "
        "WHERE person = excluded.person",
        [(key, person, until) for key in keys],
    )


def _shorten(look: Look, now: float, pace: Pace) -> None:
    most = (now + HELD_SECONDS, now + pace.lease_seconds)
    look.run("DELETE FROM leases WHERE until > CASE person WHEN '' THEN ? ELSE ? END", most)
    look.run("DELETE FROM skips WHERE until > ?", (now + pace.skip_seconds,))


def hold(look: Look, key: str, person: str, until: float) -> None:
    """Nobody's turn: that person's answer is kept, and waits for the store."""
    look.run("DELETE FROM leases WHERE key = ? AND person = ?", (key, person))
    look.run("INSERT OR IGNORE INTO leases VALUES (?, ?, ?)", (key, NOBODY, until))


def let_go(look: Look, key: str, person: str) -> None:
    """That person is done with it, and no answer waits."""
    look.run("DELETE FROM leases WHERE key = ? AND person IN (?, ?)", (key, person, NOBODY))


def _release(look: Look, keys: Sequence[str], person: str) -> None:
    look.run_all("DELETE FROM leases WHERE key = ? AND person = ?", [(key, person) for key in keys])


def _skip(look: Look, key: str, person: str, until: float) -> None:
    _release(look, (key,), person)
    look.run("INSERT OR REPLACE INTO skips VALUES (?, ?, ?)", (person, key, until))


def _once(rows: Sequence[Found]) -> list[Found]:
    return list({row["key"]: row for row in rows}.values())


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))
