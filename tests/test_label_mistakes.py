"""Which labels are likely mistakes, what a newer model says of them, and the last judgement: found, kept and drawn."""

import asyncio
import json
import os
import sqlite3
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from holdouts import coloured, holdout, seeing, swapping
from retrain.__main__ import main
from retrain.label.quality import confusion, judged
from retrain.label.quality.asker import Asker, Sought
from retrain.label.quality.mistakes import Labelled, likely_mistakes
from retrain.label.quality.predicted import Predicted, Unreadable
from ripeloop.errors import BadModel, Denied, NotFound, Offline, SettingsError
from ripeloop.prediction import Prediction, image_id


def labelled(id_: str, tag: str, ripe: float, *, unseen: bool = True) -> Labelled:
    return Labelled(id_, tag, {"ripe": ripe, "green": 1 - ripe}, unseen)


USUAL = [labelled(f"r{nth}", "ripe", 0.8) for nth in range(5)] + [labelled(f"g{nth}", "green", 0.3) for nth in range(5)]


def test_a_label_is_in_doubt_where_another_tag_is_as_sure_as_it_usually_is():
    found = likely_mistakes([*USUAL, labelled("wrong", "ripe", 0.05), labelled("maybe", "ripe", 0.45)])
    (doubt,) = found  # of `maybe` the model says green, but less surely than it says so of what is green
    assert (doubt.id, doubt.label, doubt.says) == ("wrong", "ripe", "green")
    assert doubt.gap == pytest.approx(0.9)


def test_the_surest_doubts_come_first_and_those_the_model_never_learned_before_all():
    found = likely_mistakes([
        *USUAL,
        labelled("learned", "green", 1.0, unseen=False),
        labelled("sure", "ripe", 0.1),
        labelled("surer", "ripe", 0.05),
        labelled("a", "ripe", 0.1),
    ])  # fmt: skip
    assert [doubt.id for doubt in found] == ["surer", "a", "sure", "learned"]


def test_a_tag_the_model_does_not_know_is_never_in_doubt():
    assert likely_mistakes([*USUAL, Labelled("new", "rotten", {"ripe": 0.99})]) == []


def test_a_tag_with_few_images_is_held_against_a_fixed_measure():
    few = [labelled("one", "green", 0.9), labelled("two", "green", 0.6), labelled("three", "ripe", 0.25)]
    assert [doubt.id for doubt in likely_mistakes(few)] == ["one", "three"]


def test_no_labels_are_no_mistakes():
    assert likely_mistakes([]) == []


def test_what_a_model_said_is_known_after_a_restart(tmp_path):
    said = (Prediction("ripe", 0.25), Prediction("«grønn»", 0.75))
    with Predicted(tmp_path / "p.db") as kept:
        kept.add("m", "one", said)
        kept.add("m", "two", Unreadable("no image"))
        kept.add("other", "one", said[:1])
    with Predicted(tmp_path / "p.db") as kept:
        many = [f"{nth}" for nth in range(2000)]
        assert kept.of("m", [*many, "one", "two"]) == {"one": said, "two": Unreadable("no image")}
        assert kept.of("other", ["one", "two"]) == {"one": said[:1]}


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    (tmp_path / "p.db").write_bytes(b"no database" * 999)
    with pytest.raises(SettingsError, match=r"p\.db"):
        Predicted(tmp_path / "p.db")


class Store:
    """Images by id; `away`: so many fetches fail first."""

    def __init__(self, *images: bytes, away: int = 0) -> None:
        self.images = {image_id(image): image for image in images}
        self.fetched: list[str] = []
        self.away = away

    async def wanted(self) -> list[Sought]:
        return [Sought(id_, f"line-1/{id_}.png") for id_ in self.images]

    async def fetch(self, blob: str) -> bytes:
        id_ = blob.removeprefix("line-1/").removesuffix(".png")
        if self.away:
            self.away -= 1
            raise Offline("no network")
        self.fetched.append(id_)
        if self.images[id_] == b"gone":
            raise NotFound("deleted")
        return self.images[id_]


async def test_a_newer_model_is_asked_about_each_image_once(tmp_path):
    red, green = coloured("red", 1), coloured("green", 1)
    store = Store(red, green, b"no image", b"gone")
    with Predicted(tmp_path / "p.db") as kept:
        asker = Asker(seeing(tmp_path / "new.zip", "newer"), kept)
        await asker.once(store.wanted, store.fetch)
        said = asker.said(list(store.images))
        assert max(said[image_id(red)], key=lambda p: p.probability).tag == "red"
        assert max(said[image_id(green)], key=lambda p: p.probability).tag == "green"
        assert isinstance(said[image_id(b"no image")], Unreadable)
        assert image_id(b"gone") not in said
        assert (asker.asked.done, asker.asked.of, asker.version) == (4, 4, "newer")
    with Predicted(tmp_path / "p.db") as kept:
        await Asker(tmp_path / "new.zip", kept).once(store.wanted, store.fetch)
        assert store.fetched[4:] == [image_id(b"gone")]
        await Asker(swapping(tmp_path / "other.zip"), kept).once(store.wanted, store.fetch)
        assert len(store.fetched) == 9


