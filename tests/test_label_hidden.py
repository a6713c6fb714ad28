"""What a labeller must not know before they answer, and what their answer counts for where they know it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labelling import labelling, labels_in, person, put
from retrain.label.answering.writing import DECIDE, Shares, Wish, decided
from retrain.labels import BLIND, KNOWN, REVIEW, SEEN, SUGGESTED, TAG, Answer, Labels
from ripeloop.blobs import FolderBlobs


@pytest.fixture
def folder(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


async def test_who_knows_the_suggestion_did_not_answer_blind(folder: FolderBlobs, tmp_path: Path) -> None:
    keys = {await put(folder, nth) for nth in range(4)}
    hows = dict[str, str]()
    async with labelling(folder, tmp_path / "state", blind=1.0) as (_, url), person(url, "Kari") as kari:
        for query, seen in (("", (True, "")), ("&tag=ripe", (False, "ripe")), ("&order=tag", (False, "ripe"))):
            (sample,) = await kari.next(query=query)
            assert (sample["blind"], sample["tag"]) == seen
            await kari.answer(sample, "ripe")
            hows[sample["key"]] = SUGGESTED if query else BLIND
        (sample,) = await kari.next()
        await kari.answer(sample | {"asked": ""}, "ripe")  # a script of their own
        hows[sample["key"]] = SUGGESTED
    assert {key: labels.answers[-1].how for key, labels in (await labels_in(folder)).items()} == hows
    assert set(hows) == keys


async def test_a_labeller_learns_nowhere_what_is_hidden_from_them(folder: FolderBlobs, tmp_path: Path) -> None:
    keys = {await put(folder, nth) for nth in range(3)}
    admin = {"blind": 1.0, "admins": ("Eva",), "overlap": 1.0}
    async with (
        labelling(folder, tmp_path / "state", **admin) as (_, url),
        person(url, "Ola") as ola,
        person(url, "Kari") as kari,
        person(url, "Eva") as eva,
    ):
        (first,) = await ola.next()
        await ola.answer(first, "unripe")
        for query in ("", "?tag=unripe", "?state=tag", "?said=unripe", "?order=tag"):
            told = (await kari.get(f"/api/samples{query}"))[1]["samples"]
            assert {one["key"] for one in told} == keys, query
            assert {(one["tag"], one["state"], one["said"], len(one["predictions"])) for one in told} == {
                ("", "open", "", 0)
            }
            assert all("answers" not in one for one in told)
        assert "ripe" not in (await kari.get("/export.csv"))[1].partition("\n")[2]
        assert await kari.next(query="&mode=review&state=open") == []
        assert await kari.next(query="&mode=review&state=any") == []
        shown = await eva.next(query="&mode=review&state=tag")
        assert [one["said"] for one in shown] == ["unripe"]
        told = (await kari.answer({"key": first["key"]}, "unripe"))[1]
        assert (told["state"], told["said"]) == ("tag", ["unripe"])
        assert (await kari.get(f"/api/sample/{first['key']}"))[1]["answers"]


async def test_a_known_image_shows_as_much_as_the_others(folder: FolderBlobs, tmp_path: Path) -> None:
    key = await put(folder, 1)
    async with labelling(folder, tmp_path / "one", overlap=1.0) as (_, url):
        for name in ("Kari", "Per"):
            async with person(url, name) as each:
                (sample,) = await each.next()
                await each.answer(sample, "ripe")
    other = await put(folder, 2)
    async with labelling(folder, tmp_path / "two", known=1.0) as (_, url), person(url, "Ida") as ida:
        for order in ("newest", "oldest", "tag"):  # where it would be out of order
            (sample,) = await ida.next(query=f"&order={order}")
            assert sample["key"] == other
        (sample,) = await ida.next()
        assert (sample["key"], sample["blind"], sample["tag"], sample["state"]) == (key, False, "ripe", "open")
        told = (await ida.answer(sample, "unripe"))[1]
        assert (told["state"], told["said"]) == ("tag", ["unripe"])  # what everybody is told
        assert (await labels_in(folder))[key].answers[-1].how == KNOWN


async def test_no_labeller_decides_what_nobody_disagrees_about(folder: FolderBlobs, tmp_path: Path) -> None:
    key = await put(folder, 1)
    async with (
        labelling(folder, tmp_path / "state", admins=("Eva",)) as (_, url),
        person(url, "Ola") as ola,
        person(url, "Kari") as kari,
        person(url, "Eva") as eva,
    ):
        (sample,) = await ola.next()
        await ola.answer(sample, "ripe")
        assert (await kari.answer(sample | {"seen": 99_999}, "unripe", mode="review"))[0] in (409, 422)
        assert (await kari.answer(sample | {"seen": 1}, "unripe", mode="review"))[0] == 422
        assert (await labels_in(folder))[key].final == (await labels_in(folder))[key].answers[0]
        assert (await eva.answer(sample | {"seen": 99_999}, "unripe", mode="review"))[0] == 200
        assert (await eva.answer(sample | {"seen": 2}, "ripe", mode="review"))[0] == 200
        assert [one.how for one in (await labels_in(folder))[key].answers] == [SUGGESTED, REVIEW, REVIEW]


def test_who_saw_the_others_answers_is_no_second_opinion() -> None:
    labels = Labels((Answer(TAG, ("ripe",), "ola", "2026-11-22T08:00:00Z", BLIND),))
    wish = Wish("1", "ola", TAG, ("unripe",), "2026-11-22T09:00:00Z", DECIDE, seen=1, doubted=True)
    found = decided(labels, wish, Shares(0.0, 0.0))
    assert isinstance(found, Labels)
    assert found.answers[-1].how == SEEN
    decision = decided(labels, replace(wish, by="kari"), Shares(0.0, 0.0))
    assert isinstance(decision, Labels)
    again = decided(decision, replace(wish, by="kari", at="2026-11-22T10:00:00Z", doubted=False), Shares(0.0, 0.0))
    assert isinstance(again, Labels)
    assert [one.how for one in again.answers] == [BLIND, REVIEW, REVIEW]
