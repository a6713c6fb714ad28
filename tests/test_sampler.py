"""The sampler's parts together, on a real spool, a real index and real stores."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from azurite import Azurite, running_azurite
from ripeloop.blobname import check_metadata, check_name
from ripeloop.blobs import Blob, Blobs, FolderBlobs, open_blobs
from ripeloop.errors import BadRecord, Denied, Offline
from ripeloop.hub import Message
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Spool
from sampler.inbox import Inbox
from sampler.keep import reason_to_drop
from sampler.outbox import Counters, Outbox
from sampler.rebuild import rebuild
from sampler.retention import Retention
from sampler.sample import Sample, kind_of
from sampler.steering import Steering, Wheel, steer
from sampler.summary import status, tell
from sampler.upload import Patience, Uploader

MONDAY = datetime(2026, 11, 23, 8, tzinfo=UTC)
SOON = Patience(first=0.01, longest=0.05, jitter=0, tries=3, idle=0.02)


def picture(n: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + f"picture {n}".encode()


def flagged(image: bytes, captured_at: datetime = MONDAY, **fields: Any) -> Flagged:
    words: dict[str, Any] = {"reason": "low_confidence", "predictions": (Prediction("ripe", 0.5),), "model": "v1"}
    return Flagged(image_id(image), captured_at, **(words | fields))


@dataclass
class Site:
    """One device: a spool, an index, a local store, and where it uploads to."""

    spool: Spool
    outbox: Outbox
    local: Blobs
    cloud: Blobs | None
    steering: Steering = field(default_factory=Steering)

    def inbox(self) -> Inbox:
        return Inbox(
            self.spool, self.outbox, self.local, device="line-1", steering=lambda: self.steering, kept=lambda: None
        )

    def uploader(self, patience: Patience = SOON) -> Uploader:
        return Uploader(
            self.outbox, self.spool, self.local, self.cloud, steering=lambda: self.steering, patience=patience
        )

    def retention(self, proven_after: timedelta = timedelta(0)) -> Retention:
        return Retention(self.outbox, self.spool, self.local, steering=lambda: self.steering, proven_after=proven_after)

    def flag(self, n: int, captured_at: datetime | None = None) -> Sample:
        """The sample picture `n` becomes, once the sampler took it."""
        record = flagged(picture(n), captured_at or MONDAY + timedelta(seconds=n))
        self.spool.put(record, picture(n))
        return Sample.of(record, picture(n), device="line-1", now=MONDAY)

    async def in_cloud(self) -> list[str]:
        assert self.cloud is not None
        return [blob.name async for blob in self.cloud.list()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    local, cloud = (FolderBlobs(tmp_path / name / "samples") for name in ("local", "cloud"))
    site = Site(Spool(tmp_path / "spool"), Outbox(tmp_path / "state" / "outbox.db"), local, cloud)
    yield site
    site.outbox.close()


@asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    """The parts at work until the block ends."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def until(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


# -- deciding


def test_a_known_image_is_a_duplicate_before_it_is_over_budget() -> None:
    assert reason_to_drop(known=True, kept_last_hour=9, max_per_hour=1) == "duplicate"


def test_a_full_hour_drops_and_zero_is_no_limit() -> None:
    assert reason_to_drop(known=False, kept_last_hour=3, max_per_hour=3) == "budget"
    assert reason_to_drop(known=False, kept_last_hour=2, max_per_hour=3) is None
    assert reason_to_drop(known=False, kept_last_hour=10**6, max_per_hour=0) is None


def test_the_twin_steers_and_what_it_leaves_out_is_the_default() -> None:
    default = Steering(max_per_hour=5, concurrency=3)
    desired = {"keep": {"maxPerHour": 7}, "upload": {"on": False}, "camera": {"zoom": 3}}
    steering, refused = steer(desired, Steering(max_per_hour=1, concurrency=9), default)
    assert steering == Steering(max_per_hour=7, upload_on=False, concurrency=3)
    assert refused == {
        "keep": {"maxPerHour": None},
        "upload": {"on": None, "concurrency": None},
        "retention": {"uploadedMinutes": None},
    }


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("keep", "maxPerHour", -1),
        ("keep", "maxPerHour", 1.5),
        ("keep", "maxPerHour", True),
        ("upload", "on", 1),
        ("upload", "concurrency", 0),
        ("upload", "concurrency", 65),
        ("upload", "concurrency", "4"),
        ("retention", "uploadedMinutes", -0.1),
        ("retention", "uploadedMinutes", float("nan")),
        ("retention", "uploadedMinutes", [60]),
        ("retention", "uploadedMinutes", 2_000_000_000),
        ("retention", "uploadedMinutes", 1e308),
        ("retention", "uploadedMinutes", 10**400),
    ],
)
def test_a_bad_value_is_refused_and_the_old_one_stays(section: str, field: str, value: object) -> None:
    before = Steering(max_per_hour=1, upload_on=False, concurrency=9, uploaded_minutes=3)
    steering, refused = steer({section: {field: value}}, before, Steering())
    assert steering.to_reported()[section][field] == before.to_reported()[section][field]
    assert "must be" in str(refused[section][field])


