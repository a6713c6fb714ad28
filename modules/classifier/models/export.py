"""The files of a Custom Vision export: a zip, an unpacked folder or the bare .onnx file. Nothing is written to disk."""

from __future__ import annotations

import hashlib
import json
import lzma
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ripeloop.errors import BadModel
from ripeloop.package import PROVENANCE, THRESHOLDS, VALIDATION, thresholds_of, validation_of
from ripeloop.prediction import MAX_TEXT
from ripeloop.sampling import Sampling
from ripeloop.validation import Validation

MANIFEST = "cvexport.manifest"
METADATA = "metadata_properties.json"
LABELS = "labels.txt"
MAX_MODEL_BYTES = 512 * 1024 * 1024
MAX_TEXT_BYTES = 1024 * 1024
MAX_FILES = 1000
MAX_ITERATION = 128  # characters; Custom Vision's have 36

# a password is a RuntimeError, a number that no file is as long as an OverflowError, a cut or flipped byte any of the
# others
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
_ENCRYPTED = 1  # of a zip member's flags
_FIRST_BYTES = b"PK\x03\x04"  # of every zip that holds something; what makes it one stands at its end
_OTHER_PLATFORMS = (".pb", ".tflite", ".mlmodel", ".xml")


@dataclass(frozen=True, slots=True)
class Export:
    """One export, its SHA-1 verified.

    `labels` is None where the export has no labels.txt. `iteration`, `project` and `tag_ids` (by tag) are what its
    manifest and its provenance.json tell, and empty where they do not; `validation` and `thresholds` are those of the
    package.
    """

    model: bytes
    labels: tuple[str, ...] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    iteration: str = ""
    project: str = ""
    tag_ids: Mapping[str, str] = field(default_factory=dict)
    validation: Validation | None = None
    thresholds: Sampling = field(default_factory=Sampling)

    @property
    def version(self) -> str:
        """The iteration's id, else the first 12 hex digits of the model's SHA-256."""
        return self.iteration or hashlib.sha256(self.model).hexdigest()[:12]

    def check_tags(self, tags: Sequence[str]) -> None:
        """Return if these tags can be told and the package speaks of no others. Raises BadModel."""
        if any(len(tag) > MAX_TEXT for tag in tags):
            raise BadModel(f"a tag of the model has more than {MAX_TEXT} characters; rename it and export again")
        for name, told in (
            (VALIDATION, [one.tag for one in self.validation.tags] if self.validation else []),
            (THRESHOLDS, list(self.thresholds.tags)),
        ):
            unknown = sorted(set(told) - set(tags))
            if unknown:
                words = ", ".join(unknown)[:200]
                raise BadModel(f"{name} is not of this model, which has no tag {words}; build the package again")


def read(path: Path) -> Export:
    """The export at `path`. Raises BadModel."""
    try:
        if path.is_dir():
            name = path.name or path.absolute().name or str(path)  # "." has no name of its own
            return _export({str(p.relative_to(path)): partial(_read_file, p) for p in _files(path)}, name)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _export(_members(archive), path.name)
        if path.suffix.lower() == ".onnx":
            return _bare(path)
        if path.is_file() and _begins_as_a_zip(path):
            raise BadModel(f"{path} is a damaged zip, or one cut short; download the export again")
        if path.exists():
            raise BadModel(f"{path} is no zip, no folder and no .onnx file; give the export as it was downloaded")
    except OSError as error:
        raise BadModel(f"cannot read the model {path}: {error.strerror or error}") from error
    except _BAD_ZIP as error:
        raise BadModel(f"{path} is a damaged zip ({error}); download the export again") from error
    raise BadModel(f"there is no model at {path}")


