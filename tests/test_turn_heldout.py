"""The holdout: by the id alone, for ever; and the folder it is judged in, kept in step with the labels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from labelled import DyingBlobs, Fuse, Killed, answered, image, label, name_of, put
from retrain.judging.holdout import find
from retrain.labels import JUNK, NONE, Labels
from retrain.turn.tag.heldout import fetch_holdout, is_held_out
from retrain.turn.tag.use import HOLDOUT, KEY, TRAINING, Use
from ripeloop.blobname import MAX_METADATA_BYTES, check_metadata
from ripeloop.blobs import FolderBlobs
from ripeloop.errors import SettingsError
from ripeloop.prediction import image_id

ODD = (
    "../up",
    "a/b",
    ".",
    "manifest.jsonl",
    "manifest.jsonl.1.tmp",
    "Manifest.jsonl",
    "Ripe",
    "ripe",
    "gr\u00fcn \u20ac",
    "untagged",
    "x" * 128,
)


def ids(count: int) -> list[str]:
    return [hashlib.sha256(str(nth).encode()).hexdigest() for nth in range(count)]


class CountingBlobs(FolderBlobs):
    """Tells which blobs were fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.got: list[str] = []

    async def get(self, name: str) -> bytes:
        self.got.append(name)
        return await super().get(name)


@pytest.fixture
def blobs(tmp_path: Path) -> CountingBlobs:
    return CountingBlobs(tmp_path / "samples")


async def hold(blobs: FolderBlobs, data: bytes, *answers: object, kind: str = HOLDOUT, **more: str) -> str:
    """A labelled sample that `tag` held out."""
    id_ = await put(blobs, data, *answers, **more)  # type: ignore[arg-type]
    blob = await blobs.head(name_of(data))
    await blobs.mark(blob.name, Use(kind).into(blob.metadata, MAX_METADATA_BYTES), blob.etag)
    return id_


def lying(folder: Path) -> dict[str, int]:
    """The images by their ids, each with the inode of its file."""
    return {path.stem: path.stat().st_ino for path in folder.glob("*/*") if len(path.stem) == 64}


def test_the_share_is_met_and_a_larger_one_holds_all_of_a_smaller_one() -> None:
    some = ids(20_000)
    small = {id_ for id_ in some if is_held_out(id_, 0.15)}
    assert 0.14 < len(small) / len(some) < 0.16
    assert small < {id_ for id_ in some if is_held_out(id_, 0.2)}
    assert not any(is_held_out(id_, 0.0) for id_ in some)
    assert all(is_held_out(id_, 1.0) for id_ in some)


def test_it_is_the_same_everywhere_and_for_ever() -> None:
    assert [nth for nth, id_ in enumerate(ids(40)) if is_held_out(id_, 0.15)] == [2, 28, 32]


def test_it_does_not_go_along_with_the_digits_of_the_id() -> None:
    held = Counter(id_[0] for id_ in ids(32_000) if is_held_out(id_, 0.15))
    assert len(held) == 16
    assert all(200 < count < 400 for count in held.values())


def test_what_a_sample_is_for_travels_as_metadata() -> None:
    use = Use(TRAINING, "p", "i", ("gr\u00fcn", "a"), "2026-11-22T08:00:00.000000Z", "ErrorImageFormat")
    metadata = use.into({"id": "0a"}, MAX_METADATA_BYTES)
    check_metadata(metadata)
    assert Use.of(metadata) == use
    assert metadata["id"] == "0a"
    for unread in ({}, {KEY: "no json"}, {KEY: "[]"}, {KEY: '{"kind":"other"}'}, {KEY: "[" * 5000}):
        assert Use.of(unread) is None
    assert Use.of({KEY: '{"kind":"holdout","tags":7}'}) == Use(HOLDOUT)
    full = {"predictions": "x" * (MAX_METADATA_BYTES - 220)}
    tight = Use.of(Use(TRAINING, "p", "i", ("\u00fc" * 40,), "2026").into(full, MAX_METADATA_BYTES))
    assert tight == Use(TRAINING, "p", "i", (), "2026")


