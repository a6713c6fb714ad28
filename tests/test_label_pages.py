"""The pages of progress, quality and likely mistakes, and the export: what they show, and to whom."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from yarl import URL

from containers import Container, said, usual
from holdouts import seeing
from labelling import Browser
from retrain.label.quality.labellers import ENOUGH
from retrain.labels import BLIND, REVIEW, SUGGESTED, TAG

NASTY = '<script>alert("x")</script>'


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Container]:
    """Two people who differ, a wrong label, hostile names."""
    made = Container(tmp_path)
    await usual(made)
    for nth in range(4):
        await made.put(said("red"), said("red" if nth else "green", "ola", SUGGESTED), use="holdout")
    await made.put(said("green", "ola"), red=0.95)
    await made.put(said(NASTY, "=ola()"), device=NASTY[:40])
    await made.put(red=0.7)
    yield made
    made.cache.close()


async def read(browser: Browser, path: str, status: int = 200) -> tuple[str, Mapping[str, str]]:
    async with browser.session.get(browser.url + path) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text, answer.headers


async def rows_of(browser: Browser, path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((await read(browser, path))[0], newline="")))


async def mistakes(browser: Browser, query: str = "") -> Any:
    status, told = await browser.get(f"/api/mistakes{query}")
    assert status == 200
    return told


async def test_the_pages_show_an_admin_all_and_a_labeller_no_other_name(container):
    async with container.opened() as (eva, kari):
        for path in ("/progress", "/quality", "/mistakes"):
            for browser in (eva, kari):
                text, headers = await read(browser, path)
                assert "<script>" not in text
                assert "style=" not in text
                assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
        admins, own = (await read(eva, "/quality"))[0], (await read(kari, "/quality"))[0]
        assert "ola" in admins
        assert "ola" not in own
        assert "<bdi>kari</bdi>" in own
        assert "too few to tell: 4" in own  # images that both answered
        assert "75 %" not in own  # percent of them they say the same of
        assert "&lt;script&gt;" in (await read(eva, "/progress"))[0]


async def test_the_pages_of_an_empty_container_say_that_there_is_nothing_yet(tmp_path):
    empty = Container(tmp_path)
    async with empty.opened() as (eva, _):
        assert "Nothing is labelled yet." in (await read(eva, "/progress"))[0]
        assert "Nothing to show yet." in (await read(eva, "/quality"))[0]
        assert (await mistakes(eva))["mistakes"] == []
        assert await rows_of(eva, "/export.csv") == []
    empty.cache.close()


async def test_quality_concludes_nothing_from_a_few_answers(tmp_path):
    found = Container(tmp_path)
    await found.put(said("red", how=SUGGESTED))
    await found.put(said("green"))
    async with found.opened() as (eva, _):
        few = (await read(eva, "/quality"))[0]
        assert "Too few answers to tell: 50 with the suggestion shown and 50 with it hidden are needed." in few
        assert "No sign that" not in few
        assert "100 %" not in few  # of one
        assert "too few to tell: 1" in few
    found.cache.close()


async def test_quality_concludes_from_enough_answers(tmp_path):
    found = Container(tmp_path)
    for nth in range(ENOUGH):
        await found.put(said("red" if nth % 2 else "green", how=SUGGESTED))
        await found.put(said("red" if nth % 2 else "green"))
    async with found.opened() as (eva, _):
        enough = (await read(eva, "/quality"))[0]
        assert "No sign that the suggestion steers." in enough
        assert "Too few answers" not in enough
    found.cache.close()


async def test_every_page_speaks_every_language(container):
    async with container.opened(report=container.folder) as (eva, _):
        for language, words in (("en", "Each tag"), ("nb", "Hver merkelapp"), ("nl", "Elk label")):
            eva.session.cookie_jar.update_cookies({"lang": language}, URL(eva.url))
            assert words in (await read(eva, "/progress"))[0]
            await read(eva, "/quality")
            await read(eva, "/mistakes")


async def test_the_judges_report_is_shown_and_can_do_nothing(container):
    report = {"verdict": "better", "because": [NASTY], "images": 2, "active": side("old"), "candidate": side(NASTY)}
    turn = container.folder / "work" / "turns" / "0001"
    turn.mkdir(parents=True)
    (turn / "judged.json").write_text(json.dumps(report))
    (turn / "report.html").write_text(f"<title>report</title>{NASTY}")
    async with container.opened(report=container.folder / "work") as (_, kari):
        text, _ = await read(kari, "/progress")
        assert "The candidate is better." in text
        assert NASTY not in text
        text, headers = await read(kari, "/report")
        assert text == f"<title>report</title>{NASTY}"
        assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'; style-src")
        for of in ("active", "candidate", "field", "nonsense"):
            text, headers = await read(kari, f"/confusion.svg?of={of}")
            assert headers["Content-Type"].startswith("image/svg+xml")
            assert headers["Content-Security-Policy"].startswith("sandbox")
            ElementTree.fromstring(text)


def side(version: str) -> dict[str, Any]:
    return {
        "version": version, "accuracy": {"share": 0.5, "low": 0.1, "high": 0.9},
        "tags": [{"tag": "red"}, {"tag": NASTY}], "confusion": [{"tag": "red", "answer": NASTY, "images": 1}],
    }  # fmt: skip


async def test_there_is_no_report_where_none_was_judged(container):
    async with container.opened() as (_, kari):
        await read(kari, "/report", 404)
        await read(kari, "/confusion.svg?of=active", 404)


async def test_one_answer_puts_a_likely_mistake_right(container):
    async with container.opened() as (_, kari):
        told = await mistakes(kari)
        (doubt,) = told["mistakes"]
        assert (doubt["label"], doubt["says"], doubt["unseen"], told["newer"]) == ("green", "red", True, None)
        assert [answer["by"] for answer in doubt["sample"]["answers"]] == [""]
        assert (await kari.answer(doubt["sample"], "red", mode="review"))[0] == 200
        assert (await mistakes(kari))["mistakes"] == []
        answers = (await kari.get(f"/api/sample/{doubt['key']}"))[1]["answers"]
        assert [(one["tags"], one["how"]) for one in answers] == [(["green"], BLIND), (["red"], REVIEW)]


async def test_what_a_page_has_is_not_given_to_it_again(container):
    async with container.opened() as (eva, kari):
        (doubt,) = (await mistakes(kari, "?have=,"))["mistakes"]
        assert (await kari.get("/api/mistakes?n=many"))[0] == 422
        told = await mistakes(kari, f"?n=5&have=x,{doubt['key']}")
        assert (told["mistakes"], told["left"]) == ([], 0)
        assert (await mistakes(eva, "?n=0"))["left"] == 1


async def test_a_newer_model_is_asked_while_people_label(container):
    model = seeing(container.folder / "new.zip", "newer")
    async with container.opened(model=model) as (_, kari):
        newer: Any = {"done": 0}
        async with asyncio.timeout(60):
            while newer["done"] < 13:
                await asyncio.sleep(0.1)
                newer = (await mistakes(kari))["newer"]
        assert newer == {"version": "newer", "done": 13, "of": 13, "why": ""}


async def test_the_export_has_all_rows_and_names_for_admins_alone(container):
    async with container.opened() as (eva, kari):
        _, headers = await read(eva, "/export.csv")
        assert headers["Content-Disposition"].startswith('attachment; filename="labels-')
        rows, own = await rows_of(eva, "/export.csv"), await rows_of(kari, "/export.csv")
        assert len(rows) == 15
        assert {row["by"] for row in rows} == {"", "kari", "ola", "'=ola()"}
        assert {row["by"] for row in own} == {"", "kari"}
        assert NASTY in {row["label"] for row in rows}
        # others' answers to what a labeller may still be asked of are not told
        assert 0 < len(own) < len(rows)
        assert {row["id"] for row in own} < {row["id"] for row in rows}
        some = await rows_of(eva, "/export.csv?state=labelled&tag=red")
        assert {(row["state"], row["suggested"]) for row in some} == {(TAG, "red")}