async def test_asking_goes_on_when_the_storage_is_back(tmp_path):
    store = Store(*[coloured("red", nth) for nth in range(5)], away=2)
    with Predicted(tmp_path / "p.db") as kept:
        asker = Asker(seeing(tmp_path / "new.zip"), kept)
        whys = set()
        task = asyncio.create_task(asker.run(store.wanted, store.fetch, again=0.01, rest=0))
        async with asyncio.timeout(30):
            while asker.asked.done < 5:
                whys.add(asker.asked.why)
                await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert any("no network" in why for why in whys)
        assert (asker.asked.of, asker.asked.why) == (5, "")


async def test_a_credential_that_ended_marks_no_image_as_unreadable(tmp_path):
    store = Store(coloured("red", 1))

    async def denied(_: str) -> bytes:
        raise Denied("the SAS has expired: make a new one")

    with Predicted(tmp_path / "p.db") as kept:
        asker = Asker(seeing(tmp_path / "new.zip"), kept)
        task = asyncio.create_task(asker.run(store.wanted, denied, again=60, rest=0))
        async with asyncio.timeout(30):
            while not asker.asked.why:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert asker.asked.why == "the SAS has expired: make a new one"
        assert asker.said(list(store.images)) == {}


def test_a_file_that_is_gone_away_is_told_and_can_be_asked_again(tmp_path):
    with Predicted(tmp_path / "p.db") as kept:
        kept.add("m", "one", ())
        with sqlite3.connect(tmp_path / "p.db") as other:
            other.execute("DROP TABLE predicted")
        other.close()
        with pytest.raises(Offline, match="disk"):
            kept.of("m", ["one"])


async def test_what_is_no_model_is_refused_at_the_start(tmp_path):
    (tmp_path / "new.zip").write_bytes(b"PK")
    with Predicted(tmp_path / "p.db") as kept, pytest.raises(BadModel):
        Asker(tmp_path / "new.zip", kept)


@pytest.fixture
def judgement(tmp_path: Path) -> Path:
    """What `ripeloop judge` writes of a good model and one that takes red for blue."""
    folder = tmp_path / "work" / "2026-11-22"
    folder.mkdir(parents=True)
    models = swapping(tmp_path / "old.zip"), seeing(tmp_path / "new.zip")
    args = ["--active", str(models[0]), "--candidate", str(models[1]), "--holdout", str(holdout(tmp_path / "holdout"))]
    out = CliRunner().invoke(main, ["judge", *args, "--json", "--report", str(folder / "report.html")])
    assert out.exit_code == 0, out.output
    path = folder / "judge.json"
    path.write_text(out.stdout)
    return path


def test_the_newest_judgement_is_found_and_summed_up(tmp_path, judgement):
    (tmp_path / "work" / "state.json").write_text(json.dumps({"step": "judge", "padding": "x" * 50}))
    (tmp_path / "work" / "damaged.json").write_text('{"verdict": "better", "because": 7, "images": []}')
    for place in (judgement, tmp_path / "work"):
        found = judged.find(place)
        assert (found.verdict, found.images) == ("better", 60)
        assert (found.active.version, found.candidate.version) == ("swapping", "seeing")
        assert found.candidate.accuracy == 1
        assert found.active.confusion["red", "blue"] == 20
        assert found.html == judgement.with_name("report.html")
    older = judgement.with_name("older.json")
    older.write_text(judgement.read_text().replace('"better"', '"worse"'))
    os.utime(older, (1, 1))
    assert judged.find(tmp_path / "work").verdict == "better"
    judgement.unlink()
    assert judged.find(tmp_path / "work").verdict == "worse"


@pytest.mark.parametrize("text", ["", "{", "[1,2]" * 20, "[" * 5000, '{"verdict":"better","because":[],"images":1}'])
def test_what_is_no_judgement_is_passed_over(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert judged.find(tmp_path) is None
    assert judged.find(tmp_path / "a.json") is None
    assert judged.find(tmp_path / "nowhere") is None
    assert judged.find(None) is None


def test_the_picture_of_the_confusion_is_one_whole_file_and_holds_every_number(judgement):
    side = judged.find(judgement).active
    root = ElementTree.fromstring(confusion.picture(side.tags, side.confusion, "What the active model takes for what"))
    assert [one.text for one in root.iter() if "number" in one.get("class", "").split()][3:] == [
        "0", "0", "20", "0", "20", "0", "20", "0", "0",
    ]  # fmt: skip
    assert root[0].text == "What the active model takes for what"


def test_names_of_tags_stay_text_in_the_picture():
    nasty = "</svg><script>alert(1)</script>&\u202e"
    text = confusion.picture([nasty], {(nasty, nasty): 3}, nasty)
    assert "<script" not in text
    assert "\u202e" not in text
    ElementTree.fromstring(text)


def test_of_too_many_tags_those_with_the_most_images_are_drawn():
    tags = [f"t{nth:03}" for nth in range(300)]
    text = confusion.picture(tags, {(tag, tag): nth for nth, tag in enumerate(tags)}, "")
    assert "t299" in text
    assert "t259" not in text
    assert len(text) < 1_000_000
