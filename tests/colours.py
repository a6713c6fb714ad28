"""Small real ONNX models that answer by colour, in the forms Custom Vision exports: red, green, blue, nothing else.

A wrong colour order or pixel range changes the answer. A grey image makes them unsure, a pure colour sure.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

TAGS = ("red", "green", "blue")
METADATA = {
    "CustomVision.Metadata.Version": "1.2",
    "CustomVision.Postprocess.Method": "ClassificationMultiClass",
    "CustomVision.Preprocess.CropHeight": "0",
    "CustomVision.Preprocess.CropMethod": "NoCrop",
    "CustomVision.Preprocess.NormalizeMean": "[0.0, 0.0, 0.0]",
    "CustomVision.Preprocess.NormalizeStd": "[1.0, 1.0, 1.0]",
    "CustomVision.Preprocess.ResizeMethod": "Stretch",
    "CustomVision.Preprocess.TargetHeight": "32",
    "CustomVision.Preprocess.TargetWidth": "32",
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.NominalPixelRange": "Normalized_0_1",
}


def picture(colour: str | tuple[int, int, int] = "red", size: tuple[int, int] = (48, 40), form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form)
    return out.getvalue()


def unsure_picture(number: int) -> bytes:
    """A grey picture, another for every number; the model says one third to each tag."""
    pixels = np.random.default_rng(number).integers(100, 150, (24, 24, 1), dtype=np.uint8).repeat(3, axis=2)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def model(
    *,
    columns: int = 3,
    side: int | str = 32,
    batch: int | str = 1,
    bgr: bool = False,
    full_range: bool = False,
    half: bool = False,
    zipmap: Sequence[str] = (),
    last: str = "Softmax",
    metadata: Mapping[str, str] | None = None,
    output: str = "model_output",
) -> bytes:
    """The bytes of a .onnx: the mean of each colour, sharpened, one column each, then `last`."""
    number, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    weights = np.zeros((3, columns), dtype)
    for column in range(min(columns, 3)):
        weights[2 - column if bgr else column, column] = 10 / 255 if full_range else 10
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["sums"]),
        helper.make_node(last, ["sums"], [output]),
    ]
    outputs = [helper.make_tensor_value_info(output, number, [batch, columns])]
    if zipmap:
        nodes.append(helper.make_node("ZipMap", [output], ["loss"], domain="ai.onnx.ml", classlabels_strings=zipmap))
        of_maps = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        outputs = [helper.make_value_info("loss", helper.make_sequence_type_proto(of_maps))]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("data", number, [batch, 3, side, side])],
        outputs,
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 1)])
    made.ir_version = 8
    helper.set_model_props(made, dict(metadata or {}))
    return bytes(made.SerializeToString())


def files(onnx: bytes | None = None, **changes: Any) -> dict[str, bytes]:
    """The files of a whole export by name; `changes` go into the manifest."""
    onnx = model() if onnx is None else onnx
    manifest = {
        "DomainType": "Classification",
        "Platform": "ONNX",
        "Flavor": None,
        "ExporterVersion": "2.2",
        "IterationId": "11111111-2222-3333-4444-555555555555",
        "ModelFileName": "model.onnx",
        "LabelFileName": "labels.txt",
        "MetadataPropsFileName": "metadata_properties.json",
        "ModelFileSHA1": hashlib.sha1(onnx).hexdigest(),
        "SchemaVersion": "1.0",
    } | changes
    return {
        "model.onnx": onnx,
        "labels.txt": "\n".join(TAGS).encode(),
        "cvexport.manifest": json.dumps(manifest).encode(),
        "metadata_properties.json": json.dumps(METADATA).encode(),
        "LICENSE": b"none",
    }


def zipped(path: Path, content: Mapping[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (files() if content is None else content).items():
            archive.writestr(name, data)
    return path
