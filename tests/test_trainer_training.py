"""From labelled images to a model that is right about images it never saw."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lite0
from classifier.models.model import Model, load
from demo.bananas import TAGS, picture
from ripeloop.errors import Refused
from trainer.learning.export import write_export
from trainer.learning.features import BadTrainingImage, Source, extract
from trainer.learning.training import Trained, check_enough, train

RUBBISH = ("glass", "metal", "paper", "plastic")
CLEAR = {"unripe": 0.05, "ripe": 0.5, "overripe": 0.95}
MOST_MEGABYTES = 400


def bananas(each: int, size: int = 120) -> dict[str, list[bytes]]:
    """Pictures of each ripeness, small enough to be drawn in no time."""
    return {tag: [picture(8, nth, CLEAR[tag], size).jpeg for nth in range(each)] for tag in TAGS}


def right(model: Model, image: bytes, tag: str) -> bool:
    return max(model.predict(image), key=lambda one: one.probability).tag == tag


@pytest.fixture(scope="module")
def rubbish() -> Trained:
    return train({tag: [path.read_bytes() for path in lite0.photographs(tag)[:15]] for tag in RUBBISH})


def test_real_photographs_are_told_apart_after_fifteen_of_each(tmp_path: Path, rubbish: Trained) -> None:
    write_export(tmp_path / "model.zip", rubbish.to_zip())
    model = load(tmp_path / "model.zip")
    answers = [right(model, path.read_bytes(), tag) for tag in RUBBISH for path in lite0.photographs(tag)[-25:]]
    accuracy = sum(answers) / len(answers)
    assert accuracy > 0.55  # by chance 0.25
    assert rubbish.figures.accuracy == pytest.approx(accuracy, abs=0.2)


def test_the_export_holds_what_was_said_of_images_not_seen(tmp_path: Path, rubbish: Trained) -> None:
    write_export(tmp_path / "model.zip", rubbish.to_zip())
    validation = load(tmp_path / "model.zip").validation
    assert validation is not None
    assert [one.tag for one in validation.tags] == list(RUBBISH)
    assert validation.images == 15 * len(RUBBISH)
    right = sum(one.images * (one.accuracy or 0) for one in validation.tags)
    assert right / validation.images == pytest.approx(rubbish.figures.accuracy, abs=1e-4)
    confidence = sum(one.images * one.confidence for one in validation.tags) / validation.images
    assert confidence == pytest.approx(rubbish.figures.probabilities.max(axis=1).mean(), abs=1e-4)


def test_each_tag_has_its_own_figures(rubbish: Trained) -> None:
    assert [(one.tag, one.images) for one in rubbish.tag_figures] == [(tag, 15) for tag in RUBBISH]
    mean_recall = sum(one.recall for one in rubbish.tag_figures) / len(RUBBISH)
    assert mean_recall == pytest.approx(rubbish.figures.accuracy)
    assert all(0 < one.precision <= 1 for one in rubbish.tag_figures)


def test_the_same_images_give_the_same_file_in_any_order_of_tags_and_on_any_number_of_cores() -> None:
    images, told = bananas(5), list[int]()
    one = train(images, backbone=lite0.backbone(), workers=1, on_done=told.append)
    other = train(dict(reversed(images.items())), backbone=lite0.backbone(), workers=3)
    assert one.to_zip() == other.to_zip()
    assert one.tags == ("overripe", "ripe", "unripe")
    assert told == list(range(1, 16))


def test_an_image_that_is_none_is_named_by_its_position() -> None:
    images = [*bananas(2)["ripe"], b"not an image", b"nor this"]
    with pytest.raises(BadTrainingImage, match="image 3 of those to train on") as caught:
        list(extract([Source.of(image) for image in images], lite0.extractor()))
    assert caught.value.position == 2


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "there is none"),
        ({"apple": 90}, "there is only 'apple'"),
        ({"apple": 90, "pear": 4, "plum": 0}, "'pear' has 4, 'plum' has 0; add images"),
    ],
)
def test_too_few_tags_or_images_are_refused_in_words(counts: dict[str, int], words: str) -> None:
    with pytest.raises(Refused, match=words):
        check_enough(counts)


def test_a_bad_tag_is_refused_before_any_image_is_looked_at() -> None:
    with pytest.raises(Refused, match="cannot be a tag"):
        train({"apple": [b"not an image"] * 5, "two\nlines": [b"not an image"] * 5})


TRAIN_SIXTY = """
from pathlib import Path
from demo.bananas import picture
from trainer.learning.training import train
clear = {"unripe": 0.05, "ripe": 0.5, "overripe": 0.95}
train({tag: [picture(8, n, ripeness, 120).jpeg for n in range(20)] for tag, ripeness in clear.items()}).to_zip()
print(Path("/proc/self/status").read_text())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read as Linux tells it")
def test_training_on_sixty_images_needs_little_memory() -> None:
    ended = subprocess.run([sys.executable, "-c", TRAIN_SIXTY], capture_output=True, text=True, timeout=100, check=True)
    # not getrusage's figure: that remembers how large the process was that started this one
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", ended.stdout)
    assert int(peak) / 1000 < MOST_MEGABYTES
