"""The judge's report: one HTML file that needs nothing, says the verdict first, and in which names stay names."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from classifier.models.model import load
from holdouts import coloured, holdout, labelled, seeing, swapping
from retrain.__main__ import main
from retrain.judging.answers import ask
from retrain.judging.chances import Share
from retrain.judging.curve import Turn
from retrain.judging.holdout import LeftOut, find
from retrain.judging.judge import Contender, Judgement, Rule, judge
from retrain.judging.report.page import page
from retrain.judging.report.pictures import MOST, SIDE, shortened, thumbnail
from retrain.judging.report.plots import intervals, learning, reliability
from retrain.judging.report.style import STYLE

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
FETCHING = re.compile(r"(?i)\b(src|href|action|srcset|data|poster|xlink:href)$")


class Seen(HTMLParser):
    """Every element, attribute and text of a page, and whether all that was opened is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def found_in(images: Path, active: Path, candidate: Path, rule: Rule = Rule()) -> Judgement:
    """What the two models are judged to be over the holdout."""
    models = [load(active), load(candidate)]
    asked = ask(models, find(images).cases)
    sides = [Contender(model.version, "0" * 64, model.tags) for model in models]
    return judge(sides[0], sides[1], asked.answered, rule, asked.left_out)


@pytest.fixture
def better(tmp_path: Path) -> Judgement:
    images = holdout(tmp_path / "h", audits=3)
    return found_in(images, swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"))


def test_the_command_writes_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    images, out = holdout(tmp_path / "h"), tmp_path / "made" / "report.html"
    (tmp_path / "history").write_text('{"labels": 50, "accuracy": 0.5}\n{"labels": 100, "accuracy": 0.7}\n')
    command = ["judge", "--active", str(swapping(tmp_path / "b.zip")), "--candidate", str(seeing(tmp_path / "s.zip"))]
    command += ["--holdout", str(images), "--report", str(out), "--history", str(tmp_path / "history")]
    result = CliRunner().invoke(main, [*command, "--labels", "200"], catch_exceptions=False)
    assert result.exit_code == 0
    seen = Seen(out.read_text("utf-8"))
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in seen.elements}
    for _, attributes in seen.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name, value in attributes.items():
            assert not FETCHING.search(name) or value.startswith("data:image/jpeg;base64,")
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    policy = next(one["content"] for tag, one in seen.elements if one.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "twice the labels, 400 instead of 200" in seen.text
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_the_verdict_comes_first_in_plain_words(better: Judgement) -> None:
    text = Seen(page(better)).text
    assert text.index("The candidate is better.") < text.index("It may be released.") < text.index("Tag by tag")
    assert "40 of 60 images only the candidate got right, 0 only the active model" in text
    assert "of 9 audit samples" in text
    assert "Is more labelling worth it?" not in text


@pytest.mark.parametrize("verdict", ["better", "same", "worse", "not enough data"])
def test_every_verdict_has_its_page_and_its_line_of_the_rule(tmp_path: Path, verdict: str) -> None:
    images = holdout(tmp_path / "h")
    bad, good = swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip")
    sides = {"better": (bad, good), "worse": (good, bad)}.get(verdict, (bad if "not" in verdict else good, good))
    found = found_in(images, *sides, Rule(min_images=1000) if "not" in verdict else Rule())
    assert found.verdict == verdict
    html = page(found)
    Seen(html)
    assert html.count("<li class=hit>") == 1
    assert f"<li class=hit>{verdict}:" in html


def test_hostile_names_tags_and_versions_stay_text(tmp_path: Path) -> None:
    tags = (f"a{HOSTILE}", "b\N{RIGHT-TO-LEFT OVERRIDE}gpj", "c</style></title>")
    images = tmp_path / "h"
    lines = []
    for number, colour in enumerate(("red", "green", "blue")):
        for nth in range(6):
            (images / str(number)).mkdir(parents=True, exist_ok=True)
            name = f"{nth}<script>alert('{nth}')<\N{RIGHT-TO-LEFT OVERRIDE}.png"
            (images / str(number) / name).write_bytes(coloured(colour, nth))
            lines.append({"file": f"{number}/{name}", "tag": tags[number]})
    (images / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    active = labelled(tmp_path / "a.zip", tags)
    candidate = labelled(tmp_path / "c.zip", tags[::-1])
    found = found_in(images, active, candidate)
    html = page(found, [Turn(5, 0.5, HOSTILE), Turn(9, 0.6, HOSTILE)])
    seen = Seen(html)
    assert "script" not in {tag for tag, _ in seen.elements}
    assert "onerror" not in {name for _, attributes in seen.elements for name in attributes}
    assert HOSTILE in seen.text
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html
    assert len([1 for tag, _ in seen.elements if tag == "style"]) == 1
    assert {one["src"][:23] for tag, one in seen.elements if tag == "img"} == {"data:image/jpeg;base64,"}


def test_a_picture_is_made_anew_small_and_without_its_secrets(tmp_path: Path) -> None:
    large = Image.new("RGB", (900, 600), "red")
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    exif[0x0112] = 6  # lies on its side
    out = io.BytesIO()
    large.save(out, "JPEG", exif=exif)
    made = base64.b64decode(thumbnail(out.getvalue()).removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(made)) as small:
        assert small.format == "JPEG"
        assert small.size == (round(SIDE * 600 / 900), SIDE)
        assert not small.getexif()
    assert b"where I live" not in made
    assert len(made) < 5000


def test_a_file_that_is_gone_by_now_leaves_a_word_in_its_place(tmp_path: Path, better: Judgement) -> None:
    for flip in better.flips[:2]:
        flip.answered.case.path.unlink()
    html = page(better)
    assert html.count("the file is gone") == 2
    assert html.count("<img ") == 38


def test_an_image_named_by_its_id_is_shortened_and_whole_in_its_title() -> None:
    name = f"ripe/{'0123456789abcdef' * 4}.jpg"
    assert shortened(name) == "ripe/0123456789….jpg"
    assert shortened("ripe/a picture of mine.jpg") == "ripe/a picture of mine.jpg"


def test_the_name_below_a_picture_is_whole_in_its_title(better: Judgement) -> None:
    shown = [one["title"] for tag, one in Seen(page(better)).elements if tag == "small" and "title" in one]
    assert shown == [flip.answered.case.name for kind in ("worse", "better", "other") for flip in better.flips
                     if flip.kind == kind]  # fmt: skip


def test_many_changes_are_counted_and_not_all_shown(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h", each=MOST)
    html = page(found_in(images, swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip")))
    assert html.count("<figure ") == MOST
    assert f"… and {MOST} more." in html


def test_many_left_out_are_counted_and_not_all_shown(better: Judgement) -> None:
    left_out = [LeftOut(f"{number}.png", "damaged") for number in range(1000)]
    found = judge(
        Contender("a", "", better.tags), Contender("b", "", better.tags), [one.answered for one in better.flips],
        Rule(), left_out,
    )  # fmt: skip
    text = Seen(page(found)).text
    assert "1000 were not judged on." in text
    assert "… and 800 more" in text


def test_a_judgement_on_nothing_is_a_page_too() -> None:
    tags = ("red", "green")
    found = judge(Contender("a", "", tags), Contender("b", "", tags), [])
    assert found.verdict == "not enough data"
    assert "There are 0 images to judge on" in Seen(page(found)).text


def test_the_colours_keep_their_contrast() -> None:
    blocks = re.findall(r"\{(color-scheme[^}]*|--paper[^}]*)\}", STYLE)
    assert len(blocks) == 3  # light, dark, paper
    for block in blocks:
        colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", block.replace("\n", "")))
        for ink in ("ink", "soft", "good", "bad", "warn"):
            for paper in ("paper", "card"):
                assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper, colours)
        assert contrast(colours["candidate"], colours["paper"]) >= 4.5  # numbers stand on it
        assert contrast(colours["active"], colours["paper"]) >= 3  # lines and points


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast of two colours."""
    lights = sorted(map(luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def numbers(svg: str) -> list[float]:
    """Every place that something is drawn at."""
    paths = re.findall(r' d="([^"]*)"', svg) + re.findall(r' c[xy]="([^"]*)"', svg)
    return [float(number) for path in paths for number in re.findall(r"-?[\d.]+", path)]


def test_plots_stay_inside_and_are_told_in_words(better: Judgement) -> None:
    for svg in (
        reliability(better.active.figures.bins, "active"),
        learning([Turn(1, 0.0), Turn(10**9, 1.0)], None),
        learning([Turn(7, 0.5)], None),
        intervals(Share(0, 3), Share(3, 3)),
        intervals(None, Share(0, 0)),
    ):
        Seen(svg)
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())  # type: ignore[union-attr]
        assert all(0 <= number <= max(width, height) for number in numbers(svg))
    assert 'aria-label="Confidence against accuracy: said' in reliability(better.active.figures.bins, "active")
    assert "10 labels 50.0 %" in learning([Turn(10, 0.5)], None)
