"""A Custom Vision export becomes something that answers images."""

from __future__ import annotations

import json
import logging
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifier.models.export import Export, read
from classifier.models.likeness import LOOKED_AT, disagreement
from classifier.models.providers import CPU, check, names, preload
from classifier.models.runtime import errors as ort
from classifier.models.runtime import onnxruntime
from classifier.pixels.decoding import MAX_SIDE, content_type
from classifier.pixels.dhash import dhash
from classifier.pixels.imaging import OLD_CONTAINER, InputSpec, to_tensor
from classifier.pixels.room import Room
from ripeloop.errors import BadImage, BadModel
from ripeloop.package import GoldenSet, read_golden
from ripeloop.prediction import Prediction

log = logging.getLogger(__name__)

# onnxruntime's own errors have no root but Exception
_FAILED = (
    ort.Fail,
    ort.EPFail,
    ort.EngineError,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.ModelLoaded,
    ort.NoModel,
    ort.NoSuchFile,
    ort.NotImplemented,
    ort.RuntimeException,
    RuntimeError,
    ValueError,
)
_TYPES: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class _Output:
    """Where the probabilities come out: `zipmap` gives them with their tags, else they stand in the tags' order."""

    name: str
    zipmap: bool


class Model:
    """A loaded, warmed-up model. `predict` may be called from many threads at once.

    `tags` stand in the order of labels.txt; `version` is the iteration's id, else a part of the file's SHA-256.
    `project`, `iteration` and `tag_ids` are the ids where it was trained, empty where its export does not tell them.
    `validation` and `thresholds` are those of its package.
    Images are decoded in `room`, and JPEGs smaller where `fast`; the rest is as in `load`.
    """

    def __init__(
        self,
        export: Export,
        threads: int = 1,
        room: Room | None = None,
        *,
        fast: bool = False,
        providers: Sequence[str] = (CPU,),
    ) -> None:
        self._room = room or Room()
        self.fast = fast
        self._shared = _session(export.model, 1, providers)
        # one request alone may have all cores; while every worker is busy more threads only get in each other's way
        several = threads > 1 and tuple(providers) == (CPU,)
        self._alone = _session(export.model, threads, providers) if several else self._shared
        metadata = self._shared.get_modelmeta().custom_metadata_map | dict(export.metadata)
        self.version = export.version
        self.project, self.iteration, self.tag_ids = export.project, export.iteration, export.tag_ids
        self.validation, self.thresholds = export.validation, export.thresholds
        self.spec, self._input, self._type = _input(self._shared, metadata)
        self._output = _output(self._shared, export.labels)
        self.tags = export.labels or ()
        self._warm_up()
        export.check_tags(self.tags)

    def predict(self, image: bytes, *, alone: bool = False, exact: bool = False) -> tuple[Prediction, ...]:
        """What the model says of the posted `image`, in the order of `tags`. Raises BadImage, BadModel.

        `alone`: no other request is waiting, so that this one may use all cores. `exact`: even where it is `fast`.
        """
        return self.answer(self.prepared(image, exact=exact), alone=alone)

    def prepared(self, image: bytes, *, exact: bool = False) -> NDArray[np.float32]:
        """The posted `image` as `answer` takes it, here and in any model of the same `spec`. Raises BadImage."""
        return to_tensor(image, self.spec, self._room, fast=self.fast and not exact)

    def answer(self, tensor: NDArray[np.float32], *, alone: bool = False) -> tuple[Prediction, ...]:
        """What the model says of an image `prepared` before. Raises BadModel."""
        return self._predictions(self._alone if alone else self._shared, tensor)

    def looks(self, tensor: NDArray[np.float32]) -> str:
        """The `dhash` of an image `prepared` before."""
        return dhash(tensor, full_range=self.spec.full_range)

    def disagreement(self, golden: GoldenSet) -> str | None:
        """How fast answers to the golden images differ from exact ones by more than is tolerated. Raises BadModel."""
        pairs = []
        for image in [one.image for one in golden.images if content_type(one.image) == "image/jpeg"][:LOOKED_AT]:
            try:
                exact, fast = (to_tensor(image, self.spec, self._room, fast=fast) for fast in (False, True))
            except BadImage:
                continue  # parity will say so
            if not np.array_equal(exact, fast):
                pairs.append((self._predictions(self._alone, exact), self._predictions(self._alone, fast)))
        return disagreement(pairs)

    def _predictions(
        self, session: onnxruntime.InferenceSession, tensor: NDArray[np.float32]
    ) -> tuple[Prediction, ...]:
        answer = self._answer(session, tensor)
        if not all(math.isfinite(p) for p in answer.values()):
            raise BadModel("the model answered with something that is not a number")
        return tuple(Prediction(tag, answer[tag]) for tag in self.tags)

    def _answer(self, session: onnxruntime.InferenceSession, tensor: NDArray[np.float32]) -> dict[str, float]:
        try:
            (answer,) = session.run([self._output.name], {self._input: tensor.astype(self._type, copy=False)})
        except _FAILED as error:
            raise BadModel(f"the model failed on an image: {_short(error)}") from error
        return _by_tag(answer) if self._output.zipmap else _by_column(answer, self.tags)

    def _warm_up(self) -> None:
        """Answer once with every session, and refuse a model that does not answer with a probability for each tag."""
        tensor = np.full(self.spec.shape, 127.0 if self.spec.full_range else 0.5, np.float32)
        self._answer(self._alone, tensor)
        answer = self._answer(self._shared, tensor)
        if self.tags and set(self.tags) != set(answer):
            raise BadModel(f"labels.txt has {len(self.tags)} tags, the model has {len(answer)}, and they differ")
        if not all(-1e-3 <= p <= 1.001 for p in answer.values()):
            raise BadModel("the model answers with numbers that are no probabilities; is its softmax missing?")
        self.tags = tuple(self.tags or answer)


