"""The sampler's parts together, on a real spool, a real index and real stores."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from azurite import running_azurite
from ripeloop.blobname import check_metadata, check_name
from ripeloop.blobs import Blob, FolderBlobs, open_blobs
from ripeloop.errors import BadRecord
from ripeloop.prediction import Prediction, image_id
from sampler.index.outbox import Outbox
from sampler.index.rebuild import rebuild
from sampler.sample import Sample, kind_of
from sampler.telling.steering import Steering
from sampling import MONDAY, Site, flagged, picture, running, until
from tallies import told

# -- what goes with an image


def test_a_blob_is_named_by_device_day_and_id_and_by_what_the_bytes_are() -> None:
    one = Sample.of(flagged(picture(1)), picture(1), device="line-1", now=MONDAY)
    assert one.blob == f"line-1/2026/11/23/{image_id(picture(1))}.png"
    kinds = {b"\xff\xd8\xff\xe0": ".jpg", b"BM....": ".bmp", b"GIF89a": ".gif", b"II*\0": ".bin", b"": ".bin"}
    assert {start: kind_of(start)[0] for start in kinds} == kinds


@pytest.mark.parametrize("device", ["line-1", "Werk Süd/1", "..", ".x", "", " a ", "🍌" * 80, "a?b#c%d", "x" * 300])
def test_every_device_makes_a_good_name(device: str) -> None:
    check_name(Sample.of(flagged(b""), b"", device=device, now=MONDAY).blob)


def test_any_record_fits_into_metadata_and_can_be_read_back() -> None:
    wild = flagged(
        b"",
        reason="ne\r\nw: reason",
        model="v1.0 größer",
        predictions=tuple(Prediction(f"tag {n} 50%🍌", n / 1e6) for n in range(500)),
    )
    metadata = Sample.of(wild, b"", device="line-1", now=MONDAY).metadata()
    check_metadata(metadata)
    assert unquote(metadata["tag"]) == "tag 499 50%🍌"
    assert unquote(metadata["model"]) == "v1.0 größer"
    assert metadata["capturedat"] == "2026-11-23T08:00:00.000000Z"
    plain = Sample.of(flagged(b""), b"", device="line-1", now=MONDAY).metadata()
    assert plain["predictions"] == '[["ripe",0.5]]'
    check_metadata(Sample.of(flagged(b"", model="", reason=" ", predictions=()), b"", device="", now=MONDAY).metadata())


@pytest.mark.parametrize("device", ["line-1", "Werk Süd/1", "🍌"])
def test_a_blob_tells_the_sample_it_was(device: str) -> None:
    two = (Prediction("reif 🍌", 0.75), Prediction("50% grün", 0.25))
    record = flagged(picture(1), model="v1 größer", predictions=two)
    one = Sample.of(record, picture(1), device=device, now=MONDAY)
    assert Sample.of_blob(Blob(one.blob, one.size, one.metadata())) == one


@pytest.mark.parametrize(
    "metadata",
    [{}, {"id": "?"}, {"capturedat": "soon", "reason": "audit", "predictions": "[]"}, {"predictions": "[" * 99_999}],
)
def test_a_blob_without_good_metadata_is_a_sample_by_its_name(metadata: dict[str, str]) -> None:
    name = f"line-1/2026/11/23/{image_id(b'')}.bin"
    one = Sample.of_blob(Blob(name, 9, metadata))
    assert (one.id, one.blob, one.size, one.reason) == (image_id(b""), name, 9, "unknown")
    assert one.captured_at == datetime(2026, 11, 23, tzinfo=UTC)
    check_metadata(one.metadata())


@pytest.mark.parametrize(
    "name", ["notes.txt", "line-1/2026/11/23/x.jpg", f"line-1/2026/13/32/{'a' * 64}.jpg", f"2026/11/23/{'a' * 64}.jpg"]
)
def test_a_blob_no_sampler_named_is_no_sample(name: str) -> None:
    with pytest.raises(BadRecord):
        Sample.of_blob(Blob(name, 9))


# -- keeping


async def test_a_flagged_image_is_kept_and_the_spool_holds_it_until_it_is_safe(site: Site) -> None:
    one = site.flag(1)
    await site.inbox().empty()
    assert await site.local.get(one.blob) == picture(1)
    assert told(site.outbox) == {"flagged": 1, "kept": 1, "waiting": 1}
    assert site.spool.ids() == [one.id]
    await site.retention(timedelta(seconds=15)).prove()
    await site.inbox().empty()
    assert site.spool.ids() == [one.id]
    await site.retention().prove()
    await site.inbox().empty()
    assert site.spool.ids() == []
    assert told(site.outbox) == {"flagged": 1, "kept": 1, "waiting": 1}


async def test_what_the_local_store_lost_is_put_there_again(site: Site) -> None:
    one = site.flag(1)
    await site.inbox().empty()
    await site.local.delete(one.blob)  # as after a power cut of a store that writes late
    await site.retention(timedelta(milliseconds=1)).prove()
    assert site.spool.ids() == [one.id]
    assert await site.local.get(one.blob) == picture(1)


async def test_a_store_that_forgot_what_it_acknowledged_is_given_it_again(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "azurite"
    folder.mkdir()
    with running_azurite(folder, account="edgestore", api_version="2019-07-07") as azurite:
        async with open_blobs(azurite.connection_string, "samples", azurite.api_version) as site.local:
            samples = [site.flag(n) for n in range(5)]
            await site.inbox().empty()
            azurite.process.kill()
            azurite.process.wait()
            await site.inbox().empty()
            assert len(site.spool.ids()) == 5
    with running_azurite(folder, account="edgestore", api_version="2019-07-07") as azurite:
        async with open_blobs(azurite.connection_string, "samples", azurite.api_version) as site.local:
            assert [blob async for blob in site.local.list()] == []
            await site.retention().prove()
            assert [blob.name async for blob in site.local.list()] == sorted(one.blob for one in samples)
            await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 5, "kept": 5, "waiting": 5}


async def test_a_damaged_local_blob_is_replaced_while_the_spool_has_it(site: Site, tmp_path: Path) -> None:
    one = site.flag(1)
    await site.inbox().empty()
    (tmp_path / "local" / "samples" / one.blob).write_bytes(b"x" * len(picture(1)))
    await site.retention().prove()
    assert await site.local.get(one.blob) == picture(1)


async def test_the_same_image_flagged_again_is_a_duplicate_and_told_again_is_nothing(site: Site) -> None:
    site.flag(1)
    await site.inbox().empty()
    await site.retention().prove()
    await site.inbox().empty()
    later = MONDAY + timedelta(hours=1)
    for _ in range(3):  # a power cut may bring the file back after it was removed
        site.flag(1, later)
        await site.inbox().empty()
        assert site.spool.ids() == []
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "waiting": 1, "dropped": {"duplicate": 1}}


async def test_over_budget_is_counted_once_even_when_the_hour_is_over(site: Site) -> None:
    site.steering = Steering(max_per_hour=2)
    for n in range(3):
        site.flag(n)
        await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 3, "kept": 2, "waiting": 2, "dropped": {"budget": 1}}
    site.steering = Steering()
    site.flag(2)  # the very same flagging, told again
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 3, "kept": 2, "waiting": 2, "dropped": {"budget": 1}}
    site.flag(2, MONDAY + timedelta(hours=1))
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 4, "kept": 3, "waiting": 3, "dropped": {"budget": 1}}


async def test_a_damaged_file_is_set_aside_and_counted_and_the_rest_is_kept(site: Site) -> None:
    broken = site.flag(1)
    whole = site.flag(2)
    file = site.spool.folder / f"{broken.id}.sample"
    file.write_bytes(file.read_bytes()[:-1])
    await site.inbox().empty()
    await site.inbox().empty()
    assert (site.spool.aside / file.name).exists()
    assert site.spool.ids() == [whole.id]
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "waiting": 1, "dropped": {"damaged": 1}}


@pytest.mark.parametrize(
    "odd",
    [
        {"predictions": [{"tag": "\ud800", "probability": 0.5}]},
        {"predictions": [{"tag": "t", "probability": 10**400}]},
        {"predictions": [{"tag": "t", "probability": float("nan")}]},
        {"capturedAt": "0001-01-01T00:00:00+14:00"},
        {"capturedAt": "0900-01-01T00:00:00Z"},
        {"reason": "two\nlines"},
        {"model": "\udfff"},
        "[" * 200_000,
    ],
)
@pytest.mark.parametrize("mtime", [None, -(10**11)])
async def test_an_odd_record_is_set_aside_and_counted_and_the_rest_is_kept(
    site: Site, odd: dict[str, Any] | str, mtime: int | None
) -> None:
    broken, whole = site.flag(1), site.flag(2)
    file = site.spool.folder / f"{broken.id}.sample"
    line, _, image = file.read_bytes().partition(b"\n")
    line = odd.encode() if isinstance(odd, str) else json.dumps(json.loads(line) | odd).encode()
    file.write_bytes(line + b"\n" + image)
    if mtime:
        os.utime(file, (mtime, mtime))
    await site.inbox().empty()
    await site.uploader().drain()
    assert await site.in_cloud() == [whole.blob]
    assert (site.spool.aside / file.name).exists()
    assert site.outbox.counters().dropped == {"damaged": 1}


async def test_names_that_are_no_images_stay_and_are_said_once(site: Site, caplog: Any) -> None:
    whole = site.flag(1)
    strange = [site.spool.folder / os.fsdecode(name) for name in (b"\xff.sample", b"x.sample")]
    for path in strange:
        path.write_bytes(b"odd")
    os.mkfifo(site.spool.folder / f"{'a' * 64}.sample")
    inbox = site.inbox()
    for _ in range(3):
        await inbox.empty()
    assert site.outbox.known([whole.id])
    assert all(path.exists() for path in strange)
    (line,) = (line for line in caplog.messages if "no images" in line)
    assert line.startswith("3 names in the spool")


async def test_a_file_that_cannot_be_set_aside_stops_no_other(site: Site) -> None:
    broken, whole = site.flag(1), site.flag(2)
    (site.spool.folder / f"{broken.id}.sample").write_bytes(b"")
    (site.spool.aside / f"{broken.id}.sample").mkdir()
    await site.inbox().empty()
    assert site.outbox.known([whole.id])


async def test_images_kept_while_the_clock_was_ahead_take_no_place_of_todays(site: Site) -> None:
    site.steering = Steering(max_per_hour=1)
    site.outbox.add(replace(site.flag(1), kept_at=datetime.now(UTC) + timedelta(days=400)))
    site.flag(2)
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 2, "kept": 2, "waiting": 2}
    async with running(site.retention().run(0.01)):
        await until(lambda: site.outbox.known([image_id(picture(1))])[image_id(picture(1))].safe)


# -- a new index


async def test_a_new_index_learns_what_the_local_store_holds_and_all_of_it_arrives_once(
    site: Site, tmp_path: Path
) -> None:
    samples = [site.flag(n) for n in range(120)]
    await site.inbox().empty()
    await site.retention().prove()
    await site.inbox().empty()
    assert site.spool.ids() == []
    await site.local.put("notes.txt", b"from a person")
    again = site.flag(3, MONDAY + timedelta(days=1))
    site.outbox.close()
    site.outbox = Outbox(tmp_path / "new" / "outbox.db")
    for _ in range(2):
        await rebuild(site.outbox, site.local)
        assert told(site.outbox) == {"flagged": 120, "kept": 120, "waiting": 120}
    assert {waiting.sample for waiting in site.outbox.due(MONDAY, 999)} == {
        replace(one, kept_at=one.captured_at) for one in samples
    }
    site.outbox.leave_the_future(datetime.now(UTC))
    await site.retention().prove()
    await site.inbox().empty()
    assert site.outbox.counters().dropped == {"duplicate": 1}
    assert again.id not in site.spool.ids()
    await site.uploader().drain()
    assert await site.in_cloud() == sorted(one.blob for one in samples)
    await site.local.delete(samples[0].blob)  # a complete index does not look again
    site.outbox.close()
    site.outbox = Outbox(tmp_path / "new" / "outbox.db")
    await rebuild(site.outbox, FolderBlobs(Path("/dev/null/nowhere")))


async def test_a_new_index_waits_for_a_local_store_that_is_away(site: Site, tmp_path: Path, caplog: Any) -> None:
    folder = tmp_path / "azurite"
    folder.mkdir()
    with running_azurite(folder, account="edgestore", api_version="2019-07-07") as azurite:
        async with open_blobs(azurite.connection_string, "samples", azurite.api_version) as site.local:
            one = site.flag(1)
            await site.inbox().empty()
    site.outbox.close()
    site.outbox = Outbox(tmp_path / "new" / "outbox.db")
    async with (
        open_blobs(azurite.connection_string, "samples", azurite.api_version) as site.local,
        running(site.inbox().run(0.1)),
    ):
        await until(lambda: "stay in the spool" in caplog.text, 60)
        assert not site.outbox.is_complete()
        with running_azurite(folder, account="edgestore", api_version="2019-07-07", port=azurite.port):
            await until(site.outbox.is_complete, 60)
    assert site.outbox.due(MONDAY, 9)[0].sample.blob == one.blob
    assert caplog.text.count("stay in the spool") == 1


async def test_an_image_the_local_store_refuses_is_set_aside_and_counted(site: Site, tmp_path: Path) -> None:
    one = site.flag(1)
    (tmp_path / "local" / "samples" / one.blob).mkdir(parents=True)
    site.flag(2)
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "waiting": 1, "dropped": {"refused": 1}}
    assert (site.spool.aside / f"{one.id}.sample").exists()


async def test_while_the_local_store_is_away_everything_stays_in_the_spool(site: Site, caplog: Any) -> None:
    home, site.local = site.local, FolderBlobs(Path("/dev/null/nowhere"))
    async with open_blobs("BlobEndpoint=http://127.0.0.1:1/a;AccountName=a;AccountKey=a2V5", "samples") as away:
        site.local = away
        one = site.flag(1)
        inbox = site.inbox()
        for _ in range(3):
            await inbox.empty()
        assert site.spool.ids() == [one.id]
        assert told(site.outbox) == {}
        assert len([line for line in caplog.messages if "stay in the spool" in line]) == 1
    site.local = home
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 1, "kept": 1, "waiting": 1}


async def test_the_inbox_looks_by_itself_and_at_once_when_woken(site: Site) -> None:
    inbox = site.inbox()
    async with running(inbox.run(0.05)):
        site.flag(1)
        await until(lambda: site.outbox.counters().kept == 1)
    async with running(inbox.run(3600)):
        await asyncio.sleep(0.05)
        site.flag(2)
        inbox.wake()
        await until(lambda: site.outbox.counters().kept == 2)


# -- letting go


async def test_an_uploaded_image_stays_here_for_its_time(site: Site) -> None:
    one = site.flag(1)
    await site.inbox().empty()
    await site.uploader().drain()
    await site.retention().free()
    assert await site.local.get(one.blob) == picture(1)
    site.steering = Steering(uploaded_minutes=0)
    await site.retention().free()
    assert [blob async for blob in site.local.list()] == []
    assert await site.in_cloud() == [one.blob]


@pytest.mark.parametrize("minutes", [2e9, 1e308])
async def test_a_time_longer_than_any_calendar_frees_nothing_and_is_no_error(site: Site, minutes: float) -> None:
    one = site.flag(1)
    await site.inbox().empty()
    await site.uploader().drain()
    site.steering = Steering(uploaded_minutes=minutes)
    await site.retention().free()
    assert await site.local.get(one.blob) == picture(1)


async def test_what_is_not_in_the_cloud_never_leaves_the_local_store(site: Site) -> None:
    site.steering = Steering(uploaded_minutes=0)
    one = site.flag(1)
    await site.inbox().empty()
    async with running(site.retention().run(0.01)):
        await asyncio.sleep(0.1)
    await site.inbox().empty()
    assert await site.local.get(one.blob) == picture(1)
