"""The labelling server, from a key press to the blob: on real blobs, over HTTP."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from azurite import Azurite
from labelling import Browser, labelling, labels_in, person, put, until
from retrain.labels import BLIND, GRID, JUNK, KNOWN, NONE, REVIEW, SUGGESTED, TAG, UNSURE
from ripeloop.blobs import Blobs, FolderBlobs, open_blobs
from trainerservice import COMPACT, KEY, service, training_client


@pytest.fixture(params=["folder", "cloud"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    if request.param == "folder":
        yield FolderBlobs(tmp_path / "blobs")
        return
    azurite: Azurite = request.getfixturevalue("azurite_cloud")
    async with open_blobs(azurite.connection_string, f"c{uuid.uuid4().hex}", azurite.api_version) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


async def test_a_key_press_becomes_a_label_on_the_blob(blobs: Blobs, tmp_path: Path) -> None:
    key = await put(blobs, 1)
    async with labelling(blobs, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        (sample,) = await kari.next()
        assert sample["key"] == key
        assert sample["predictions"][0] == {"tag": "ripe", "probability": 0.6}
        status, told = await kari.answer(sample, "unripe")
        assert (status, told["outcome"], told["state"], told["said"]) == (200, "written", "tag", ["unripe"])
        assert told["standing"]["today"] == 1
        assert await kari.next() == []
    final = (await labels_in(blobs))[key].final
    assert final is not None
    assert (final.says, final.by, final.how) == ((TAG, ("unripe",)), "Kari", SUGGESTED)
    metadata = (await anext(aiter(blobs.list()))).metadata
    assert metadata["reason"] == "low_confidence"  # the record stays as it was


async def test_every_kind_of_answer_is_kept_as_itself(folder: FolderBlobs, tmp_path: Path) -> None:
    keys = [await put(folder, nth) for nth in range(4)]
    async with labelling(folder, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        samples = await kari.next(4)
        await kari.answer(samples[0], kind="none")
        await kari.answer(samples[1], kind="unsure")
        await kari.answer(samples[2], kind="junk")
        await kari.answer(samples[3], "Negative")  # what the model calls none of them
    labels = await labels_in(folder)
    finals = [labels[sample["key"]].final for sample in samples]
    assert [final.kind for final in finals if final] == [NONE, UNSURE, JUNK, NONE]
    assert sorted(keys) == sorted(labels)


async def test_two_people_are_never_shown_the_same_image(folder: FolderBlobs, tmp_path: Path) -> None:
    for nth in range(8):
        await put(folder, nth)
    async with (
        labelling(folder, tmp_path / "state") as (_, url),
        person(url, "Kari") as kari,
        person(url, "Per") as per,
    ):
        hers, his = await asyncio.gather(kari.next(5), per.next(5))
        assert len({sample["key"] for sample in (*hers, *his)}) == 8
        have = ",".join(sample["key"] for sample in hers)
        assert await kari.next(5, f"&have={have}") == []  # the rest is his
        await per.post("/api/release", {"keys": [sample["key"] for sample in his]})
        assert len(await kari.next(5, f"&have={have}")) == 8 - len(hers)


async def test_of_two_who_answer_one_image_one_wins_and_the_other_is_told(blobs: Blobs, tmp_path: Path) -> None:
    """Two servers on one container, each with a cache of its own: only the blob knows who was first."""
    key = await put(blobs, 1)
    async with (
        labelling(blobs, tmp_path / "one") as (_, one),
        labelling(blobs, tmp_path / "two") as (_, two),
        person(one, "Kari") as kari,
        person(two, "Per", "") as per,
    ):
        (hers,), (his,) = await kari.next(), await per.next()
        assert hers["key"] == his["key"]
        answers = await asyncio.gather(kari.answer(hers, "ripe"), per.answer(his, "unripe"))
        assert sorted(status for status, _ in answers) == [200, 409]
        loser = next(told for status, told in answers if status == 409)
        final = (await labels_in(blobs))[key].final
        assert final is not None
        assert loser["theirs"]["tags"] == list(final.tags)
        assert loser["theirs"]["by"] == ""  # names are for admins
        assert await kari.next() == []
        assert await per.next() == []


async def test_where_the_overlap_wants_two_both_answers_stand(folder: FolderBlobs, tmp_path: Path) -> None:
    key = await put(folder, 1)
    async with (
        labelling(folder, tmp_path / "state", overlap=1.0) as (_, url),
        person(url, "Kari") as kari,
        person(url, "Per") as per,
        person(url, "Ida") as ida,
    ):
        (sample,) = await kari.next()
        await kari.answer(sample, "ripe")
        assert await kari.next() == []  # not the same person again
        (again,) = await per.next()
        assert again["state"] == "open"
        assert again["said"] == ""
        assert "answers" not in again  # he is not told what she said
        assert (await per.answer(again, "unripe"))[1]["state"] == "tag"  # nor that she said otherwise
        assert (await labels_in(folder))[key].disputed
        assert await ida.next() == []
        (dispute,) = await ida.next(query="&mode=review")
        assert [answer["tags"] for answer in dispute["answers"]] == [["ripe"], ["unripe"]]
        assert {answer["by"] for answer in dispute["answers"]} == {""}
        assert (await kari.next(query="&mode=review")) == []  # she took part
        assert (await ida.answer(dispute, "ripe", mode="review"))[1]["state"] == "tag"
    final = (await labels_in(folder))[key].final
    assert final is not None
    assert (final.by, final.how) == ("Ida", REVIEW)


async def test_who_took_part_in_a_disagreement_does_not_decide_it(folder: FolderBlobs, tmp_path: Path) -> None:
    await put(folder, 1)
    async with (
        labelling(folder, tmp_path / "state", overlap=1.0, admins=("Per",)) as (_, url),
        person(url, "Kari") as kari,
        person(url, "Per") as per,
    ):
        (sample,) = await kari.next()
        await kari.answer(sample, "ripe")
        (sample,) = await per.next()
        await per.answer(sample, "unripe")
        (dispute,) = await per.next(query="&mode=review")  # an admin may
        status, told = await kari.answer(dispute, "ripe", mode="review")
        assert (status, told["outcome"]) == (422, "refused")
        assert "somebody else" in told["message"]
        assert (await per.answer(dispute, "unripe", mode="review"))[0] == 200


async def test_an_answer_sent_again_is_one_answer(folder: FolderBlobs, tmp_path: Path) -> None:
    key = await put(folder, 1)
    async with labelling(folder, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        (sample,) = await kari.next()
        id_ = uuid.uuid4().hex
        first = await kari.answer(sample, "ripe", id_=id_)
        second = await kari.answer(sample, "ripe", id_=id_)
        assert first[0] == second[0] == 200
        assert first[1]["said"] == second[1]["said"]
        assert second[1]["standing"]["today"] == 1
    assert len((await labels_in(folder))[key].answers) == 1


async def test_an_undo_brings_the_image_back_and_takes_one_answer_back_only(blobs: Blobs, tmp_path: Path) -> None:
    key = await put(blobs, 1)
    async with labelling(blobs, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        (sample,) = await kari.next()
        await kari.answer(sample, "ripe", id_="answer-1")
        undo = {"id": "undo-0001", "answer": "answer-1", "key": key}
        status, told = await kari.post("/api/undo", undo)
        assert (status, told["outcome"], told["sample"]["key"]) == (200, "undone", key)
        assert told["standing"]["today"] == 0
        assert (await labels_in(blobs))[key].final is None
        await kari.answer(told["sample"], "unripe", id_="answer-2")
        assert (await kari.post("/api/undo", undo))[1]["outcome"] == "undone"  # sent again: nothing more
        assert (await kari.post("/api/undo", undo | {"id": "undo-0002"}))[1]["outcome"] == "nothing"
        final = (await labels_in(blobs))[key].final
        assert final is not None
        assert final.tags == ("unripe",)


async def test_what_is_skipped_comes_back_when_nothing_else_is_left(folder: FolderBlobs, tmp_path: Path) -> None:
    for nth in range(3):
        await put(folder, nth)
    async with (
        labelling(folder, tmp_path / "state") as (_, url),
        person(url, "Kari") as kari,
        person(url, "Per") as per,
    ):
        (first,) = await kari.next()
        await kari.post("/api/skip", {"key": first["key"]})
        assert (await per.next())[0]["key"] == first["key"]  # free for others at once
        await per.post("/api/release", {"keys": [first["key"]]})
        rest = await kari.next(2)
        assert first["key"] not in {sample["key"] for sample in rest}
        for sample in rest:
            await kari.answer(sample, "ripe")
        assert (await kari.next())[0]["key"] == first["key"]


async def test_known_images_measure_people_and_change_no_label(folder: FolderBlobs, tmp_path: Path) -> None:
    key = await put(folder, 1)
    async with (
        labelling(folder, tmp_path / "one", overlap=1.0) as (_, url),
        person(url, "Kari") as kari,
        person(url, "Per") as per,
    ):
        for each in (kari, per):
            (sample,) = await each.next()
            await each.answer(sample, "ripe")
    await put(folder, 2)
    async with labelling(folder, tmp_path / "two", known=1.0, blind=1.0) as (_, url), person(url, "Ida") as ida:
        (sample,) = await ida.next()
        assert sample["key"] == key
        assert sample["blind"]
        assert sample["predictions"] == []
        assert sample["tag"] == ""
        assert (sample["state"], sample["said"], sample["seen"]) == ("open", "", 0)  # it looks like any other
        assert (await ida.answer(sample, "unripe"))[0] == 200
        labels = (await labels_in(folder))[key]
        assert labels.answers[-1].how == KNOWN
        assert labels.final is not None
        assert labels.final.tags == ("ripe",)
        (new,) = await ida.next()  # not the same again
        assert new["key"] != key


async def test_the_suggestion_is_hidden_for_a_share_and_the_answer_says_so(folder: FolderBlobs, tmp_path: Path) -> None:
    keys = [await put(folder, nth) for nth in range(30)]
    async with labelling(folder, tmp_path / "state", blind=0.5) as (_, url), person(url, "Kari") as kari:
        samples = await kari.next(30)
        blind = {sample["key"] for sample in samples if sample["blind"]}
        assert 5 < len(blind) < 25
        assert all(not sample["predictions"] for sample in samples if sample["blind"])
        await asyncio.gather(*(kari.answer(sample, "ripe") for sample in samples))
    for key, labels in (await labels_in(folder)).items():
        assert labels.final is not None
        assert labels.final.how == (BLIND if key in blind else SUGGESTED)
    assert len(keys) == 30


async def test_a_grid_is_answered_with_one_request(folder: FolderBlobs, tmp_path: Path) -> None:
    for nth in range(12):
        await put(folder, nth)
    async with labelling(folder, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        samples = await kari.next(12, "&mode=grid")
        answers = [
            {"id": uuid.uuid4().hex, "key": sample["key"], "kind": "tag", "tags": ["ripe"], "mode": "grid"}
            for sample in samples
        ]
        answers.append({"id": "x"})
        status, told = await kari.post("/api/answers", {"answers": answers})
        assert status == 200
        assert [one["status"] for one in told["outcomes"]] == [200] * 12 + [422]
    finals = [labels.final for labels in (await labels_in(folder)).values()]
    assert {final.how for final in finals if final} == {GRID}
    assert len(finals) == 12


async def test_what_looks_alike_stands_together_in_the_grid(folder: FolderBlobs, tmp_path: Path) -> None:
    round_, square = f"{'f' * 62}00", f"{'0f' * 31}00"
    looks = [round_, square, f"{'f' * 62}01", square, f"{'f' * 62}03", ""]
    keys = [await put(folder, nth, dhash=look) for nth, look in enumerate(looks)]
    keys.append(await put(folder, 9, dhash=round_, predictions=[("unripe", 0.6), ("ripe", 0.4)]))  # judged differently
    async with (
        labelling(folder, tmp_path / "state") as (_, url),
        person(url, "Kari") as kari,
        person(url, "Per") as per,
    ):
        (taken,) = await per.next(query="&device=line-1")
        told = (await kari.get("/api/next?n=20&mode=grid"))[1]
        shown = [sample["key"] for sample in told["samples"]]
        groups = [
            [key for key in keys[:5:2] if key != taken["key"]],
            [key for key in keys[1:4:2] if key != taken["key"]],
        ]
        first, second = groups if shown[0] in groups[0] else reversed(groups)
        alone = shown[0] == keys[5]  # without features it is like nothing
        assert told["groups"][0] == (1 if alone else len(first))
        assert sum(told["groups"]) == len(shown)
        for group in (first, second):
            places = sorted(shown.index(key) for key in group)
            assert places == list(range(places[0], places[0] + len(group)))
        assert keys[-1] not in shown
        assert taken["key"] not in shown


async def test_a_new_tag_has_a_key_and_stays(folder: FolderBlobs, tmp_path: Path) -> None:
    await put(folder, 1)
    async with labelling(folder, tmp_path / "state", tags=("unripe", "ripe")) as (_, url), person(url, "Kari") as kari:
        start = (await kari.get("/api/start"))[1]
        assert [(tag["tag"], tag["key"]) for tag in start["tags"]] == [("unripe", "1"), ("ripe", "2")]
        status, told = await kari.post("/api/tags", {"tag": " over  ripe "})
        assert status == 200
        assert told["tags"][-1] == {"tag": "over ripe", "key": "3", "labelled": 0}
        assert (await kari.post("/api/tags", {"tag": "RIPE"}))[0] == 422
        assert (await kari.post("/api/tags", {"tag": "a\x00b"}))[0] == 422
    async with labelling(folder, tmp_path / "state") as (_, url), person(url, "Per") as per:
        assert [tag["tag"] for tag in (await per.get("/api/start"))[1]["tags"]] == ["ripe", "over ripe"]


async def test_the_projects_tags_are_offered_and_its_negative_one_is_none_of_them(
    folder: FolderBlobs, tmp_path: Path
) -> None:
    key = await put(folder, 1)
    with service(tmp_path / "trainer") as trainer:
        with training_client(trainer.url) as client:
            project = client.create_project("bananas", domain_id=COMPACT, classification_type="Multiclass").id
            for name, kind in (("unripe", "Regular"), ("brown", "Regular"), ("no banana", "Negative")):
                client.create_tag(project, name, type=kind)
        told = {"endpoint": trainer.url, "training_key": KEY, "project": "bananas", "tags": ("unripe",)}
        async with labelling(folder, tmp_path / "state", **told) as (parts, url), person(url, "Kari") as kari:
            await until(lambda: parts.tags.negative == "no banana")
            start = (await kari.get("/api/start"))[1]
            assert [tag["tag"] for tag in start["tags"]] == ["unripe", "brown", "ripe"]
            (sample,) = await kari.next()
            assert (await kari.answer(sample, "no banana"))[1]["state"] == "none"
    assert (await labels_in(folder))[key].final is not None
    wrong = {"endpoint": "http://127.0.0.1:1", "training_key": KEY, "project": "bananas"}
    async with labelling(folder, tmp_path / "state", **wrong) as (_, url), person(url, "Kari") as kari:
        assert [tag["tag"] for tag in (await kari.get("/api/start"))[1]["tags"]] == ["ripe"]


async def test_an_admin_sees_names_and_deletes_and_others_do_not(folder: FolderBlobs, tmp_path: Path) -> None:
    key = await put(folder, 1)
    async with (
        labelling(folder, tmp_path / "state", admins=("Anna",)) as (_, url),
        person(url, "Kari") as kari,
        person(url, "Anna") as anna,
    ):
        (sample,) = await kari.next()
        await kari.answer(sample, "ripe")
        assert (await anna.get(f"/api/sample/{key}"))[1]["answers"][0]["by"] == "Kari"
        assert (await anna.get("/api/samples?by=Kari"))[1]["samples"][0]["key"] == key
        async with person(url, "Per") as per:
            told = (await per.get(f"/api/sample/{key}"))[1]
            assert "answers" not in told  # he may be asked of it
            assert (told["state"], told["predictions"]) == ("open", [])
            assert (await per.post("/api/delete", {"key": key}))[0] == 403
            assert (await per.get("/admin/retrain"))[0] == 403
        assert (await anna.get("/admin/retrain"))[0] == 404  # not configured
        assert (await anna.post("/api/delete", {"key": key}))[0] == 200
        assert await labels_in(folder) == {}
        assert (await anna.get(f"/api/sample/{key}"))[0] == 404


async def test_an_admin_starts_a_retraining_and_reads_what_it_says(folder: FolderBlobs, tmp_path: Path) -> None:
    command = ("sh", "-c", "echo training; exit 3")
    async with (
        labelling(folder, tmp_path / "state", admins=("Anna",), retrain=command) as (parts, url),
        person(url, "Anna") as anna,
    ):
        assert (await anna.post("/admin/retrain", {}))[0] == 303
        assert (await anna.post("/admin/retrain", {}))[0] in (303, 422)  # 422 while it runs
        await until(lambda: not parts.retraining.run.running)
        assert parts.retraining.run.exit_code == 3
        assert "training" in (await anna.get("/admin/retrain"))[1]


async def test_pages_are_there_for_who_signed_in(folder: FolderBlobs, tmp_path: Path) -> None:
    await put(folder, 1)
    async with labelling(folder, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        for path in ("/label", "/grid", "/review"):
            status, text = await kari.get(path)
            assert status == 200, text
            assert kari.csrf in text
        assert (await kari.get("/nowhere"))[0] == 404
        assert (await kari.get("/"))[0] == 303
        stranger = Browser(url)
        assert (await stranger.get("/label"))[0] == 303
        assert (await stranger.get("/sign-in"))[0] == 200
        await stranger.close()
