"""`python -m trainer train`: what a person types, sees and gets."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from classifier.models.model import load
from demo.bananas import picture
from trainer.__main__ import main

TRAINER = [sys.executable, "-m", "trainer", "train"]


def trainer(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRAINER, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | environ,
    )  # fmt: skip


def answer(export: Path, image: bytes) -> str:
    """What the classifier says with the model in `export`."""
    return max(load(export).predict(image), key=lambda one: one.probability).tag


@pytest.fixture
def fruit(tmp_path: Path) -> Path:
    """Five clear pictures of each of two tags."""
    folder = tmp_path / "fruit"
    for tag, ripeness in (("green", 0.05), ("brown", 0.95)):
        (folder / tag).mkdir(parents=True)
        for nth in range(5):
            (folder / tag / f"{nth}.jpg").write_bytes(picture(6, nth, ripeness, 120).jpeg)
    return folder


def test_numpy_is_told_to_use_one_thread_before_it_is_imported() -> None:
    code = """
import os, trainer.__main__, numpy
numpy.ones((500, 500)) @ numpy.ones((500, 500))
print(len(os.listdir("/proc/self/task")))
"""
    environ = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environ).stdout == b"1\n"


def test_a_folder_becomes_a_model_and_figures_with_progress_in_plain_lines(tmp_path: Path, fruit: Path) -> None:
    (fruit / "green" / "notes.txt").write_text("picked on Monday")
    out = tmp_path / "made" / "model.zip"
    ended = trainer("--images", fruit, "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in out.parent.iterdir()] == ["model.zip"]
    assert answer(out, picture(66, 0, 0.02).jpeg) == "green"
    first, heading, *rows = ended.stdout.splitlines()
    assert first.startswith("cross-validated on 10 images: accuracy 100.0%, calibration error 0.")
    assert heading.split() == ["tag", "images", "precision", "recall"]
    assert [row.split() for row in rows] == [["brown", "5", "100.0%", "100.0%"], ["green", "5", "100.0%", "100.0%"]]
    assert f"left out: {fruit / 'green' / 'notes.txt'}" in ended.stderr
    assert "looking at the images: 10/10" in ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr


def test_on_a_terminal_a_bar_is_drawn(tmp_path: Path, fruit: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*TRAINER, "--images", fruit, "--out", tmp_path / "model.zip"],
        stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b"".join(read_all(ours))
    assert process.returncode == 0
    assert b"\x1b[" in seen
    assert b"looking at the images" in seen
    assert b"10/10" in seen
    assert b"choosing" in seen


def read_all(terminal: int) -> Iterator[bytes]:
    """What is written to a terminal until nobody holds it open any more."""
    with os.fdopen(terminal, "rb", buffering=0) as file:
        while True:
            try:
                chunk = file.read(4096)
            except OSError:  # Linux's word for the end
                return
            if not chunk:
                return
            yield chunk


def test_flags_may_stand_in_the_environment(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    ended = trainer(TRAINER_TRAIN_IMAGES=str(nowhere), TRAINER_TRAIN_OUT=str(tmp_path / "model.zip"))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: there is no folder {nowhere}")


def without_a_folder(fruit: Path) -> None:
    fruit.rename(fruit.with_name("moved"))


def with_one_tag(fruit: Path) -> None:
    (fruit / "green").rename(fruit.with_name("away"))


def with_four_images(fruit: Path) -> None:
    (fruit / "green" / "4.jpg").unlink()


def with_a_text_for_an_image(fruit: Path) -> None:
    (fruit / "green" / "3.jpg").write_text("not an image")


def with_half_an_image(fruit: Path) -> None:
    image = fruit / "green" / "3.jpg"
    image.write_bytes(image.read_bytes()[:1000])


def with_a_dangling_link(fruit: Path) -> None:
    (fruit / "green" / "4.jpg").unlink()
    (fruit / "green" / "4.jpg").symlink_to(fruit / "nowhere.jpg")


def with_a_tag_of_two_lines(fruit: Path) -> None:
    (fruit / "green").rename(fruit / "two\nlines")


def with_a_folder_for_a_file(fruit: Path) -> None:
    fruit.with_name("model.zip").mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_a_folder, "there is no folder"),
        (with_one_tag, "2 tags or more"),
        (with_four_images, "'green' has 4"),
        (with_a_text_for_an_image, "green/3.jpg cannot be learnt from: not an image"),
        (with_half_an_image, "green/3.jpg cannot be learnt from: the image is damaged"),
        (with_a_dangling_link, "green/4.jpg cannot be read: No such file"),
        (with_a_tag_of_two_lines, "cannot be a tag"),
        (with_a_folder_for_a_file, "is a folder; name the file to write"),
    ],
)
def test_what_is_in_the_way_is_one_line_and_nothing_is_written(
    tmp_path: Path, fruit: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(fruit)
    ended = CliRunner().invoke(main, ["train", "--images", str(fruit), "--out", str(tmp_path / "model.zip")])
    assert ended.exit_code == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not (tmp_path / "model.zip").is_file()
    assert not list(tmp_path.glob("*.tmp"))