@pytest.mark.parametrize("section", ["everything", 0, False, "", []])
def test_a_section_that_is_no_object_is_refused_however_empty_it_is(section: object) -> None:
    steering, refused = steer({"keep": section}, Steering(max_per_hour=1), Steering())
    assert steering.max_per_hour == 1
    assert refused["keep"] == {"maxPerHour": f"keep must be an object, not {section!r}"}


def test_a_section_that_was_taken_back_is_the_default() -> None:
    steering, refused = steer({"keep": None}, Steering(max_per_hour=1), Steering(max_per_hour=5))
    assert steering.max_per_hour == 5
    assert refused["keep"] == {"maxPerHour": None}


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
    assert site.outbox.counters() == Counters(kept=1, waiting=1)
    assert site.spool.ids() == [one.id]
    await site.retention(timedelta(seconds=15)).prove()
    await site.inbox().empty()
    assert site.spool.ids() == [one.id]
    await site.retention().prove()
    await site.inbox().empty()
    assert site.spool.ids() == []
    assert site.outbox.counters() == Counters(kept=1, waiting=1)


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
    assert site.outbox.counters() == Counters(kept=5, waiting=5)


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
    assert site.outbox.counters() == Counters(kept=1, waiting=1, dropped={"duplicate": 1})


async def test_over_budget_is_counted_once_even_when_the_hour_is_over(site: Site) -> None:
    site.steering = Steering(max_per_hour=2)
    for n in range(3):
        site.flag(n)
        await site.inbox().empty()
    assert site.outbox.counters() == Counters(kept=2, waiting=2, dropped={"budget": 1})
    site.steering = Steering()
    site.flag(2)  # the very same flagging, told again
    await site.inbox().empty()
    assert site.outbox.counters() == Counters(kept=2, waiting=2, dropped={"budget": 1})
    site.flag(2, MONDAY + timedelta(hours=1))
    await site.inbox().empty()
    assert site.outbox.counters() == Counters(kept=3, waiting=3, dropped={"budget": 1})


async def test_a_damaged_file_is_set_aside_and_counted_and_the_rest_is_kept(site: Site) -> None:
    broken = site.flag(1)
    whole = site.flag(2)
    file = site.spool.folder / f"{broken.id}.sample"
    file.write_bytes(file.read_bytes()[:-1])
    await site.inbox().empty()
    await site.inbox().empty()
    assert (site.spool.aside / file.name).exists()
    assert site.spool.ids() == [whole.id]
    assert site.outbox.counters() == Counters(kept=1, waiting=1, dropped={"damaged": 1})


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
    assert site.outbox.counters() == Counters(kept=2, waiting=2)
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
        await rebuild(site.outbox, site.local, 0.01)
        assert site.outbox.counters() == Counters(kept=120, waiting=120)
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
    await rebuild(site.outbox, FolderBlobs(Path("/dev/null/nowhere")), 0.01)


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
        running(rebuild(site.outbox, site.local, 0.1)),
    ):
        await until(lambda: "cannot be listed" in caplog.text, 60)
        assert not site.outbox.is_complete()
        with running_azurite(folder, account="edgestore", api_version="2019-07-07", port=azurite.port):
            await until(site.outbox.is_complete, 60)
    assert site.outbox.due(MONDAY, 9)[0].sample.blob == one.blob
    assert caplog.text.count("cannot be listed") == 1


async def test_an_image_the_local_store_refuses_is_set_aside_and_counted(site: Site, tmp_path: Path) -> None:
    one = site.flag(1)
    (tmp_path / "local" / "samples" / one.blob).mkdir(parents=True)
    site.flag(2)
    await site.inbox().empty()
    assert site.outbox.counters() == Counters(kept=1, waiting=1, dropped={"refused": 1})
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
        assert site.outbox.counters() == Counters()
        assert len([line for line in caplog.messages if "stay in the spool" in line]) == 1
    site.local = home
    await site.inbox().empty()
    assert site.outbox.counters() == Counters(kept=1, waiting=1)


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


# -- uploading


