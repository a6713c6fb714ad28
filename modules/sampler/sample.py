"""A sample: an image kept for labelling, with everything that goes with it into the cloud."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote

from ripeloop.blobname import Blob, segment
from ripeloop.errors import BadRecord
from ripeloop.prediction import Flagged, Prediction, format_time

MAX_PREDICTIONS_BYTES = 4096
MAX_WORD_BYTES = 256

# told from the first bytes, for cameras post with any content type or none
_KINDS = (
    (b"\xff\xd8\xff", ".jpg", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", ".png", "image/png"),
    (b"BM", ".bmp", "image/bmp"),
    (b"GIF8", ".gif", "image/gif"),
)
_UNKNOWN = (".bin", "application/octet-stream")

_NAME = re.compile(r"(?P<device>[^/]+)/(?P<day>\d{4}/\d\d/\d\d)/(?P<id>[0-9a-f]{64})(?P<ending>\.[a-z]+)")

_PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "
_HEADER_SAFE = _PRINTABLE.replace("%", "")


@dataclass(frozen=True, slots=True)
class Sample:
    """One kept image. `blob` is its name in both stores, made of what never changes, so that a retry is no copy."""

    id: str
    captured_at: datetime
    reason: str
    predictions: tuple[Prediction, ...]
    model: str
    device: str
    blob: str
    content_type: str
    size: int
    kept_at: datetime
    dhash: str = ""
    camera: str = ""

    @classmethod
    def of(cls, flagged: Flagged, image: bytes, *, device: str, now: datetime) -> Sample:
        """The sample a flagged image becomes on `device`."""
        ending, content_type = kind_of(image)
        return cls(
            id=flagged.id,
            captured_at=flagged.captured_at,
            reason=flagged.reason,
            predictions=flagged.predictions,
            model=flagged.model,
            device=device,
            blob=f"{segment(device)}/{flagged.captured_at:%Y/%m/%d}/{flagged.id}{ending}",
            content_type=content_type,
            size=len(image),
            kept_at=now,
            dhash=flagged.dhash,
            camera=flagged.camera,
        )

    @classmethod
    def of_blob(cls, blob: Blob) -> Sample:
        """The sample stored as `blob`, as far as its name and its metadata tell. Raises BadRecord for a stranger."""
        parts = _NAME.fullmatch(blob.name)
        if parts is None:
            raise BadRecord(f"no sampler named the blob {blob.name!r}")
        flagged = _record(parts["id"], parts["day"], blob.metadata)
        content_type = next((kind for _, ending, kind in _KINDS if ending == parts["ending"]), _UNKNOWN[1])
        return cls(
            id=flagged.id,
            captured_at=flagged.captured_at,
            reason=flagged.reason,
            predictions=flagged.predictions,
            model=flagged.model,
            device=unquote(parts["device"]),
            blob=blob.name,
            content_type=content_type,
            size=blob.size,
            kept_at=flagged.captured_at,
            dhash=flagged.dhash,
            camera=flagged.camera,
        )

    def metadata(self) -> dict[str, str]:
        """The record as blob metadata: ASCII, `%` escapes what is not, empty values left out."""
        ranked = sorted(self.predictions, key=lambda p: p.probability, reverse=True)
        words = {
            "id": self.id,
            "capturedat": format_time(self.captured_at),
            "reason": self.reason,
            "tag": ranked[0].tag if ranked else "",
            "model": self.model,
            "device": self.device,
            "dhash": self.dhash,
            "camera": self.camera,
        }
        metadata = {key: safe for key, word in words.items() if (safe := _header_safe(word))}
        return metadata | {"predictions": _predictions(ranked)}


def kind_of(image: bytes) -> tuple[str, str]:
    """The file name's ending and the content type, such as `.jpg` and `image/jpeg`."""
    return next(((ending, kind) for start, ending, kind in _KINDS if image.startswith(start)), _UNKNOWN)


def _record(id_: str, day: str, metadata: Mapping[str, str]) -> Flagged:
    """What `metadata` says, or where that is damaged what the name says alone. Raises BadRecord."""
    bare = {"id": id_, "capturedAt": f"{day.replace('/', '-')}T00:00:00Z", "reason": "unknown"}
    try:
        words = {key: unquote(word) for key, word in metadata.items()}
        pairs = json.loads(words["predictions"])
        told = {
            "id": id_,
            "capturedAt": words["capturedat"],
            "reason": words["reason"],
            "model": words.get("model", ""),
            "dhash": words.get("dhash", ""),
            "camera": words.get("camera", ""),
            "predictions": [{"tag": tag, "probability": probability} for tag, probability in pairs],
        }
        return Flagged.from_json(json.dumps(told).encode())
    except (BadRecord, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return Flagged.from_json(json.dumps(bare).encode())


def _predictions(ranked: list[Prediction]) -> str:
    """`[["ripe",0.5012],["unripe",0.4988]]`, the likeliest first, as many as fit."""
    while True:
        pairs = [[p.tag, round(p.probability, 6)] for p in ranked]
        text = quote(json.dumps(pairs, separators=(",", ":")), safe=_HEADER_SAFE)
        if len(text) <= MAX_PREDICTIONS_BYTES:
            return text
        ranked = ranked[: len(ranked) // 2]


def _header_safe(word: str) -> str:
    safe = quote(word.strip(), safe=_HEADER_SAFE)
    return safe if len(safe) <= MAX_WORD_BYTES else safe[: MAX_WORD_BYTES - 3].rstrip(" ") + "..."
