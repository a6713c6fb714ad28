"""`ripeloop judge`: two real models on one holdout, the verdict by its rule, and what is left out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as some

from classifier.models import model as models
from colours import files, model, picture, zipped
from demo.bananas import picture as banana
from demo.bananas import tag_of
from demo.starter import ensure_starter_model
from holdouts import coloured, counts, holdout, labelled, seeing, swapping
from retrain.__main__ import main
from retrain.judging.answers import ask
from retrain.judging.chances import Paired
from retrain.judging.holdout import find
from retrain.judging.judge import BETTER, NOT_ENOUGH, SAME, WORSE, Rule, decide
from ripeloop.errors import SettingsError
from ripeloop.package import Package, write
from ripeloop.prediction import image_id
from trainer.learning.training import train


def judged(active: Path, candidate: Path, images: Path, *more: str) -> tuple[int, dict[str, Any]]:
    result = run(active, candidate, images, "--json", *more)
    return result.exit_code, json.loads(result.stdout)


def run(active: Path, candidate: Path, images: Path, *more: str) -> Result:
    asked = ["judge", "--active", str(active), "--candidate", str(candidate), "--holdout", str(images), *more]
    return CliRunner().invoke(main, asked, catch_exceptions=False)


def test_a_better_candidate_is_better_and_the_other_way_round_worse(tmp_path: Path) -> None:
    images, seen, not_seen = holdout(tmp_path / "h"), seeing(tmp_path / "s.zip"), swapping(tmp_path / "b.zip")
    code, found = judged(not_seen, seen, images)
    assert (code, found["verdict"], found["images"], counts(found)) == (0, "better", 60, (40, 0))
    assert found["active"]["accuracy"]["hits"] == 20
    assert found["candidate"]["accuracy"] == {"share": 1.0, "low": 0.939828, "high": 1.0, "hits": 60, "of": 60}
    assert found["active"]["version"] == "swapping"
    assert {(one["tag"], one["answer"]): one["images"] for one in found["active"]["confusion"]} == {
        ("red", "blue"): 20, ("green", "green"): 20, ("blue", "red"): 20
    }  # fmt: skip
    assert {one["change"] for one in found["flips"]} == {"better"}
    assert len(found["flips"]) == 40
    code, found = judged(seen, not_seen, images)
    assert (code, found["verdict"], counts(found)) == (1, "worse", (0, 40))
    assert {one["change"] for one in found["flips"]} == {"worse"}


def test_the_same_model_is_the_same(tmp_path: Path) -> None:
    code, found = judged(seeing(tmp_path / "a.zip", "1"), seeing(tmp_path / "b.zip", "2"), holdout(tmp_path / "h"))
    assert (code, found["verdict"], found["flips"]) == (1, "same", [])
    assert found["because"] == ["Both models are right about the very same images."]
    assert found["active"]["sha256"] == found["candidate"]["sha256"]


def test_a_better_candidate_is_not_believed_on_few_images(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h", each=16)
    code, found = judged(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images)
    assert (code, found["verdict"]) == (1, "not enough data")
    assert found["because"] == ["There are 48 images to judge on, and 50 are needed."]
    code, found = judged(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images, "--min-images", "48")
    assert (code, found["verdict"]) == (0, "better")


def told(by_tag: dict[str, Paired], *gone: str, rule: Rule = Rule()) -> tuple[str, list[str]]:
    """The verdict and why for these counts; the candidate does not know the tags that are `gone`."""
    gained, lost, images = (sum(getattr(one, of) for one in by_tag.values()) for of in ("gained", "lost", "images"))
    return decide(Paired(gained, lost, images), by_tag, [tag for tag in by_tag if tag not in gone], rule)


def rates(tags: int, each: int, gained: float, lost: float, *bad: float) -> Counter[str]:
    """The verdicts of 1,000 drawn holdouts of `each` images a tag: so many gained and lost, at the first tag `bad`."""
    rng = np.random.default_rng(tags)
    shares = [bad, *[(gained, lost)] * (tags - 1)] if bad else [(gained, lost)] * tags
    drawn = rng.multinomial(each, [(*both, 1 - sum(both)) for both in shares], size=(1000, tags)).tolist()
    holdouts = ({str(nth): Paired(*one[:2], each) for nth, one in enumerate(counts)} for counts in drawn)
    return Counter(told(by_tag)[0] for by_tag in holdouts)


def rule(gained: int, lost: int, images: int = 200, **tags: tuple[int, int, int]) -> str:
    """The verdict for these counts over all, and for those of each tag: gained, lost, images."""
    by_tag = {"rest": Paired(gained, lost, images)} | {tag: Paired(*numbers) for tag, numbers in tags.items()}
    return decide(Paired(gained, lost, images), by_tag, list(by_tag), Rule())[0]


@pytest.mark.parametrize(
    ("verdict", "found"),
    [
        (SAME, rule(0, 0)),
        (SAME, rule(7, 2)),  # p = 0.18
        (BETTER, rule(9, 1)),  # p = 0.02
        (WORSE, rule(1, 9)),
        (WORSE, rule(1, 9, images=20)),  # a loss counts however few images there are
        (NOT_ENOUGH, rule(9, 1, images=49)),
        (NOT_ENOUGH, rule(9, 1, rare=(0, 0, 4))),
        (BETTER, rule(9, 1, rare=(0, 0, 5))),
        (WORSE, rule(30, 6, ripe=(0, 7, 50))),  # better over all, and badly worse at one tag
        (NOT_ENOUGH, rule(30, 6, ripe=(0, 5, 50))),  # of two tags, one may look so by chance
        (BETTER, rule(30, 6, ripe=(0, 4, 50))),  # so little that it counts as none
        (NOT_ENOUGH, rule(30, 6, ripe=(0, 4, 20))),  # it may be badly worse
        (BETTER, rule(30, 6, ripe=(0, 1, 10))),  # one image is no sign
    ],
)
def test_the_rule(verdict: str, found: str) -> None:
    assert found == verdict


@pytest.mark.parametrize(("tags", "each"), [(3, 20), (10, 20), (30, 20), (3, 200), (30, 100)])
def test_of_equally_good_models_hardly_one_is_told_to_be_worse_however_many_tags_there_are(
    tags: int, each: int
) -> None:
    verdicts = rates(tags, each, 0.15, 0.15)
    assert verdicts[WORSE] <= 50  # --chance
    assert verdicts[BETTER] <= 35  # half of it, and what a thousand draws differ by
    assert verdicts[SAME] >= 930


@pytest.mark.parametrize("tags", [3, 10, 30, 50])
def test_a_candidate_that_is_five_points_better_is_found_better_however_many_tags_there_are(tags: int) -> None:
    verdicts = rates(tags, 1500 // tags, 0.15, 0.10)
    assert verdicts[BETTER] > 900
    assert verdicts[WORSE] <= 5


def test_a_tag_that_truly_pays_is_seldom_called_better_once_it_has_images() -> None:
    verdicts = rates(10, 60, 0.14, 0.04, 0.03, 0.23)
    assert verdicts[BETTER] < 100 < verdicts[NOT_ENOUGH] < verdicts[WORSE]


@pytest.mark.parametrize("rare", [Paired(0, 1, 5), Paired(0, 1, 1), Paired(1, 3, 20)])
def test_a_better_one_names_the_tags_that_may_have_lost(rare: Paired) -> None:
    verdict, because = told({"ripe": Paired(20, 0, 80), "rare": rare}, rule=Rule(min_per_tag=1))
    assert verdict == BETTER
    assert because[1:] == [
        f"It may be worse at rare ({rare.gained} gained and {rare.lost} lost of {rare.images}): too few images to tell."
    ]


def test_a_better_one_that_lost_nothing_says_so() -> None:
    verdict, (because,) = told({"ripe": Paired(12, 0, 60), "rare": Paired(0, 1, 11)})
    assert (verdict, because.endswith("more than chance explains, and no tag lost 10% of its images.")) == (
        BETTER,
        True,
    )


def test_a_loss_that_chance_hardly_makes_is_not_enough_data_and_the_tag_to_label_is_named() -> None:
    ripe = {"ripe": Paired(30, 0, 99), "rare": Paired(0, 4, 20), "odd": Paired(0, 2, 9)}
    verdict, because = told(ripe)
    assert (verdict, len(because)) == (NOT_ENOUGH, 3)
    assert "at rare (0 gained and 4 lost of 20), odd (0 gained and 2 lost of 9): too few" in because[1]
    assert because[2].endswith("as bad as rare: label more there.")
    many = {str(nth): Paired(1, 0, 5) for nth in range(6)}  # one of nine may well look so by accident
    assert told(ripe | many)[0] == BETTER


def test_tags_of_which_nothing_changed_take_no_share_of_the_chance() -> None:
    still = {str(nth): Paired(0, 0, 20) for nth in range(40)}
    assert told(still | {"ripe": Paired(30, 0, 99), "rare": Paired(0, 7, 20)})[0] == WORSE


def test_a_tag_that_is_known_no_more_is_a_loss_without_a_test() -> None:
    counts = {"ripe": Paired(30, 0, 99), "rare": Paired(0, 2, 6)}
    assert told(counts)[0] == BETTER
    assert told(counts, "rare") == (
        WORSE, ["It does not know rare any more, of which the holdout has 6 images."]
    )  # fmt: skip
    assert told({"ripe": Paired(30, 0, 99), "rare": Paired(0, 0, 6)}, "rare")[0] == BETTER  # it was never found


@given(some.integers(0, 40), some.integers(0, 40), some.integers(80, 400))
def test_no_model_is_better_both_ways(gained: int, lost: int, images: int) -> None:
    there, back = rule(gained, lost, images), rule(lost, gained, images)
    if there == BETTER:
        assert back == WORSE
    assert WORSE not in (there, back) or there != back


def test_a_candidate_that_lost_one_tag_is_worse_though_it_is_better_over_all(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h", each=30)
    never_blue = labelled(tmp_path / "n.zip", ("red", "green", "none"))  # blue pictures get a tag of another name
    code, found = judged(swapping(tmp_path / "b.zip"), never_blue, images, "--min-per-tag", "0")
    assert (code, found["verdict"], counts(found)) == (0, "better", (30, 0))  # nothing was lost: blue was never found
    code, found = judged(labelled(tmp_path / "o.zip", ("none", "other", "blue")), never_blue, images)
    assert (code, found["verdict"], counts(found)) == (1, "worse", (60, 30))
    assert found["because"] == ["It does not know blue any more, of which the holdout has 30 images."]
    assert (found["new_tags"], found["removed_tags"]) == (["red", "green"], ["other", "blue"])


def test_a_new_tag_counts_and_one_without_images_is_not_enough(tmp_path: Path) -> None:
    two, three = labelled(tmp_path / "two.zip", ("red", "green")), seeing(tmp_path / "three.zip")
    code, found = judged(two, three, holdout(tmp_path / "h"))
    assert (code, found["verdict"], found["new_tags"]) == (0, "better", ["blue"])
    assert [row["known"] for row in found["active"]["tags"]] == [True, True, False]
    code, found = judged(two, three, holdout(tmp_path / "without", 30, ("red", "green")))
    assert (code, found["verdict"]) == (1, "not enough data")
    assert found["because"] == ["Each tag needs 5 images in the holdout: blue has 0."]


def test_the_accuracy_in_the_field_is_that_of_the_audit_samples(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h", audits=4)
    _, found = judged(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images)
    assert (found["active"]["field_accuracy"]["hits"], found["active"]["field_accuracy"]["of"]) == (4, 12)
    (images / "manifest.jsonl").unlink()
    _, found = judged(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images)
    assert found["active"]["field_accuracy"]["of"] == 0
    (images / "violet").mkdir()
    (images / "violet" / "1.png").write_bytes(picture("violet"))
    (images / "manifest.jsonl").write_text('{"file": "violet/1.png", "reason": "audit"}\n')
    _, found = judged(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images)
    assert (found["images"], found["candidate"]["field_accuracy"]["hits"]) == (60, 0)
    assert found["candidate"]["field_accuracy"]["of"] == 1  # nobody knows violet, and in the field that is a mistake
    (images / "manifest.jsonl").unlink()
    assert "no audit samples" in run(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images).stdout


def test_what_cannot_be_judged_on_is_named_and_counted(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h")
    (images / "red" / "damaged.jpg").write_bytes(b"\xff\xd8\xff and no more")
    (images / "red" / "empty.png").write_bytes(b"")
    (images / "red" / "gone.png").symlink_to(tmp_path / "nowhere")
    (images / "red" / "notes.txt").write_text("no image")
    (images / "red" / "again.png").write_bytes(coloured("red", 0))
    (images / "red" / ".hidden.png").write_bytes(b"")
    (images / "green" / "both.png").write_bytes(coloured("blue", 3))
    (images / "violet").mkdir()
    (images / "violet" / "1.png").write_bytes(picture("violet"))
    with (images / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"file": "red/lost.png", "reason": "audit"}\n')
    code, found = judged(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images)
    left_out = {one["image"]: one["why"] for one in found["left_out"]}
    assert (code, found["images"]) == (0, 59)
    assert set(left_out) == {
        *("red/damaged.jpg", "red/empty.png", "red/gone.png", "red/notes.txt", "red/again.png", "red/lost.png"),
        *("green/both.png", "blue/003.png", "violet/1.png"),
    }
    assert "cannot be read" in left_out["red/gone.png"]
    assert left_out["blue/003.png"] == "the same image lies under blue and green: only one can be right"
    assert left_out["red/again.png"] == "the same image as red/000.png"
    assert left_out["violet/1.png"] == "neither model knows the tag of its folder"
    said = run(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images).stdout
    assert "9 left out" in said
    assert "red/damaged.jpg" in said


def test_images_that_a_model_was_trained_on_are_left_out(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h", each=30)
    known = [image_id(coloured("green", number)) for number in range(7)]
    write(tmp_path / "s.zip", Package(files(), provenance={"samples": {"ids": known}}))
    _, found = judged(swapping(tmp_path / "b.zip"), tmp_path / "s.zip", images)
    assert found["images"] == 83
    assert {one["why"] for one in found["left_out"]} == {"one of the models was trained on it"}


def test_the_manifest_may_name_a_tag_that_no_folder_can(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h")
    lines = [json.dumps({"file": f"red/{n:03}.png", "tag": "red/ripe"}) for n in range(20)]
    (images / "manifest.jsonl").write_text("\n".join(lines))
    model_of = labelled(tmp_path / "s.zip", ("red/ripe", "green", "blue"))
    _, found = judged(model_of, model_of, images)
    assert found["candidate"]["accuracy"]["share"] == 1.0
    assert found["images"] == 60


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "line 2 of .* must be an object"),
        ("[]", "line 2 of .* must be an object"),
        ('{"file": 7}', "line 2 of .* must be an object"),
        ('{"file": "a", "tag": 7}', "its tag must be a text"),
        ('{"file": "a", "tag": ""}', "its tag must be a text"),
        ('{"file": "x"}', "line 2 of .* names x again"),
        ("[" * 100_000, "line 2 of .* must be an object"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_told_by_its_line(tmp_path: Path, line: str, why: str) -> None:
    images = holdout(tmp_path / "h", each=1)
    (images / "manifest.jsonl").write_text('{"file": "x"}\n' + line)
    with pytest.raises(SettingsError, match=why):
        find(images)


def test_models_of_several_tags_an_image_are_refused(tmp_path: Path) -> None:
    several = zipped(tmp_path / "m.zip", files(model(last="Sigmoid")))
    result = run(several, several, holdout(tmp_path / "h", each=3))
    assert result.exit_code == 2
    assert "multilabel" in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("broken", "why"), [("model", "damaged|no zip"), ("holdout", "no image in the folders"), ("history", "is no turn")]
)
def test_what_cannot_be_used_is_one_line_and_judges_nothing(tmp_path: Path, broken: str, why: str) -> None:
    images, active, history = holdout(tmp_path / "h", each=3), seeing(tmp_path / "s.zip"), tmp_path / "history"
    history.write_text("no" if broken == "history" else "")
    if broken == "model":
        active.write_bytes(active.read_bytes()[:1000])
    if broken == "holdout":
        images = tmp_path / "empty"
        images.mkdir()
    result = run(active, seeing(tmp_path / "c.zip"), images, "--history", str(history))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert any(word in line for word in why.split("|"))


def test_of_no_images_no_figure_is_shown(tmp_path: Path) -> None:
    images = tmp_path / "h"
    (images / "red").mkdir(parents=True)
    (images / "red" / "damaged.jpg").write_bytes(b"\xff\xd8\xff and no more")
    shown = run(seeing(tmp_path / "a.zip"), seeing(tmp_path / "c.zip"), images).stdout
    rows = [line for line in shown.splitlines() if "accuracy" in line or "calibration" in line]
    assert len(rows) == 3
    assert not any(figure in shown for figure in ("0.000", "p = ", "98.0"))
    assert rows[-1].count("\N{EN DASH}") == 2


def test_a_verdict_is_read_by_a_person_and_hostile_names_do_nothing(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h")
    hostile = "[red]\N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m.png"
    (images / "red" / hostile).write_bytes(picture("red"))  # the surest answer is shown first
    result = run(swapping(tmp_path / "b.zip"), seeing(tmp_path / "s.zip"), images, "--min-images", "5")
    assert result.exit_code == 0
    assert result.stdout.startswith("better\n41 of 61 images only the candidate got right, 0 only the active model")
    assert "[red]" in result.stdout
    assert "\x1b[31m" not in result.stdout
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in result.stdout


def test_models_that_see_alike_share_one_decoded_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at the door where images become tensors; the decoding itself is the real one."""
    decoded: list[bytes] = []
    really = models.to_tensor

    def counted(image: bytes, *args: Any, **more: Any) -> Any:
        decoded.append(image)
        return really(image, *args, **more)

    cases = find(holdout(tmp_path / "h", each=4)).cases
    same = [models.load(seeing(tmp_path / "a.zip")), models.load(swapping(tmp_path / "b.zip"))]
    wide = files(model(side=48), IterationId="wide")
    sized = json.loads(wide["metadata_properties.json"])
    sized |= {f"CustomVision.Preprocess.Target{side}": "48" for side in ("Height", "Width")}
    other = models.load(zipped(tmp_path / "c.zip", wide | {"metadata_properties.json": json.dumps(sized).encode()}))
    monkeypatch.setattr(models, "to_tensor", counted)
    ask(same, cases)
    assert len(decoded) == 12
    decoded.clear()
    ask([*same, other], cases)
    assert len(decoded) == 24