async def test_what_is_kept_reaches_the_cloud_once_with_its_record(site: Site) -> None:
    samples = [site.flag(n) for n in range(120)]
    await site.inbox().empty()
    uploader = site.uploader()
    assert not uploader.online
    await uploader.drain()
    assert uploader.online
    assert await site.in_cloud() == sorted(one.blob for one in samples)
    assert site.cloud is not None
    async for blob in site.cloud.list():
        assert blob.metadata["reason"] == "low_confidence"
        assert image_id(await site.cloud.get(blob.name)) == blob.metadata["id"]
    await site.inbox().empty()
    assert site.spool.ids() == []
    counters = site.outbox.counters()
    assert (counters.uploaded, counters.waiting) == (120, 0)
    assert counters.uploaded_bytes == sum(one.size for one in samples)


async def test_without_a_cloud_everything_waits(site: Site) -> None:
    site.cloud = None
    site.flag(1)
    await site.inbox().empty()
    await site.uploader().run()
    assert site.outbox.counters() == Counters(kept=1, waiting=1)


async def test_uploading_can_be_switched_off_and_on(site: Site) -> None:
    site.steering = Steering(upload_on=False)
    site.flag(1)
    await site.inbox().empty()
    async with running(site.uploader().run()):
        await asyncio.sleep(0.1)
        assert await site.in_cloud() == []
        site.steering = Steering()
        await until(lambda: site.outbox.counters().uploaded == 1)


async def test_a_lost_local_blob_is_replaced_from_the_spool(site: Site) -> None:
    one = site.flag(1)
    await site.inbox().empty()
    await site.local.delete(one.blob)
    await site.uploader().drain()
    assert await site.in_cloud() == [one.blob]


async def test_a_damaged_local_blob_is_never_uploaded(site: Site, tmp_path: Path) -> None:
    one = site.flag(1)
    await site.inbox().empty()
    (tmp_path / "local" / "samples" / one.blob).write_bytes(b"rotten")
    await site.uploader().drain()
    assert site.cloud is not None
    assert await site.cloud.get(one.blob) == picture(1)


async def test_a_sample_whose_image_is_nowhere_is_set_aside_and_the_rest_goes_on(site: Site) -> None:
    gone, there = site.flag(1), site.flag(2)
    await site.inbox().empty()
    await site.local.delete(gone.blob)
    site.spool.remove(gone.id)
    async with running(site.uploader(replace(SOON, first=0.001)).run()):
        await until(lambda: site.outbox.counters().set_aside == 1)
    assert await site.in_cloud() == [there.blob]
    assert site.outbox.counters().uploaded == 1


async def test_a_poison_image_is_set_aside_after_its_tries_and_never_blocks_the_rest(
    site: Site, tmp_path: Path
) -> None:
    poison = site.flag(0)  # the oldest
    (tmp_path / "cloud" / "samples" / poison.blob).mkdir(parents=True)
    samples = [site.flag(n) for n in range(1, 20)]
    await site.inbox().empty()
    await site.uploader().drain()
    assert await site.in_cloud() == sorted(one.blob for one in samples)
    assert site.outbox.counters().waiting == 1
    async with running(site.uploader(replace(SOON, first=0.001)).run()):
        await until(lambda: site.outbox.counters().set_aside == 1)
    assert await site.local.get(poison.blob) == picture(0)


async def test_an_image_the_line_always_breaks_on_does_not_hold_up_the_others(site: Site) -> None:
    """A machine between cuts the connection whenever it sees this one image."""
    poison = site.flag(0)
    rest = [site.flag(n) for n in range(1, 6)]
    await site.inbox().empty()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:] if line)
                body = await reader.readexactly(int(fields["content-length"]))
                if body == picture(0):
                    break
                writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    address = f"BlobEndpoint=http://127.0.0.1:{port}/a;AccountName=a;AccountKey=a2V5"
    async with open_blobs(address, "samples") as site.cloud:
        site.steering = Steering(concurrency=1)
        uploader = site.uploader()
        for _ in range(2):
            with pytest.raises(Offline):
                await uploader.drain()
    server.close()
    assert site.outbox.counters() == Counters(
        kept=6, waiting=1, uploaded=5, uploaded_bytes=sum(one.size for one in rest)
    )
    assert site.outbox.due(MONDAY, 9)[0].sample.id == poison.id


