"""What goes out in a day: what does not fit, what is larger than a day, and the days on which the clock is changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ripeloop.blobs import Blobs
from ripeloop.errors import Offline
from sampler.telling.steering import Steering
from sampler.uploading.gate import LATEST, budget_is_spent, carried, share
from sampler.uploading.ledger import day_begin
from sampler.uploading.window import window
from sampling import Site, site

__all__ = ["site"]

HEAD = 8  # bytes of a picture before those that a test asks for


class Line:
    """A way to the cloud on which nothing arrives, or to a store that does what a test says before each put."""

    def __init__(self, to: Blobs, before: Any) -> None:
        self._to = to
        self._before = before

    async def put(
        self, name: str, data: bytes, metadata: Mapping[str, str] | None = None, content_type: str = ""
    ) -> bool:
        self._before()
        return await self._to.put(name, data, metadata, content_type)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)


async def test_days_of_an_outage_with_a_budget_set_nothing_aside(site: Site) -> None:
    def broken() -> None:
        raise Offline("a proxy answers", kind="proxy")

    assert site.cloud is not None
    for n in range(2):
        await site.keep(n, size=1000)
    site.cloud = Line(site.cloud, broken)
    site.steering = Steering(bytes_per_day=3500, concurrency=1, hold_minutes=0)
    site.wall = datetime(2026, 11, 22, 12).astimezone()
    uploader = site.uploader()
    for _ in range(8):
        for _ in range(5):
            with suppress(Offline):
                await uploader.drain()
        site.wall += timedelta(days=1)
    assert {waiting.tries for waiting in site.outbox.due(datetime.now(UTC), 9)} == {0}
    assert site.outbox.counters().waiting == 2


async def test_what_does_not_fit_into_the_day_holds_up_nothing_and_has_its_turn_as_a_days_first(site: Site) -> None:
    site.wall = datetime(2026, 11, 22, 12).astimezone()
    first = await site.keep(0, size=100)
    oversized = await site.keep(1, size=5000)
    small = [await site.keep(n, size=100) for n in range(2, 6)]
    site.steering = Steering(bytes_per_day=2000, concurrency=1, hold_minutes=0)
    uploader = site.uploader()
    await uploader.drain()
    assert set(await site.in_cloud()) == {first.blob, *(one.blob for one in small)}
    closed = uploader.standing().closed
    assert closed is not None
    assert (closed.kind, closed.words[:24]) == ("budget", "images over a day's 2000")
    assert uploader.closed() is None  # what fits may go
    site.wall += timedelta(days=1)
    older = await site.keep(-1, size=100)
    await uploader.drain()
    assert {oversized.blob, older.blob} <= set(await site.in_cloud())
    assert uploader.standing().closed is None


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_images_larger_than_a_day_leave_half_of_each_day_to_the_others_and_pay_for_the_days_they_take(
    site: Site, concurrency: int
) -> None:
    site.wall = datetime(2026, 11, 22, 12).astimezone()
    site.steering = Steering(bytes_per_day=2000, concurrency=concurrency, hold_minutes=0)
    large = [
        await site.keep(n, size=5000 - HEAD) for n in range(120)
    ]  # before all others, and more than a drain may skip
    uploader = site.uploader()
    went = list[int]()
    for day in range(11):
        small = await site.keep(1000 + day, size=100)
        await uploader.drain()
        there = set(await site.in_cloud())
        assert small.blob in there, day
        went.append(sum(one.blob in there for one in large))
        assert uploader.sent_bytes <= 2000 * (day + 1) + 5100
        if day == 2:  # what is owed outlives a restart
            uploader = site.uploader()
        site.wall += timedelta(days=1)
    assert went == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]


async def test_what_a_large_image_owes_leaves_half_of_the_day_and_no_more(site: Site) -> None:
    site.wall = datetime(2026, 11, 22, 12).astimezone()
    site.steering = Steering(bytes_per_day=2000, concurrency=1, hold_minutes=0)
    large = await site.keep(0, size=5000)
    small = [await site.keep(n, size=300) for n in range(1, 8)]
    uploader = site.uploader()
    for day in (1, 2):
        await uploader.drain()
        there = set(await site.in_cloud())
        assert large.blob in there
        assert sum(one.blob in there for one in small) == 3 * day
        closed = uploader.closed()
        assert closed is not None
        assert closed.kind == "budget"
        site.wall += timedelta(days=1)


def test_an_image_over_a_days_bytes_is_paid_by_halves_of_days() -> None:
    assert (share(1500, 2000), carried(1500, 2000)) == (1500, [])
    assert (share(5000, 2000), carried(5000, 2000)) == (1000, [1000] * 4)
    assert (share(2100, 2000), carried(2100, 2000)) == (1000, [1000, 100])
    assert (share(9, 1), carried(9, 1)) == (1, [1] * 8)
    assert (share(5000, 0), carried(5000, 0)) == (5000, [])
    assert (share(10**6, 10), carried(10**6, 10)) == (5, [5] * LATEST)


async def test_a_flush_during_a_drain_is_for_what_the_drain_leaves(site: Site) -> None:
    assert site.cloud is not None
    asked: list[object] = []
    site.cloud = Line(site.cloud, lambda: asked or asked.append(uploader.flush()))
    site.steering = Steering(max_per_day=100, hold_minutes=24 * 60, concurrency=1)
    await site.keep(0)
    site.outbox.index.rows("SELECT 1")
    with site.outbox.index.change() as db:
        db.execute("UPDATE samples SET reason = 'audit', place = -3")
    await site.keep(1)
    uploader = site.uploader()
    await uploader.drain()
    assert (asked, len(await site.in_cloud())) == ([None], 1)
    await uploader.drain()
    assert len(await site.in_cloud()) == 2
    await site.keep(2)
    await uploader.drain()
    assert len(await site.in_cloud()) == 2  # the flush is over


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("now", "began", "ends", "opens"),
    [
        ((2027, 3, 28, 10), (2027, 3, 27, 23), (2027, 3, 28, 22), (2027, 3, 29, 2)),
        ((2027, 3, 27, 10), (2027, 3, 26, 23), (2027, 3, 27, 23), (2027, 3, 28, 2)),
        ((2026, 10, 25, 10), (2026, 10, 24, 22), (2026, 10, 25, 23), (2026, 10, 26, 3)),
        ((2026, 10, 24, 10), (2026, 10, 23, 22), (2026, 10, 24, 22), (2026, 10, 25, 3)),
    ],
)
def test_a_day_on_which_the_clock_is_changed_begins_and_ends_at_midnight(
    now: tuple[int, ...], began: tuple[int, ...], ends: tuple[int, ...], opens: tuple[int, ...]
) -> None:
    local = datetime(*now, tzinfo=UTC).astimezone()  # type: ignore[misc]
    assert day_begin(local) == datetime(*began, tzinfo=UTC)  # type: ignore[misc]
    assert budget_is_spent(Steering(), local).until == datetime(*ends, tzinfo=UTC)  # type: ignore[misc]
    hours = window("04:00-05:00")
    assert hours is not None
    assert hours.opens_at(local) == datetime(*opens, tzinfo=UTC)  # type: ignore[misc]
