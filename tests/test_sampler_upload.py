"""Uploading, on a real index and real stores: once each, in order, within its limits, whatever the line does."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from azurite import Azurite, running_azurite
from ripeloop.blobs import Blobs, FolderBlobs, open_blobs
from ripeloop.errors import Denied, Offline
from ripeloop.prediction import Flagged, image_id
from sampler.telling.steering import Steering
from sampler.uploading.cloud import Cloud
from sampler.uploading.gate import fits, reason_to_wait
from sampler.uploading.ledger import Ledger, day_begin, local_now
from sampler.uploading.pace import Pace
from sampler.uploading.patience import Patience
from sampler.uploading.pause import Pause
from sampler.uploading.upload import Uploader
from sampler.uploading.window import reason_to_refuse_window, window
from sampling import SOON, Site, picture, running, site, until

__all__ = ["site"]


@asynccontextmanager
async def a_line(cut: Callable[[bytes], bool]) -> AsyncIterator[str]:
    """The address of a blob server that cuts the connection at bodies that `cut` names, and takes all others."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:] if line)
                if cut(await reader.readexactly(int(fields["content-length"]))):
                    break
                writer.write(b'HTTP/1.1 201 Created\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"BlobEndpoint=http://127.0.0.1:{port}/a;AccountName=a;AccountKey=a2V5"
    finally:
        server.close()


# -- once each


async def test_what_is_kept_reaches_the_cloud_once_with_its_record(site: Site) -> None:
    samples = [await site.keep(n) for n in range(120)]
    uploader = site.uploader()
    assert not uploader.online
    await uploader.drain()
    assert uploader.online
    assert await site.in_cloud() == sorted(one.blob for one in samples)
    assert site.cloud is not None
    async for blob in site.cloud.list():
        assert blob.metadata["reason"] == "low_confidence"
        assert blob.metadata["device"] == "line-1"
        assert image_id(await site.cloud.get(blob.name)) == blob.metadata["id"]
    counters = site.outbox.counters()
    assert (counters.uploaded, counters.waiting) == (120, 0)
    assert counters.uploaded_bytes == sum(one.size for one in samples) == uploader.sent_bytes


async def test_uploading_can_be_switched_off_and_on(site: Site) -> None:
    site.steering = Steering(upload_on=False)
    await site.keep(1)
    async with running(site.uploader().run()):
        await asyncio.sleep(0.1)
        assert await site.in_cloud() == []
        site.steering = Steering()
        await until(lambda: site.outbox.counters().uploaded == 1)


async def test_without_a_cloud_everything_waits_until_there_is_one(site: Site) -> None:
    cloud, site.cloud = site.cloud, None
    await site.keep(1)
    there = Cloud()
    uploader = Uploader(
        site.outbox, site.spool, site.local, there, steering=lambda: site.steering, patience=replace(SOON, idle=60)
    )
    async with running(uploader.run()):
        await asyncio.sleep(0.05)
        closed = uploader.closed()
        assert closed is not None
        assert closed.kind == "no_cloud"
        assert site.outbox.counters().waiting == 1

        @asynccontextmanager
        async def opening() -> AsyncIterator[Blobs]:
            assert cloud is not None
            yield cloud

        await there.become(opening)
        uploader.hurry()
        await until(lambda: site.outbox.counters().uploaded == 1)


async def test_a_store_that_is_replaced_stays_open_for_those_who_use_it(tmp_path: Path) -> None:
    closed: list[str] = []

    def opening(name: str) -> Callable[[], Any]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Blobs]:
            yield FolderBlobs(tmp_path / name)
            closed.append(name)

        return opened

    cloud = Cloud()
    await cloud.become(opening("old"))
    async with cloud.store() as old:
        await cloud.become(opening("new"))
        assert closed == []
        await old.put("a", b"a")
    assert closed == ["old"]
    async with cloud.store() as new:
        assert [blob async for blob in new.list()] == []
    await cloud.close()
    assert closed == ["old", "new"]


async def test_a_lost_local_blob_is_replaced_from_the_spool(site: Site) -> None:
    one = await site.keep(1)
    site.spool.put(Flagged(one.id, one.captured_at, one.reason, one.predictions), picture(1))
    await site.local.delete(one.blob)
    await site.uploader().drain()
    assert await site.in_cloud() == [one.blob]