async def test_the_folder_holds_the_labelled_samples_that_are_held_out(blobs: CountingBlobs, tmp_path: Path) -> None:
    ripe = await hold(blobs, image(0), answered("ripe"), reason="audit")
    none = await hold(blobs, image(1), answered(kind=NONE))
    await hold(blobs, image(2), answered("ripe"), kind=TRAINING)
    await hold(blobs, image(3), answered(kind=JUNK))
    await put(blobs, image(4), answered("ripe"))
    both = await hold(blobs, image(5), answered("ripe", "soft"))
    seen = list[tuple[int, int]]()
    found = await fetch_holdout(blobs, tmp_path / "h", "Negative", lambda *one: seen.append(one))
    assert {case.path.stem: (case.tag, case.audit) for case in found.cases} == {
        ripe: ("ripe", True),
        none: ("Negative", False),
    }
    assert [(left.name, left.why) for left in found.left_out] == [(f"{both}.jpg", "it has more tags than one")]
    assert (tmp_path / "h" / "ripe" / f"{ripe}.jpg").read_bytes() == image(0)
    assert find(tmp_path / "h").cases == found.cases
    assert seen == [(2, 2)]


async def test_an_image_of_two_devices_is_there_once_and_only_if_people_agree(
    blobs: CountingBlobs, tmp_path: Path
) -> None:
    same = await hold(blobs, image(0), answered("ripe"))
    await put(blobs, image(0), answered("ripe", by="ola"), device="line-2", reason="audit")
    await hold(blobs, image(1), answered("ripe"))
    await put(blobs, image(1), answered("unripe", by="ola"), device="line-2")
    found = await fetch_holdout(blobs, tmp_path / "h")
    assert [(case.path.stem, case.audit) for case in found.cases] == [(same, True)]


async def test_nothing_held_out_is_no_error(blobs: CountingBlobs, tmp_path: Path) -> None:
    await put(blobs, image(0), answered("ripe"))
    assert (await fetch_holdout(blobs, tmp_path / "h")).cases == ()


async def test_tags_may_be_any_words(blobs: CountingBlobs, tmp_path: Path) -> None:
    made = {await hold(blobs, image(nth), answered(tag)): tag for nth, tag in enumerate(ODD)}
    found = await fetch_holdout(blobs, tmp_path / "in" / "h")
    assert {case.path.stem: case.tag for case in found.cases} == made
    assert {path.name for path in tmp_path.iterdir()} == {"in", "samples"}
    assert len({case.path.parent.name.casefold() for case in found.cases}) == len(ODD)


async def test_again_it_fetches_only_what_is_missing_and_follows_the_labels(
    blobs: CountingBlobs, tmp_path: Path
) -> None:
    folder = tmp_path / "h"
    same, moved, left, broken, lost = [await hold(blobs, image(nth), answered("ripe")) for nth in range(5)]
    await fetch_holdout(blobs, folder)
    before = lying(folder)
    assert len(blobs.got) == 5
    await label(blobs, image(1), answered("green/unripe"))
    await label(blobs, image(2), answered(kind=JUNK))
    (folder / "ripe" / f"{broken}.jpg").write_bytes(b"half")
    (folder / "ripe" / f"{lost}.jpg").unlink()
    (folder / "ripe" / f"{same}.jpg.77.tmp").write_bytes(b"of a killed writer")
    blobs.got.clear()
    found = await fetch_holdout(blobs, folder)
    assert sorted(blobs.got) == sorted(name_of(image(nth)) for nth in (3, 4))
    assert {case.path.stem: case.tag for case in found.cases} == {
        same: "ripe",
        moved: "green/unripe",
        broken: "ripe",
        lost: "ripe",
    }
    after = lying(folder)
    assert (after[same], after[moved]) == (before[same], before[moved])
    assert left not in after
    assert found.left_out == ()
    assert all(image_id(case.path.read_bytes()) == case.path.stem for case in found.cases)


