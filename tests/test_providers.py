"""Execution providers: the words for them, and an honest error where one is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifier.models.model import load
from classifier.models.providers import parse
from classifier.models.runtime import onnxruntime
from colours import TAGS, picture, zipped
from ripeloop.errors import BadModel, SettingsError

MISSING = [
    word
    for word, name in (("cuda", "CUDA"), ("tensorrt", "Tensorrt"), ("openvino", "OpenVINO"))
    if f"{name}ExecutionProvider" not in onnxruntime.get_available_providers()
]


@pytest.mark.parametrize("text", ["cpu", "", " CPU ,cpu,"])
def test_the_processor_is_always_there_and_last(text: str) -> None:
    assert parse(text) == ("cpu",)


def test_a_word_nobody_knows_is_refused_with_those_known() -> None:
    with pytest.raises(SettingsError, match="gpu is unknown; known are cpu, cuda, tensorrt, openvino"):
        parse("cuda,gpu")


@pytest.mark.parametrize("word", MISSING)
def test_a_provider_that_is_not_installed_is_refused_with_what_to_do(word: str) -> None:
    with pytest.raises(
        SettingsError, match=f"--providers {word}: onnxruntime here offers cpu.*ONNXRUNTIME='onnxruntime"
    ):
        parse(f"{word},cpu")


@pytest.mark.skipif("cuda" not in MISSING, reason="this onnxruntime has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_that_fell_back_to_the_processor_is_no_gpu(tmp_path: Path) -> None:
    path = zipped(tmp_path / "export.zip")
    with pytest.raises(BadModel, match="cannot compute on cuda here, only on cpu"):
        load(path, providers=("cuda", "cpu"))
    assert tuple(p.tag for p in load(path, providers=("cpu",)).predict(picture())) == TAGS
