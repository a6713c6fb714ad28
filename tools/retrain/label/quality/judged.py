"""The last judgement of a candidate model, as `ripeloop judge` wrote it: found, read and summed up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ripeloop.errors import NotFound

MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_HTML_BYTES = 256 * 1024 * 1024
MAX_TAGS = 500
_SMALLEST = 32


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models: its version, its accuracy on the holdout (0 to 1), and what it takes for what."""

    version: str = ""
    accuracy: float | None = None
    low: float = 0.0
    high: float = 1.0
    tags: tuple[str, ...] = ()
    confusion: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """The judgement in `path`: its verdict, why, both models; `html` is the report beside it, if there is one."""

    path: Path
    at: datetime
    verdict: str
    because: tuple[str, ...]
    images: int
    active: Side
    candidate: Side
    html: Path | None = None


def find(place: Path | None) -> Report | None:
    """The newest judgement at `place`, a JSON file or a folder of them; None where there is none that can be read."""
    if place is None:
        return None
    found = [(_changed(path), path) for path in _files(place)]
    for changed, path in sorted(found, reverse=True):
        if (report := _read(path, changed)) is not None:
            return report
    return None


def html_of(path: Path) -> bytes:
    """The report as it was written. Raises NotFound."""
    try:
        if path.stat().st_size > MAX_HTML_BYTES:
            raise NotFound(f"the report {path.name} has more than {MAX_HTML_BYTES} bytes: open it from its folder")
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"the report {path.name} cannot be read: {error.strerror or error}") from error


def _files(place: Path) -> Iterator[Path]:
    """The JSON file, or those in the folder and two below, where `ripeloop retrain` has a folder a turn."""
    if place.is_file():
        yield place
        return
    for pattern in ("*.json", "*/*.json", "*/*/*.json"):
        yield from place.glob(pattern)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path, changed: float) -> Report | None:
    """None for what is no judgement."""
    try:
        if not _SMALLEST <= path.stat().st_size <= MAX_JSON_BYTES:
            return None
        fields = json.loads(path.read_text("utf-8"))
        return Report(
            path,
            datetime.fromtimestamp(changed, UTC),
            str(fields["verdict"]),
            tuple(str(sentence) for sentence in fields["because"]),
            int(fields["images"]),
            _side(fields["active"]),
            _side(fields["candidate"]),
            _html(path),
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _side(fields: Mapping[str, Any]) -> Side:
    share = fields["accuracy"]
    value = share.get("share")
    confusion = {(str(one["tag"]), str(one["answer"])): int(one["images"]) for one in fields["confusion"]}
    tags = dict.fromkeys(str(row["tag"]) for row in fields["tags"][:MAX_TAGS])
    return Side(
        str(fields["version"]),
        None if value is None else float(value),
        float(share["low"]),
        float(share["high"]),
        tuple(tags),
        confusion,
    )


def _html(path: Path) -> Path | None:
    for beside in (path.with_suffix(".html"), path.with_name("report.html")):
        if beside.is_file():
            return beside
    return None