def test_answers_are_those_of_the_classifier_in_the_order_of_the_cases(tmp_path: Path) -> None:
    cases, heard = find(holdout(tmp_path / "h", each=9)).cases, list[int]()
    loaded = models.load(seeing(tmp_path / "a.zip"))
    asked = ask([loaded], cases, heard.append)
    assert [one.case for one in asked.answered] == list(cases)
    assert all(one.answers == (loaded.predict(one.case.path.read_bytes()),) for one in asked.answered)
    assert heard == list(range(1, 28))


def test_more_bananas_make_a_model_that_is_not_worse(tmp_path: Path) -> None:
    starter = ensure_starter_model(tmp_path)
    ripenesses = [nth / 24 for nth in range(25)]
    learned: dict[str, list[bytes]] = {}
    for nth, ripeness in enumerate(ripenesses * 2):
        learned.setdefault(tag_of(ripeness), []).append(banana(41, nth, ripeness, 160).jpeg)
    (tmp_path / "more.zip").write_bytes(train(learned).to_zip())
    for nth, ripeness in enumerate(ripenesses * 3):
        folder = tmp_path / "holdout" / tag_of(ripeness)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{nth}.jpg").write_bytes(banana(43, nth, ripeness, 160).jpeg)
    _, found = judged(starter, tmp_path / "more.zip", tmp_path / "holdout")
    assert found["images"] == 75
    assert found["candidate"]["accuracy"]["share"] > found["active"]["accuracy"]["share"] > 0.4
    assert found["verdict"] in ("better", "same", "not enough data")
    assert found["candidate"]["log_loss"] < found["active"]["log_loss"]


def test_the_command_stands_alone_and_reads_its_settings_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "RIPELOOP_ACTIVE": str(seeing(tmp_path / "a.zip")),
        "RIPELOOP_CANDIDATE": str(seeing(tmp_path / "b.zip")),
        "RIPELOOP_HOLDOUT": str(holdout(tmp_path / "h")),
        "RIPELOOP_JSON": "1",
    }
    command = [sys.executable, "-m", "retrain", "judge"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, json.loads(ended.stdout)["verdict"]) == (1, "same")
