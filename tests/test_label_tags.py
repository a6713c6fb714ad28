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
CAFE, DECOMPOSED = "caf\u00e9", "cafe\u0301"


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


@pytest.mark.parametrize("tag", ["cafe\u0301", " cafe\u0301\u00a0"])
def test_a_typed_tag_is_written_in_one_form(tag: str) -> None:
    assert as_typed(tag) == CAFE


@pytest.mark.parametrize("tag", ODD)
def test_a_typed_tag_may_be_of_any_script(tag: str) -> None:
    assert as_typed(tag) == tag.replace("\u00a0", " ")


@pytest.mark.parametrize(
    "tag",
    [
        "\u200b",
        "\u200d",
        "ripe\u200d",
        "ri\u00adpe",
        "\u202eepir",
        "ri\ufeffpe",
        "a\u200d\u200db",
        "\u3164",
        "\u0301",
        "\ue000",
    ],
)
def test_a_typed_tag_hides_nothing_and_shows_something(tag: str) -> None:
    with pytest.raises(Refused, match=r"hidden characters|letters, digits"):
        as_typed(tag)


async def test_a_tag_that_looks_like_another_is_not_added(tmp_path: Path) -> None:
    async with (
        labelling(FolderBlobs(tmp_path / "samples"), tmp_path / "state", tags=("half ripe", CAFE)) as (parts, url),
        person(url, "Kari") as kari,
    ):
        for tag in ("CAFE\u0301", "hal\u200df ripe", "NEGATIVE"):
            status, told = await kari.post("/api/tags", {"tag": tag})
            assert (status, "already" in told["message"]) == (422, True)
        assert (await kari.post("/api/tags", {"tag": DECOMPOSED}))[0] == 200  # it is there
        assert await parts.tags.names() == ["half ripe", CAFE]


async def test_a_tag_of_the_project_or_of_samples_stays_as_they_write_it(tmp_path: Path) -> None:
    folder = FolderBlobs(tmp_path / "samples")
    await put(folder, 1, predictions=[(DECOMPOSED, 0.6), ("ripe", 0.4)])
    async with (
        labelling(folder, tmp_path / "state", tags=("ripe", CAFE, "bl\u00e5")) as (parts, url),
        person(url, "Kari") as kari,
    ):
        assert list(await keys(kari)) == ["ripe", DECOMPOSED, "bl\u00e5"]
        assert await parts.tags.add(CAFE) == DECOMPOSED
        parts.tags.know(["bla\u030a", "unripe"], "Negative")
        assert list(await keys(kari)) == ["ripe", DECOMPOSED, "bla\u030a", "unripe"]
        assert (await kari.answer((await kari.next())[0], DECOMPOSED))[0] == 200
        assert {answer.tags for one in (await labels_in(folder)).values() for answer in one.answers} == {(DECOMPOSED,)}
        assert (await parts.tags.told())[1]["labelled"] == 1


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