def labels_of(text: bytes) -> tuple[str, ...]:
    """The tags of a labels.txt, line n the model's column n, as they are: never sorted. Raises BadModel."""
    try:
        lines = text.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise BadModel(f"{LABELS} is not UTF-8: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise BadModel(f"line {number} of {LABELS} is empty: each of its lines is a tag; download the export again")
        if len(line) > MAX_TEXT:
            raise BadModel(f"line {number} of {LABELS} has {len(line)} characters, a tag at most {MAX_TEXT}; rename it")
        if any(unicodedata.category(character) == "Cc" for character in line):
            raise BadModel(f"line {number} of {LABELS} is no text ({line[:50]!r}); download the export again")
    if len(set(lines)) != len(lines):
        raise BadModel(f"{LABELS} names a tag twice: {', '.join(sorted({t for t in lines if lines.count(t) > 1}))}")
    return tuple(lines)


Reader = Callable[[int], bytes]
"""Reads one file, of which it refuses more than so many bytes."""


def _export(files: Mapping[str, Reader], name: str) -> Export:
    manifest_path = _shallowest(files, MANIFEST)
    if manifest_path is None:
        model_path = _the_model(files, name)
        return _with_neighbours(files, model_path, {})
    manifest = _manifest(files[str(manifest_path)](MAX_TEXT_BYTES))
    model_path = manifest_path.parent / manifest["ModelFileName"]
    if str(model_path) not in files:
        raise BadModel(f"{name} lacks {model_path}, which its manifest names; download the export again")
    return _with_neighbours(files, model_path, manifest)


def _bare(path: Path) -> Export:
    """A lone .onnx; what lies beside it counts, unless a manifest there speaks of another file."""
    beside: dict[str, Reader] = {
        name: partial(_read_file, path.parent / name)
        for name in (path.name, LABELS, METADATA, MANIFEST, PROVENANCE, VALIDATION, THRESHOLDS)
        if (path.parent / name).is_file()
    }
    manifest: dict[str, Any] = {}
    if MANIFEST in beside:
        manifest = _manifest(beside[MANIFEST](MAX_TEXT_BYTES))
        if manifest["ModelFileName"] != path.name:
            return Export(_read_file(path, MAX_MODEL_BYTES))
    return _with_neighbours(beside, PurePosixPath(path.name), manifest)


def _with_neighbours(files: Mapping[str, Reader], model_path: PurePosixPath, manifest: Mapping[str, Any]) -> Export:
    model = files[str(model_path)](MAX_MODEL_BYTES)
    sha1 = str(manifest.get("ModelFileSHA1") or "").lower()
    if sha1 and sha1 != hashlib.sha1(model, usedforsecurity=False).hexdigest():
        raise BadModel(f"{model_path} is not the file its manifest describes (SHA-1 differs); download it again")
    labels = str(model_path.parent / str(manifest.get("LabelFileName") or LABELS))
    metadata = str(model_path.parent / str(manifest.get("MetadataPropsFileName") or METADATA))
    ours = {
        name: files[path](MAX_TEXT_BYTES)
        for name in (PROVENANCE, VALIDATION, THRESHOLDS)
        if (path := str(model_path.parent / name)) in files
    }
    provenance = _json_object(ours[PROVENANCE], PROVENANCE) if PROVENANCE in ours else {}
    tag_ids = provenance.get("tagIds")
    return Export(
        model=model,
        labels=labels_of(files[labels](MAX_TEXT_BYTES)) if labels in files else None,
        metadata=_metadata(files[metadata](MAX_TEXT_BYTES)) if metadata in files else {},
        iteration=_iteration(manifest),
        project=str(provenance.get("projectId") or ""),
        tag_ids={tag: str(id_) for tag, id_ in tag_ids.items()} if isinstance(tag_ids, dict) else {},
        validation=validation_of(ours[VALIDATION]) if VALIDATION in ours else None,
        thresholds=thresholds_of(ours[THRESHOLDS]) if THRESHOLDS in ours else Sampling(),
    )


def _iteration(manifest: Mapping[str, Any]) -> str:
    """The iteration's id; it goes into messages into blobs' metadata, so it must be a short line of text."""
    iteration = str(manifest.get("IterationId") or "")
    if len(iteration) > MAX_ITERATION or not iteration.isprintable():
        raise BadModel(f"the IterationId of {MANIFEST} is no id ({iteration[:50]!r}); download the export again")
    return iteration


def _manifest(text: bytes) -> dict[str, Any]:
    manifest = _json_object(text, MANIFEST)
    if manifest.get("DomainType") not in (None, "Classification"):
        raise BadModel(
            f"the model is a detector ({manifest['DomainType']}); this module classifies whole images: "
            "train a classification project"
        )
    model = str(manifest.get("ModelFileName") or "model.onnx")
    if not model.lower().endswith(".onnx"):
        raise BadModel(f"the export is for {manifest.get('Platform')} ({model}); export the iteration again as ONNX")
    return manifest | {"ModelFileName": model}


def _metadata(text: bytes) -> dict[str, str]:
    return {key: str(value) for key, value in _json_object(text, METADATA).items()}


def _json_object(text: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadModel(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadModel(f"{name} is not a JSON object")
    return value


def _the_model(files: Mapping[str, Reader], name: str) -> PurePosixPath:
    models = [PurePosixPath(path) for path in files if path.lower().endswith(".onnx")]
    if len(models) > 1:
        models = [path for path in models if path.name == "model.onnx"]
    if len(models) == 1:
        return models[0]
    if any(path.lower().endswith(_OTHER_PLATFORMS) for path in files):
        raise BadModel(f"{name} is an export for another platform; export the iteration again as ONNX")
    found = ", ".join(sorted(path for path in files if path.lower().endswith(".onnx"))[:10])
    raise BadModel(f"{name} holds {f'several models ({found})' if found else 'no .onnx file'}; give one export")


def _shallowest(files: Mapping[str, Reader], name: str) -> PurePosixPath | None:
    found = sorted((path for path in map(PurePosixPath, files) if path.name == name), key=lambda path: len(path.parts))
    if len(found) > 1 and len(found[0].parts) == len(found[1].parts):
        raise BadModel(f"there are several exports here ({found[0]}, {found[1]}); give one export")
    return found[0] if found else None


def _begins_as_a_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_FIRST_BYTES)) == _FIRST_BYTES


def _members(archive: zipfile.ZipFile) -> dict[str, Reader]:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MAX_FILES:
        raise BadModel(f"the zip holds {len(infos)} files; an export holds a dozen")
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        raise BadModel("the zip is locked with a password; give the export as it was downloaded")
    paths = [PurePosixPath(info.filename.replace("\\", "/")) for info in infos]
    for path in paths:
        if path.is_absolute() or ".." in path.parts or ":" in str(path):
            raise BadModel(f"the zip wants to write outside its folder ({path}); do not trust its source")
    twice = sorted(str(path) for path, times in Counter(paths).items() if times > 1)
    if twice:
        raise BadModel(f"the zip holds {', '.join(twice[:10])} twice; download the export again")
    return {str(path): partial(_read_member, archive, info) for path, info in zip(paths, infos, strict=True)}


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    if info.file_size > limit:
        raise BadModel(f"{info.filename} unpacks to {info.file_size} bytes; at most {limit} are read")
    with archive.open(info) as member:
        return member.read(limit)


def _files(folder: Path) -> list[Path]:
    """The folder's files and those one folder below."""
    files = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file()]
    if len(files) > MAX_FILES:
        raise BadModel(f"{folder} holds {len(files)} files; give the folder of one export")
    return files


def _read_file(path: Path, limit: int) -> bytes:
    if path.stat().st_size > limit:
        raise BadModel(f"{path} has {path.stat().st_size} bytes; at most {limit} are read")
    return path.read_bytes()
