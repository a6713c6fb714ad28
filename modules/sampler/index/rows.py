"""What goes into the index and what comes out of it, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ripeloop.prediction import Prediction, format_time, parse_time
from sampler.keeping.keep import top_tag
from sampler.sample import Sample


@dataclass(frozen=True, slots=True)
class Kept:
    """A sample to keep; `instead_of` another (its id) that gives its place for the reason `word`."""

    sample: Sample
    usefulness: float
    instead_of: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """One flagging, named by image and time, that is not kept since `at`; `reason` says why."""

    id: str
    captured_at: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """A sample as the spool's reader needs it; `safe`: the spool's copy of that flagging is no longer needed.

    `lost`: neither here nor in the cloud any more, so the same image flagged again is kept again.
    """

    captured_at: datetime
    safe: bool
    lost: bool = False
    blob: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sample still to upload; `tries` were refused before, `place` is its place in the line."""

    sample: Sample
    tries: int = 0
    place: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a kept image looks like, and where and when it was seen."""

    id: str
    dhash: str
    camera: str
    tag: str
    captured_at: datetime


@dataclass(frozen=True, slots=True)
class Counters:
    """All that ever happened here: flagged = kept + dropped, kept = uploaded + waiting + evicted + set aside.

    A lost image (evicted, or its blob was missing) that is flagged again and kept again is one kept image, no longer
    evicted or set aside; its earlier flagging is a duplicate then.
    `local_bytes` are those of the blobs that are still here.
    """

    flagged: int = 0
    kept: int = 0
    uploaded: int = 0
    waiting: int = 0
    set_aside: int = 0
    uploaded_bytes: int = 0
    waiting_bytes: int = 0
    local_bytes: int = 0
    oldest_waiting: str = ""
    evicted: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


_COLUMNS = (
    *("id", "captured_at", "reason", "predictions", "model", "device", "blob", "content_type", "size"),
    *("kept_at", "put_at", "dhash", "camera", "tag", "place"),
)
_NEW_AGAIN = ", ".join(f"{name} = ?" for name in _COLUMNS[1:])
LOST = "((state = 'evicted' AND freed = 1) OR (state = 'set_aside' AND why LIKE 'missing_blob%'))"
REVIVE = (
    f"UPDATE samples SET {_NEW_AGAIN}, state = 'waiting', tries = 0, next_try = '', why = '', safe = 0, freed = 0 "  # noqa: S608
    f"WHERE id = ? AND {LOST}"
)
INSERT = f"INSERT OR IGNORE INTO samples ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608


def to_row(kept: Kept) -> tuple[Any, ...]:
    """The values for `INSERT`."""
    sample = kept.sample
    return (
        sample.id,
        format_time(sample.captured_at),
        sample.reason,
        json.dumps([[p.tag, p.probability] for p in sample.predictions]),
        sample.model,
        sample.device,
        sample.blob,
        sample.content_type,
        sample.size,
        format_time(sample.kept_at),
        format_time(sample.kept_at),
        sample.dhash,
        sample.camera,
        top_tag(sample.predictions),
        -kept.usefulness,
    )


def to_sample(row: Mapping[str, Any]) -> Sample:
    """The sample a row is of."""
    return Sample(
        id=row["id"],
        captured_at=parse_time(row["captured_at"]),
        reason=row["reason"],
        predictions=tuple(Prediction(tag, probability) for tag, probability in json.loads(row["predictions"])),
        model=row["model"],
        device=row["device"],
        blob=row["blob"],
        content_type=row["content_type"],
        size=row["size"],
        kept_at=parse_time(row["kept_at"]),
        dhash=row["dhash"],
        camera=row["camera"],
    )
