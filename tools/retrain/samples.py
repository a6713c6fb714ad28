"""What has arrived in the cloud container. Pure: it looks at a listing, never at the images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from ripeloop.blobname import Blob, segment

_NAME = re.compile(r"(?P<device>[^/]+)/(?P<day>\d{4}/\d{2}/\d{2})/(?P<id>[0-9a-f]{64})\.\w+")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One sample in the container, as its name and metadata tell."""

    name: str
    size: int
    device: str
    day: str
    captured_at: str = ""
    reason: str = ""
    tag: str = ""
    model: str = ""

    @classmethod
    def from_blob(cls, blob: Blob) -> Arrival | None:
        """None for a blob that no sampler named: `{device}/{yyyy}/{mm}/{dd}/{id}.jpg`."""
        parts = _NAME.fullmatch(blob.name)
        if parts is None:
            return None
        about = {key: unquote(value) for key, value in blob.metadata.items()}
        return cls(
            name=blob.name,
            size=blob.size,
            device=unquote(parts["device"]),
            day=parts["day"].replace("/", "-"),
            captured_at=about.get("capturedat", ""),
            reason=about.get("reason", ""),
            tag=about.get("tag", ""),
            model=about.get("model", ""),
        )


@dataclass(frozen=True, slots=True)
class Arrived:
    """All samples together."""

    images: int = 0
    bytes: int = 0
    strangers: int = 0
    """Blobs that are no samples."""
    devices: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    newest: Sequence[Arrival] = ()

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "images": self.images,
            "bytes": self.bytes,
            "strangers": self.strangers,
            "devices": self.devices,
            "reasons": self.reasons,
            "tags": self.tags,
            "newest": [
                {"name": a.name, "capturedAt": a.captured_at, "reason": a.reason, "tag": a.tag, "model": a.model}
                for a in self.newest
            ],
        }


def arrived(blobs: Iterable[Blob], newest: int = 5) -> Arrived:
    """Count the samples among `blobs` by device, reason and likeliest tag, most first, and name the `newest`."""
    found = [Arrival.from_blob(blob) for blob in blobs]
    samples = [arrival for arrival in found if arrival is not None]
    return Arrived(
        images=len(samples),
        bytes=sum(sample.size for sample in samples),
        strangers=len(found) - len(samples),
        devices=_counts(sample.device for sample in samples),
        reasons=_counts(sample.reason or "unknown" for sample in samples),
        tags=_counts(sample.tag or "unknown" for sample in samples),
        newest=sorted(samples, key=lambda s: (s.captured_at or s.day, s.name), reverse=True)[:newest],
    )


def folder_of(device: str) -> str:
    """How the names of all samples of one device begin: IoT Hub allows it characters that a blob's name cannot hold."""
    return segment(device) + "/"


def _counts(words: Iterable[str]) -> dict[str, int]:
    return dict(Counter(words).most_common())
