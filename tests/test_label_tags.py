"""The tags that are offered: one rule for what can be one, and a place that stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from labelling import Browser, labelling, labels_in, person, put
from retrain.label.asking.asking import said_in
from retrain.label.asking.tags import as_typed, is_tag
from retrain.labels import TAG
from ripeloop.blobs import FolderBlobs
from ripeloop.errors import Refused, SettingsError

ODD = ("نیم\u200cرس", "👩\u200d🌾", "half\u00a0ripe", "blåbær")


@pytest.mark.parametrize("tag", ODD)
def test_a_tag_of_any_script_is_taken_in_an_answer(tag: str) -> None:
    assert is_tag(tag)
    assert said_in({"kind": "tag", "tags": [tag]}, "Ola", "Negative") == (TAG, (tag,))


@pytest.mark.parametrize("tag", ["", " ", "\u00a0", "a\nb", "a\x00", "\ud800", "x" * 129])
def test_what_is_not_offered_is_not_taken(tag: str) -> None:
    assert not is_tag(tag)
    with pytest.raises(Refused):
        said_in({"kind": "tag", "tags": [tag]}, "Ola", "Negative")


def test_a_typed_tag_has_no_spaces_too_many() -> None:
    assert as_typed("  half  ripe ") == "half ripe"


async def test_a_tag_of_the_settings_is_checked_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--tag"):
        async with labelling(FolderBlobs(tmp_path / "samples"), tmp_path / "state", tags=("ripe", "")):
            pass
    async with (
        labelling(FolderBlobs(tmp_path / "samples"), tmp_path / "other", tags=(" ripe", "ripe", "un  ripe")) as (
            _,
            url,
        ),
        person(url, "Kari") as kari,
    ):
        assert [tag["tag"] for tag in (await kari.get("/api/start"))[1]["tags"]] == ["ripe", "un ripe"]


async def test_a_tag_that_is_seen_later_moves_no_other_key(tmp_path: Path) -> None:
    folder = FolderBlobs(tmp_path / "samples")
    for nth in (1, 2):
        await put(folder, nth)
    for said in ("aaa", "a0"):  # also after a restart
        async with (
            labelling(folder, tmp_path / "state", tags=("unripe",), scan_seconds=0.2) as (_, url),
            person(url, "Kari") as kari,
        ):
            before = await keys(kari)
            sample = (await kari.next())[0]
            assert (await kari.answer(sample, said))[0] == 200
            while (after := await keys(kari)) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert {tag: after[tag] for tag in before} == before
    assert list(after.values()) == ["1", "2", "3", "4"]
    assert list(after) == ["unripe", "ripe", "aaa", "a0"]
    assert len(await labels_in(folder)) >= 1


async def keys(kari: Browser) -> dict[str, str]:
    """The keys of the tags."""
    return {tag["tag"]: tag["key"] for tag in (await kari.get("/api/start"))[1]["tags"]}
