"""The model package: a Custom Vision export as one zip, with images whose answers are known, and where it came from.

Beside the files of the export it holds `golden.json`, the images it names under `golden/`, and `provenance.json`;
`validation.json`, what the model said of the images it was validated on; and `thresholds.json`, the policy that was
calibrated for it. A plain export is a package, too: one without all these. The zip's SHA-256 names it, and a signature
is the Ed25519 signature of those 32 bytes, in base64, kept apart from the zip.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ripeloop.disk import write_whole
from ripeloop.errors import BadModel, Refused, SettingsError
from ripeloop.prediction import Prediction, image_id
from ripeloop.sampling import AUDIT_RATE, Sampling
from ripeloop.validation import Validation

GOLDEN = "golden.json"
PROVENANCE = "provenance.json"
VALIDATION = "validation.json"
THRESHOLDS = "thresholds.json"
FOLDER = "golden/"
TOLERANCE = 0.02
MAX_GOLDEN = 200  # images
MAX_IMAGE_BYTES = 4 * 1024 * 1024
MAX_GOLDEN_BYTES = 64 * 1024 * 1024  # of all images together: they are in memory at once
MAX_TEXT_BYTES = 1024 * 1024

SHA256 = re.compile(r"[0-9a-f]{64}")

# a cut or flipped byte is any of these, a password a RuntimeError, a number that no float holds an OverflowError
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Golden:
    """An image and what the model must say of it."""

    image: bytes
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Golden images; each probability may differ by `tolerance`, the likeliest tag not at all."""

    images: tuple[Golden, ...] = ()
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class Package:
    """All that goes into one package; `export` are the files of the export by name.

    `thresholds` hold while this model answers, unless the twin says otherwise. Where the export brings figures or
    thresholds, those given here take their place.
    """

    export: Mapping[str, bytes]
    golden: GoldenSet = GoldenSet()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    validation: Validation | None = None
    thresholds: Sampling = field(default_factory=Sampling)


def write(path: Path, package: Package) -> str:
    """Write the package and return its SHA-256: the same content is the same bytes, on every machine. Raises OSError.

    ValueError for an export with a file that has a name of ours, and for figures, thresholds or golden images that no
    reader would take.
    """
    taken = [name for name in package.export if name in (GOLDEN, PROVENANCE) or name.startswith(FOLDER)]
    if taken:
        raise ValueError(f"{', '.join(sorted(taken))} in the export would hide the package's own")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in sorted((dict(package.export) | _own_files(package)).items()):
            info = zipfile.ZipInfo(name, _LONG_AGO)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)  # stored: weights and images do not shrink, and each zlib packs otherwise
    write_whole(path, out.getvalue())
    return hashlib.sha256(out.getvalue()).hexdigest()


def read_golden(path: Path) -> GoldenSet:
    """The golden images of the package at `path`; none in a plain export. Raises BadModel."""
    try:
        with zipfile.ZipFile(path) as archive:
            if GOLDEN not in archive.namelist():
                return GoldenSet()
            return _golden(archive, json.loads(_member(archive, GOLDEN, MAX_TEXT_BYTES)))
    except OSError as error:
        raise BadModel(f"cannot read the model package {path.name}: {error.strerror or error}") from error
    except (*_BAD_ZIP, TypeError, AttributeError) as error:
        raise BadModel(f"the golden images of {path.name} cannot be used ({error}); build the package again") from error


def read_provenance(path: Path) -> dict[str, Any]:
    """Where the package at `path` came from; empty where it does not say. Raises BadModel."""
    text = _text(path, PROVENANCE)
    try:
        provenance = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadModel(f"{PROVENANCE} of {path.name} cannot be used ({error}); build the package again") from error
    if not isinstance(provenance, dict):
        raise BadModel(f"{PROVENANCE} of {path.name} is not a JSON object; build the package again")
    return provenance


def read_validation(path: Path) -> Validation | None:
    """The validation figures in the package at `path`; None where it has none. Raises BadModel."""
    text = _text(path, VALIDATION)
    return None if text is None else validation_of(text)


def read_thresholds(path: Path) -> Sampling:
    """The thresholds in the package at `path`; nothing is said where it has none. Raises BadModel."""
    text = _text(path, THRESHOLDS)
    return Sampling() if text is None else thresholds_of(text)


