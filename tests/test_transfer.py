"""Labelled images between services and folders: nothing is lost, and doing it again changes nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from retrain.__main__ import main
from retrain.customvision import CustomVision
from retrain.data import folders
from retrain.data.dataset import About, Item, Label, Record, Tag
from retrain.data.formats import NAMES
from retrain.data.transfer import copy, items_of, project_for
from ripeloop.errors import Denied, NotFound, Offline, Refused, SettingsError
from ripeloop.prediction import image_id
from trainerservice import KEY, Service, jpeg, service

ABOUT = About(
    name="fruit",
    description="from the market",
    multilabel=False,
    tags=(
        Tag("green", description="not yet"),
        Tag("brown / soft"),
        Tag("Negative", kind="Negative"),
        Tag("never seen"),
    ),
)


def image(nth: int) -> bytes:
    return jpeg("green", nth, 60)


def items() -> list[Item]:
    """Seven images: labelled by somebody, by nobody known, with words of their own, and one without a tag."""
    labels = [
        (Label("green", "2026-11-20T08:00:00Z", "anna"),),
        (Label("green"),),
        (Label("brown / soft", "2026-11-20T09:00:00Z", "b\u00e9la"),),
        (Label("brown / soft"),),
        (Label("Negative", "", "anna"),),
        (Label("green"),),
        (),
    ]
    metadata = [
        {},
        {},
        {"line": "3", "shift": "nigh\u00adt \u00fc"},
        {},
        {},
        {f"key {n}": "v" * 200 for n in range(8)},
        {},
    ]
    return [
        Item(
            Record(image_id(image(nth)), one, f"cloud-{nth}", f"2026-11-0{nth + 1}T00:00:00Z", more),
            lambda nth=nth: image(nth),  # type: ignore[misc]
        )
        for nth, (one, more) in enumerate(zip(labels, metadata, strict=True))
    ]


def known(records: Any) -> dict[str, Record]:
    return {record.id: record for record in records}


@pytest.fixture
def project(cloud: CustomVision, request: pytest.FixtureRequest) -> str:
    """A new project that holds the items."""
    made = cloud.create(About(name=request.node.name[:60]))
    counts = copy(ABOUT, items(), cloud, made, lambda _: None)
    assert (counts.added, counts.tags, counts.refused, counts.shortened) == (7, 4, 0, 0)
    return made


def test_a_service_gives_back_what_was_copied_into_it(cloud: CustomVision, project: str) -> None:
    back = known(item.record for item in items_of(cloud, project))
    for item in items():
        found, put = back[item.record.id], item.record
        assert (found.source, found.created, found.metadata) == (put.source, put.created, put.metadata)
        assert found.tags == put.tags
        for label, before in zip(found.labels, put.labels, strict=True):
            assert not (before.at or before.by) or label == before
    assert {item.read() for item in items_of(cloud, project)} == {item.read() for item in items()}
    tags = {(tag.name, tag.description, tag.kind) for tag in cloud.about(project).tags}
    assert tags == {(tag.name, tag.description, tag.kind) for tag in ABOUT.tags}


def test_copying_again_adds_nothing_and_follows_changed_tags(cloud: CustomVision, project: str) -> None:
    changed = items()
    read = list[int]()
    changed[1] = Item(Record(changed[1].record.id, (Label("Negative"),)), lambda: read.append(1) or b"")  # type: ignore[func-returns-value]
    counts = copy(ABOUT, changed, cloud, project, lambda _: None)
    assert (counts.added, counts.already, counts.retagged, counts.tags) == (0, 7, 1, 0)
    assert read == []
    back = known(item.record for item in items_of(cloud, project))
    assert back[changed[1].record.id].tags == ("Negative",)
    assert len(back) == cloud.count(project) == 7


def test_one_image_the_service_does_not_take_stops_no_other(cloud: CustomVision) -> None:
    made = cloud.create(About(name="one bad"))
    bad = Item(Record(labels=(Label("green"),)), lambda: b"not an image")
    counts = copy(ABOUT, [bad, *items()], cloud, made, lambda _: None)
    assert (counts.added, counts.refused) == (7, 1)
    assert "ErrorImageFormat" in counts.reasons[0]


@pytest.mark.parametrize("form", NAMES)
def test_a_folder_and_back_loses_nothing(cloud: CustomVision, project: str, tmp_path: Path, form: str) -> None:
    about = cloud.about(project)
    before = known(item.record for item in items_of(cloud, project))
    written = folders.write(tmp_path, about, items_of(cloud, project), form, lambda _: None)
    assert (written.images, written.already, written.left) == (7, 0, ())
    found = folders.read(tmp_path)
    assert found.about == about
    assert known(found.records.values()) == before
    again = folders.write(tmp_path, about, items_of(cloud, project), form, lambda _: None)
    assert (again.images, again.already) == (7, 7)
    assert known(folders.read(tmp_path).records.values()) == before
    other = cloud.create(About(name=f"back from {form}"))
    assert copy(found.about, found.items(), cloud, other, lambda _: None).added == 7
    assert known(item.record for item in items_of(cloud, other)) == before


def test_the_commands_clone_export_and_import(running: Service, project: str, tmp_path: Path) -> None:
    def ripeloop(*words: str) -> str:
        ended = CliRunner(env={"RIPELOOP_TRAINING_KEY": KEY, "RIPELOOP_TRAINER_KEY": KEY}).invoke(main, words)
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    with service(tmp_path / "other") as other:
        clone = ("trainer", "clone", "--from", running.url, "--project", project, "--to", other.url)
        assert "7 images added, 0 were there (0 with other tags), 4 tags made, 0 images refused" in ripeloop(*clone)
        assert "0 images added, 7 were there (0 with other tags), 0 tags made" in ripeloop(*clone)
        with closing(CustomVision(other.url, KEY)) as theirs:
            (cloned,) = theirs.projects(next(iter(names(running, project))))
        export = ("dataset", "export", "--endpoint", other.url, "--project", cloned, "--to", str(tmp_path / "fruit"))
        assert "7 images with 4 tags" in ripeloop(*export)
    assert (tmp_path / "fruit" / "brown %2F soft").is_dir()
    into = ("dataset", "import", "--from", str(tmp_path / "fruit"), "--endpoint", running.url, "--project", project)
    assert "0 images added, 7 were there (0 with other tags), 0 tags made" in ripeloop(*into)


def test_a_project_is_known_by_its_name_too_and_an_unknown_one_is_a_wrong_setting(
    running: Service, cloud: CustomVision, tmp_path: Path
) -> None:
    def ripeloop(*words: str) -> tuple[int, str]:
        environ = {"RIPELOOP_TRAINING_KEY": KEY, "RIPELOOP_TRAINER_KEY": KEY, "RIPELOOP_ENDPOINT": running.url}
        ended = CliRunner(env=environ).invoke(main, words)
        return ended.exit_code, ended.stderr

    named = f"named-{time.monotonic_ns()}"
    copy(ABOUT, items(), cloud, cloud.create(About(name=named)), lambda _: None)
    there = str(tmp_path / "there")
    export, clone = ("dataset", "export", "--to", there), ("trainer", "clone", "--to", running.url)
    into = ("dataset", "import", "--from", there)
    for words in (export, into, (*clone, "--to-project", named)):
        assert ripeloop(*words, "--project", named) == (0, ""), words
    for words in (export, into, clone):
        code, said = ripeloop(*words, "--project", "no-such-one")
        assert (code, "no project called 'no-such-one'" in said) == (2, True), words


def test_a_folder_without_images_makes_no_project(running: Service, cloud: CustomVision, tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "loose" / name).write_bytes(image(1))
    words = ("dataset", "import", "--endpoint", running.url, "--from", str(tmp_path / "loose"))
    ended = CliRunner(env={"RIPELOOP_TRAINING_KEY": KEY}).invoke(main, words)
    assert (ended.exit_code, "holds no images" in ended.stderr) == (2, True)
    assert "2 files, a.jpg, b.jpg" in ended.stderr
    assert cloud.projects("loose") == []


def test_a_refused_picture_is_named_by_its_file(running: Service, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    (folder / "ripe").mkdir(parents=True)
    (folder / "ripe" / "1.jpg").write_bytes(image(1))
    (folder / "ripe" / "cut.jpg").write_bytes(image(2)[:200])
    (folder / "ripe" / "notes.txt").write_text("by hand")
    (folder / "loose.jpg").write_bytes(image(3))
    words = ("dataset", "import", "--endpoint", running.url, "--from", str(folder))
    ended = CliRunner(env={"RIPELOOP_TRAINING_KEY": KEY}).invoke(main, words)
    assert (ended.exit_code, "1 images added" in ended.stdout) == (1, True)
    assert "refused: ripe/cut.jpg: the service does not take" in ended.stderr
    assert "2 files, loose.jpg, ripe/notes.txt\n" in ended.stderr


def names(running: Service, project: str) -> Iterator[str]:
    with closing(CustomVision(running.url, KEY)) as one:
        yield one.about(project).name


def images_on_disk(folder: Path) -> int:
    """How many images a trainer has taken in, without asking it."""
    return sum(path.is_file() for path in (folder / "projects").rglob("*"))


def test_a_clone_that_was_killed_goes_on_where_it_was(running: Service, cloud: CustomVision, tmp_path: Path) -> None:
    source = cloud.create(About(name="many"))
    many = [Item(Record(labels=(Label("green"),)), lambda nth=nth: image(nth)) for nth in range(30)]  # type: ignore[misc]
    copy(ABOUT, many, cloud, source, lambda _: None)
    slow = ("--calls-per-second", "20")  # so that the clone is still under way when it is killed
    with service(tmp_path / "other", *slow) as other, closing(CustomVision(other.url, KEY)) as theirs:
        target = theirs.create(About(name="copy"))
        command = [
            *(sys.executable, "-m", "retrain", "trainer", "clone", "--from", running.url, "--project", source),
            *("--to", other.url, "--to-project", target),
        ]
        environ = os.environ | {"RIPELOOP_TRAINING_KEY": KEY, "RIPELOOP_TRAINER_KEY": KEY}
        with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
            end = time.monotonic() + 30
            while images_on_disk(tmp_path / "other") < 10 and process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL  # it had not ended yet
        there = theirs.count(target)
        assert there >= 5
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
        added, already = map(int, re.findall(r"(\d+) images added, (\d+) were there", ended.stdout)[0])
        assert already >= there  # what was under way arrived
        assert added + already == theirs.count(target) == 30


def test_images_with_many_tags_go_only_where_that_may_be(cloud: CustomVision) -> None:
    many = About(name="many tags", multilabel=True, tags=ABOUT.tags)
    two = Item(Record(labels=(Label("green"), Label("brown / soft"))), lambda: image(3))
    one_tag = cloud.create(About(name="one tag"))
    with pytest.raises(Refused, match="multilabel project"):
        copy(many, [two], cloud, one_tag, lambda _: None)
    made = project_for(cloud, many)
    assert project_for(cloud, many) == made
    assert copy(many, [two], cloud, made, lambda _: None).added == 1
    (back,) = items_of(cloud, made)
    assert sorted(back.record.tags) == ["brown / soft", "green"]


def twice(folder: Path) -> Path:
    """A folder with an image under two tags, one under one, and one that is gone."""
    for place, nth in (("green/a.jpg", 1), ("brown/b.jpg", 1), ("green/c.jpg", 2)):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(image(nth))
    (folder / "green" / "gone.jpg").symlink_to(folder / "nowhere")
    return folder


def test_an_image_in_two_folders_has_both_tags_however_often_it_is_imported(
    running: Service, cloud: CustomVision, tmp_path: Path
) -> None:
    many = cloud.create(About(name="twice", multilabel=True))
    command = ("dataset", "import", "--from", str(twice(tmp_path)), "--endpoint", running.url, "--project", many)
    for said in ("2 images added, 0 were", "0 images added, 2 were there (0 with other tags)"):
        ended = CliRunner(env={"RIPELOOP_TRAINING_KEY": KEY}).invoke(main, command)
        assert ended.exit_code == 1, ended.output
        assert said in ended.stdout
        assert "1 images refused" in ended.stdout
        assert "refused: green/gone.jpg" in ended.stderr
        assert sorted(sorted(item.record.tags) for item in items_of(cloud, many)) == [["brown", "green"], ["green"]]


def test_an_image_with_two_tags_is_not_brought_where_it_may_have_one(
    running: Service, cloud: CustomVision, tmp_path: Path
) -> None:
    one = cloud.create(About(name="once"))
    command = ("dataset", "import", "--from", str(twice(tmp_path)), "--endpoint", running.url, "--project", one)
    ended = CliRunner(env={"RIPELOOP_TRAINING_KEY": KEY}).invoke(main, command)
    assert ended.exit_code == 2
    assert "brown/b.jpg and green/a.jpg are the same image" in ended.stderr
    assert (cloud.count(one), cloud.about(one).tags) == (0, ())


def test_what_is_wrong_with_a_service_is_told_apart(running: Service, cloud: CustomVision) -> None:
    with closing(CustomVision(running.url, "another key")) as stranger, pytest.raises(Denied, match="check the key"):
        stranger.projects("fruit")
    with pytest.raises(NotFound, match="NotFoundProject"):
        cloud.about("00000000-0000-0000-0000-000000000000")
    slept = list[float]()
    nobody = CustomVision("http://127.0.0.1:1", KEY, slept.append)
    with closing(nobody), pytest.raises(Offline, match="it goes on from here") as caught:
        nobody.read("http://127.0.0.1:1/image.jpg?sig=secret")
    assert "secret" not in str(caught.value)
    assert len(slept) == 5
    assert slept == sorted(slept)


def test_a_busy_service_is_asked_again_when_it_says_so(tmp_path: Path) -> None:
    waited = list[float]()

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(seconds)

    with service(tmp_path, "--calls-per-second", "4") as slow, closing(CustomVision(slow.url, KEY, sleep)) as cloud:
        made = project_for(cloud, About(name="fruit"))
        assert copy(ABOUT, items(), cloud, made, lambda _: None).added == 7
    assert waited


def test_another_data_set_in_the_folder_is_not_touched(cloud: CustomVision, project: str, tmp_path: Path) -> None:
    about = cloud.about(project)
    folders.write(tmp_path, about, items_of(cloud, project), "coco", lambda _: None)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SettingsError, match="another format"):
        folders.write(tmp_path, about, (), "azureml", lambda _: None)
    with pytest.raises(SettingsError, match="another data set"):
        folders.write(tmp_path, About(project="other"), (), "coco", lambda _: None)
    assert sorted(tmp_path.rglob("*")) == before