async def test_a_damaged_local_blob_is_never_uploaded(site: Site, tmp_path: Path) -> None:
    one = await site.keep(1)
    (tmp_path / "local" / "samples" / one.blob).write_bytes(b"rotten")
    async with running(site.uploader(replace(SOON, first=0.001)).run()):
        await until(lambda: site.outbox.counters().set_aside == 1)
    assert await site.in_cloud() == []


async def test_a_sample_whose_image_is_nowhere_is_set_aside_and_the_rest_goes_on(site: Site) -> None:
    gone, there = await site.keep(1), await site.keep(2)
    await site.local.delete(gone.blob)
    async with running(site.uploader(replace(SOON, first=0.001)).run()):
        await until(lambda: site.outbox.counters().set_aside == 1)
    assert await site.in_cloud() == [there.blob]
    assert site.outbox.counters().uploaded == 1


async def test_a_name_that_is_there_already_with_the_same_bytes_is_a_success(site: Site) -> None:
    one = await site.keep(1)
    assert site.cloud is not None
    await site.cloud.put(one.blob, picture(1))
    await site.uploader().drain()
    assert site.outbox.counters().uploaded == 1


@pytest.mark.parametrize("kind", ["folder", "azurite"])
async def test_other_bytes_under_an_images_name_are_never_taken_for_it(
    site: Site, kind: str, request: pytest.FixtureRequest
) -> None:
    one = await site.keep(1)
    other = b"?" * (one.size + (kind == "folder"))  # a folder can tell by the size alone
    async with _cloud(site, kind, request):
        assert site.cloud is not None
        await site.cloud.put(one.blob, other)
        async with running(site.uploader(replace(SOON, first=0.001)).run()):
            await until(lambda: site.outbox.counters().set_aside == 1)
        assert await site.cloud.get(one.blob) == other
    assert "other bytes" in site.outbox.states_of([one.id])[0][2]


