"""The demo: what a stranger sees first, and the one line they get when something is in the way."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from demo import starter
from demo.account import Account, strangers
from demo.camera import Answer, Shift
from demo.loop import MOST_EXAMPLES
from demo.pictures import LEAST_TO_TRAIN, Picture, find, mixed, split_for_training
from demo.rounds import FEWEST_AUDITS, Round
from demo.view import outcome, turns
from edge import free_gateway, free_port
from retrain.judging.chances import Share
from retrain.turn.state import Step, Turn
from ripeloop.errors import SettingsError

PROJECT = Path(__file__).parents[1]
COUNT = "170"  # pictures of a round: as few as a better model can be told by


def demo(tmp_path, *args, timeout=100, **env):
    return subprocess.run(
        [sys.executable, "-m", "demo", "--folder", str(tmp_path / "demo"), *args],
        capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **env},
    )  # fmt: skip


def free_ports():
    gateway = free_gateway()
    ports = {
        "--port": free_port("127.0.0.1"),
        "--hub-port": free_port(gateway),
        "--trainer-port": free_port("127.0.0.1"),
    }
    return "--gateway", gateway, *(word for flag, port in ports.items() for word in (flag, str(port)))


@pytest.fixture(scope="module")
def fruit(tmp_path_factory):
    """Drawn bananas in folders by tag, and two files that are no images."""
    folder = tmp_path_factory.mktemp("fruit")
    drawn = starter.ensure_drawn(folder / "drawn", 60)
    (drawn / "ripe" / "notes.jpg").write_text("not an image")
    (drawn / "ripe" / "readme.txt").write_text("not looked at")
    return drawn


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What demos have drawn and trained: a name tells what a thing was made from, so the next one finds it."""
    return tmp_path_factory.mktemp("made")


def folder_with(made, place):
    """A demo's folder with all that was made before."""
    folder = place / "demo"
    folder.mkdir()
    for name in ("model", "bananas"):
        (made / name).mkdir(exist_ok=True)
        (folder / name).symlink_to(made / name)
    return folder


@pytest.mark.timeout(180)
def test_own_pictures_are_answered_and_every_flagged_one_is_accounted_for(tmp_path, fruit, made):
    run = folder_with(made, tmp_path) / "run"
    run.mkdir()
    (run / "report.html").write_text("of the run before")
    ended = demo(tmp_path, "--images", str(fruit), *free_ports(), timeout=170)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    before = tmp_path / "demo" / "run.before" / "report.html"
    assert before.read_text() == "of the run before"
    assert f"kept until the next: {before}" in ended.stdout
    assert "training a model on a few pictures of each tag" in ended.stdout
    assert "Every flagged image is accounted for." in ended.stdout
    for row in ("images posted", "req/s", "flagged", "kept", "dropped", "uploaded", "uplink saved", "right answers"):
        assert row in ended.stdout
    assert "notes.jpg: 400" in ended.stdout
    uploaded = list((tmp_path / "demo" / "run" / "cloud").rglob("*.jpg"))
    assert uploaded


@pytest.mark.timeout(240)
def test_the_loop_is_closed_and_a_bad_model_is_undone_by_the_device(tmp_path, made):
    folder_with(made, tmp_path)
    ended = demo(tmp_path, "--turns", "1", "--count", COUNT, *free_ports(), timeout=230)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = ended.stdout
    assert "turn 1: right" in said
    assert "tag: " in said
    assert "judge: " in said
    (turn, after) = (
        line.split() for line in said[said.index("Turn by turn") :].splitlines() if " day " in line or " night " in line
    )
    assert turn[:3] == ["1", "day", "starter"]
    assert turn[-1] == "released", "the starter is weak on purpose: a model from twice as many labels is better"
    assert after[:4] == ["after", "night", "model", "1"]
    assert "The device took it back by itself: it is unsure of" in " ".join(said.split())
    assert "Every flagged image is accounted for." in said
    run = tmp_path / "demo" / "run"
    page = (run / "report.html").read_text()
    (link,) = re.findall(r'href="(.*?)"', page)
    assert "The new model is better" in (run / link).read_text() or (run / link).is_file()
    assert page.count("<img src=") == MOST_EXAMPLES
    assert "http" not in page.replace("http-equiv", "")
    logs = "".join(log.read_text() for log in (run / "logs").iterdir())
    assert "PRIVATE KEY" not in logs + said + page


