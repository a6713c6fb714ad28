"""The network from pixels to features is the one whose weights these are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import lite0
from classifier.models.runtime import onnxruntime
from classifier.pixels.imaging import to_tensor
from demo.bananas import picture
from trainer.learning.backbone import FEATURE_COUNT, FEATURES, INPUT, SIZE, build_backbone
from trainer.learning.features import SPEC, VIEWS

BANANA, WATER_BOTTLE = 954, 898  # numbers of ImageNet's classes
BEFORE_LAST_STAGE = 2 * (112 + 320)


def imagenet(jpeg: bytes) -> np.ndarray:
    """The classes the original last layer sees, likeliest first."""
    pooled = lite0.extractor().views(jpeg)[0, BEFORE_LAST_STAGE : BEFORE_LAST_STAGE + 1280]
    logits = lite0.weights()["_fc.weight"] @ pooled + lite0.weights()["_fc.bias"]
    return np.argsort(logits)[::-1]


def test_the_graph_is_valid_and_takes_any_number_of_images() -> None:
    model = lite0.backbone()
    onnx.checker.check_model(model, full_check=True)
    shapes = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    ]
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == [INPUT, FEATURES]
    assert shapes == [["N", 3, SIZE, SIZE], ["N", FEATURE_COUNT]]


def test_the_same_image_gives_the_same_features_and_another_image_others() -> None:
    one, other = picture(3, 0, 0.1).jpeg, picture(3, 1, 0.9).jpeg
    views = lite0.extractor().views(one)
    assert views.shape == (len(VIEWS), FEATURE_COUNT)
    assert np.isfinite(views).all()
    assert np.array_equal(views, lite0.extractor().views(one))
    assert np.abs(views - lite0.extractor().views(other)).max() > 1


def test_an_image_has_the_same_features_alone_and_among_others() -> None:
    session = onnxruntime.InferenceSession(lite0.backbone().SerializeToString(), providers=["CPUExecutionProvider"])
    tensors = [to_tensor(picture(3, nth, 0.5).jpeg, SPEC) for nth in range(3)]
    together = session.run(None, {INPUT: np.concatenate(tensors)})[0]
    alone = np.concatenate([session.run(None, {INPUT: tensor})[0] for tensor in tensors])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)


def test_the_original_last_layer_calls_drawn_bananas_bananas() -> None:
    answers = [imagenet(picture(7, nth, 0.5).jpeg) for nth in range(8)]
    assert sum(answer[0] == BANANA for answer in answers) >= 5
    assert all(BANANA in answer[:5] for answer in answers)


def test_the_original_last_layer_calls_photographs_of_plastic_water_bottles() -> None:
    answers = [imagenet(path.read_bytes())[0] for path in lite0.photographs("plastic")]
    assert sum(answer == WATER_BOTTLE for answer in answers) >= 6  # by chance, none: there are 1000 classes


def test_weights_of_another_network_are_no_backbone() -> None:
    with pytest.raises(KeyError, match="_conv_stem"):
        build_backbone({})
