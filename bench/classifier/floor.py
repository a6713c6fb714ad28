"""The hardware's limit: what the cores would answer if there were nothing but decoding and the model.

The floor is cores / (the model's run on one thread + the quickest decoding). Nobody can be faster with this model on
these cores; a server adds HTTP, JSON, threads and a client. Measured in the run it is compared with, part by part.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from classifier.models.runtime import onnxruntime
from trainer.learning.backbone import INPUT, SIZE

Tensor = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Floor:
    """The limit for pictures of one size.

    In milliseconds: `decode` on one thread and, by flavour, `model` on one thread and `alone`, the model on all cores.
    `together`: images a second that all cores really did at once, decoding and model alone, by flavour.
    """

    cores: int
    decode: float
    model: Mapping[str, float]
    alone: Mapping[str, float]
    together: Mapping[str, float]

    def rate(self, flavour: str) -> float:
        """Images a second at the floor."""
        return self.cores * 1000 / (self.model[flavour] + self.decode)


class Limit:
    """Measures the floor with these models, given as ONNX by flavour, on so many cores."""

    def __init__(self, models: Mapping[str, bytes], cores: int) -> None:
        self._cores = cores
        self._one = {flavour: _session(model, 1) for flavour, model in models.items()}
        self._all = {flavour: _session(model, cores) for flavour, model in models.items()}

    def measure(self, jpeg: bytes, seconds: float) -> Floor:
        """The floor now for that picture: each part is measured for about so many seconds, one after the other."""
        return Floor(
            self._cores,
            min(_median(partial(way, jpeg), seconds / 2) for way in (with_pillow, with_libjpeg)),
            {flavour: _median(partial(_run, session), seconds) for flavour, session in self._one.items()},
            {flavour: _median(partial(_run, session), seconds) for flavour, session in self._all.items()},
            {flavour: _together(session, jpeg, self._cores, 2 * seconds) for flavour, session in self._one.items()},
        )


def _run(session: Any, tensor: Tensor = np.full((1, 3, SIZE, SIZE), 0.5, np.float32)) -> None:
    session.run(None, {INPUT: tensor})


def _session(model: bytes, threads: int) -> Any:
    """A session on so many threads that leaves the cores alone between two runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def with_pillow(jpeg: bytes) -> Tensor:
    """The model's pixels [1,3,H,W], decoded at the smallest scale that holds them."""
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft("RGB", (SIZE, SIZE))
        return _tensor(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.NEAREST)))


def with_libjpeg(jpeg: bytes) -> Tensor:
    """The same straight from libjpeg-turbo, with its quicker and coarser arithmetic."""
    pixels = simplejpeg.decode_jpeg(
        jpeg, fastdct=True, fastupsample=True, min_height=SIZE, min_width=SIZE, min_factor=1
    )
    rows, columns = (np.arange(SIZE) * side // SIZE for side in pixels.shape[:2])
    return _tensor(pixels[rows[:, None], columns])


def _tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)[np.newaxis]
    tensor *= np.float32(1 / 255)
    return tensor


def _median(work: Callable[[], object], seconds: float) -> float:
    """The middle time of one call in milliseconds, over at least five of them."""
    times: list[float] = []
    work()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _together(session: Any, jpeg: bytes, cores: int, seconds: float) -> float:
    """Images a second while every core decodes and runs the model, one after the other, with nothing between."""
    end = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            _run(session, with_libjpeg(jpeg))
            done += 1
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        done = sum(pool.map(work, range(cores)))
    return done / (time.perf_counter() - started)
