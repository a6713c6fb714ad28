"""The backbone in whole numbers of 8 bits: a third of the size, about twice as fast, a little coarser.

Activations are unsigned, weights signed and per channel: the pairing onnxruntime has fast code for on x86 (with both
unsigned it is five times slower than float). The head must be fitted on the features of this backbone, not on those
of the other one: it then learns around what the rounding does, and nothing that can be measured is lost.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from classifier.models.runtime import onnxruntime
from classifier.pixels.imaging import to_tensor
from ripeloop.disk import write_whole
from ripeloop.errors import BadImage, Refused, SettingsError
from trainer.learning.backbone import INPUT
from trainer.learning.features import SPEC, BadTrainingImage, Source

log = logging.getLogger(__name__)

CALIBRATED_ON = 100
"""More images than this move no range by anything that matters."""

FILE = "backbone-int8.onnx"


def calibrated(folder: Path, backbone: onnx.ModelProto, images: Sequence[Source]) -> onnx.ModelProto:
    """`backbone` in 8 bits as it is kept in `folder`; taken from `images` where none is, or a damaged one.

    The ranges stay those of the first images, so that features made with it stay of use. Raises what `quantized` does,
    and SettingsError where the folder does not take it.
    """
    path = folder / FILE
    of = hashlib.sha256(backbone.SerializeToString(deterministic=True)).digest()
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
    digest, graph = kept[: len(of)], kept[len(of) :]
    if digest == hashlib.sha256(of + graph).digest():
        return onnx.load_from_string(graph)
    if kept:
        log.warning("%s is damaged, or of another backbone: it is made again", path)
    model = quantized(backbone, images)
    graph = model.SerializeToString(deterministic=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(of + graph).digest() + graph)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}; is the disk full?") from error
    return model


def quantized(backbone: onnx.ModelProto, images: Sequence[Source]) -> onnx.ModelProto:
    """`backbone` in 8 bits, its ranges taken from `images`; same input, same output, same shapes.

    Some of the images are enough: they are taken evenly from all. Raises Refused without any, BadTrainingImage.
    """
    if not images:
        raise Refused("8-bit ranges are taken from images, and there are none: give those to train on")
    # quarter of a second to import, for those who want 8 bits only
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="ripeloop-int8-") as folder:
        given, prepared, done = (Path(folder, name) for name in ("given.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(backbone, given)  # handed over itself it would come back without its weights
        quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(done),
            _Tensors(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # 7 bits for the weights: processors without VNNI add products up in 16 bits, which 8 would overflow
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_providers=onnxruntime.get_available_providers()[-1:],  # the CPU is always the last one
        )
        model = onnx.load(done)
    return _named_as(backbone, model)


class _Tensors:
    """What the ranges are taken from: the tensors of some of `images`, as the device would make them."""

    def __init__(self, images: Sequence[Source]) -> None:
        count = min(len(images), CALIBRATED_ON)
        self._tensors = self._of(images, [nth * len(images) // count for nth in range(count)])

    def get_next(self) -> dict[str, Any] | None:
        """The next tensor, by the name of the input; None after the last."""
        return next(self._tensors, None)

    @staticmethod
    def _of(images: Sequence[Source], positions: Sequence[int]) -> Iterator[dict[str, Any]]:
        for position in positions:
            try:
                yield {INPUT: to_tensor(images[position].read(), SPEC)}
            except BadImage as error:
                raise BadTrainingImage(position, str(error)) from error


def _named_as(backbone: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the names and versions of `backbone`, less the private operators it declares and never uses."""
    used = {node.domain for node in model.graph.node} | {""}
    operators = [helper.make_opsetid(one.domain, one.version) for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(operators)
    model.ir_version, model.producer_name = backbone.ir_version, backbone.producer_name
    model.producer_version = backbone.producer_version
    model.graph.name = backbone.graph.name
    del model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return model
