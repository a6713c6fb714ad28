"""What a turn remembers, how it may end, and what earlier turns leave behind."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from retrain.judging import curve
from retrain.judging.judge import BETTER, FIRST, NOT_ENOUGH, SAME, WORSE
from retrain.turn import past
from retrain.turn.outcome import (
    FAILED,
    NOTHING,
    OVERTAKEN,
    PACKAGED,
    RELEASED,
    UNDONE,
    Verdict,
    exit_code,
    reopens,
)
from retrain.turn.state import State
from retrain.turn.work import now_and_then
from ripeloop.errors import SettingsError

NOW = "2026-11-22T02:10:00Z"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "turns.db", lambda: NOW) as opened:
        yield opened


def test_what_is_done_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    with State.open(path, lambda: NOW) as state:
        number, identity = state.begin().number, state.identity()
        state.start(number, "tag")
        state.done(number, "tag", {"added": 3})
        state.start(number, "train")
        state.note(number, "train", decided=True, iteration="i1")
        state.note(number, "train", iteration=None)
    with State.open(path, lambda: NOW) as state:
        turn = state.open_turn()
        assert turn is not None
        assert (turn.result("tag"), turn.result("train"), state.identity()) == ({"added": 3}, None, identity)
        assert turn.steps["train"].notes == {"decided": True}
        assert state.start(number, "train").notes == {"decided": True}


def test_a_step_and_the_end_it_brings_are_one(state: State) -> None:
    number = state.begin().number
    state.start(number, "decide")
    turn = state.done(number, "decide", {"on": ""}, SAME, "chance explains that")
    assert (turn.outcome, turn.why, turn.ended, state.open_turn()) == (SAME, "chance explains that", NOW, None)
    turn = state.reopen(number, "decide")
    assert (turn.outcome, turn.result("decide")) == ("", None)
    state.forget(number)
    assert state.turns() == []


def test_what_is_opened_again_does_that_step_and_all_after_it_anew(state: State) -> None:
    other, number = state.begin().number, state.begin().number
    for turn in (other, number):
        for name in ("train", "judge", "decide", "package"):
            state.start(turn, name)
            state.done(turn, name, {"did": name}, PACKAGED if name == "package" else "")
    assert list(state.reopen(number, "judge").steps) == ["train"]
    assert list(state.turn(other).steps) == ["train", "judge", "decide", "package"]
    assert list(state.reopen(number, "judge").steps) == ["train"]


def test_a_turn_has_a_number_above_those_that_have_files_already(tmp_path: Path, state: State) -> None:
    assert past.newest_folder(tmp_path) == 0
    past.folder_of(tmp_path, 7).mkdir(parents=True)
    assert state.begin(past.newest_folder(tmp_path)).number == 8
    assert state.begin().number == 9
    past.prune([], tmp_path, 1)
    past.prune(state.turns(), tmp_path, 1)
    assert past.folder_of(tmp_path, 7).is_dir()


def test_a_file_of_another_version_or_a_damaged_one_is_refused_with_the_way_out(tmp_path: Path) -> None:
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    (tmp_path / "damaged.db").write_bytes(b"no database at all" * 100)
    for name, way_out in (("newer.db", "use that, or another --work"), ("damaged.db", "move it away")):
        with pytest.raises(SettingsError, match=way_out), State.open(tmp_path / name, lambda: NOW):
            pytest.fail("it was taken")


@pytest.mark.parametrize(
    "spoil",
    [
        "DROP TABLE steps",
        "ALTER TABLE turns RENAME TO others",
        "PRAGMA user_version = 0",  # its tables are there already
        "UPDATE steps SET notes = '{\"decided\": tr'",
        "UPDATE steps SET notes = '[1]'",
        "UPDATE steps SET result = '{'",
    ],
)
def test_a_file_with_wrong_insides_is_damaged_and_not_a_full_disk(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "turns.db"
    with State.open(path, lambda: NOW) as state:
        number = state.begin().number
        state.start(number, "tag")
        state.done(number, "tag", {"added": 3})
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(spoil)
    with pytest.raises(SettingsError, match=r"is damaged .* move it away"), State.open(path, lambda: NOW) as state:
        state.open_turn()


@pytest.mark.parametrize(
    ("verdict", "accept", "first", "released"),
    [
        (BETTER, (), None, True),
        (SAME, (), None, False),
        (SAME, (SAME,), None, True),
        (SAME, (WORSE,), None, False),
        (NOT_ENOUGH, (NOT_ENOUGH,), None, True),
        (FIRST, (), None, False),
        (FIRST, (FIRST,), None, True),
        (FIRST, (), 0.8, True),
        (FIRST, (), 0.81, False),
        (WORSE, (), 0.1, False),
    ],
)
def test_only_a_better_model_or_a_word_releases(
    verdict: str, accept: tuple[str, ...], first: float | None, released: bool
) -> None:
    said = Verdict(verdict, ("Because.",), 0.8)
    assert bool(said.goes_on(accept, first)) is released
    assert f"--accept {verdict.replace(' ', '-')}`" in said.refusal(first)


def test_how_a_turn_ended_is_its_exit_code() -> None:
    codes = {outcome: exit_code(outcome) for outcome in (RELEASED, PACKAGED, NOTHING, "", SAME, FIRST, FAILED, UNDONE)}
    assert [outcome for outcome, code in codes.items() if code == 0] == [RELEASED, PACKAGED, NOTHING, ""]


def test_a_turn_goes_on_after_its_end_only_for_a_word_or_a_hub() -> None:
    assert reopens(SAME, (SAME,), has_hub=False) == "decide"
    assert reopens(SAME, (WORSE,), has_hub=True) == ""
    assert reopens(PACKAGED, (), has_hub=True) == reopens(OVERTAKEN, (), has_hub=True) == "judge"
    assert reopens(PACKAGED, (), has_hub=False) == reopens(RELEASED, (SAME,), has_hub=True) == ""


def test_the_history_has_one_line_for_a_version_and_keeps_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"labels": 5, "accuracy": 0.5}\n')
    for accuracy in (0.7, 0.8):
        past.add_to_history(path, 10, accuracy, "v1")
    past.add_to_history(path, 20, 0.9, "v2")
    found = [(turn.labels, turn.accuracy, turn.version) for turn in curve.read(path)]
    assert found == [(5, 0.5, ""), (10, 0.8, "v1"), (20, 0.9, "v2")]


def test_the_files_of_old_turns_go_but_for_what_devices_may_run(tmp_path: Path, state: State) -> None:
    outcomes = [RELEASED, PACKAGED, SAME, RELEASED, WORSE, SAME, SAME]
    for outcome in outcomes:
        number = state.begin().number
        past.folder_of(tmp_path, number).mkdir(parents=True)
        state.end(number, outcome, "")
    (tmp_path / "turns" / "mine").mkdir()
    past.prune(state.turns(), tmp_path, 2)
    left = sorted(path.name for path in (tmp_path / "turns").iterdir())
    assert left == ["0002", "0004", "0006", "0007", "mine"]


def test_a_long_step_says_now_and_then_that_it_goes_on() -> None:
    lines = list[str]()
    seen = now_and_then(lines.append, 0.05)
    seen("too soon")
    time.sleep(0.06)
    seen("1 of 9")
    seen("2 of 9")
    assert lines == ["1 of 9"]
