"""One image in the local store or the spool that cannot be read holds up no other, and is said."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ripeloop.errors import Offline
from ripeloop.prediction import Flagged
from sampler.index.outbox import SET_ASIDE
from sampler.sample import Sample
from sampler.telling.trouble import LOCAL_BLOB, LOCAL_STORE, MISSING_BLOB, SPOOL, SPOOL_FILE
from sampler.uploading.cloud import Cloud
from sampler.uploading.unreadable import Unreadable
from sampler.uploading.upload import Uploader
from sampling import SOON, Site, picture, running, site, until

__all__ = ["site"]


def a_loop(path: Path) -> None:
    """Whatever reads `path` fails now, for root, too."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def local(folder: Path, sample: Sample) -> Path:
    return folder / "local" / "samples" / sample.blob


@pytest.mark.parametrize(("concurrency", "bad"), [(1, 1), (4, 4)])
async def test_local_blobs_that_cannot_be_read_hold_up_no_upload_and_have_their_tries(
    site: Site, tmp_path: Path, concurrency: int, bad: int
) -> None:
    site.steering = replace(site.steering, concurrency=concurrency)
    samples = [site.flag(n) for n in range(12)]
    await site.inbox().empty()
    await site.retention().prove()
    await site.inbox().empty()
    for one in samples[:bad]:
        a_loop(local(tmp_path, one))
    uploader = Uploader(
        site.outbox, site.spool, site.local, Cloud(site.cloud), steering=lambda: site.steering,
        patience=replace(SOON, first=0.001),
        unreadable=Unreadable(site.outbox, site.troubles),
    )  # fmt: skip
    with pytest.raises(Offline, match="local store"):
        await uploader.drain()
    await uploader.drain()
    assert await site.in_cloud() == sorted(one.blob for one in samples[bad:])
    assert "cannot be read" in site.troubles.now()[LOCAL_BLOB]
    async with running(uploader.run()):
        for n in range(100, 200):  # while others get through
            site.flag(n)
            await site.inbox().empty()
            uploader.hurry()
            await asyncio.sleep(0.02)
            if site.outbox.counters().set_aside == bad:
                break
        assert site.outbox.counters().set_aside == bad
    for one in samples[:bad]:
        local(tmp_path, one).unlink()
        await site.local.put(one.blob, picture(samples.index(one)), one.metadata())
    site.outbox.revive()
    await uploader.drain()
    assert site.outbox.counters().waiting == site.outbox.counters().set_aside == 0
    assert LOCAL_BLOB not in site.troubles.now()


async def test_a_local_store_that_is_away_sets_nothing_aside(site: Site, tmp_path: Path) -> None:
    samples = [site.flag(n) for n in range(6)]
    await site.inbox().empty()
    await site.retention().prove()
    await site.inbox().empty()
    for one in samples:
        a_loop(local(tmp_path, one))
    uploader = site.uploader()
    for _ in range(12):
        with pytest.raises(Offline, match="local store"):
            await uploader.drain()
    assert {waiting.tries for waiting in site.outbox.due(datetime.now(UTC), 9)} == {0}


async def test_a_local_blob_that_cannot_be_read_keeps_only_its_own_copy_in_the_spool(
    site: Site, tmp_path: Path
) -> None:
    samples = [site.flag(n) for n in range(6)]
    await site.inbox().empty()
    a_loop(local(tmp_path, samples[0]))
    async with running(site.retention().run(0.01)):
        await until(lambda: LOCAL_BLOB in site.troubles.now())
        inbox = site.inbox()
        while len(site.spool.ids()) > 1:
            await inbox.empty()
        await asyncio.sleep(0.1)
        await inbox.empty()
        assert site.spool.ids() == [samples[0].id]
        assert LOCAL_STORE not in site.troubles.now()
        await site.uploader().drain()  # from the spool
        assert len(await site.in_cloud()) == 6
        await until(lambda: LOCAL_BLOB not in site.troubles.now())
    assert site.troubles.counts()[LOCAL_BLOB] == 1


async def test_a_local_store_that_does_not_even_list_is_the_trouble_itself(site: Site, tmp_path: Path) -> None:
    sample = site.flag(1)
    await site.inbox().empty()
    folder = tmp_path / "local" / "samples"
    folder.rename(tmp_path / "elsewhere")
    a_loop(folder)
    async with running(site.retention().run(0.01)):
        await until(lambda: LOCAL_STORE in site.troubles.now())
        assert LOCAL_BLOB not in site.troubles.now()
        folder.unlink()
        (tmp_path / "elsewhere").rename(folder)
        await until(lambda: LOCAL_STORE not in site.troubles.now())
        await until(lambda: site.outbox.known([sample.id])[sample.id].safe)


async def test_a_lost_image_is_a_trouble_for_as_long_as_it_is_set_aside(site: Site) -> None:
    sample = site.flag(1)
    await site.inbox().empty()
    await site.local.delete(sample.blob)
    site.spool.remove(sample.id)
    async with running(site.retention().run(0.01)):
        await until(lambda: MISSING_BLOB in site.troubles.now())
        assert site.outbox.states_of([sample.id])[0][1] == SET_ASIDE
        await site.local.put(sample.blob, picture(1), sample.metadata())
        site.outbox.revive()
        await until(lambda: MISSING_BLOB not in site.troubles.now())
    assert site.troubles.counts()[MISSING_BLOB] == 1


async def test_one_spool_file_that_cannot_be_read_is_a_trouble_of_its_own(site: Site) -> None:
    good, bad = site.flag(1), site.flag(2)
    take = site.spool.take

    def some(id_: str) -> tuple[Flagged, bytes]:
        if id_ == bad.id:
            raise OSError(5, "Input/output error")
        return take(id_)

    site.spool.take = some  # type: ignore[method-assign]
    inbox = site.inbox()
    await inbox.empty()
    assert site.outbox.known([good.id, bad.id]).keys() == {good.id}
    assert SPOOL_FILE in site.troubles.now()
    assert SPOOL not in site.troubles.now()
    site.spool.take = take  # type: ignore[method-assign]
    await inbox.empty()
    assert site.troubles.now() == {}