@pytest.mark.parametrize("flag", ["--port", "--hub-port"])
def test_a_port_in_use_is_one_line_that_says_what_to_do(tmp_path, fruit, flag):
    gateway = free_gateway()
    host = gateway if flag == "--hub-port" else "127.0.0.1"
    with socket.create_server((host, 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = demo(tmp_path, "--images", str(fruit), "--gateway", gateway, flag, port)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: port {port} on {host} is in use")
    assert flag in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_all_ports_in_use_are_named_at_once_with_one_way_out(tmp_path, fruit):
    gateway = free_gateway()
    with socket.create_server((gateway, 8883)), socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = demo(tmp_path, "--images", str(fruit), "--gateway", gateway, "--port", port)
    assert ended.returncode == 2
    assert f"port 8883 on {gateway} and port {port} on 127.0.0.1 are in use" in ended.stderr
    assert f"-m demo --gateway 127.0.0.3 --port {int(port) + 1}" in ended.stderr


def test_an_address_of_another_machine_is_named_as_such(tmp_path, fruit):
    ended = demo(tmp_path, "--images", str(fruit), "--gateway", "203.0.113.1")
    assert ended.returncode == 2
    assert "203.0.113.1 is no address of this computer" in ended.stderr


def begun(tmp_path, fruit, made):
    """A demo that has posted its first pictures and will go on for a minute."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", "--folder", str(folder_with(made, tmp_path)), "--rate", "1", *free_ports()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "DEMO_IMAGES": str(fruit), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("answered"):
            return process
    raise AssertionError(process.stderr.read())


def training(tmp_path, made):
    """A demo whose trainer is at work."""
    environ = {**os.environ, "DEMO_COUNT": COUNT, "DEMO_TURNS": "1", "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", "--folder", str(folder_with(made, tmp_path)), *free_ports()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("train: waiting"):
            return process
    raise AssertionError(process.stderr.read())


def below(pid):
    """The processes it started, and those that they did."""
    found = children(pid)
    return found.union(*(below(child) for child in found))


def children(pid):
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pids):
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text()}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_demo_that_is_ended_leaves_nothing_running(fruit, made, signum):
    short = Path(tempfile.mkdtemp(prefix="d"))  # the path of a unix socket is short
    try:
        process = begun(short, fruit, made)
        started = children(process.pid)
        assert len(started) >= 3
        process.send_signal(signum)
        _, said = process.communicate(timeout=30)
        end = time.monotonic() + 10
        while alive(started) and time.monotonic() < end:
            time.sleep(0.1)
        assert not alive(started)
        if signum != signal.SIGKILL:
            assert process.returncode == 130
            assert said == "stopped; nothing is left running\n"
            assert not list(short.glob("ripeloop-*"))
    finally:
        shutil.rmtree(short, ignore_errors=True)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_ended_while_it_trains_leaves_nothing_running(made, signum):
    short = Path(tempfile.mkdtemp(prefix="d"))
    try:
        process = training(short, made)
        started = below(process.pid)
        assert len(started) >= 4
        process.send_signal(signum)
        _, said = process.communicate(timeout=30)
        end = time.monotonic() + 10
        while alive(started) and time.monotonic() < end:
            time.sleep(0.1)
        assert not alive(started)
        if signum != signal.SIGKILL:
            assert (process.returncode, said) == (130, "stopped; nothing is left running\n")
            assert not list(short.glob("ripeloop-*"))
    finally:
        shutil.rmtree(short, ignore_errors=True)


def test_two_demos_in_one_folder_do_not_meet(fruit, made):
    short = Path(tempfile.mkdtemp(prefix="d"))
    try:
        with begun(short, fruit, made) as first:
            second = demo(short, "--images", str(fruit), *free_ports())
            first.terminate()
            _, said = first.communicate(timeout=30)
        assert (first.returncode, said) == (130, "stopped; nothing is left running\n")
        assert second.returncode == 2
        assert "another demo is running in" in second.stderr
        assert second.stderr.count("\n") == 1
    finally:
        shutil.rmtree(short, ignore_errors=True)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_module_that_dies_is_one_line_that_names_its_log(fruit, made):
    short = Path(tempfile.mkdtemp(prefix="d"))
    try:
        process = begun(short, fruit, made)
        for pid in children(process.pid):
            if b"\0classifier\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 2
        assert said.startswith("error: ")
        assert said.count("\n") == 1
    finally:
        shutil.rmtree(short, ignore_errors=True)


def test_make_hands_on_a_folder_whose_name_holds_anything():
    name = 'it\'s a "dir" of $HOME; $(x)'
    told = subprocess.run(
        ["make", "--no-print-directory", "--eval", "told: ; @printenv DEMO_IMAGES", "told", f"IMAGES={name}"],
        cwd=PROJECT, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert told.stdout == f"{name}\n"


def test_a_picture_whose_name_is_no_text_can_be_shown(tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe[red].jpg"))
    odd.write_bytes(b"")
    (picture,) = mixed(find(tmp_path))
    assert picture.name == "\ufffd\ufffd[red].jpg"


def test_a_missing_folder_is_one_line_that_says_what_to_do(tmp_path):
    ended = demo(tmp_path, *free_ports(), DEMO_IMAGES=str(tmp_path / "nowhere"))
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: there is no folder")
    assert ended.stderr.count("\n") == 1


def test_an_empty_folder_is_one_line_that_says_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    ended = demo(tmp_path, *free_ports(), "--images", str(tmp_path / "empty"))
    assert ended.returncode == 2
    assert "holds no pictures" in ended.stderr


def test_pictures_are_found_flat_and_by_tag(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "ripe/c.jpeg", "unripe/d.bmp", "ripe/deep/e.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find(tmp_path)
    assert [(p.path.name, p.tag) for p in found] == [
        ("a.PNG", None), ("b.jpg", None), ("c.jpeg", "ripe"), ("d.bmp", "unripe"),
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="IMAGES=DIR"):
        find(tmp_path / "nowhere")


def test_a_model_is_trained_on_a_few_pictures_that_are_never_posted():
    counts = {"green": 99, "ripe": LEAST_TO_TRAIN, "unripe": 30}
    pictures = [Picture(Path(f"{tag}/{n}.jpg"), tag) for tag, count in counts.items() for n in range(count)]
    few = [Picture(Path(f"odd/{n}.jpg"), "odd") for n in range(LEAST_TO_TRAIN - 1)]
    training, rest = split_for_training(pictures + few, lambda path: path.name != "3.jpg")
    assert {tag: len(found) for tag, found in training.items()} == {"green": 20, "ripe": 5, "unripe": 10}
    assert {p for found in training.values() for p in found} | set(rest) == set(pictures + few)
    assert all(p.path.name != "3.jpg" for found in training.values() for p in found)
    assert split_for_training(pictures, lambda path: False) == ({}, pictures)
    assert len(rest) == len(pictures + few) - 35
    assert split_for_training(few, lambda path: True) == ({}, few)
    assert mixed(pictures) == mixed(pictures[::-1]) != pictures


def test_an_image_that_is_neither_uploaded_nor_dropped_is_missing():
    shift = Shift(1)
    shift.note(Answer(Picture(Path("a.jpg"), None), "a", 10, 0.1, "ripe", 0.5))
    classifier = {"answered": 1, "flagged": {"low_confidence": 4, "audit": 1}, "dropped": {"spool_full": 1}}
    sampler = {"kept": 3, "dropped": {"duplicate": 1}, "waiting": 0}
    there = Account.of(classifier, sampler, [("a", "a", 10), ("b", "b", 10), ("c", "c", 10)])
    assert there.settled(shift)
    assert not there.settled(Shift(0)), "the classifier has answered what no camera posted"
    assert not Account().settled(shift), "nobody has told anything"
    assert there.missing == 0
    assert there.uploaded_bytes == 30
    damaged = Account.of(classifier, sampler, [("a", "a", 10), ("b", "b", 10), ("c", "other", 10)])
    assert damaged.missing == 1
    on_its_way = Account.of(classifier, sampler | {"waiting": 1}, [("a", "a", 10)])
    assert not on_its_way.settled(shift)
    assert on_its_way.missing == 2


def test_an_image_no_camera_posted_is_a_stranger():
    shift = Shift(1)
    shift.note(Answer(Picture(Path("a.jpg"), None), "a", 10, 0.1, "ripe", 0.5))
    account = Account.of({"flagged": {"audit": 2}}, {"kept": 2}, [("a", "a", 10), ("z", "z", 10)])
    assert strangers(account, shift) == {"z"}


def test_a_turn_that_was_not_better_says_so_and_too_few_audits_say_nothing_of_the_field():
    share = {"hits": 3, "of": FEWEST_AUDITS - 1}
    judged = {"verdict": "same", "accuracy": share | {"hits": 4}, "active": {"accuracy": share}, "field": share}
    turn = Turn(3, "", outcome="same", steps={"judge": Step("judge", "", done="now", result=judged)})
    same = Round("3", "", Shift(0), 0, "model 2", turn=turn)
    assert (outcome(same), same.released, same.verdict) == ("not released", False, "same")
    assert same.judged == (Share(3, FEWEST_AUDITS - 1), Share(4, FEWEST_AUDITS - 1))
    assert same.field_estimate is None
    enough = turn.steps["judge"].result | {"field": {"hits": 8, "of": FEWEST_AUDITS}}
    told = replace(turn, steps={"judge": replace(turn.steps["judge"], result=enough)})
    assert replace(same, turn=told).field_estimate == Share(8, FEWEST_AUDITS)
    assert outcome(replace(same, turn=replace(turn, outcome="nothing to do", steps={}))) == "not trained"
    assert outcome(replace(same, turn=replace(turn, outcome="released"))) == "released"
    assert outcome(replace(same, turn=None)) == ""


def test_nothing_outside_the_demo_folder_is_left_behind(tmp_path):
    own = tmp_path / "tmp"
    own.mkdir()
    demo(tmp_path, *free_ports(), "--images", str(tmp_path / "nowhere"), TMPDIR=str(own))
    assert not list(own.glob("ripeloop-*"))


def test_the_table_of_turns_fits_a_terminal_of_80_columns():
    share = {"hits": 80, "of": 129}
    judged = {"verdict": "better", "accuracy": share, "active": {"accuracy": share}, "field": share}
    turn = Turn(3, "", outcome="same", steps={"judge": Step("judge", "", done="now", result=judged)})
    rounds = [Round("after", "night", Shift(0), 0, "model 2", turn=turn)]
    assert Console(width=200).measure(turns(rounds)).maximum <= 80