def validation_of(text: bytes) -> Validation:
    """The figures in a validation.json. Raises BadModel."""
    try:
        return Validation.from_json(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadModel(f"{VALIDATION} cannot be used ({error}); build the package again") from error


def thresholds_of(text: bytes) -> Sampling:
    """The thresholds in a thresholds.json, in the words of the twin's `sampling`. Raises BadModel."""
    try:
        section = json.loads(text)
        thresholds, refused = Sampling.from_section(section, Sampling())
    except (ValueError, RecursionError, Refused) as error:
        raise BadModel(f"{THRESHOLDS} cannot be used ({error}); build the package again") from error
    if AUDIT_RATE in section:
        refused[AUDIT_RATE] = "is for the site to say, not for a model"
    if refused:
        reasons = "; ".join(f"{name} {reason}" for name, reason in refused.items())
        raise BadModel(f"{THRESHOLDS} cannot be used ({reasons[:300]}); build the package again")
    return thresholds


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in lower-case hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sign(sha256: str, key: Ed25519PrivateKey) -> str:
    """The signature that goes with a package of that SHA-256."""
    return base64.b64encode(key.sign(bytes.fromhex(sha256))).decode()


def public_key(text: str) -> Ed25519PublicKey:
    """The Ed25519 key in `text`: PEM, or its 32 bytes in base64. Raises SettingsError."""
    try:
        if "-----BEGIN" in text:
            key = load_pem_public_key(text.replace("\\n", "\n").encode())
            if isinstance(key, Ed25519PublicKey):
                return key
        else:
            return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.strip(), validate=True))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"the public key cannot be read ({error}); give PEM, or 32 bytes in base64") from error
    raise SettingsError("the public key is not an Ed25519 key; make one: openssl genpkey -algorithm ed25519")


def check_signature(sha256: str, signature: str, key: Ed25519PublicKey) -> None:
    """Return if the owner of `key` signed the package of that SHA-256. Raises BadModel."""
    if not signature:
        raise BadModel("the package is not signed, and this device takes signed ones only: sign it")
    try:
        key.verify(base64.b64decode(signature, validate=True), bytes.fromhex(sha256))
    except (InvalidSignature, ValueError) as error:
        raise BadModel("the signature does not fit the package and this device's public key: sign it again") from error


def check_file(path: Path, sha256: str) -> None:
    """Return if the file is the one `sha256` names. Raises BadModel."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BadModel(f"cannot read the model package {path.name}: {error.strerror or error}") from error
    if found != sha256:
        raise BadModel(f"the package is not the one that was asked for: its SHA-256 is {found}, not {sha256}")


def _own_files(package: Package) -> dict[str, bytes]:
    files = {PROVENANCE: _json(dict(package.provenance))} if package.provenance else {}
    if package.validation is not None:
        files[VALIDATION] = _readable(package.validation.to_json(), validation_of)
    if package.thresholds != Sampling():
        files[THRESHOLDS] = _readable(package.thresholds.to_section(), thresholds_of)
    if not package.golden.images:
        return files
    _check_golden([len(golden.image) for golden in package.golden.images])
    listed = []
    for golden in package.golden.images:
        name = FOLDER + image_id(golden.image)
        files[name] = golden.image
        said = [{"tag": p.tag, "probability": round(p.probability, 8)} for p in golden.predictions]
        listed.append({"file": name, "predictions": said})
    return files | {GOLDEN: _json({"tolerance": package.golden.tolerance, "images": listed})}


def _readable(value: Any, read: Callable[[bytes], object]) -> bytes:
    text = _json(value)
    try:
        read(text)
    except BadModel as error:
        raise ValueError(str(error)) from error
    return text


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def _golden(archive: zipfile.ZipFile, listed: dict[str, Any]) -> GoldenSet:
    tolerance = float(listed.get("tolerance", TOLERANCE))
    if not 0 <= tolerance < 1:
        raise ValueError(f"a tolerance of {tolerance}")
    images = listed.get("images", [])
    _check_golden([archive.getinfo(str(entry["file"])).file_size for entry in images])
    golden = (
        Golden(
            _member(archive, str(entry["file"]), MAX_IMAGE_BYTES),
            tuple(Prediction(str(p["tag"]), float(p["probability"])) for p in entry["predictions"]),
        )
        for entry in images
    )
    return GoldenSet(tuple(golden), tolerance)


def _check_golden(sizes: Sequence[int]) -> None:
    if len(sizes) > MAX_GOLDEN:
        raise ValueError(f"{len(sizes)} golden images, at most {MAX_GOLDEN} are taken")
    if max(sizes, default=0) > MAX_IMAGE_BYTES:
        raise ValueError(f"a golden image unpacks to {max(sizes)} bytes, at most {MAX_IMAGE_BYTES} are taken")
    if sum(sizes) > MAX_GOLDEN_BYTES:
        raise ValueError(f"golden images of {sum(sizes)} bytes together, at most {MAX_GOLDEN_BYTES} are taken")


def _text(path: Path, name: str) -> bytes | None:
    """One of our files in the package at `path`; None where it is not there. Raises BadModel."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _member(archive, name, MAX_TEXT_BYTES) if name in archive.namelist() else None
    except OSError as error:
        raise BadModel(f"cannot read the model package {path.name}: {error.strerror or error}") from error
    except _BAD_ZIP as error:
        raise BadModel(f"{name} of {path.name} cannot be used ({error}); build the package again") from error


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > limit:
        raise ValueError(f"{name} unpacks to {info.file_size} bytes, at most {limit} are read")
    with archive.open(info) as member:
        return member.read(limit)
