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
from sampler.gate import budget_is_spent
from sampler.ledger import day_begin
from sampler.steering import Steering
from sampler.window import window
from test_sampler_upload import Site, site

__all__ = ["site"]


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
    closed = uploader.closed()
    assert closed is not None
    assert closed.kind == "budget"
    site.wall += timedelta(days=1)
    older = await site.keep(-1, size=100)
    await uploader.drain()
    assert oversized.blob in await site.in_cloud()
    assert older.blob not in await site.in_cloud()
    site.wall += timedelta(days=1)
    await uploader.drain()
    assert older.blob in await site.in_cloud()
    assert uploader.closed() is None


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
