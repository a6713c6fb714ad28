"""What people read on the labelling pages, in each language: every text, every reason, every refusal."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

import retrain.labels
from labelling import labelling, person, put
from retrain.label.strings import LANGUAGES, translator
from ripeloop import uncertainty
from ripeloop.blobs import FolderBlobs

CODE = Path(retrain.labels.__file__).parent
RAISED = {"Refused", "NotFound", "Changed", "Denied", "Offline"}
OURS = [*sorted((CODE / "label").rglob("*.py")), CODE / "labels.py"]
UNSEEN = ("the program ends",)  # of a thread, told to nobody
OTHERS = ("404: Not Found", "405: Method Not Allowed", "the request did not arrive in time: send it again")


def refusals() -> Iterator[str]:
    """Every message that the server may refuse something with; its places hold an X."""
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in RAISED:
                    yield from messages(node.args[0])
                elif name.startswith("HTTP"):
                    yield from (text for word in node.keywords if word.arg == "text" for text in messages(word.value))


def messages(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from (*messages(node.body), *messages(node.orelse))
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    else:
        assert isinstance(node, ast.Constant), f"line {node.lineno}: a refusal is written where it is raised"
        yield str(node.value)


def test_the_languages_have_the_same_texts_with_the_same_places() -> None:
    first, *others = ({key: places(text) for key, text in translator(lang).texts.items()} for lang in LANGUAGES)
    for other in others:
        assert other == first


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_refusal_has_words(lang: str) -> None:
    found = [*refusals(), *OTHERS]
    assert len(found) > 40
    for message in found:
        if message in UNSEEN:
            continue
        told = translator(lang).told(message)
        assert (told.lang, told.text == message) == (lang, lang == "en"), message


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_reason_has_words(lang: str) -> None:
    reasons = (uncertainty.LOW_CONFIDENCE, uncertainty.NARROW_MARGIN, uncertainty.HIGH_ENTROPY, uncertainty.AUDIT)
    for reason in (*reasons, "unknown"):
        assert translator(lang).scripts[f"reason_{reason}"] == translator(lang).reason(reason)
    assert translator(lang).reason("of_another_make") == "of another make"


def test_a_refusal_keeps_what_it_names() -> None:
    assert translator("nb").told("there is 'ripe' already: use that").text == "'ripe' finnes allerede: bruk den."
    assert translator("nl").told("there is '{x}' already: use that").text == "'{x}' bestaat al: gebruik dat."
    strange = translator("nb").told("the store says no")
    assert (strange.text, strange.lang) == ("the store says no", "en")


async def test_people_read_refusals_in_their_language(tmp_path: Path) -> None:
    folder = FolderBlobs(tmp_path / "samples")
    key = await put(folder, 1)
    async with (
        labelling(folder, tmp_path / "state", tags=("ripe",), token="right right right") as (_, url),
        person(url, "Kari", "right right right") as kari,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as stranger,
    ):
        nb, nl = {"Accept-Language": "nb-NO"}, {"Accept-Language": "nl-NL"}
        assert (await kari.post("/api/tags", {"tag": "RIPE"}, **nb))[1][
            "message"
        ] == "'ripe' finnes allerede: bruk den."
        wrong = {"id": "12345678", "key": key, "kind": "tag", "tags": []}
        told = (await kari.post("/api/answers", {"answers": [wrong]}, **nl))[1]["outcomes"][0]
        assert (
            told["message"]
            == "Een antwoord van de soort `tag` noemt een of meer labels, en geen ander antwoord doet dat."
        )
        text = str((await kari.get("/admin/retrain", **nb))[1])
        assert '<p class="notice bad" lang="nb">Bare en administrator kan gjøre dette.</p>' in text
        text = str((await kari.get("/label", **nb))[1])
        assert '<option value="low_confidence">usikker modell</option>' in text
        async with stranger.get(f"{url}/api/visit") as reply:
            fields = {"csrf": (await reply.json())["csrf"], "name": "Ola", "token": "wrong"}
        async with stranger.post(f"{url}/sign-in", data=fields, headers=nl) as reply:
            assert 'role="alert" lang="nl">De toegangscode klopt niet.</p>' in await reply.text()


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
