"""Between the answer and the sampler nothing is lost uncounted, and nobody waits for a slow disk or a lost hub."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from classifier.numbers.summary import Counts
from classifier.serving.handoff import Bounds, Handoff
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Limits, Spool
from sampling import until
from wire import Wire

PREDICTIONS = (Prediction("ripe", 0.4), Prediction("green", 0.6))


class SlowDisk(Spool):
    """A spool on a disk that stands still until `moving` is set."""

    def __init__(self, folder: Path, limits: Limits = Limits()) -> None:
        super().__init__(folder, limits)
        self.moving = threading.Event()

    def put(self, flagged: Flagged, image: bytes) -> bool:
        assert self.moving.wait(20)
        return super().put(flagged, image)


def flagged(image: bytes) -> Flagged:
    return Flagged(image_id(image), datetime.now(UTC), "low_confidence", PREDICTIONS)


async def offer(handoff: Handoff, image: bytes) -> float:
    started = time.monotonic()
    await handoff.offer(flagged(image), image)
    return time.monotonic() - started


async def test_an_image_is_in_the_spool_when_the_offer_returns(tmp_path: Path) -> None:
    spool, counts = Spool(tmp_path), Counts()
    handoff = Handoff(spool, Wire(), counts, Bounds(wait=5))
    async with handoff.running():
        for n in range(20):
            await offer(handoff, b"%d" % n)
            assert image_id(b"%d" % n) in spool.ids()
    assert counts.stored == 20


async def test_every_flagged_image_is_stored_or_counted_whatever_happens(tmp_path: Path) -> None:
    spool, counts, hub = Spool(tmp_path, Limits(images=60)), Counts(), Wire()
    handoff = Handoff(spool, hub, counts, Bounds(images=20, wait=0.01))
    chance = random.Random(1)

    async def camera(number: int) -> None:
        for shot in range(20):
            await offer(handoff, b"%d" % chance.randrange(150) if shot % 2 else b"%d-%d" % (number, shot))
            hub.online = chance.random() < 0.5

    async with handoff.running():
        await asyncio.gather(*(camera(n) for n in range(10)))
    assert counts.flagged.total() == 200
    assert counts.stored + counts.dropped.total() == 200
    assert 0 < counts.stored == len(spool.ids()) <= 60
    assert set(counts.dropped) <= {"duplicate", "spool_full", "handoff_full"}


class Short(Spool):
    """A spool for whose writing there is no memory."""

    def put(self, flagged: Flagged, image: bytes) -> NoReturn:
        raise MemoryError


async def test_short_memory_costs_an_image_and_not_the_module(tmp_path: Path) -> None:
    counts = Counts()
    handoff = Handoff(Short(tmp_path), Wire(), counts, Bounds(wait=5))
    async with handoff.running():
        for n in range(2):
            await offer(handoff, b"%d" % n)
    assert (counts.stored, counts.dropped) == (0, {"spool_error": 2})


async def test_an_image_that_already_waits_is_counted_as_a_duplicate(tmp_path: Path) -> None:
    spool, counts = Spool(tmp_path), Counts()
    handoff = Handoff(spool, Wire(), counts)
    async with handoff.running():
        await asyncio.gather(*(offer(handoff, b"same") for _ in range(5)))
    assert (counts.stored, counts.dropped) == (1, {"duplicate": 4})


async def test_a_full_spool_drops_and_counts_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    spool, counts = Spool(tmp_path, Limits(images=2)), Counts()
    handoff = Handoff(spool, Wire(), counts, Bounds(wait=5))
    async with handoff.running():
        for n in range(6):
            await offer(handoff, b"%d" % n)
        for id_ in spool.ids():
            spool.remove(id_)
        await offer(handoff, b"there is room again")
    assert (counts.stored, counts.dropped) == (3, {"spool_full": 4})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_disk_that_fails_drops_and_counts_and_the_module_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "spool"
    spool, counts = Spool(folder), Counts()
    handoff = Handoff(spool, Wire(), counts, Bounds(wait=5))
    async with handoff.running():
        folder.rename(tmp_path / "gone")
        folder.write_bytes(b"the volume came back as a file")
        for n in range(3):
            await offer(handoff, b"%d" % n)
        folder.unlink()
        (tmp_path / "gone").rename(folder)
        await offer(handoff, b"the disk is well again")
    assert (counts.stored, counts.dropped) == (1, {"spool_error": 3})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_no_camera_waits_for_a_disk_that_stands_still(tmp_path: Path) -> None:
    spool, counts = SlowDisk(tmp_path), Counts()
    handoff = Handoff(spool, Wire(), counts, Bounds(wait=0.5))
    async with handoff.running():
        first = await offer(handoff, b"first")
        rest = [await offer(handoff, b"%d" % n) for n in range(30)]
        assert 0.4 < first < 5
        assert sum(rest) < 5  # one wait in vain is enough for all
        assert spool.ids() == []
        spool.moving.set()
        await until(lambda: counts.stored == 31)
        await offer(handoff, b"after")
        assert image_id(b"after") in spool.ids()  # the disk is quick again: answers wait for it again


async def test_a_wait_of_zero_never_waits(tmp_path: Path) -> None:
    spool = SlowDisk(tmp_path)
    handoff = Handoff(spool, Wire(), Counts(), Bounds(wait=0))
    async with handoff.running():
        assert await offer(handoff, b"image") < 1
        spool.moving.set()
    assert len(spool.ids()) == 1


@pytest.mark.parametrize("bounds", [Bounds(images=10, wait=0), Bounds(bytes=10_000, wait=0)])
async def test_what_waits_for_the_disk_is_bounded_in_images_and_bytes(tmp_path: Path, bounds: Bounds) -> None:
    spool, counts = SlowDisk(tmp_path), Counts()
    handoff = Handoff(spool, Wire(), counts, bounds)
    async with handoff.running():
        for n in range(50):
            await offer(handoff, b"%04d" % n * 250)
            await asyncio.sleep(0)
        assert 35 <= counts.dropped["handoff_full"] <= 40
        spool.moving.set()
    assert counts.stored + counts.dropped["handoff_full"] == counts.flagged.total() == 50


@pytest.mark.parametrize("trouble", ["offline", "hangs"])
async def test_a_lost_hub_costs_the_wake_up_alone(tmp_path: Path, trouble: str) -> None:
    spool, counts, hub = Spool(tmp_path), Counts(), Wire()
    hub.online, hub.hangs = trouble != "offline", trouble == "hangs"
    handoff = Handoff(spool, hub, counts, Bounds(wait=1, send=0.1))
    async with handoff.running():
        waits = [await offer(handoff, b"%d" % n) for n in range(10)]
        hub.online, hub.hangs = True, False
        await asyncio.sleep(0.15)
        await offer(handoff, b"last")
    assert max(waits) < 0.5
    assert len(spool.ids()) == counts.stored == 11
    assert hub.sent[-1][1].startswith(b'{"id":"%s"' % image_id(b"last").encode())


async def test_a_burst_wakes_the_sampler_a_bounded_number_of_times(tmp_path: Path) -> None:
    spool, counts, hub = SlowDisk(tmp_path), Counts(), Wire()
    handoff = Handoff(spool, hub, counts, Bounds(wait=0))
    async with handoff.running():
        for n in range(200):
            await offer(handoff, b"%d" % n)
        spool.moving.set()
        await until(lambda: counts.stored == 200)
    assert 1 <= len(hub.sent) <= 20  # the sampler is woken ten times a second at most
    assert hub.sent[-1][1] == spool.take(image_id(b"199"))[0].to_json()


async def test_stopping_first_empties_the_queue(tmp_path: Path) -> None:
    spool, counts, hub = SlowDisk(tmp_path), Counts(), Wire()
    handoff = Handoff(spool, hub, counts, Bounds(wait=0))
    async with handoff.running():
        for n in range(30):
            await offer(handoff, b"%d" % n)
        threading.Timer(0.2, spool.moving.set).start()
    assert len(spool.ids()) == counts.stored == 30
    assert hub.sent


async def test_stopping_has_a_time_limit_and_says_what_it_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = SlowDisk(tmp_path)
    handoff = Handoff(spool, Wire(), Counts(), Bounds(wait=0, drain=0.1))
    async with handoff.running():
        await offer(handoff, b"image")
    spool.moving.set()
    assert "not in the spool yet: 5 bytes" in caplog.text


async def test_being_cancelled_still_empties_the_queue(tmp_path: Path) -> None:
    spool, counts = SlowDisk(tmp_path), Counts()
    handoff = Handoff(spool, Wire(), counts, Bounds(wait=0))

    async def module() -> None:
        async with handoff.running():
            for n in range(10):
                await offer(handoff, b"%d" % n)
            await asyncio.Event().wait()

    task = asyncio.create_task(module())
    await until(lambda: counts.flagged.total() == 10)
    task.cancel()
    await asyncio.sleep(0.05)
    spool.moving.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(spool.ids()) == 10