async def test_files_of_others_stay_with_what_is_said_of_them(blobs: CountingBlobs, tmp_path: Path) -> None:
    mine = await hold(blobs, image(0), answered("ripe"))
    folder = tmp_path / "h"
    (folder / "ripe").mkdir(parents=True)
    (folder / "ripe" / "by hand.jpg").write_bytes(image(9))
    (folder / "manifest.jsonl").write_text(json.dumps({"file": "ripe/by hand.jpg", "tag": "overripe"}) + "\n")
    for _ in range(2):
        found = await fetch_holdout(blobs, folder)
        assert {case.path.stem: case.tag for case in found.cases} == {mine: "ripe", "by hand": "overripe"}


async def test_images_of_others_that_are_named_as_ours_stay(blobs: CountingBlobs, tmp_path: Path) -> None:
    """As in a folder that `ripeloop dataset export` wrote."""
    await hold(blobs, image(0), answered("ripe"))
    folder = tmp_path / "h"
    there = folder / "ripe" / f"{image_id(image(1))}.jpg"
    there.parent.mkdir(parents=True)
    there.write_bytes(image(1))
    await fetch_holdout(blobs, folder)
    await label(blobs, image(0), answered(kind=JUNK))
    await fetch_holdout(blobs, folder)
    assert {path for path in folder.rglob("*") if path.is_file()} == {there, folder / "manifest.jsonl"}


async def test_a_blob_with_other_bytes_or_gone_is_left_out(blobs: CountingBlobs, tmp_path: Path) -> None:
    about = {"id": "0", "reason": "audit", KEY: '{"kind":"holdout"}'}
    good = await hold(blobs, image(0), answered("ripe"))
    await blobs.put(name_of(image(1)), b"others", Labels().with_answer(answered("ripe")).into(about))
    (tmp_path / "h" / "ripe").mkdir(parents=True)
    (tmp_path / "h" / "ripe" / f"{image_id(image(1))}.jpg").write_bytes(b"half")
    found = await fetch_holdout(blobs, tmp_path / "h")
    assert [case.path.stem for case in found.cases] == [good]
    assert [left.why for left in found.left_out] == ["its blob holds other bytes than its name says"]


async def test_killed_at_any_call_the_folder_can_be_judged_by(blobs: CountingBlobs, tmp_path: Path) -> None:
    for nth in range(4):
        await hold(blobs, image(nth), answered("a/b" if nth % 2 else "ripe"))
    folder = tmp_path / "h"
    await fetch_holdout(blobs, folder)
    old = {case.path.stem: case.tag for case in find(folder).cases}
    for nth in range(4):
        await label(blobs, image(nth), answered("ripe" if nth % 2 else "c/d"))
    for nth in range(4, 8):
        await hold(blobs, image(nth), answered("a/b"))
    new = {image_id(image(nth)): "ripe" if nth % 2 else "c/d" for nth in range(4)}
    new |= {image_id(image(nth)): "a/b" for nth in range(4, 8)}
    for calls in range(5):
        with suppress(Killed):
            await fetch_holdout(DyingBlobs(blobs, Fuse(calls)), folder)
        for case in find(folder).cases:
            assert case.tag in (old.get(case.path.stem), new[case.path.stem])
            assert image_id(case.path.read_bytes()) == case.path.stem
    assert {case.path.stem: case.tag for case in find(folder).cases} == new
    assert find(folder).left_out == ()


async def test_a_folder_that_cannot_be_written_is_told(blobs: CountingBlobs, tmp_path: Path) -> None:
    await hold(blobs, image(0), answered("ripe"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="name another folder"):
        await fetch_holdout(blobs, tmp_path / "file")