def load(
    path: Path,
    threads: int = 1,
    room: Room | None = None,
    *,
    fast: bool = False,
    providers: Sequence[str] = (CPU,),
) -> Model:
    """The model of the export at `path`, a zip, a folder or a .onnx, ready to answer. Raises BadModel.

    A lone request runs on `threads` threads, requests side by side on one each. `providers` are those of
    `providers.parse`. `fast` is off for a model whose own golden images do not bear it.
    """
    model = Model(read(path), threads, room, fast=fast, providers=providers)
    if fast and zipfile.is_zipfile(path) and (reason := model.disagreement(read_golden(path))):
        log.warning("model %s: JPEGs are decoded exactly, which is slower: %s", model.version, reason)
        model.fast = False
    return model


def _session(model: bytes, threads: int, providers: Sequence[str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores belong to the next image
    preload(providers)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=names(providers))
    except _FAILED as error:
        raise BadModel(
            f"onnxruntime cannot load the model ({_short(error)}); an export of 2018 in ONNX 1.0 form is one cause: "
            "export the iteration again as ONNX 1.2 or newer"
        ) from error
    check(session, providers)
    session.disable_fallback()
    session._model_bytes = b""  # noqa: SLF001 - kept for that fallback alone, and as large as the whole model
    return session


def _input(
    session: onnxruntime.InferenceSession, metadata: Mapping[str, str]
) -> tuple[InputSpec, str, type[np.floating[Any]]]:
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type not in _TYPES or shape[1] != 3 or (shape[0] != 1 and _fixed(shape[0])):
        wants = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise BadModel(f"the model wants {wants or 'no input'}; an image classifier takes one float [1,3,H,W]")
    spec = input_spec(metadata, height=shape[2], width=shape[3])
    return spec, inputs[0].name, _TYPES[inputs[0].type]


def input_spec(metadata: Mapping[str, str], *, height: int | str | None, width: int | str | None) -> InputSpec:
    """How to prepare an image for a model with that metadata and that input, whose sides may be symbolic.

    Raises BadModel for anything that would be guessed wrong.
    """
    bgr = _one_of(metadata, "Image.BitmapPixelFormat", {"Rgb8": False, "Bgr8": True}, missing=False)
    # models of the ONNX 1.2 form say Bgr8 and no range: they want 0 to 255, though Microsoft's sample divides by 255
    ranges = {"NominalRange_0_255": True, "Normalized_0_1": False}
    full_range = _one_of(metadata, "Image.NominalPixelRange", ranges, missing=bgr)
    _check_normalization(metadata)
    key = "CustomVision.Preprocess."
    target_width = _number(metadata, key + "TargetWidth") or _side(width)
    target_height = _number(metadata, key + "TargetHeight") or _side(height)
    crop, resize = metadata.get(key + "CropMethod"), metadata.get(key + "ResizeMethod")
    if crop is None and resize is None and bgr and "Image.NominalPixelRange" not in metadata:
        crop = resize = OLD_CONTAINER
    spec = InputSpec(
        target_width,
        target_height,
        crop or "NoCrop",
        resize or "Stretch",
        crop_size=_number(metadata, key + "CropHeight"),
        bgr=bgr,
        full_range=full_range,
    )
    if any(_fixed(side) and side != made for side, made in zip((height, width), spec.shape[2:], strict=True)):
        raise BadModel(
            f"the model's input is {width}x{height} px, its metadata prepares {spec.shape[3]}x{spec.shape[2]}"
        )
    return spec


def _output(session: onnxruntime.InferenceSession, labels: Sequence[str] | None) -> _Output:
    outputs = session.get_outputs()
    for output in outputs:
        if output.type == "seq(map(string,tensor(float)))":
            return _Output(output.name, zipmap=True)
    if any(o.name.startswith("detected_") or len(o.shape or ()) == 4 for o in outputs):
        raise BadModel("the model is a detector; this module classifies whole images: train a classification project")
    columns = [o for o in outputs if o.type in _TYPES and len(o.shape) == 2]
    if not columns:
        raise BadModel(
            f"the model gives {', '.join(f'{o.name} {o.type} {o.shape}' for o in outputs)}; no probabilities"
        )
    if not labels:
        raise BadModel("the model does not know its tags: put the export's labels.txt beside it, or give the whole zip")
    fitting = [o for o in columns if not _fixed(o.shape[1]) or o.shape[1] == len(labels)]
    if not fitting:
        raise BadModel(
            f"labels.txt has {len(labels)} tags, the model has {columns[0].shape[1]}; they are not of one export"
        )
    fitting.sort(key=lambda o: o.name != "model_output")
    return _Output(fitting[0].name, zipmap=False)


def _by_tag(answer: Any) -> dict[str, float]:
    return {str(tag): float(p) for tag, p in answer[0].items()}


def _by_column(answer: Any, tags: Sequence[str]) -> dict[str, float]:
    row = np.asarray(answer, np.float32).reshape(-1).tolist()
    if len(row) != len(tags):
        raise BadModel(f"labels.txt has {len(tags)} tags, the model has {len(row)}; they are not of one export")
    return dict(zip(tags, row, strict=True))


def _one_of(metadata: Mapping[str, str], key: str, known: Mapping[str, bool], *, missing: bool) -> bool:
    if key not in metadata:
        return missing
    if metadata[key] not in known:
        raise BadModel(f"the model's {key} is {_clipped(metadata[key])!r}; known are {', '.join(known)}")
    return known[metadata[key]]


def _number(metadata: Mapping[str, str], key: str) -> int:
    try:
        return int(float(metadata.get(key, "0")))
    except (ValueError, OverflowError):
        raise BadModel(f"the model's {key} is {_clipped(metadata[key])!r}, not a number") from None


def _check_normalization(metadata: Mapping[str, str]) -> None:
    for name, nothing in (("NormalizeMean", 0), ("NormalizeStd", 1)):
        text = metadata.get(f"CustomVision.Preprocess.{name}", "[]")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, list) or any(value != nothing for value in values):
            raise BadModel(f"the model's {name} is {_clipped(text)}; only {nothing} is known")


def _side(side: int | str | None) -> int:
    if not _fixed(side):
        raise BadModel("neither the model nor its metadata says how large its images are")
    return int(side or 0)


def _fixed(side: int | str | None) -> bool:
    return isinstance(side, int) and 0 < side <= MAX_SIDE


def _short(error: BaseException) -> str:
    return _clipped(str(error).splitlines()[0] if str(error) else type(error).__name__)


def _clipped(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"
