"""One blob that cannot be deleted, or cannot be listed, holds up no other, is told once, and is tried again."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ripeloop.blobfolder import LOCKS, SOME_BLOBS, UNFINISHED
from ripeloop.blobs import Blobs
from ripeloop.errors import Offline, Refused
from sampler.index.outbox import Outbox
from sampler.index.rebuild import look_again, rebuild
from sampler.sample import Sample
from sampler.telling.steering import Steering
from sampler.telling.trouble import LOCAL_DELETE, LOCAL_LIST, LOCAL_STORE, SPOOL
from sampling import Site, running, site, until

__all__ = ["site"]


def lock(folder: Path, sample: Sample) -> Path:
    """The file without which the blob of `sample` cannot be deleted."""
    return folder / "local" / "samples" / UNFINISHED / f"{zlib.crc32(sample.blob.encode()) % LOCKS}.lock"


def hold(folder: Path, sample: Sample) -> None:
    """From now on the blob of `sample` cannot be deleted, by root neither."""
    path = lock(folder, sample)
    if not path.is_dir():
        path.unlink(missing_ok=True)
        path.mkdir()


def blob(folder: Path, sample: Sample) -> Path:
    return folder / "local" / "samples" / sample.blob


async def a_full_site(site: Site, count: int) -> list[Sample]:
    """So many samples that lie in the local store alone."""
    samples = [site.flag(n) for n in range(count)]
    await site.inbox().empty()
    await site.retention().prove()
    await site.inbox().empty()
    assert site.spool.ids() == []
    return samples


def bad_and_good(folder: Path, samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The first one's blob cannot be deleted; which others that is true of, and of which not."""
    hold(folder, samples[0])
    bad = [one for one in samples if lock(folder, one) == lock(folder, samples[0])]
    return bad, [one for one in samples if one not in bad]


async def test_a_blob_that_cannot_be_deleted_keeps_no_other_here(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = await a_full_site(site, 150)  # more than a page
    for nth, one in enumerate(samples):  # the first was uploaded first, and would be the first to go
        site.outbox.uploaded(one.id, datetime.now(UTC) - timedelta(hours=3, seconds=-nth))
    bad, good = bad_and_good(tmp_path, samples)
    retention = site.retention()
    await retention.free()
    await retention.free()
    assert [one for one in samples if blob(tmp_path, one).exists()] == bad
    assert not any(blob(tmp_path, one).exists() for one in good)
    assert f"{len(bad)} images in the local store cannot be deleted" in site.troubles.now()[LOCAL_DELETE]
    assert sum("cannot be deleted" in line for line in caplog.messages) == 1
    lock(tmp_path, samples[0]).rmdir()
    await retention.free()
    assert not any(blob(tmp_path, one).exists() for one in samples)
    assert LOCAL_DELETE not in site.troubles.now()
    assert site.outbox.expired(datetime.now(UTC), 9) == []


async def test_what_cannot_be_deleted_makes_no_room_and_others_do(site: Site, tmp_path: Path) -> None:
    samples = await a_full_site(site, 40)
    for nth, one in enumerate(samples):
        site.outbox.uploaded(one.id, datetime.now(UTC) - timedelta(hours=3, seconds=-nth))
    bad, good = bad_and_good(tmp_path, samples)
    size = sum(one.size for one in samples)
    site.steering = Steering(max_bytes=size // 2, free_bytes=0, uploaded_minutes=10_000)
    await site.retention().make_room()
    assert site.outbox.counters().local_bytes <= size // 2
    assert all(blob(tmp_path, one).exists() for one in bad)
    assert sum(blob(tmp_path, one).exists() for one in good) >= len(good) // 2 - len(bad) - 1


async def test_an_evicted_blob_that_cannot_be_deleted_stops_neither_proofs_nor_other_evictions(
    site: Site, tmp_path: Path
) -> None:
    samples = await a_full_site(site, 40)
    bad, good = bad_and_good(tmp_path, samples)
    site.outbox.evict([one.id for one in (*bad, good[0])], "quota")  # as of a process that was killed then
    site.flag(100)
    async with running(site.inbox().run(0.01), site.retention().run(0.01)):
        await until(lambda: not blob(tmp_path, good[0]).exists() and not site.spool.ids())
        assert LOCAL_STORE not in site.troubles.now()
        lock(tmp_path, samples[0]).rmdir()
        await until(lambda: not site.outbox.evicted_here(9))


async def test_where_nothing_can_be_deleted_few_images_are_given_up_for_room(site: Site, tmp_path: Path) -> None:
    samples = await a_full_site(site, 40)
    for one in samples:
        hold(tmp_path, one)
    site.steering = Steering(max_bytes=sum(one.size for one in samples) - 1, free_bytes=0)
    retention = site.retention()
    for _ in range(3):
        with pytest.raises(Offline, match="cannot be deleted"):
            await retention.make_room()
    assert 1 <= sum(site.outbox.counters().evicted.values()) <= 6


async def test_a_folder_lists_what_it_can_and_says_what_it_cannot(site: Site, tmp_path: Path) -> None:
    samples = await a_full_site(site, 4)
    a_loop(blob(tmp_path, samples[0]))
    found = list[str]()
    with pytest.raises(Refused, match="1 names cannot be looked at") as refused:
        await collect(site.local, found)
    assert refused.value.kind == SOME_BLOBS
    assert samples[0].blob in str(refused.value)
    assert found == sorted(one.blob for one in samples[1:])


async def test_a_blob_that_cannot_be_listed_keeps_no_other_from_a_new_index_and_is_learned_later(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = await a_full_site(site, 120)
    kept = blob(tmp_path, samples[0]).read_bytes()
    a_loop(blob(tmp_path, samples[0]))
    site.outbox.close()
    site.outbox = Outbox(tmp_path / "new" / "outbox.db")
    new = site.flag(500)
    async with running(look_again(site.outbox, site.local, site.troubles, seconds=0.05)):
        await site.inbox().empty()
        assert site.outbox.counters().kept == 120  # all but the bad one, and the new one
        assert site.outbox.known([new.id])
        assert SPOOL not in site.troubles.now()
        assert samples[0].blob in site.troubles.now()[LOCAL_LIST]
        blob(tmp_path, samples[0]).unlink()
        blob(tmp_path, samples[0]).write_bytes(kept)
        await until(lambda: site.outbox.known([samples[0].id]))
        await until(lambda: LOCAL_LIST not in site.troubles.now())
    assert sum("cannot be looked at" in line for line in caplog.messages) == 1


async def test_a_new_index_is_not_complete_where_the_local_store_can_tell_of_nothing(
    site: Site, tmp_path: Path
) -> None:
    samples = await a_full_site(site, 2)
    for one in samples:
        a_loop(blob(tmp_path, one))
    site.outbox.close()
    site.outbox = Outbox(tmp_path / "new" / "outbox.db")
    with pytest.raises(Refused):
        await rebuild(site.outbox, site.local, site.troubles)
    assert not site.outbox.is_complete()


async def collect(blobs: Blobs, found: list[str]) -> None:
    async for one in blobs.list():
        found.append(one.name)


def a_loop(path: Path) -> None:
    """Whatever looks at `path` fails now, for root, too."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)
