"""A database file that is no longer one: out of the way under a new name, to be looked at, never deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

BESIDE = ("-wal", "-shm")


def set_aside(path: Path) -> Path:
    """Rename the SQLite file and what belongs to it to `{name}.damaged-{time}`; its new place. Raises OSError."""
    kept = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    for suffix in (*BESIDE, ""):  # the file last: what is left half way is still known as damaged
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.replace(kept.with_name(kept.name + suffix))
    return kept
