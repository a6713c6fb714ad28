"""What a model says of one image, and the record of an image it was unsure of."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ripeloop.errors import BadRecord

MAX_TEXT = 1024  # characters of a tag, a model's version, a content type
FIRST_YEAR = 1970  # a clock that was never set starts here
LAST_YEAR = 2199  # later ones come of damage: no clock says so by itself
ROUNDING = 0.01  # a probability may be this far outside of 0 to 1: models of half precision are

MAX_CAMERA = 64  # characters

_REASON = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DHASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One tag and the probability, 0 to 1, the model gives it."""

    tag: str
    probability: float


@dataclass(frozen=True, slots=True)
class Flagged:
    """The record of one flagged image; with the image it is all the sampler needs.

    `id` is the SHA-256 of the posted bytes in lower-case hex, `captured_at` the UTC time the image was posted:
    the two together name one flagging, so that a replay can be told from the same image posted twice.
    `predictions` stand in the model's order. `dhash` is what the image looks like in 256 bits, lower-case hex, empty
    where nobody looked; `camera` tells one camera of a device from another, empty where there is one.
    """

    id: str
    captured_at: datetime
    reason: str
    predictions: tuple[Prediction, ...]
    model: str = ""
    content_type: str = "application/octet-stream"
    dhash: str = ""
    camera: str = ""

    def to_json(self) -> bytes:
        """One line of ASCII JSON, as it stands in the spool and in messages."""
        looks = {"dhash": self.dhash, "camera": self.camera}
        return json.dumps(
            {
                "id": self.id,
                "capturedAt": format_time(self.captured_at),
                "reason": self.reason,
                "predictions": [{"tag": p.tag, "probability": round(p.probability, 8)} for p in self.predictions],
                "model": self.model,
                "contentType": self.content_type,
                **{key: word for key, word in looks.items() if word},
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Flagged:
        """The record in `data`; unknown fields are ignored. Raises BadRecord, whatever `data` is."""
        try:
            fields: dict[str, Any] = json.loads(data)
            return cls(
                id=_image_id(fields["id"]),
                captured_at=_moment(fields["capturedAt"]),
                reason=_reason(fields["reason"]),
                predictions=tuple(_prediction(one) for one in fields.get("predictions", ())),
                model=_text(fields.get("model", "")),
                content_type=_text(fields.get("contentType", "application/octet-stream")),
                dhash=_dhash(fields.get("dhash", "")),
                camera=camera_name(fields.get("camera", "")),
            )
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
            raise BadRecord(f"not the record of a flagged image: {repr(error)[:200]}") from error


def camera_name(value: object) -> str:
    """`value` as a camera's name, cut where it is too long; empty for what is none: no image is lost for its name."""
    if not isinstance(value, str):
        return ""
    return "".join(letter for letter in value if letter.isprintable()).strip()[:MAX_CAMERA]


def image_id(image: bytes) -> str:
    """The one name of an image everywhere: the SHA-256 of its bytes, lower-case hex, 64 characters."""
    return hashlib.sha256(image).hexdigest()


def format_time(moment: datetime) -> str:
    """UTC in ISO 8601 with microseconds, such as `2026-11-22T02:10:00.000001Z`; sorts as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The moment `format_time` wrote. Raises ValueError; a time without a zone is refused."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is no time in UTC") from error


def _image_id(value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{value!r} is not an image id")
    return value


def _moment(value: str) -> datetime:
    moment = parse_time(value)
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"{value!r} is no time of cameras like ours")
    return moment


def _dhash(value: object) -> str:
    return value if isinstance(value, str) and _DHASH.fullmatch(value) else ""  # compared with nothing, but kept


def _reason(value: object) -> str:
    if not isinstance(value, str) or not _REASON.fullmatch(value):
        raise ValueError(f"the reason {value!r} is not one short word")
    return value


def _prediction(fields: dict[str, Any]) -> Prediction:
    tag, probability = fields["tag"], fields["probability"]
    if isinstance(probability, bool) or not -ROUNDING <= probability <= 1 + ROUNDING:  # neither is true of nan
        raise ValueError(f"{probability!r} is no probability")
    return Prediction(_text(tag), min(max(float(probability), 0.0), 1.0))


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"{value!r} is not a text of at most {MAX_TEXT} characters")
    value.encode()  # half a surrogate pair, which JSON can spell, fits into no database and no header
    return value
