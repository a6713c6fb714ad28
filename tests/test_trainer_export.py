"""What the trainer writes is a Custom Vision export, and the classifier answers with it."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import zipfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

import lite0
from classifier.models.model import load
from classifier.models.runtime import onnxruntime
from demo.bananas import picture
from ripeloop.errors import Refused, SettingsError
from trainer.learning.backbone import FEATURE_COUNT, INPUT
from trainer.learning.calibration import softmax
from trainer.learning.export import Iteration, check_tags, compose, export_zip, write_export
from trainer.learning.head import Head

TAGS = ("zebra", "Ünripe, green", "apple")  # not in alphabetical order: the order is the head's


@cache
def head() -> Head:
    rng = np.random.default_rng(1)
    return Head(rng.normal(0, 0.02, (FEATURE_COUNT, 3)).astype(np.float32), np.array([0.5, 0, -0.5], np.float32))


@cache
def model() -> onnx.ModelProto:
    return compose(lite0.backbone(), head(), TAGS)


@cache
def export() -> bytes:
    return export_zip(model(), TAGS)


def inside(name: str) -> bytes:
    return zipfile.ZipFile(io.BytesIO(export())).read(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "made" / "model.zip"
    write_export(path, export())
    return path


def test_onnxruntime_loads_the_graph() -> None:
    session = onnxruntime.InferenceSession(inside("model.onnx"), providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape) for one in session.get_inputs()] == [(INPUT, ["N", 3, 224, 224])]
    outputs = [(one.name, one.shape) for one in session.get_outputs()]
    assert outputs == [("model_output", ["N", 3]), ("features", ["N", FEATURE_COUNT])]


def test_the_classifier_answers_with_the_trainers_own_probabilities(file: Path) -> None:
    loaded = load(file)
    assert loaded.tags == TAGS
    for nth in range(3):
        image = picture(5, nth, 0.3 * nth).jpeg
        features = lite0.extractor().views(image)[0].astype(np.float64)
        own = softmax(features @ head().weights + head().bias)
        answered = loaded.predict(image)
        assert [one.tag for one in answered] == list(TAGS)
        np.testing.assert_allclose([one.probability for one in answered], own, atol=1e-4)


def test_the_manifest_vouches_for_the_model(file: Path) -> None:
    manifest = json.loads(inside("cvexport.manifest"))
    assert manifest["ModelFileSHA1"] == hashlib.sha1(inside("model.onnx")).hexdigest()
    for name in ("ModelFileName", "LabelFileName", "MetadataPropsFileName"):
        assert inside(manifest[name])
    assert manifest["DomainType"] == "Classification"
    assert str(uuid.UUID(manifest["IterationId"])) == manifest["IterationId"] == load(file).version


def test_the_labels_are_the_tags_one_a_line_in_the_heads_order() -> None:
    assert inside("labels.txt").decode() == "zebra\nÜnripe, green\napple"


def test_the_licence_of_the_weights_travels_with_them() -> None:
    text = inside("LICENSE").decode()
    assert "EfficientNet-Lite0" in text
    assert "Apache License" in text
    assert "Version 2.0" in text


def test_the_same_head_gives_the_same_bytes() -> None:
    assert export_zip(compose(lite0.backbone(), head(), TAGS), TAGS) == export()


def test_another_head_is_another_iteration() -> None:
    other = export_zip(compose(lite0.backbone(), Head(-head().weights, head().bias), TAGS), TAGS)
    manifest = json.loads(zipfile.ZipFile(io.BytesIO(other)).read("cvexport.manifest"))
    assert manifest["IterationId"] != json.loads(inside("cvexport.manifest"))["IterationId"]


def test_an_iteration_that_is_known_is_named() -> None:
    named = Iteration(uuid.UUID(int=7), datetime(2026, 11, 22, 8, 30, tzinfo=UTC))
    manifest = json.loads(zipfile.ZipFile(io.BytesIO(export_zip(model(), TAGS, named))).read("cvexport.manifest"))
    assert manifest["IterationId"] == "00000000-0000-0000-0000-000000000007"
    assert manifest["ExportedDate"].startswith("2026-11-22T08:30:00")


def test_the_backbone_stays_without_a_head() -> None:
    before = lite0.backbone().SerializeToString(deterministic=True)
    compose(lite0.backbone(), head(), TAGS)
    assert lite0.backbone().SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "tag", ["", "  ", "two\nlines", "two\rlines", "two\u2028lines", "\ufeffapple", "\udcff", "half\tripe", "\x7f"]
)
def test_a_tag_that_labels_txt_cannot_hold_is_refused(tag: str) -> None:
    with pytest.raises(Refused, match="cannot be a tag"):
        check_tags(("apple", tag))


def test_a_tag_given_twice_is_refused() -> None:
    with pytest.raises(Refused, match="apple, pear, apple"):
        compose(lite0.backbone(), head(), ("apple", "pear", "apple"))


def test_an_export_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "kept.txt").write_text("kept")
    with pytest.raises(SettingsError, match="taken cannot be written"):
        write_export(tmp_path / "taken", b"bytes")
    with pytest.raises(SettingsError, match="cannot be written"):
        write_export(tmp_path / "taken" / "kept.txt" / "model.zip", b"bytes")
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "kept.txt"]


def test_an_export_replaces_the_one_before(file: Path) -> None:
    write_export(file, b"newer")
    assert [path.read_bytes() for path in file.parent.iterdir()] == [b"newer"]
