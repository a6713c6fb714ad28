"""Reading PyTorch's file: what is in it comes out, and nothing in it can act."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import lite0
from ripeloop.errors import BadModel
from trainer.learning.weights import read_weights

HEADER = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
NUMBERS = np.arange(6, dtype="<f4")


def numbers(of: Sequence[int]) -> bytes:
    return b"(" + b"".join(b"I%d\n" % n for n in of) + b"t"


def tensor(offset: int = 0, shape: Sequence[int] = (2, 3), strides: Sequence[int] = (3, 1), length: int = 6) -> bytes:
    """The pickle's opcodes for a tensor in the storage "0"."""
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI%d\nNtQ" % length
    arguments = b"(" + storage + b"I%d\n" % offset + numbers(shape) + numbers(strides) + b"I00\nNt"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def file(value: bytes, length: int = 6) -> bytes:
    """A whole file with the one tensor "w"."""
    named = b"}S'w'\n" + value + b"s."
    return HEADER + named + pickle.dumps(["0"], 2) + struct.pack("<q", length) + NUMBERS.tobytes()


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_the_package_holds_efficientnet_lite0() -> None:
    weights = lite0.weights()
    assert len(weights) == 296
    assert weights["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert weights["_fc.weight"].shape == (1000, 1280)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    assert all(np.isfinite(array).all() for array in weights.values())


def test_a_tensor_is_read_by_its_offset_shape_and_strides() -> None:
    assert read_weights(file(tensor()))["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read_weights(file(tensor(1, (2, 2), (1, 3))))["w"].tolist() == [[1, 4], [2, 5]]


@pytest.mark.parametrize("before", [b"", HEADER[: HEADER.index(b".") + 1], HEADER])
def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path: Path, before: bytes) -> None:
    harmed = tmp_path / "harmed"
    with pytest.raises(BadModel, match=r"mkdir.*install the package again"):
        read_weights(before + pickle.dumps(Hostile(harmed), 2))
    assert not harmed.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins\neval", "torch._utils\n_rebuild_parameter", "torch\nload", "collections\nnamedtuple", "os\nsystem"],
)
def test_a_name_that_is_not_on_the_list_is_refused(name: str) -> None:
    asked = name.replace("\n", ".").replace("builtins", ".*")
    with pytest.raises(BadModel, match=asked):
        read_weights(file(b"c" + name.encode() + b"\n(S'1'\ntR"))


@pytest.mark.parametrize(
    "value",
    [
        tensor(offset=1),
        tensor(offset=-1),
        tensor(strides=(4, 1)),
        tensor(strides=(-3, 1)),
        tensor(shape=(-2, 3)),
        tensor(shape=(2, 3, 1)),
        tensor(shape=(10**12,), strides=(0,)),
        tensor(length=7),
        tensor(length=-1),
    ],
)
def test_a_tensor_that_does_not_fit_its_numbers_is_refused(value: bytes) -> None:
    with pytest.raises(BadModel):
        read_weights(file(value))


def test_a_file_cut_short_anywhere_is_refused() -> None:
    whole = file(tensor())
    for length in range(len(whole)):
        with pytest.raises(BadModel):
            read_weights(whole[:length])


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not a pickle", bytes(100), pickle.dumps([1, 2, 3])])
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    with pytest.raises(BadModel, match="not weights that can be read safely"):
        read_weights(data)
