"""The cache and the scan: in step with the container, and nothing that cannot be thrown away."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from labelling import NOON, labelling, labels_in, person, put, sample_of
from retrain.label.answering.journal import ANSWER, UNKNOWN, WRITTEN, Entry, Journal
from retrain.label.container import samples
from retrain.label.container.cache import Cache, Found, Look
from retrain.label.container.rows import key_of
from retrain.label.container.scan import PART, Scan
from retrain.label.pages.images import WIDTHS, prune, width_of
from retrain.labels import Answer, Labels
from ripeloop.blobname import Blob
from ripeloop.blobs import FolderBlobs, open_blobs
from ripeloop.errors import Offline, SettingsError


@pytest.fixture
def folder(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    opened = Cache(tmp_path / "cache.db")
    yield opened
    opened.close()


def all_rows(look: Look) -> dict[str, Found]:
    return {row["key"]: row for row in look.rows("SELECT * FROM samples")}


async def test_a_scan_sees_what_came_what_changed_and_what_went(folder: FolderBlobs, cache: Cache) -> None:
    keys = [await put(folder, nth, device=f"line-{nth % 3}") for nth in range(PART + 30)]
    await folder.put("notes/readme.txt", b"no sample")
    scan = Scan(folder, cache, 0.0, 60.0)
    assert await scan.once() == PART + 30
    assert set(await cache.ask(all_rows)) == set(keys)
    assert await scan.once() == 0
    changed, gone = [blob async for blob in folder.list("line-1/")][3:5]
    labels = Labels((Answer("tag", ("ripe",), "kari", "2026-11-22T08:00:00Z", "blind"),))
    await folder.mark(changed.name, labels.into(changed.metadata), changed.etag)
    await folder.delete(gone.name)
    new = await put(folder, 9000)
    assert await scan.once() == 3
    rows = await cache.ask(all_rows)
    assert rows[key_of(changed.name)]["said"] == "ripe"
    assert key_of(gone.name) not in rows
    assert new in rows
    assert scan.progress.done == PART + 31


async def test_a_scan_undoes_nothing_that_was_written_while_it_listed(folder: FolderBlobs, cache: Cache) -> None:
    key = await put(folder, 1)
    scan = Scan(folder, cache, 0.0, 60.0)
    await scan.once()
    (blob,) = [blob async for blob in folder.list()]
    await cache.change(lambda look: look.run("UPDATE samples SET state = 'tag', etag = 'newer'"))
    scan.wrote(key)
    await scan.once()  # the listing has the etag of before
    assert (await cache.ask(all_rows))[key]["state"] == "tag"
    assert blob.etag != "newer"


async def test_what_metadata_cannot_be_read_is_a_sample_all_the_same(folder: FolderBlobs, cache: Cache) -> None:
    sample, image = sample_of(1)
    hostile = {
        "predictions": "[[1",
        "labels": '{"answers":[{"kind":"tag","tags":["\\ud800"],"by":"\\udfff"}]}',
        "use": "7",
    }
    await folder.put(sample.blob, image, hostile)
    await Scan(folder, cache, 1.0, 60.0).once()
    (row,) = (await cache.ask(all_rows)).values()
    assert (row["state"], row["said"], row["reason"], row["use"]) == ("tag", "?", "unknown", "")


async def test_a_damaged_cache_or_one_of_another_version_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(b"no database" * 1000)
    cache = Cache(path)
    assert await cache.ask(all_rows) == {}
    cache.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=7")
    db.close()
    cache = Cache(path)
    assert await cache.ask(all_rows) == {}
    cache.close()


async def test_a_cache_that_is_thrown_away_costs_a_scan_and_nothing_else(folder: FolderBlobs, tmp_path: Path) -> None:
    for nth in range(3):
        await put(folder, nth)
    state = tmp_path / "state"
    async with labelling(folder, state) as (_, url), person(url, "Kari") as kari:
        (sample,) = await kari.next()
        await kari.answer(sample, "ripe", id_="answer-1")
        cookie = kari.session.cookie_jar
    for path in state.glob("cache.db*"):
        path.unlink()
    async with labelling(folder, state) as (_, url), person(url, "Kari") as kari:
        assert cookie is not None
        assert len(await kari.next(5)) == 2
        assert (await kari.answer(sample, "ripe", id_="answer-1"))[0] == 200  # still known
        undone = await kari.post("/api/undo", {"id": "undo-0001", "answer": "answer-1", "key": sample["key"]})
        assert undone[1]["outcome"] == "undone"
    assert (await labels_in(folder))[sample["key"]].final is None


async def test_a_warm_cache_serves_before_the_scan_is_done(folder: FolderBlobs, tmp_path: Path) -> None:
    await put(folder, 1)
    async with labelling(folder, tmp_path / "state"):
        pass
    gone = "DefaultEndpointsProtocol=http;BlobEndpoint=http://127.0.0.1:1/a;AccountName=a;AccountKey=a2V5"
    async with (
        open_blobs(gone, "samples") as away,
        labelling(away, tmp_path / "state") as (parts, url),
        person(url, "Kari") as kari,
    ):
        assert parts.scan.progress.why
        assert len(await kari.next()) == 1
        assert not (await kari.get("/api/standing"))[1]["online"]


async def test_two_servers_do_not_share_a_folder(folder: FolderBlobs, tmp_path: Path) -> None:
    async with labelling(folder, tmp_path / "state"):
        with pytest.raises(SettingsError, match="another labelling server"):
            async with labelling(folder, tmp_path / "state"):
                pass


async def test_the_journal_outlives_its_process_and_takes_an_id_once(tmp_path: Path) -> None:
    entry = Entry("answer-1", "kari", ANSWER, "k", "b", {"kind": "none"}, "2026-11-22T08:00:00.000000Z")
    journal = Journal(tmp_path / "answers.db")
    first = await journal.add(entry)
    assert await journal.add(entry) == first
    other = await journal.add(Entry("answer-1", "per", ANSWER, "k", "b", {}, entry.at))  # his id is another
    assert other.seq != first.seq
    journal.close()
    journal = Journal(tmp_path / "answers.db")
    assert await journal.waiting(0, 10) == [first, other]
    await journal.ended(first, WRITTEN, {"state": "none"}, tell_later=False)
    assert await journal.waiting(0, 10) == [other]
    await journal.forget(NOON.replace(year=2027))
    assert await journal.found("kari", "answer-1") is None
    assert await journal.found("per", "answer-1") == other  # what waits is never forgotten
    journal.close()


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "answers.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(SettingsError, match="newer ripeloop"):
        Journal(tmp_path / "answers.db")


def test_images_come_in_a_few_widths_and_take_a_bounded_room(tmp_path: Path) -> None:
    assert [width_of(text) for text in ("", "x", "1", "161", "640", "99999", "-5", "9" * 50)] == [
        640, 640, 160, 320, 640, 2048, 640, 640,
    ]  # fmt: skip
    for nth in range(10):
        path = tmp_path / "160" / f"{nth}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        stamp = 1_000_000 + nth
        os.utime(path, (stamp, stamp))
    assert prune(tmp_path, 2000) == 0
    assert prune(tmp_path, 500) == 6
    assert sorted(path.stem for path in tmp_path.rglob("*.jpg")) == ["6", "7", "8", "9"]
    assert WIDTHS[0] == 160


async def test_changes_come_one_after_the_other_and_looks_see_whole_ones(cache: Cache) -> None:
    def both(look: Look, n: int) -> None:
        look.run("INSERT OR REPLACE INTO facts VALUES ('one', ?)", (str(n),))
        look.run("INSERT OR REPLACE INTO facts VALUES ('two', ?)", (str(n),))

    def seen(look: Look) -> set[str]:
        return {row["value"] for row in look.rows("SELECT value FROM facts")}

    changes = [cache.change(both, n) for n in range(50)]
    looks = [cache.ask(seen) for _ in range(50)]
    found = await asyncio.gather(*changes, *looks)
    assert all(len(one) <= 1 for one in found[50:] if one is not None)


def fill(look: Look) -> None:
    for nth in range(2000):
        look.run("INSERT INTO facts VALUES (?, ?)", (f"{nth}", "x" * 200))


def facts(look: Look) -> int:
    row = look.row("SELECT count(*) AS n, max(length(value)) AS most FROM facts")
    return int(row["n"]) if row else 0


async def damaged(path: Path) -> None:
    cache = Cache(path)
    await cache.change(fill)
    cache.close()
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(b"\xff" * 100_000)


async def test_a_cache_that_is_damaged_inside_is_begun_anew(tmp_path: Path) -> None:
    await damaged(tmp_path / "cache.db")
    cache = Cache(tmp_path / "cache.db")
    assert await cache.ask(facts) == 0
    cache.close()


async def test_damage_that_is_met_later_is_mended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await damaged(tmp_path / "cache.db")
    monkeypatch.setattr("retrain.label.container.cache.CHECKED_BYTES", 0)  # as if it were too large to be checked
    cache = Cache(tmp_path / "cache.db")
    with pytest.raises(Offline, match="start it again"):
        await cache.ask(facts)
    cache.close()
    for _ in range(2):
        cache = Cache(tmp_path / "cache.db")
        assert await cache.ask(facts) == 0
        cache.close()


async def test_a_cache_that_is_removed_under_a_server_lasts_until_its_end(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache.db")
    await cache.change(fill)
    for path in tmp_path.glob("cache.db*"):
        path.unlink()
    assert await asyncio.gather(*(cache.ask(facts) for _ in range(20))) == [2000] * 20
    cache.close()


async def test_one_blob_that_no_database_takes_keeps_no_other_out(cache: Cache) -> None:
    good, bad = sample_of(1)[0], sample_of(2)[0]
    blobs = [Blob(bad.blob, 1 << 70, bad.metadata()), Blob(good.blob, 7, good.metadata())]
    assert await cache.change(samples.put, blobs, 0.0) == 1
    assert set(await cache.ask(all_rows)) == {key_of(good.blob)}


async def test_hostile_labels_end_no_scan_and_nobody_is_asked_what_cannot_be_written(
    folder: FolderBlobs, cache: Cache
) -> None:
    for nth, labels in enumerate(
        ('{"answers":[],"dropped":1e999}', '{"answers":[{"kind"', '{"dropped":1' + "0" * 30 + "}")
    ):
        sample, image = sample_of(nth)
        await folder.put(sample.blob, image, sample.metadata() | {"labels": labels})
    await Scan(folder, cache, 1.0, 60.0).once()
    assert sorted(row["state"] for row in (await cache.ask(all_rows)).values()) == ["open", "open", "unsure"]


async def test_an_answer_whose_image_was_gone_is_never_forgotten(tmp_path: Path) -> None:
    entry = Entry("answer-1", "kari", ANSWER, "k", "b", {"kind": "none"}, "2026-11-22T08:00:00.000000Z")
    journal = Journal(tmp_path / "answers.db")
    await journal.ended(await journal.add(entry), UNKNOWN, {}, tell_later=False)
    await journal.forget(NOON.replace(year=2027))
    assert await journal.found("kari", "answer-1") is not None
    journal.close()


async def test_a_journal_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    journal = Journal(path)
    await journal.add(Entry("answer-1", "kari", ANSWER, "k", "b", {}, "2026-11-22T08:00:00.000000Z"))
    journal.close()
    db = sqlite3.connect(path)
    db.execute("DROP TABLE facts")
    db.execute("PRAGMA user_version=1")
    db.close()
    journal = Journal(path)
    await journal.note("store", "here")
    assert await journal.fact("store") == "here"
    assert await journal.count_waiting() == 1
    journal.close()
