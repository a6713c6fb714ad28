"""The watch compares what two models flag on equal terms: no model is blamed for a change of the policy."""

from __future__ import annotations

from pathlib import Path

from classifier.models.model import load
from classifier.rollout.live import Serving
from classifier.rollout.watch import unjudged, worse
from colours import files, model, picture, zipped
from depot import Depot, packed, unsure_model
from ripeloop.prediction import Prediction
from ripeloop.uncertainty import Policy
from rollouts import Site, site

STRICT = {"sampling": {"confidence_below": 1.0}}  # flags whatever is less than certain


def faint(number: int) -> bytes:
    """Red, but not very: all models here say about 0.9."""
    return picture((150, 70 + number % 5, 70))


def verdict(here: Site) -> tuple[str | None, str]:
    """What the watch would say if it ended now, on a machine of any speed."""
    trial = here.shelf.read().trial
    assert trial is not None
    figures = here.classifier.live.serving.figures
    return worse(trial.before, figures), unjudged(trial.before, figures)


async def test_a_stricter_policy_in_the_middle_undoes_no_model(tmp_path: Path, first: Path, depot: Depot) -> None:
    async with site(tmp_path, first, watch=30) as here:  # however long the images take, all are within it
        await here.ask(60, faint)
        here.want(packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")})
        await here.until("watching")
        await here.ask(10, faint)
        here.thresholds.apply(STRICT)
        await here.ask(90, faint)
        assert here.classifier.live.serving.figures.flagged == 0
        assert verdict(here) == (None, "")
    async with site(tmp_path, first, watch=0) as here:
        assert (await here.until("active"))["version"] == "v2"
        here.thresholds.apply(STRICT)
        await here.ask(60, faint)
        assert here.classifier.live.serving.figures.flagged == 60  # after its trial, by the policy in force


async def test_a_stricter_policy_just_before_the_swap_undoes_no_model(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    async with site(tmp_path, first, watch=30) as here:
        await here.ask(60, faint)
        here.thresholds.apply(STRICT)
        await here.ask(10, faint)
        here.want(packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")})
        await here.until("watching")
        await here.ask(90, faint)
        worse_by, remark = verdict(here)
        assert (worse_by, "the policy has changed" in remark) == (None, True)


async def test_a_model_that_is_unsure_by_either_policy_is_still_undone(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2", onnx=unsure_model()) | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first, watch=30) as here:
        await here.ask(60)
        here.want(wanted)
        await here.until("watching")
        here.thresholds.apply({"sampling": {"confidence_below": 0.7}})
        await here.ask(60)
        assert "it is unsure of 100%" in (await here.until("rolled_back"))["reason"]


async def test_the_terms_of_a_trial_outlive_a_restart(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first, watch=30) as here:
        here.thresholds.apply({"sampling": {"tags": [{"tag": "blue", "confidence_below": 0.95}]}})
        await here.ask(60, faint)
        here.want(wanted)
        await here.until("watching")
        terms = here.classifier.live.serving.terms
        assert terms is not None
        assert terms.tags
    async with site(tmp_path, first, watch=30) as here:
        await here.until("watching")
        assert here.classifier.live.serving.terms == terms
        here.thresholds.apply(STRICT)
        await here.ask(60, faint)
        assert verdict(here) == (None, "")


def test_with_another_policy_the_flagged_share_begins_anew(tmp_path: Path) -> None:
    serving = Serving(load(zipped(tmp_path / "m.zip", files(model()))))
    said = (Prediction("red", 0.85), Prediction("blue", 0.15))
    for confidence, judged, flagged in ((0.8, 5, 0), (0.9, 5, 5), (0.9, 10, 10), (0.8, 5, 0)):
        for _ in range(5):
            serving.answered(said, 0.01, Policy(confidence, 0, 0, 0))
        assert (serving.figures.judged, serving.figures.flagged) == (judged, flagged)
    assert serving.figures.answered == 20


def test_what_the_policy_in_force_would_not_flag_counts_for_no_models_fault(tmp_path: Path) -> None:
    said = (Prediction("red", 0.85), Prediction("blue", 0.15))
    serving = Serving(load(zipped(tmp_path / "m.zip", files(model()))), terms=Policy(0.9, 0, 0, 0))
    serving.answered(said, 0.01, Policy(0.8, 0, 0, 0))  # as when the package brought thresholds that suit it
    assert (serving.figures.judged, serving.figures.flagged) == (1, 0)
    serving.answered(said, 0.01, Policy(0.95, 0, 0, 0))
    assert (serving.figures.judged, serving.figures.flagged) == (2, 1)
