"""When a new model is worse: pure rules over figures."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as some

from classifier.rollout.watch import Figures, Rules, unjudged, worse


@some.composite
def figures(draw: some.DrawFn) -> Figures:
    answered = draw(some.integers(0, 3000))
    return Figures(
        answered=answered,
        failed=draw(some.integers(0, 300)),
        judged=(judged := draw(some.integers(0, answered))),
        flagged=draw(some.integers(0, judged)),
        p50=draw(some.floats(0, 2)) if answered else 0.0,
    )


GOOD = Figures(answered=1000, failed=0, judged=1000, flagged=100, p50=0.010)


@given(figures())
def test_a_model_is_never_worse_than_itself(one: Figures) -> None:
    assert worse(one, one) is None


@given(figures())
def test_nothing_is_said_before_the_first_images(old: Figures) -> None:
    assert worse(old, Figures()) is None
    assert unjudged(old, Figures())


@given(figures(), figures(), some.integers(1, 100))
def test_more_failures_never_save_a_model(old: Figures, new: Figures, more: int) -> None:
    assume((verdict := worse(old, new)) and "failed" in verdict)
    assert worse(old, replace(new, failed=new.failed + more))


@given(figures(), figures(), some.floats(0, 5))
def test_slower_never_saves_a_model(old: Figures, new: Figures, more: float) -> None:
    assume(worse(old, new))
    assert worse(old, replace(new, p50=new.p50 + more))


@given(figures(), figures(), some.data())
def test_flagging_more_never_saves_a_model(old: Figures, new: Figures, data: some.DataObject) -> None:
    assume(worse(old, new))
    assert worse(old, replace(new, flagged=data.draw(some.integers(new.flagged, new.judged))))


@given(figures(), some.integers(0, 2))
def test_a_few_failures_or_answers_are_no_verdict(old: Figures, failed: int) -> None:
    assert worse(old, Figures(answered=49, failed=failed, judged=49, flagged=49, p50=60.0)) is None


@given(figures())
def test_a_model_that_fails_on_every_image_is_undone(old: Figures) -> None:
    assume(old.failed <= old.answered)
    assert worse(old, Figures(failed=3)) == "it failed on 3 of 3 images"


@given(figures())
def test_the_figures_outlive_a_restart(one: Figures) -> None:
    back = Figures.from_json(one.to_json())
    assert replace(back, p50=0) == replace(one, p50=0)
    assert abs(back.p50 - one.p50) < 1e-6
    assert Figures.from_json({"unknown": 1}) == Figures()


def test_each_rule_says_what_it_saw() -> None:
    assert worse(GOOD, replace(GOOD, failed=100)) == "it failed on 100 of 1100 images"
    assert worse(GOOD, replace(GOOD, p50=0.060)) == ("it takes 60.0 ms for an image, the model before it took 10.0 ms")
    assert worse(GOOD, replace(GOOD, flagged=500)) == (
        "it is unsure of 50% of the images, the model before it was of 10%"
    )


def test_what_differs_by_chance_or_by_little_stays() -> None:
    assert worse(GOOD, replace(GOOD, failed=20)) is None
    assert worse(GOOD, replace(GOOD, p50=0.039)) is None
    assert worse(GOOD, replace(GOOD, flagged=290)) is None
    few = Figures(answered=50, judged=50, flagged=10, p50=0.01)
    assert worse(few, replace(few, flagged=25)) is None  # 20 % and 50 %, of fifty: less than four sigmas
    assert unjudged(GOOD, GOOD) == ""
    assert worse(GOOD, replace(GOOD, flagged=290), Rules(flagged_share=0.1))


def test_what_was_judged_by_another_policy_is_no_part_of_the_comparison() -> None:
    few = replace(GOOD, judged=49, flagged=49)
    assert worse(GOOD, few) is None
    assert "the policy has changed" in unjudged(GOOD, few)
    assert "the policy has changed" in unjudged(few, GOOD)
    assert worse(replace(GOOD, judged=50, flagged=5), replace(GOOD, judged=50, flagged=50))
