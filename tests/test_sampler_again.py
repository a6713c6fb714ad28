"""What was given up, lost or half done comes back, is counted once, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ripeloop.errors import Offline
from ripeloop.prediction import Prediction
from ripeloop.spool import Spool
from sampler.index.outbox import Outbox
from sampling import MONDAY, Site, fill, picture
from tallies import told

LATER = MONDAY + timedelta(hours=1)
HASH = f"{7:064x}"
PLENTY = 10**12


def unsure(confidence: float) -> dict[str, Any]:
    return {"predictions": (Prediction("ripe", confidence), Prediction("other", 1 - confidence))}


async def blobs(site: Site) -> list[str]:
    return [blob.name async for blob in site.local.list()]


async def settle(site: Site) -> None:
    """Everything in the spool is kept, and safe without it."""
    await site.inbox().empty()
    await site.retention().prove()
    await site.inbox().empty()


async def evict_all(site: Site) -> None:
    steering, site.steering = site.steering, replace(site.steering, max_bytes=1)
    await site.retention(free=lambda: PLENTY).make_room()
    site.steering = steering


async def test_an_evicted_image_that_is_flagged_again_is_kept_again(site: Site) -> None:
    site.flag(1)
    await settle(site)
    await evict_all(site)
    again = site.flag(1, LATER)
    for _ in range(2):
        await settle(site)
    assert await blobs(site) == [again.blob]
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "waiting": 1, "dropped": {"duplicate": 1}}
    await site.uploader().drain()
    assert await site.in_cloud() == [again.blob]
    assert site.spool.ids() == []


async def test_an_image_whose_blob_was_missing_is_kept_again(site: Site, tmp_path: Path) -> None:
    lost = site.flag(1)
    await settle(site)
    site.outbox.refused(lost.id, "missing_blob: it is nowhere", None)
    (path,) = tmp_path.glob(f"local/**/{lost.id}.png")
    path.write_bytes(b"damaged")
    again = site.flag(1, LATER)
    await settle(site)
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "waiting": 1, "dropped": {"duplicate": 1}}
    await site.uploader().drain()
    assert await site.in_cloud() == [again.blob]


async def test_a_flagging_that_waits_while_the_earlier_one_is_evicted_is_counted(site: Site) -> None:
    site.flag(1)
    await settle(site)
    site.flag(1, LATER)
    await evict_all(site)
    assert len(site.spool.ids()) == 1
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "waiting": 1, "dropped": {"duplicate": 1}}


async def test_nothing_is_a_near_duplicate_of_what_the_evictor_took(site: Site) -> None:
    inbox = site.inbox()
    site.flag(1, dhash=HASH)
    await inbox.empty()
    await evict_all(site)
    site.flag(2, dhash=HASH)
    site.flag(3, dhash=HASH)
    await inbox.empty()
    counters = told(site.outbox)
    assert (counters["waiting"], counters["dropped"]) == (1, {"near_duplicate": 1})


async def test_room_that_comes_free_late_costs_no_more_than_was_wanted(site: Site) -> None:
    for n in range(50):
        site.flag(n)
    await settle(site)
    site.steering = replace(site.steering, free_bytes=10**9)
    retention = site.retention(free=lambda: 10**9 - 3 * 8192)
    for _ in range(4):
        await retention.make_room()
    assert told(site.outbox)["evicted"] == {"disk": 3}
    assert "disk_full" in site.troubles.now()


async def test_second_copies_evict_nothing(site: Site) -> None:
    for n in range(20):
        site.flag(n)
    await site.inbox().empty()
    images = site.outbox.counters().local_bytes
    site.steering = replace(site.steering, max_bytes=images + site.spool.usage()[0] - 100)
    await site.retention(free=lambda: PLENTY).make_room()
    assert told(site.outbox) == {"flagged": 20, "kept": 20, "waiting": 20}


async def test_a_blob_put_before_a_kill_goes_when_its_image_is_dropped_after_all(site: Site) -> None:
    await site.inbox().empty()  # the index is complete, and learns nothing from the store any more
    site.steering = replace(site.steering, max_per_hour=1)
    one = site.flag(1, **unsure(0.8))
    await site.local.put(one.blob, picture(1), one.metadata(), one.content_type)  # and killed here
    better = site.flag(2, **unsure(0.51))
    await site.inbox().empty()
    assert await blobs(site) == [better.blob]
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "waiting": 1, "dropped": {"budget": 1}}


class ReadOnly(Spool):
    """A spool on a disk that became read-only."""

    def remove(self, id_: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


async def test_a_spool_that_cannot_be_emptied_counts_nothing_twice(site: Site) -> None:
    site.flag(1)
    inbox = site.inbox()
    await inbox.empty()
    await site.retention().prove()
    site.spool = ReadOnly(site.spool.folder)
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 1, "kept": 1, "waiting": 1}
    assert any("cannot be removed" in words for words in site.troubles.now().values())


async def test_a_sampler_that_was_stopped_starts_on_a_full_disk(site: Site, small_disk: Path) -> None:
    state = small_disk / "state"
    site.outbox.close()
    site.outbox = Outbox(state / "outbox.db", site.troubles)
    site.flag(1)
    await site.inbox().empty()
    site.steering = replace(site.steering, free_bytes=0)
    await site.retention(state=state).make_room()  # takes its ballast
    site.outbox.close()
    fill(small_disk / "somebody else's")
    site.outbox = Outbox(state / "outbox.db", site.troubles)
    site.outbox.evict([one.id for one in site.outbox.evictable(9)], "disk")
    assert told(site.outbox) == {"flagged": 1, "kept": 1, "evicted": {"disk": 1}}


async def test_an_index_damaged_while_the_disk_is_full_is_begun_anew_when_there_is_room(
    site: Site, small_disk: Path
) -> None:
    state = small_disk / "state"
    site.outbox.close()
    site.outbox = Outbox(state / "outbox.db", site.troubles)
    site.flag(1)
    await site.inbox().empty()
    site.outbox.index._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    site.outbox.index._db.execute("PRAGMA cache_size = 0")
    path = state / "outbox.db"
    with path.open("r+b") as file:
        file.write(b"rot!" * (path.stat().st_size // 4))
    filler = small_disk / "somebody else's"
    fill(filler)
    for _ in range(3):
        with pytest.raises(Offline):
            site.outbox.states("", 9)
    filler.unlink()
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 1, "kept": 1, "waiting": 1}
    assert site.troubles.counts()["index_damaged"] == 1
    assert "index_damaged" in site.troubles.now()
