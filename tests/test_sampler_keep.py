"""What is kept, dropped and given up, on a real spool, a real index and real stores."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ripeloop.blobs import FolderBlobs
from ripeloop.prediction import Prediction
from ripeloop.spool import Spool
from sampler.index.outbox import Kept, Outbox
from sampler.keeping.evict import bytes_to_free
from sampler.keeping.keep import Rival
from sampler.keeping.rivals import Rivals
from sampler.sample import Sample
from sampler.telling.steering import Steering
from sampling import Site, fill
from tallies import told

PLENTY = 10**12


def unsure(confidence: float, tag: str = "ripe") -> dict[str, Any]:
    return {"predictions": (Prediction(tag, confidence), Prediction("other", 1 - confidence))}


def waiting(site: Site) -> set[str]:
    return {one.sample.id for one in site.outbox.due(datetime.now(UTC), 999)}


async def blobs(site: Site) -> set[str]:
    return {blob.name async for blob in site.local.list()}


def restarted(site: Site, tmp_path: Path) -> None:
    site.outbox.close()
    site.outbox = Outbox(tmp_path / "state" / "outbox.db", site.troubles)


# -- near-duplicates


async def test_of_images_that_look_alike_the_first_is_kept_and_the_rest_counted(site: Site, tmp_path: Path) -> None:
    site.flag(1, dhash="0" * 64)
    site.flag(2, dhash="0" * 62 + "ff")
    site.flag(3, dhash="0" * 61 + "fff")
    site.flag(4, dhash="0" * 64, camera="other")
    site.flag(5, dhash="0" * 64, predictions=(Prediction("unripe", 0.5),))
    site.flag(6)
    inbox = site.inbox()
    await inbox.empty()
    assert told(site.outbox)["dropped"] == {"near_duplicate": 1}
    assert told(site.outbox)["kept"] == 5
    site.flag(7, dhash="0" * 64)
    await inbox.empty()
    assert told(site.outbox)["dropped"] == {"near_duplicate": 2}
    restarted(site, tmp_path)
    site.flag(8, dhash="0" * 64)
    await site.inbox().empty()
    assert told(site.outbox)["dropped"] == {"near_duplicate": 3}
    site.flag(9, dhash="0" * 64, reason="audit")
    site.flag(1000, dhash="0" * 64)  # a quarter of an hour later
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 10, "kept": 7, "waiting": 7, "dropped": {"near_duplicate": 3}}


async def test_what_an_image_looks_like_survives_the_index(site: Site, tmp_path: Path) -> None:
    one = site.flag(1, dhash="a" * 64, camera="links: Kühlhaus")
    await site.inbox().empty()
    site.outbox.close()
    site.outbox = Outbox(tmp_path / "new" / "outbox.db")
    site.flag(2, dhash="a" * 64, camera="links: Kühlhaus")
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "waiting": 1, "dropped": {"near_duplicate": 1}}
    (again,) = site.outbox.due(datetime.now(UTC), 9)
    assert (again.sample.id, again.sample.camera) == (one.id, "links: Kühlhaus")


# -- budgets


async def test_when_a_budget_is_short_the_most_useful_win_whenever_they_came(site: Site, tmp_path: Path) -> None:
    site.steering = Steering(max_per_day=3)
    confidences = {1: 0.9, 2: 0.7, 3: 0.95, 4: 0.6, 5: 0.55, 6: 0.99, 7: 0.65}
    samples: dict[int, Sample] = {}
    for n, confidence in confidences.items():
        samples[n] = site.flag(n, **unsure(confidence))
        await site.inbox().empty()
        restarted(site, tmp_path)
    assert waiting(site) == {samples[n].id for n in (4, 5, 7)}
    assert told(site.outbox) == {
        "flagged": 7, "kept": 6, "waiting": 3, "evicted": {"budget": 3}, "dropped": {"budget": 1},
    }  # fmt: skip
    await site.retention().make_room()
    assert await blobs(site) == {samples[n].blob for n in (4, 5, 7)}


async def test_out_of_one_batch_the_most_useful_are_kept_and_none_is_stored_in_vain(site: Site) -> None:
    site.steering = Steering(max_per_hour=2)
    samples = {n: site.flag(n, **unsure(0.97 - n / 20)) for n in range(9)}
    await site.inbox().empty()
    assert waiting(site) == {samples[n].id for n in (7, 8)}
    assert told(site.outbox) == {"flagged": 9, "kept": 2, "waiting": 2, "dropped": {"budget": 7}}


async def test_several_better_images_at_once_take_a_place_each(site: Site) -> None:
    site.steering = Steering(max_per_hour=3)
    for n in range(3):
        site.flag(n, **unsure(0.9))
    inbox = site.inbox()
    await inbox.empty()
    better = [site.flag(n, **unsure(0.6)) for n in range(3, 6)]
    await inbox.empty()
    assert waiting(site) == {one.id for one in better}
    assert told(site.outbox) == {"flagged": 6, "kept": 6, "waiting": 3, "evicted": {"budget": 3}}


async def test_tags_and_reasons_have_their_quotas_and_audit_samples_none(site: Site) -> None:
    site.steering = Steering(max_per_tag=1, max_per_reason=2)
    site.flag(1, **unsure(0.6, "a"))
    site.flag(2, **unsure(0.9, "a"))
    site.flag(3, **unsure(0.6, "b"))
    site.flag(4, **unsure(0.9, "c"))
    site.flag(5, reason="narrow_margin", **unsure(0.6, "d"))
    for n in (6, 7, 8):
        site.flag(n, reason="audit", **unsure(0.6, "a"))
    await site.inbox().empty()
    assert told(site.outbox) == {
        "flagged": 8, "kept": 6, "waiting": 6, "dropped": {"quota_tag": 1, "quota_reason": 1},
    }  # fmt: skip


async def test_what_is_in_the_cloud_keeps_its_place(site: Site) -> None:
    site.steering = Steering(max_per_hour=1)
    first = site.flag(1, **unsure(0.95))
    await site.inbox().empty()
    site.outbox.uploaded(first.id, datetime.now(UTC))
    site.flag(2, **unsure(0.5))
    await site.inbox().empty()
    assert told(site.outbox) == {"flagged": 2, "kept": 1, "uploaded": 1, "dropped": {"budget": 1}}


async def test_one_that_is_uploaded_while_its_place_is_given_away_keeps_it(site: Site) -> None:
    first, second = site.flag(1), site.flag(2)
    for one in (first, second):
        site.outbox.add(one)
    site.outbox.uploaded(first.id, datetime.now(UTC))
    third = site.flag(3)
    assert site.outbox.settle([Kept(third, 0.9, first.id, "budget")], []) == [third.id]
    assert site.outbox.settle([Kept(site.flag(4), 0.9, second.id, "budget")], []) == [second.id]
    assert told(site.outbox) == {"flagged": 4, "kept": 4, "uploaded": 1, "waiting": 1, "evicted": {"budget": 2}}
    site.outbox.uploaded(second.id, datetime.now(UTC))  # it was on its way
    assert told(site.outbox) == {"flagged": 4, "kept": 4, "uploaded": 2, "waiting": 1, "evicted": {"budget": 1}}


async def test_a_store_that_fails_in_the_middle_of_a_batch_costs_no_place(site: Site, tmp_path: Path) -> None:
    site.steering = Steering(max_per_hour=3)
    home, blocked = site.local, tmp_path / "blocked"
    blocked.write_text("a file")
    site.local = FolderBlobs(blocked / "samples")
    samples = [site.flag(n, dhash=f"{n:x}" * 64) for n in range(3)]
    inbox = site.inbox()
    await inbox.empty()
    assert told(site.outbox) == {}
    assert set(site.troubles.now()) == {"spool"}
    inbox._local = home
    await inbox.empty()
    assert told(site.outbox) == {"flagged": 3, "kept": 3, "waiting": 3}
    assert waiting(site) == {one.id for one in samples}
    assert site.troubles.now() == {}


async def test_a_rival_is_named_once_and_never_one_that_is_gone(site: Site) -> None:
    now = datetime.now(UTC)
    samples = [site.flag(n) for n in range(5)]
    site.outbox.settle([Kept(replace(one, kept_at=now), n / 10) for n, one in enumerate(samples)], [])
    rivals = Rivals(site.outbox)

    def least() -> Rival:
        found = rivals.least_useful(now - timedelta(hours=1), None, None)
        assert found is not None
        return found

    assert least().id == samples[0].id
    site.outbox.uploaded(samples[0].id, now)
    assert least().id == samples[1].id
    rivals.take(least())
    assert least().id == samples[2].id
    rivals.add(Rival("less", 0.15, now, "ripe", "low_confidence"))
    site.outbox.settle([Kept(replace(site.flag(9), id="less", kept_at=now), 0.15)], [])
    assert least().id == "less"
    rivals.add(Rival("of last week", 0.1, now - timedelta(days=7), "ripe", "low_confidence"))
    assert least().id == "less"
    assert rivals.least_useful(now, "unripe", None) is None
    assert rivals.least_useful(now + timedelta(seconds=1), None, None) is None


# -- the disk


def test_room_is_made_for_the_quota_and_for_the_floor() -> None:
    assert bytes_to_free(used=100, free=PLENTY, max_bytes=0, free_bytes=10) == (0, "")
    assert bytes_to_free(used=1000, free=PLENTY, max_bytes=1000, free_bytes=10) == (0, "")
    assert bytes_to_free(used=1100, free=PLENTY, max_bytes=1000, free_bytes=10) == (120, "quota")
    assert bytes_to_free(used=1100, free=4, max_bytes=1000, free_bytes=10) == (6, "disk")


async def test_over_the_quota_the_least_useful_goes_first_and_is_counted(site: Site) -> None:
    in_cloud, sure, alike, unlike, audit = (
        site.flag(1, **unsure(0.5)),
        site.flag(2, **unsure(0.9)),
        site.flag(3, dhash="1" * 64, **unsure(0.51)),
        site.flag(4, dhash="e" * 64, **unsure(0.51)),
        site.flag(5, reason="audit", **unsure(1.0)),
    )
    site.flag(0, dhash="1" * 60 + "e" * 4, **unsure(0.5))
    await site.inbox().empty()
    await site.retention().prove()
    await site.inbox().empty()
    site.outbox.uploaded(in_cloud.id, datetime.now(UTC))
    order = []
    before = await blobs(site)
    for _ in range(6):
        held = site.outbox.counters().local_bytes
        site.steering = Steering(max_bytes=held - 1)
        await site.retention(free=lambda: PLENTY).make_room()
        now = await blobs(site)
        order.append(before - now)
        before = now
    assert order[0] == {in_cloud.blob}
    assert order[1] == {sure.blob}
    assert alike.blob in order[2]
    assert unlike.blob not in order[2]
    assert order[-1] == {audit.blob}
    assert told(site.outbox) == {"flagged": 6, "kept": 6, "uploaded": 1, "evicted": {"quota": 5}}
    assert site.outbox.counters().local_bytes == 0


async def test_an_evicted_image_leaves_the_spool_too_and_comes_never_back(site: Site) -> None:
    site.flag(1)
    await site.inbox().empty()
    site.steering = Steering(max_bytes=1)
    await site.retention(free=lambda: PLENTY).make_room()
    assert site.spool.ids() == []
    assert await blobs(site) == set()
    site.flag(1)  # a power cut may bring the file back
    await site.inbox().empty()
    assert site.spool.ids() == []
    assert told(site.outbox) == {"flagged": 1, "kept": 1, "evicted": {"quota": 1}}


async def test_copies_of_what_was_evicted_before_a_kill_are_found_again(site: Site) -> None:
    site.flag(1)
    await site.inbox().empty()
    site.outbox.evict([one.id for one in site.outbox.evictable(9)], "quota")  # and killed here
    await site.retention(free=lambda: PLENTY).make_room()
    assert await blobs(site) == set()
    assert site.outbox.counters().local_bytes == 0


async def test_a_full_disk_is_said_once_and_room_is_made_on_it(site: Site, small_disk: Path, caplog: Any) -> None:
    site.outbox.close()
    site.outbox = Outbox(small_disk / "state" / "outbox.db", site.troubles)
    site.spool, site.local = Spool(small_disk / "spool"), FolderBlobs(small_disk / "local")
    site.steering = Steering(free_bytes=0)
    retention = site.retention(state=small_disk / "state")
    await retention.make_room()  # takes its ballast
    first = site.flag(1, **unsure(0.5))
    for n in range(2, 8):
        site.flag(n, **unsure(0.9))
    inbox = site.inbox()
    await inbox.empty()
    site.flag(8, **unsure(0.5))
    filler = small_disk / "somebody else's"
    fill(filler)
    await inbox.empty()
    await inbox.empty()
    assert "No space left" in site.troubles.now()["spool"]
    assert caplog.text.count("stay in the spool") == 1
    assert told(site.outbox)["kept"] == 7
    site.steering = Steering(free_bytes=20_000)
    await retention.make_room()
    assert told(site.outbox)["evicted"]["disk"] >= 1
    assert first.id in waiting(site)
    filler.unlink()
    await inbox.empty()
    assert told(site.outbox)["kept"] == 8
    assert site.troubles.now() == {}


async def test_a_read_only_index_is_said_once_and_nothing_is_lost(site: Site, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    samples = [site.flag(n) for n in range(3)]
    inbox = site.inbox()
    site.outbox.index._db.execute("PRAGMA query_only = 1")
    for _ in range(3):
        await inbox.empty()
    assert set(site.troubles.now()) >= {"spool"}
    assert caplog.text.count("stay in the spool") == 1
    assert set(site.spool.ids()) == {one.id for one in samples}
    site.outbox.index._db.execute("PRAGMA query_only = 0")
    await inbox.empty()
    assert told(site.outbox) == {"flagged": 3, "kept": 3, "waiting": 3}
    assert site.troubles.now() == {}
    assert "spool: well again" in caplog.text


async def test_where_nothing_is_left_to_evict_it_is_said_once_and_the_module_goes_on(
    site: Site, tmp_path: Path, caplog: Any
) -> None:
    site.flag(1)
    await site.inbox().empty()
    retention = site.retention(free=lambda: -len(list(tmp_path.rglob("*.png"))) * 100)
    for _ in range(3):
        await retention.make_room()
    assert told(site.outbox) == {"flagged": 1, "kept": 1, "evicted": {"disk": 1}}
    assert caplog.text.count("nothing is left to evict") == 1
    assert site.troubles.counts() == {"disk_full": 1}


# -- damage


async def test_an_index_damaged_at_work_is_begun_anew_and_learns_what_is_here(
    site: Site, tmp_path: Path, caplog: Any
) -> None:
    samples = [site.flag(n) for n in range(300)]
    inbox = site.inbox()
    await inbox.empty()
    await site.retention().prove()
    await inbox.empty()
    path = tmp_path / "state" / "outbox.db"
    site.outbox.index._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    site.outbox.index._db.execute("PRAGMA cache_size = 0")
    with path.open("r+b") as file:
        for page in range(2, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"rot!" * 1024)
    new = site.flag(300)
    for _ in range(3):
        await inbox.empty()
    assert told(site.outbox) == {"flagged": 301, "kept": 301, "waiting": 301}
    assert waiting(site) == {one.id for one in [*samples, new]}
    assert len(list(path.parent.glob("outbox.db.damaged-*"))) >= 1
    assert caplog.text.count("the index is damaged") == 1


async def test_a_missing_blob_is_said_once_and_counted_each_time(site: Site, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    samples = [site.flag(n) for n in range(3)]
    await site.inbox().empty()
    for one in samples:
        await site.local.delete(one.blob)
        site.spool.remove(one.id)
    await site.retention().prove()
    assert told(site.outbox) == {"flagged": 3, "kept": 3, "set_aside": 3}
    assert caplog.text.count("cannot replace") == 1
    assert site.troubles.counts() == {"missing_blob": 3}


async def test_the_most_useful_are_uploaded_first_and_audit_samples_before_all(site: Site) -> None:
    order = [site.flag(n, **fields) for n, fields in ((4, {"reason": "audit"}), (3, unsure(0.5)), (1, unsure(0.9)))]
    order.append(site.flag(2, **unsure(0.9)))
    await site.inbox().empty()
    due = [one.sample.id for one in site.outbox.due(datetime.now(UTC), 9)]
    assert due == [one.id for one in order]
    held = site.outbox.due(datetime.now(UTC), 9, kept_before=datetime.now(UTC) - timedelta(minutes=10))
    assert [one.sample.id for one in held] == [order[0].id]


async def test_a_batch_is_one_transaction_after_all_its_blobs(site: Site, tmp_path: Path) -> None:
    for n in range(50):
        site.flag(n)
    seen: list[tuple[int, int]] = []

    def watch(statement: str) -> None:
        if statement.startswith("INSERT OR IGNORE INTO samples "):
            seen.append((len(list((tmp_path / "local").rglob("*.png"))), commits[0]))
        commits[0] += statement == "COMMIT"

    commits = [0]
    site.outbox.index._db.conn.set_trace_callback(watch)
    await site.inbox().empty()
    site.outbox.index._db.conn.set_trace_callback(None)
    assert told(site.outbox) == {"flagged": 50, "kept": 50, "waiting": 50}
    assert {blobs_there for blobs_there, _ in seen} == {50}
    assert len({before for _, before in seen}) == 1
