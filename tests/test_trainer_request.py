"""What the service asks of the training, in both kinds of projects."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifier.models.export import read
from classifier.models.model import load
from demo.bananas import picture
from ripeloop.errors import Refused, SettingsError
from trainer.learning.advanced import Choice
from trainer.learning.features import BadTrainingImage
from trainer.runs.request import TrainingImage, TrainingRequest, TrainingTag, train_request

ITERATION = "11111111-2222-3333-4444-555555555555"
RIPENESS = {"brown": 0.95, "green": 0.05, "yellow": 0.5}
EACH = 6


@pytest.fixture
def request_(tmp_path: Path) -> TrainingRequest:
    """Six pictures of each ripeness."""
    images = []
    for tag, ripeness in RIPENESS.items():
        for nth in range(EACH):
            path = tmp_path / f"{tag}-{nth}.jpg"
            path.write_bytes(picture(6, nth, ripeness, 100).jpeg)
            images.append(TrainingImage(path.stem, path, (f"id of {tag}",)))
    tags = tuple(TrainingTag(f"id of {tag}", tag) for tag in RIPENESS)
    return TrainingRequest(tuple(images), tags, False, tmp_path / "cache", ITERATION)


def answer(zipped: bytes, folder: Path, ripeness: float) -> dict[str, float]:
    """What the classifier says of another picture."""
    (folder / "model.zip").write_bytes(zipped)
    return {one.tag: one.probability for one in load(folder / "model.zip").predict(picture(77, 1, ripeness).jpeg)}


def test_a_multiclass_training_tells_where_it_is_and_what_held_out_images_showed(
    request_: TrainingRequest, tmp_path: Path
) -> None:
    told = list[tuple[str, int, int]]()
    result = train_request(request_, lambda *news: told.append(news))
    assert result.tags == tuple(tag.id for tag in request_.tags)
    assert result.probabilities.shape == (18, 3)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)
    assert (result.probabilities.argmax(axis=1) == np.repeat(np.arange(3), EACH)).mean() > 0.7
    assert result.folds is not None
    assert sorted(set(result.folds)) == [0, 1, 2, 3]
    assert told[17] == ("looking at the images", 18, 18)
    assert [what for what, done, of in told if done == of] == ["looking at the images", "choosing", "writing"]
    said = answer(result.export, tmp_path, 0.02)
    assert max(said, key=said.__getitem__) == "green"
    export = read(tmp_path / "model.zip")
    assert export.iteration == ITERATION


def test_a_second_training_looks_only_at_what_is_new_and_gives_the_same(request_: TrainingRequest) -> None:
    first = train_request(request_)
    for image in request_.images:
        image.path.write_bytes(b"gone, and not looked at again")
    again = train_request(request_)
    assert again.export == first.export
    assert again.probabilities.tobytes() == first.probabilities.tobytes()


def test_in_multilabel_images_have_many_tags_and_negative_ones_none(request_: TrainingRequest, tmp_path: Path) -> None:
    tags = (*request_.tags[:2], TrainingTag("id of yellow", "Negative", negative=True))
    both = tmp_path / "both.jpg"
    both.write_bytes(picture(6, 50, 0.95, 100).jpeg)
    images = (*request_.images, TrainingImage("both", both, ("id of brown", "id of green")))
    result = train_request(replace(request_, images=images, tags=tags, multilabel=True))
    assert result.tags == ("id of brown", "id of green")
    assert result.probabilities.shape == (19, 2)
    members = zipfile.ZipFile(io.BytesIO(result.export))
    assert members.read("labels.txt").decode() == "brown\ngreen"
    properties = json.loads(members.read("metadata_properties.json"))
    assert properties["CustomVision.Postprocess.Method"] == "ClassificationMultiLabel"
    brown, negative = answer(result.export, tmp_path, 0.98), answer(result.export, tmp_path, 0.5)
    assert brown["brown"] > 0.5 > brown["green"]
    assert brown["brown"] > negative["brown"]


def test_in_multiclass_the_negative_tag_is_a_tag_like_any_other(request_: TrainingRequest) -> None:
    tags = (*request_.tags[:2], replace(request_.tags[2], name="Negative", negative=True))
    result = train_request(replace(request_, tags=tags))
    assert zipfile.ZipFile(io.BytesIO(result.export)).read("labels.txt").decode() == "brown\ngreen\nNegative"


def test_in_8_bits_both_kinds_are_learnt_from_the_same_request(request_: TrainingRequest, tmp_path: Path) -> None:
    for multilabel in (False, True):
        plain = train_request(replace(request_, multilabel=multilabel))
        small = train_request(replace(request_, multilabel=multilabel, int8=True))
        assert len(small.export) < len(plain.export) / 3
        assert small.tags == plain.tags
        assert np.abs(small.probabilities - plain.probabilities).max() < 0.3
        said = answer(small.export, tmp_path, 0.02)
        assert max(said, key=said.__getitem__) == "green"


def test_an_export_begins_with_what_an_advanced_training_settled_on(request_: TrainingRequest) -> None:
    usual = train_request(request_)
    choice = Choice(stages=(1.0, 1.0, 2.0))
    again = train_request(replace(request_, choice=choice))
    assert (usual.choice, again.choice) == (Choice(), choice)
    assert again.export != usual.export


def test_an_advanced_training_never_does_worse_on_held_out_images(request_: TrainingRequest) -> None:
    def loss(probabilities: np.ndarray) -> float:
        return float(-np.log(probabilities[np.arange(18), np.repeat(np.arange(3), EACH)]).mean())

    usual, more = train_request(request_), train_request(replace(request_, seconds=20.0))
    assert loss(more.probabilities) <= loss(usual.probabilities)


def test_what_listens_may_end_the_training(request_: TrainingRequest) -> None:
    class EnoughError(Exception):
        pass

    def stop(_what: str, done: int, _of: int) -> None:
        if done == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        train_request(request_, stop)


def test_an_image_that_cannot_be_decoded_is_named_by_its_place(request_: TrainingRequest) -> None:
    request_.images[7].path.write_bytes(b"not an image")
    with pytest.raises(BadTrainingImage) as caught:
        train_request(request_)
    assert caught.value.position == 7


def wrong(request: TrainingRequest) -> Iterator[tuple[TrainingRequest, type[Exception], str]]:
    few = tuple(image for image in request.images if image.id not in ("green-0", "green-1"))
    twice = (replace(request.images[0], tags=("id of brown", "id of green")), *request.images[1:])
    yield replace(request, images=few), Refused, "'green' has 4"
    yield replace(request, tags=request.tags[:1], images=request.images[:EACH]), Refused, "2 tags or more"
    yield replace(request, images=twice), SettingsError, "has 2 tags"
    yield replace(request, tags=request.tags[:2]), SettingsError, "does not name"
    negative = (replace(request.tags[0], negative=True),)
    yield replace(request, tags=negative, images=request.images[:EACH], multilabel=True), Refused, "there is none"


def test_a_request_that_cannot_be_trained_is_refused_in_words(request_: TrainingRequest) -> None:
    for request, kind, words in wrong(request_):
        with pytest.raises(kind, match=words):
            train_request(request)
