"""Images to features, prepared by the very code that prepares them on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import onnx

from classifier.cores import cores
from classifier.imaging import InputSpec, to_tensor
from classifier.runtime import onnxruntime
from ripeloop.errors import BadImage
from trainer.backbone import FEATURE_COUNT, SIZE

SPEC = InputSpec(SIZE, SIZE)
VIEWS = 2

Features = npt.NDArray[np.float32]


class BadTrainingImage(BadImage):
    """The image at `position` (from 0) of those given cannot be used."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"image {position + 1} of those to train on: {reason}")
        self.position = position
        self.reason = reason


class Extractor:
    """A backbone that turns images into features, one at a time and each on one core: call it from many threads."""

    def __init__(self, backbone: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            backbone.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def views(self, image: bytes) -> Features:
        """Features [VIEWS, FEATURE_COUNT]: of the image as the device sees it, then of its mirror image."""
        tensor = to_tensor(image, SPEC)
        mirrored = np.ascontiguousarray(tensor[..., ::-1])
        return np.concatenate([self._features(tensor), self._features(mirrored)])

    def _features(self, tensor: npt.NDArray[np.float32]) -> Features:
        features: Features = self._session.run(None, {self._input: tensor})[0]
        return features


def extract(
    images: Sequence[bytes],
    backbone: onnx.ModelProto,
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] = lambda _done: None,
) -> Features:
    """Features [images, VIEWS, FEATURE_COUNT], one worker thread a core unless `workers` says otherwise.

    `on_done` is told after each image how many are done. Raises BadTrainingImage.
    """
    features = np.empty((len(images), VIEWS, FEATURE_COUNT), np.float32)
    for position, views in enumerate(_in_threads(images, Extractor(backbone), workers or cores())):
        features[position] = views
        on_done(position + 1)
    return features


def _in_threads(images: Sequence[bytes], extractor: Extractor, workers: int) -> Iterator[Features]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="features")
    try:
        waiting = [pool.submit(extractor.views, image) for image in images]
        for position, one in enumerate(waiting):
            try:
                yield one.result()
            except BadImage as error:
                raise BadTrainingImage(position, str(error)) from error
    finally:
        pool.shutdown(cancel_futures=True)  # after a bad image the rest need not be looked at