@asynccontextmanager
async def _cloud(site: Site, kind: str, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    if kind == "folder":
        yield
        return
    azurite: Azurite = request.getfixturevalue("azurite_cloud")
    async with open_blobs(azurite.connection_string, f"c{uuid.uuid4().hex}", azurite.api_version) as site.cloud:
        yield


async def test_a_write_that_was_cut_short_counts_its_bytes_once(site: Site) -> None:
    ledger, begun, go_on = Ledger(site.outbox), threading.Event(), threading.Event()
    spend = site.outbox.spend_uplink

    def slowly(sizes: Mapping[datetime, int]) -> None:
        begun.set()
        assert go_on.wait(10)
        spend(sizes)

    site.outbox.spend_uplink = slowly  # type: ignore[method-assign]
    await ledger.look()
    assert ledger.reserve(1000, 0)
    ledger.sent(1000)
    write = asyncio.create_task(ledger.write())
    await asyncio.to_thread(begun.wait, 10)
    write.cancel()
    await asyncio.wait([write])
    go_on.set()
    await ledger.write()
    assert ledger.spent == site.outbox.uplink_spent(day_begin(local_now())) == 1000


async def test_what_arrived_is_written_down_in_groups_and_all_of_it(site: Site, caplog: Any) -> None:
    for n in range(60):
        await site.keep(n)
    site.steering = Steering(concurrency=16)
    writes: list[int] = []
    write = site.outbox.uploaded_all
    site.outbox.uploaded_all = lambda done: (writes.append(len(done)), write(done))  # type: ignore
    await site.uploader().drain()
    assert sum(writes) == 60
    assert len(writes) < 60
    assert site.outbox.counters().uploaded == 60


# -- what fails


async def test_a_poison_image_is_set_aside_after_its_tries_and_never_blocks_the_rest(
    site: Site, tmp_path: Path
) -> None:
    poison = await site.keep(0)  # the oldest
    (tmp_path / "cloud" / "samples" / poison.blob).mkdir(parents=True)
    samples = [await site.keep(n) for n in range(1, 20)]
    await site.uploader().drain()
    assert await site.in_cloud() == sorted(one.blob for one in samples)
    assert site.outbox.counters().waiting == 1
    async with running(site.uploader(replace(SOON, first=0.001)).run()):
        await until(lambda: site.outbox.counters().set_aside == 1)
    assert await site.local.get(poison.blob) == picture(0)


async def test_an_image_the_line_always_breaks_on_holds_up_no_other_and_is_set_aside_at_last(site: Site) -> None:
    """A machine between cuts the connection whenever it sees this one image."""
    poison = await site.keep(0)
    for n in range(1, 6):
        await site.keep(n)
    site.steering = Steering(concurrency=1)
    async with a_line(lambda body: body == picture(0)) as address, open_blobs(address, "samples") as site.cloud:
        uploader = site.uploader(replace(SOON, first=0.001))
        for _ in range(4):  # alone, it cannot be told from a line that is cut
            with pytest.raises(Offline):
                await uploader.drain()
        assert site.outbox.counters().uploaded == 5
        assert site.outbox.due(datetime.now(UTC), 9)[0].tries == 0
        async with running(uploader.run()):
            async with asyncio.timeout(60):  # each try needs another image right behind it
                for n in count(6):
                    await site.keep(n)
                    uploader.hurry()
                    if site.outbox.counters().set_aside:
                        break
                    await asyncio.sleep(0.02)
            await until(lambda: site.outbox.counters().set_aside == 1 and not site.outbox.counters().waiting)
    assert site.outbox.states_of([poison.id])[0][1] == "set_aside"


async def test_a_line_that_is_cut_sets_nothing_aside_however_often(site: Site) -> None:
    for n in range(6):
        await site.keep(n)
    async with a_line(lambda _: True) as address, open_blobs(address, "samples") as site.cloud:
        uploader = site.uploader()
        for _ in range(12):
            with pytest.raises(Offline, match="breaks off"):
                await uploader.drain()
    assert {waiting.tries for waiting in site.outbox.due(datetime.now(UTC), 9)} == {0}
    assert uploader.standing().kind == "reset"
    assert uploader.failures["reset"] >= 12


async def test_offline_keeps_everything_says_so_once_and_goes_on_when_online(
    site: Site, tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level("INFO")
    await site.keep(1)
    folder = tmp_path / "azurite"
    folder.mkdir()
    with running_azurite(folder, account="cloudstore", api_version="2026-06-06") as azurite:
        pass
    async with open_blobs(azurite.connection_string, "samples", azurite.api_version) as site.cloud:
        uploader = site.uploader()
        async with running(uploader.run()):
            await until(lambda: "offline" in caplog.text)
            await asyncio.sleep(0.2)
            await site.keep(2)
            assert site.outbox.counters().waiting == 2
            assert caplog.text.count("offline, keeping samples here") == 1
            assert uploader.standing().kind == "refused"
            with running_azurite(folder, account="cloudstore", api_version="2026-06-06", port=azurite.port):
                await until(lambda: site.outbox.counters().uploaded == 2)
                assert uploader.online
                assert len(await site.in_cloud()) == 2
        assert caplog.text.count("online, uploading") == 1


async def test_an_expired_credential_sets_nothing_aside_and_a_new_one_brings_all(
    site: Site, azurite_cloud: Azurite, caplog: Any
) -> None:
    container, version = f"c{uuid.uuid4().hex}", azurite_cloud.api_version
    samples = [await site.keep(n) for n in range(8)]
    async with open_blobs(azurite_cloud.connection_string, container, version) as owner:
        assert [blob async for blob in owner.list()] == []
        async with open_blobs(azurite_cloud.sas_url(container, lasts=-timedelta(hours=1)), "", version) as site.cloud:
            uploader = site.uploader()
            for _ in range(7):
                with pytest.raises(Denied, match="expired at"):
                    await uploader.drain()
            assert uploader.standing().kind == "expired"
        assert site.outbox.counters().waiting == 8
        assert caplog.text.count("not uploading") == 1
        assert "sig=" not in caplog.text
        async with open_blobs(azurite_cloud.sas_url(container), "", version) as site.cloud:
            await site.uploader().drain()
            # the process was killed before the index heard of it: the same names, no second copy
            with site.outbox.index.change() as db:
                db.execute("UPDATE samples SET state = 'waiting'")
            await site.uploader().drain()
        assert [blob.name async for blob in owner.list()] == sorted(one.blob for one in samples)
    assert site.outbox.counters().uploaded == 8


async def test_flush_cuts_the_pause_short(site: Site, tmp_path: Path) -> None:
    await site.keep(1)
    blocked = tmp_path / "cloud"
    blocked.write_text("not a folder")  # so no store can be there
    uploader = site.uploader(Patience(first=3600, longest=3600))
    async with running(uploader.run()):
        await until(lambda: uploader.standing().trouble)
        blocked.unlink()
        assert uploader.flush() is None
        await until(lambda: site.outbox.counters().uploaded == 1)


async def test_a_failure_after_some_arrived_counts_as_the_first(site: Site) -> None:
    for n in range(24):
        await site.keep(n)
    seen = 0

    def two_of_four(_: bytes) -> bool:
        nonlocal seen
        seen += 1
        return seen % 4 in (2, 3)  # aiohttp tries once more by itself

    site.steering = Steering(concurrency=1)
    async with a_line(two_of_four) as address, open_blobs(address, "samples") as site.cloud:
        patient = Patience(first=0.1, longest=3600, jitter=0, idle=0.01)
        async with running(site.uploader(patient).run()):
            await until(lambda: site.outbox.counters().uploaded == 24, 10)


def test_a_pause_doubles_from_a_second_to_ten_minutes() -> None:
    assert [Patience().pause(n, 0.0) for n in (1, 2, 3, 10, 11, 2000)] == [1, 2, 4, 512, 600, 600]
    assert Patience().pause(1, 0.5) == 1.5


# -- within its limits


def test_a_window_is_open_from_its_start_up_to_its_end_also_over_midnight() -> None:
    night, late = window("02:00-05:00"), window("22:30-01:00")
    assert night is not None
    assert late is not None

    def at(hour: int, minute: int = 0) -> datetime:
        return datetime(2026, 11, 22, hour, minute, tzinfo=UTC)

    opened = [hour for hour in range(24) if night.is_open(at(hour))]
    assert opened == [2, 3, 4]
    assert [late.is_open(at(*moment)) for moment in ((22, 29), (22, 30), (23, 59), (0, 0), (0, 59), (1, 0))] == [
        False, True, True, True, True, False,
    ]  # fmt: skip
    assert night.opens_at(at(1)) == at(2)
    assert night.opens_at(at(5)) == at(2) + timedelta(days=1)
    assert night.opens_at(at(3)) == at(3)
    assert late.opens_at(at(12)) == at(22, 30)
    assert window("") is None


@pytest.mark.parametrize(
    "value", ["2-5", "02:00", "24:00-05:00", "02:60-05:00", "05:00-05:00", "02:00-05:00 ", 2, None, "٠٢:00-05:00"]
)
def test_what_is_no_window_is_refused(value: object) -> None:
    assert "02:00-05:00" in str(reason_to_refuse_window(value))


def test_what_keeps_the_gate_closed_is_told_with_its_end() -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def closed(steering: Steering = Steering(), **state: Any) -> tuple[str, datetime | None] | None:
        told: dict[str, Any] = {"cloud": True, "paused": None, "flushing": False, "local": noon, "spent": 0}
        found = reason_to_wait(steering, **told | state)
        return found and (found.kind, found.until)

    assert closed() is None
    assert closed(cloud=False) == ("no_cloud", None)
    assert closed(paused="") == ("paused", None)
    assert closed(Steering(upload_on=False)) == ("off", None)
    night = Steering(window="02:00-05:00")
    assert closed(night) == ("window", datetime(2026, 11, 23, 2, tzinfo=UTC))
    assert closed(night, flushing=True) is None
    assert closed(night, flushing=True, paused="tests") == ("paused", None)
    assert closed(Steering(bytes_per_day=9), spent=9) == ("budget", datetime(2026, 11, 23, tzinfo=UTC))
    assert closed(Steering(bytes_per_day=9), spent=8) is None


def test_a_day_has_its_bytes_and_what_is_bigger_than_a_day_goes_alone() -> None:
    assert fits(5, spent=4, in_flight=1, bytes_per_day=10)
    assert not fits(5, spent=4, in_flight=2, bytes_per_day=10)
    assert fits(99, spent=0, in_flight=0, bytes_per_day=10)
    assert not fits(99, spent=0, in_flight=1, bytes_per_day=10)
    assert fits(99, spent=99, in_flight=99, bytes_per_day=0)


async def test_the_bytes_of_a_day_are_kept_over_a_restart_and_come_back_at_midnight(site: Site) -> None:
    site.wall = datetime(2026, 11, 22, 12).astimezone()
    for n in range(10):
        await site.keep(n, size=1000)
    size = len(picture(0, 1000))
    site.steering = Steering(bytes_per_day=4 * size + size // 2, hold_minutes=0)
    for _ in range(2):
        uploader = site.uploader()
        for _ in range(2):
            await uploader.drain()
        assert len(await site.in_cloud()) == 4
        closed = uploader.closed()
        assert closed is not None
        assert (closed.kind, closed.until) == ("budget", datetime(2026, 11, 23).astimezone())
    site.wall = datetime(2026, 11, 23, 0, 1).astimezone()
    uploader = site.uploader()
    await uploader.drain()
    assert len(await site.in_cloud()) == 8
    assert uploader.standing().spent == 4 * size


async def test_bytes_of_tries_that_failed_are_the_days_too(site: Site) -> None:
    one = await site.keep(1, size=1000)
    async with a_line(lambda _: True) as address, open_blobs(address, "samples") as site.cloud:
        uploader = site.uploader()
        for _ in range(3):
            with pytest.raises(Offline):
                await uploader.drain()
        await uploader.drain() if uploader.closed() else None
    assert uploader.sent_bytes == 3 * one.size
    async with open_blobs("BlobEndpoint=http://127.0.0.1:1/a;AccountName=a;AccountKey=a2V5", "samples") as site.cloud:
        uploader = site.uploader()
        with pytest.raises(Offline, match="refuses connections"):
            await uploader.drain()
        assert uploader.sent_bytes == 0
        assert uploader.standing().spent == 3 * one.size


async def test_outside_its_window_nothing_goes_out_but_by_flush(site: Site) -> None:
    site.wall = datetime(2026, 11, 22, 12).astimezone()
    site.steering = Steering(window="02:00-05:00")
    await site.keep(1)
    uploader = site.uploader()
    async with running(uploader.run()):
        await asyncio.sleep(0.1)
        assert await site.in_cloud() == []
        assert uploader.flush() is None
        await until(lambda: site.outbox.counters().uploaded == 1)
        await until(lambda: uploader.closed() is not None)  # only what waited then
        await site.keep(2)
        await asyncio.sleep(0.1)
        assert len(await site.in_cloud()) == 1
        site.wall = datetime(2026, 11, 23, 2).astimezone()
        await until(lambda: site.outbox.counters().uploaded == 2)


async def test_a_pause_outlives_a_restart_and_flush_does_not_end_it(site: Site, tmp_path: Path) -> None:
    await site.keep(1)
    Pause(tmp_path / "state" / "paused").begin("the line is being moved")
    pause = Pause(tmp_path / "state" / "paused")
    uploader = site.uploader(pause=pause)
    async with running(uploader.run()):
        closed = uploader.flush()
        assert closed is not None
        assert "the line is being moved" in closed.words
        await asyncio.sleep(0.1)
        assert await site.in_cloud() == []
        pause.end()
        await until(lambda: site.outbox.counters().uploaded == 1)
    assert Pause(tmp_path / "state" / "paused").reason is None


def test_a_pace_holds_on_average_and_saves_up_no_more_than_a_second() -> None:
    pace, now, sent = Pace(), 0.0, 0
    assert pace.wait(0, now) == 0
    while now < 100:
        now += (nap := pace.wait(1000, now))
        if not nap:
            pace.take(300)
            sent += 300
    assert sent == pytest.approx(100_000, rel=0.02)
    assert pace.wait(1000, now + 3600) == 0
    pace.take(5000)
    assert pace.wait(1000, now + 3600) == pytest.approx(4)


async def test_uploads_keep_their_pace(site: Site) -> None:
    for n in range(8):
        await site.keep(n, size=20_000)
    site.steering = Steering(bytes_per_second=100_000)
    began = time.monotonic()
    await site.uploader().drain()
    assert len(await site.in_cloud()) == 8
    assert 1.0 < time.monotonic() - began < 8  # 160 KB, of which the last image need not be paid for


async def test_switching_off_ends_a_long_wait_for_the_pace(site: Site) -> None:
    for n in range(3):
        await site.keep(n, size=20_000)
    site.steering = Steering(bytes_per_second=1, concurrency=1)
    async with running(site.uploader().run()):
        await until(lambda: site.outbox.counters().uploaded == 1)
        site.steering = Steering(upload_on=False)
        await asyncio.sleep(1.2)
        site.steering = Steering()
        await until(lambda: site.outbox.counters().uploaded == 3)
