"""What the cache tells of progress, quality, likely mistakes and look-alikes; the table of all samples."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from containers import NOW, Container, said, usual
from holdouts import seeing
from retrain.judging.chances import Share
from retrain.label.asking.alike import LookAlikes
from retrain.label.container import samples
from retrain.label.quality import table
from retrain.label.quality.asker import Asker
from retrain.label.quality.doubted import doubted, suspects, to_ask
from retrain.label.quality.fresh import Fresh
from retrain.label.quality.numerals import Numerals
from retrain.label.quality.predicted import Predicted
from retrain.label.quality.progress import TagRow, progress
from retrain.label.quality.quality import quality
from retrain.label.strings import LANGUAGES, translator
from retrain.labels import BLIND, GRID, JUNK, KNOWN, NONE, REVIEW, SUGGESTED, UNSURE
from ripeloop.prediction import Prediction


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    made = Container(tmp_path)
    yield made
    made.cache.close()


async def test_progress_counts_images_and_what_each_tag_needs(container):
    yesterday = NOW - timedelta(days=1)
    await container.put()
    await container.put()
    await container.put(said("red"), use="training")
    await container.put(said("red", at=yesterday), use="holdout")
    await container.put(said("red+green"), red=0.9)
    await container.put(said(NONE))
    await container.put(said(JUNK))
    await container.put(said(UNSURE))
    await container.put(said("red"), said("blue", "ola"))
    found = await container.look(progress, NOW, ["blue"])
    assert (found.open, found.tagged, found.none, found.junk, found.unsure, found.disputed) == (2, 3, 1, 1, 1, 1)
    assert (found.images, found.answered, found.usable) == (9, 7, 4)
    assert found.today == 7  # both of the disagreement, and none of yesterday's
    assert found.tags == (TagRow("blue", 0), TagRow("green", 1), TagRow("red", 3, training=1, holdout=1))
    assert [row.missing(3) for row in found.tags] == [3, 2, 0]
    assert found.mixed == {("red", "red"): 3, ("green", "red"): 1}


async def test_an_empty_container_has_no_progress_and_no_quality(container):
    found = await container.look(progress, NOW)
    assert (found.images, found.today, found.tags) == (0, 0, ())
    told = await container.look(quality, NOW)
    assert (told.people, told.agreement.pairs, told.steered.difference) == ((), (), None)


async def test_quality_tells_agreement_measures_steering_and_pace(container):
    for nth in range(4):
        at = NOW + timedelta(seconds=3 * nth)
        await container.put(said("red", at=at), said("red" if nth else "green", "ola", SUGGESTED))
    await container.put(said("red", "per"), said("red", "eva", REVIEW), said("red", "kari", KNOWN))
    await container.put(said("green", "per"), said("green", "eva", REVIEW), said("red", "kari", KNOWN))
    await container.put(said("green", "eva", GRID, NOW - timedelta(days=2)))
    found = await container.look(quality, NOW)
    people = {person.name: person for person in found.people}
    assert [person.name for person in found.people] == ["kari", "ola", "eva", "per"]
    assert people["kari"].measured.right == Share(1, 2)
    assert people["ola"].measured is None
    assert people["kari"].seconds == 3
    assert people["kari"].today == 6
    assert people["eva"].days[2] == ("2026-11-20", 1)
    assert [(pair.one, pair.other, pair.kappa.agreed) for pair in found.agreement.pairs] == [
        ("kari", "ola", Share(3, 4))
    ]
    assert (found.steered.shown, found.steered.hidden) == (Share(3, 4), Share(5, 6))


async def test_only_a_first_word_tells_whether_the_suggestion_steers(container):
    await container.put(said("green"), said("red", how=SUGGESTED))
    found = await container.look(quality, NOW)
    assert (found.steered.shown, found.steered.hidden) == (Share(0, 0), Share(0, 1))


async def test_a_label_the_device_spoke_against_is_in_doubt(container):
    await usual(container)
    wrong = await container.put(said("green"), red=0.95)
    await container.put(said("green"), said("green", "eva", REVIEW), red=0.95)  # decided
    await container.put(said("green"), said("green"), red=0.95)  # looked at twice
    await container.put(said("green+blue"), red=0.95)
    await container.put(said(JUNK), red=0.95)
    none = await container.put(
        said(NONE), red=0.99, predictions=(Prediction("red", 0.99), Prediction("Negative", 0.01))
    )
    images = await container.look(suspects, "Negative")
    assert len(images) == 10
    doubts = doubted(images, {}, "")
    assert [(one.doubt.id, one.doubt.label, one.doubt.says, one.model) for one in doubts] == [
        (none, "Negative", "red", "v1"),
        (wrong, "green", "red", "v1"),
    ]


async def test_a_newer_model_is_heard_before_the_device_and_what_it_learned_comes_last(container):
    await usual(container)
    learned = await container.put(said("green"), red=0.1, use="training")
    held = await container.put(said("green"), red=0.1, use="holdout")
    right = await container.put(said("red"), red=0.01)
    images = await container.look(to_ask)
    assert images[0].blob.endswith(".png")
    with Predicted(container.folder / "p.db") as kept:
        asker = Asker(seeing(container.folder / "new.zip", "newer"), kept)
        found = await container.look(suspects, "Negative")
        by_device = [one.doubt.id for one in doubted(found, {}, "")]
        assert by_device == [right]
        wanted = [
            image for image in images if image.id in {one.id for one in found if one.key in (learned, held, right)}
        ]
        assert wanted[0].id == next(one.id for one in found if one.key == held)
        for _ in range(2):
            await asker.once(lambda: _these(wanted), container.blobs.get)
        doubts = doubted(found, asker.said([image.id for image in found]), asker.version)
    assert [(one.doubt.id, one.doubt.unseen, one.model) for one in doubts] == [
        (held, True, "newer"),
        (learned, False, "newer"),
    ]


async def _these(images: Sequence[Any]) -> Sequence[Any]:
    return images


async def test_the_table_has_one_row_an_image_and_only_an_admin_reads_the_others_names(container):
    await container.put()
    await container.put(said("red+blue", "kari"), use="holdout")
    await container.put(said("green", "ola"), said("green", "eva", REVIEW))
    rows = await container.look(table.part, 0)
    for sees, names in ((None, ["", "kari", "eva"]), ("kari", ["", "kari", ""]), ("eva", ["", "", "eva"])):
        read = [dict(zip(table.COLUMNS, table.row_of(row, sees), strict=True)) for row in rows]
        read.sort(key=lambda row: row["time"], reverse=True)
        assert [row["by"] for row in read] == names
        assert [row["label"] for row in read] == ["", "blue | red", "green"]
        assert [row["how"] for row in read] == ["", BLIND, REVIEW]
        assert read[1]["use"] == "holdout"
        assert read[0]["confidence"] == "0.5000"


async def test_the_table_comes_in_parts_and_each_row_once(container):
    for _ in range(7):
        await container.put(said("red"))
    await container.look(progress, NOW)
    seen, after = [], 0
    while rows := await container.cache.ask(table.part, after, most=3):
        seen += [row["id"] for row in rows]
        after = rows[-1]["seq"]
    assert len(seen) == len(set(seen)) == 7


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_cell_is_a_formula(start):
    text = table.lines([[f"{start}HYPERLINK(1)", 'a,"b"\nc', "plain"]])
    (read,) = csv.reader(io.StringIO(text, newline=""))
    assert read == [f"'{start}HYPERLINK(1)", 'a,"b"\nc', "plain"]


def test_numbers_stand_as_each_language_writes_them():
    assert Numerals("en").whole(1234567) == "1,234,567"
    assert Numerals("nb").whole(1234567) == "1\u00a0234\u00a0567"
    assert Numerals("nl").whole(1234567) == "1.234.567"
    assert Numerals("nb").percent(0.8125, 1) == "81,2\u00a0%"
    assert Numerals("en").points(-0.034) == "\u22123"
    assert Numerals("en").points(0.034) == "+3"
    assert (Numerals("en").decimal(None), Numerals("en").points(None)) == ("\u2013", "\u2013")


def test_every_language_says_everything_these_pages_say():
    for language in LANGUAGES:
        say = translator(language)
        for key in ("progress.lead", "quality.agreement_lead", "mistakes.keep_long", "scripts.mistakes_done"):
            assert say.texts[key]
        assert set(say.texts) == set(translator("en").texts)


async def test_a_sum_is_made_once_for_all_who_ask_and_again_when_it_is_old():
    made, now = list[int](), [0.0]

    async def make() -> int:
        made.append(1)
        if len(made) == 3:
            raise OSError("once")
        return len(made)

    fresh = Fresh(make, 60, lambda: now[0])
    assert [await fresh.get(), await fresh.get()] == [1, 1]
    now[0] = 61
    assert await fresh.get() == 2
    now[0] = 200
    with pytest.raises(OSError, match="once"):
        await fresh.get()
    assert await fresh.get() == 4


async def test_what_looks_alike_and_is_still_to_label_is_found_among_those_of_the_same_tag(container):
    looks = "5a" * 32
    one = await container.put(dhash=looks)
    near = await container.put(dhash="5b" + "5a" * 31)
    done = await container.put(said("red"), dhash=looks)
    await container.put(dhash="a5" * 32)
    await container.put(dhash=looks, red=0.1)  # the model says another tag
    await container.put()
    row = await container.look(samples.by_key, one)
    alike = LookAlikes(container.cache)
    assert await alike.of(row) == [near]
    await container.cache.change(lambda look: look.run("UPDATE samples SET state = 'open' WHERE key = ?", (done,)))
    assert await alike.of(row) == [near]  # until the looks are read again
    reading = asyncio.create_task(alike.run(0))
    async with asyncio.timeout(20):
        while await alike.of(row) != [done, near]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.wait([reading])
    await container.cache.change(lambda look: look.run("UPDATE samples SET state = 'junk' WHERE key = ?", (near,)))
    assert await alike.of(row) == [done]
    assert await alike.of(row | {"dhash": ""}) == []
    assert await alike.of(row | {"tag": "blue"}) == []
