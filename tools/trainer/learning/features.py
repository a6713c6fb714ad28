"""Images to features, prepared by the very code that prepares them on the device."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from classifier.models.cores import cores
from classifier.models.runtime import onnxruntime
from classifier.pixels.imaging import InputSpec, to_tensor
from ripeloop.errors import BadImage
from trainer.learning.augment import VIEWS, view
from trainer.learning.backbone import FEATURE_COUNT, SIZE
from trainer.learning.cache import FeatureCache, NoCache

SPEC = InputSpec(SIZE, SIZE)

Features = npt.NDArray[np.float16]
"""Half as large as float32, and as good: what is lost is less than what a JPEG encoder changes."""

_LARGEST = float(np.finfo(np.float16).max)
_AHEAD = 4  # images a worker may be ahead of the one that is waited for: memory stays small, cores busy


class BadTrainingImage(BadImage):
    """The image at `position` (from 0) of those given cannot be used."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"image {position + 1} of those to train on: {reason}")
        self.position = position
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Source:
    """One image: `id` names its bytes for good, and `read` gives them when they are needed, in any thread."""

    id: str
    read: Callable[[], bytes]

    @classmethod
    def of(cls, image: bytes) -> Source:
        """An image that is in memory already; its id is the SHA-256."""
        return cls(hashlib.sha256(image).hexdigest(), lambda: image)


class Extractor:
    """A backbone that turns images into features, one at a time and each on one core: call it from many threads.

    `version` is another one for another backbone.
    """

    def __init__(self, backbone: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        graph = backbone.SerializeToString(deterministic=True)
        self.version = hashlib.sha256(graph).hexdigest()[:16]
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def views(self, image: bytes, names: Sequence[str] = VIEWS) -> Features:
        """Features [views, FEATURE_COUNT] of the image as the device sees it, looked at in each way named."""
        try:
            tensor = to_tensor(image, SPEC)
        except BadImage:  # too large to be decoded whole, if it is not damaged: then the same again
            tensor = to_tensor(image, SPEC, fast=True)
        return np.concatenate([self._features(view(tensor, name)) for name in names])

    def _features(self, tensor: npt.NDArray[np.float32]) -> Features:
        (features,) = self._session.run(None, {self._input: tensor})
        half: Features = np.clip(features, -_LARGEST, _LARGEST).astype(np.float16)
        return half


def extract(
    images: Sequence[Source],
    extractor: Extractor,
    *,
    views: Sequence[str] = VIEWS,
    cache: FeatureCache | NoCache = NoCache(),
    workers: int | None = None,
) -> Iterator[Features]:
    """Features [views, FEATURE_COUNT] of each image in turn, one worker thread a core unless `workers` says otherwise.

    No more than a few images are in memory at once. What is in the `cache` is not looked at again. Raises
    BadTrainingImage.
    """
    workers = workers or cores()  # once: it takes longer to find out than to read an image's features
    pool = ThreadPoolExecutor(workers, thread_name_prefix="features")
    waiting: deque[Callable[[], Features]] = deque()
    try:
        for done, image in enumerate(images):
            waiting.append(_ask(image, done, pool, extractor, views, cache))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()
    finally:
        pool.shutdown(cancel_futures=True)  # after a bad image the rest need not be looked at
        cache.commit()


def _ask(
    image: Source,
    position: int,
    pool: ThreadPoolExecutor,
    extractor: Extractor,
    views: Sequence[str],
    cache: FeatureCache | NoCache,
) -> Callable[[], Features]:
    """The features when they are asked for: from the cache, or from a worker that began at once."""
    known = cache.get(extractor.version, image.id, views)
    missing = [name for name in views if name not in known]
    coming: Future[Features] | None = pool.submit(lambda: extractor.views(image.read(), missing)) if missing else None

    def answer() -> Features:
        if coming is not None:
            try:
                found = dict(zip(missing, coming.result(), strict=True))
            except BadImage as error:
                raise BadTrainingImage(position, str(error)) from error
            cache.put(extractor.version, image.id, found)
            known.update(found)
        return np.stack([known[name] for name in views]).reshape(len(views), FEATURE_COUNT)

    return answer
