"""The real backbone for the trainer's tests: built once for all of them."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy.typing as npt
import onnx
import pytest

from trainer.learning.backbone import build_backbone
from trainer.learning.features import Extractor
from trainer.learning.weights import lite0_weights

RECYCLING = Path(__file__).parents[2] / "shared" / "images" / "recycling"


@cache
def weights() -> dict[str, npt.NDArray]:
    return lite0_weights()


@cache
def backbone() -> onnx.ModelProto:
    return build_backbone(weights())


@cache
def extractor() -> Extractor:
    return Extractor(backbone())


def photographs(tag: str) -> list[Path]:
    """Real photographs of one kind of rubbish, mixed, always in the same order."""
    if not RECYCLING.is_dir():
        pytest.skip("needs ../shared/images/recycling")
    return sorted((RECYCLING / tag).glob("*.jpg"), key=lambda path: sha256(path.name.encode()).digest())
