"""What a device remembers of its models: pure, and always able to start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from classifier.rollout.compared import Compared
from classifier.rollout.memory import (
    ACTIVE,
    FAILED,
    MAX_REASON,
    ROLLED_BACK,
    TRIES,
    WATCHING,
    Kept,
    Memory,
    Outcome,
    Trial,
)
from classifier.rollout.shelf import STATE, Shelf
from classifier.rollout.wanted import Wanted
from classifier.rollout.watch import Figures
from ripeloop.uncertainty import Policy, TagPolicy

NOW = "2026-11-22T02:10:00.000000Z"
ONE, TWO, THREE = (Wanted(f"v{n}", f"{n}" * 64, url=f"https://host/v{n}?sig=SECRET") for n in (1, 2, 3))
COMPARED = Compared(images=3, agreed=2, apart=0.1 + 0.2, errors=1, skipped=4, seconds=0.1, live_seconds=0.3)
TRIAL = Trial(Figures(answered=5, judged=4), Policy(0.7, tags={"ripe": TagPolicy(confidence_below=0.9)}))
EVENTS = {
    "loading": lambda m, w: m.loading(w),
    "activated": lambda m, w: m.activated(w, TRIAL, NOW),
    "activated after a shadow": lambda m, w: m.activated(w, TRIAL, NOW, COMPARED),
    "withstood": lambda m, w: m.withstood(),
    "failed in the shadow": lambda m, w: m.failed(w, "why", NOW, COMPARED),
    "passed": lambda m, w: m.passed("", NOW),
    "confirmed": lambda m, w: m.confirmed(w, NOW),
    "failed": lambda m, w: m.failed(w, "why", NOW),
    "failed elsewhere": lambda m, w: m.failed(w, "why", NOW, again=True),
    "stopped": lambda m, w: m.stopped(w, "why", NOW),
    "undone": lambda m, w: m.undone(m.previous or Kept("first"), "worse", NOW),
    "started": lambda m, w: m.started(NOW),
    "settled": lambda m, w: m.settled(),
}
STORIES = some.lists(some.tuples(some.sampled_from(sorted(EVENTS)), some.sampled_from([ONE, TWO, THREE])), max_size=12)


def after(story: list[tuple[str, Wanted]]) -> Memory:
    memory = Memory()
    for event, wanted in story:
        memory = EVENTS[event](memory, wanted)
    return memory


@given(STORIES)
def test_any_story_outlives_a_restart_and_tells_no_secret(story: list[tuple[str, Wanted]]) -> None:
    memory = after(story)
    assert Memory.from_json(memory.to_json()) == memory
    assert b"SECRET" not in memory.to_json()


@given(STORIES)
def test_what_is_kept_to_go_back_to_was_never_on_trial(story: list[tuple[str, Wanted]]) -> None:
    memory = Memory()
    good = {Kept()}
    for event, wanted in story:
        memory = EVENTS[event](memory, wanted)
        if memory.trial is None:
            good.add(memory.active)
        assert memory.previous is None or memory.previous in good
        assert memory.outcome.state in (ACTIVE, WATCHING, FAILED, ROLLED_BACK)


def test_a_failed_request_is_tried_again_with_a_new_address_and_an_undone_model_is_not() -> None:
    renewed = Wanted(TWO.version, TWO.sha256, url=TWO.url + "&renewed=1")
    failed = Memory().failed(TWO, "403", NOW)
    assert failed.refuses(TWO)
    assert not failed.refuses(renewed)
    undone = Memory().activated(TWO, Trial(), NOW).undone(Kept("first"), "worse", NOW)
    assert undone.refuses(TWO)
    assert undone.refuses(renewed)
    assert not undone.refuses(THREE)


def test_what_failed_for_a_cause_outside_the_package_may_be_tried_again_and_the_reason_says_how() -> None:
    elsewhere, package = Memory().failed(TWO, "404", NOW, again=True), Memory().failed(TWO, "x" * 400, NOW)
    assert (elsewhere.refuses(TWO), package.refuses(TWO)) == (False, True)
    assert "when this module restarts" in elsewhere.outcome.reason
    assert package.outcome.reason.endswith("x; not tried again until model.attempt is raised")
    assert len(package.outcome.reason) == MAX_REASON
    undone = Memory().activated(TWO, Trial(), NOW).undone(Kept("first"), "worse", NOW)
    assert undone.outcome.reason == "worse; not tried again until model.attempt is raised"


def test_where_nothing_is_wanted_nothing_has_failed() -> None:
    watched = Memory().activated(TWO, Trial(), NOW)
    for memory, state in ((Memory(), ACTIVE), (watched, WATCHING), (watched.passed("", NOW), ACTIVE)):
        assert memory.failed(THREE, "404", NOW).unwanted(NOW) == Outcome(state, since=NOW)
    undone = watched.undone(Kept("first"), "worse", NOW)
    assert undone.unwanted(NOW) == undone.outcome


def test_an_undone_package_is_refused_whatever_version_it_comes_as() -> None:
    other = Wanted("v2-again", TWO.sha256, path="/v2.zip")
    undone = Memory().activated(TWO, Trial(), NOW).undone(Kept("first"), "worse", NOW)
    assert undone.refuses(other)
    assert undone.refused_as(other).outcome == replace(undone.outcome, wanted="v2-again")
    assert Memory().stopped(TWO, "by hand", NOW).refuses(other)


def test_a_package_that_was_undone_is_tried_again_with_a_higher_attempt_and_once() -> None:
    fifth, sixth = replace(TWO, attempt=5), replace(TWO, attempt=6)
    undone = Memory().activated(TWO, Trial(), NOW).undone(Kept("first"), "worse", NOW)
    assert not undone.refuses(fifth)
    again = Memory.from_json(undone.activated(fifth, Trial(), NOW).to_json()).undone(Kept("first"), "worse", NOW)
    assert [again.refuses(one) for one in (TWO, fifth, sixth)] == [True, True, False]
    stopped = Memory().stopped(fifth, "by hand", NOW)
    assert [stopped.refuses(one) for one in (TWO, fifth, sixth)] == [True, True, False]
    failed = Memory().failed(TWO, "404", NOW)
    assert (failed.refuses(TWO), failed.refuses(fifth)) == (True, False)


def test_a_trial_survives_some_starts_and_any_number_of_long_lives() -> None:
    memory = Memory(active=Kept("first")).activated(TWO, Trial(), NOW)
    for _ in range(20):
        memory = memory.started(NOW).settled()
    for _ in range(TRIES):
        memory = memory.started(NOW)
    assert memory.active.version == "v2"
    lost = memory.started(NOW)
    assert (lost.active.version, lost.outcome.state) == ("first", ROLLED_BACK)
    assert lost.refuses(TWO)


@given(some.binary(max_size=200))
def test_a_damaged_file_is_a_blank_memory(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "shelf"
    folder.mkdir(exist_ok=True)
    (folder / STATE).write_bytes(data)
    assert isinstance(Shelf(folder).read(), Memory)


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "7", '{"active": 7}', '{"active": {"sha256": "../../etc"}}', '{"tries": "x"}'),
        *('{"tries": 1e999}', "[" * 200_000, '{"outcome": ' * 100_000),
    ],
)
def test_a_file_of_another_shape_is_a_blank_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE).write_text(text)
    assert Shelf(tmp_path).read() == Memory()


def test_a_file_of_a_version_before_or_after_is_understood(tmp_path: Path) -> None:
    old = {"trial": {"before": {"answered": 5, "flagged": 1}, "starts": 1}, "outcome": {"state": WATCHING}}
    assert Memory.from_json(json.dumps(old).encode()).trial == Trial(Figures(answered=5, flagged=1), None, 1)
    new = json.loads(Memory().activated(TWO, TRIAL, NOW, COMPARED).to_json())
    new["trial"]["terms"] |= {"later": 1}
    new["outcome"]["shadow"] |= {"later": 1}
    new["trial"]["terms"]["tags"]["ripe"]["later"] = 1
    assert Memory.from_json(json.dumps(new).encode()) == Memory().activated(TWO, TRIAL, NOW, COMPARED)


def test_a_long_life_beside_a_candidate_clears_it_of_earlier_ends() -> None:
    memory = Memory()
    for _ in range(TRIES * 2):
        memory = memory.loading(TWO).withstood()
        assert not memory.ends_the_process(TWO)
    for _ in range(TRIES):
        memory = memory.loading(TWO)
    assert memory.ends_the_process(TWO)