async def test_offline_keeps_everything_says_so_once_and_goes_on_when_online(
    site: Site, tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level("INFO")
    site.flag(1)
    await site.inbox().empty()
    folder = tmp_path / "azurite"
    folder.mkdir()
    with running_azurite(folder, account="cloudstore", api_version="2026-06-06") as azurite:
        pass
    async with open_blobs(azurite.connection_string, "samples", azurite.api_version) as site.cloud:
        uploader = site.uploader()
        async with running(uploader.run()):
            await until(lambda: "offline" in caplog.text)
            await asyncio.sleep(0.2)
            site.flag(2)
            await site.inbox().empty()
            assert site.outbox.counters() == Counters(kept=2, waiting=2)
            assert caplog.text.count("offline, keeping samples here") == 1
            with running_azurite(folder, account="cloudstore", api_version="2026-06-06", port=azurite.port):
                await until(lambda: site.outbox.counters().uploaded == 2)
                assert uploader.online
                assert len(await site.in_cloud()) == 2
        assert caplog.text.count("online, uploading") == 1


async def test_an_expired_credential_sets_nothing_aside_and_a_new_one_brings_all(
    site: Site, azurite_cloud: Azurite, caplog: Any
) -> None:
    container = f"c{image_id(str(site.spool.folder).encode())[:32]}"
    version = azurite_cloud.api_version
    samples = [site.flag(n) for n in range(8)]
    await site.inbox().empty()
    async with open_blobs(azurite_cloud.connection_string, container, version) as owner:
        assert [blob async for blob in owner.list()] == []
        async with open_blobs(azurite_cloud.sas_url(container, lasts=-timedelta(hours=1)), "", version) as site.cloud:
            uploader = site.uploader()
            for _ in range(7):
                with pytest.raises(Denied, match="expired"):
                    await uploader.drain()
            assert not uploader.online
        assert site.outbox.counters() == Counters(kept=8, waiting=8)
        assert caplog.text.count("not uploading") == 1
        assert "sig=" not in caplog.text
        async with open_blobs(azurite_cloud.sas_url(container), "", version) as site.cloud:
            await site.uploader().drain()
            # the process was killed before the index heard of it: the same names, no second copy
            site.outbox._db.execute("UPDATE samples SET state = 'waiting'")
            site.outbox._db.conn.commit()
            await site.uploader().drain()
        assert [blob.name async for blob in owner.list()] == sorted(one.blob for one in samples)
    assert site.outbox.counters().uploaded == 8


async def test_flush_cuts_the_pause_short(site: Site, tmp_path: Path) -> None:
    site.flag(1)
    await site.inbox().empty()
    blocked = tmp_path / "cloud"
    blocked.write_text("not a folder")  # so no store can be there
    uploader = site.uploader(Patience(first=3600, longest=3600))
    async with running(uploader.run()):
        await until(lambda: uploader._trouble)
        blocked.unlink()
        uploader.flush()
        await until(lambda: site.outbox.counters().uploaded == 1)


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


# -- what it tells


class SmallHub:
    """The hub of one test: twin, messages and reports in memory."""

    device = "line-1"

    def __init__(self) -> None:
        self.wanted: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reported: list[Mapping[str, Any]] = []
        self.posted: list[bytes] = []

    async def send(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        self.posted.append(body)

    async def post(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        self.posted.append(body)

    async def messages(self, input_: str) -> AsyncIterator[Message]:
        while True:
            yield Message(b"")
            await asyncio.sleep(0.01)

    async def desired(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self.wanted.get()

    async def report(self, patch: Mapping[str, Any]) -> None:
        self.reported.append(patch)


async def test_the_wheel_turns_with_the_twin_and_reports_what_is_so() -> None:
    hub, wheel = SmallHub(), Wheel(Steering())
    turned: list[Steering] = []
    async with running(wheel.follow(hub, lambda: turned.append(wheel.now()))):
        await hub.wanted.put({"keep": {"maxPerHour": 3}})
        await hub.wanted.put({"keep": {"maxPerHour": "lots"}})
        await until(lambda: len(hub.reported) == 2)
    assert turned == [Steering(max_per_hour=3)] * 2
    assert hub.reported[0]["keep"] == hub.reported[1]["keep"] == {"maxPerHour": 3}
    assert hub.reported[0]["refused"]["keep"] == {"maxPerHour": None}
    assert "whole number" in hub.reported[1]["refused"]["keep"]["maxPerHour"]


async def test_a_summary_is_told_when_something_changed() -> None:
    hub = SmallHub()
    counters = Counters(kept=1, waiting=1)

    async def now() -> dict[str, Any]:
        return status(counters, online=False)

    async with running(tell(hub, now, 0.01)):
        await asyncio.sleep(0.1)
        assert len(hub.posted) == 1
        counters = Counters(kept=1, uploaded=1, uploaded_bytes=9, dropped={"budget": 2})
        await until(lambda: len(hub.posted) == 2)
    assert hub.reported[-1] == {
        "counters": {
            "kept": 1,
            "dropped": {"budget": 2},
            "uploaded": 1,
            "waiting": 0,
            "setAside": 0,
            "online": False,
            "uploadedBytes": 9,
        }
    }
