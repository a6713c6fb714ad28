"""The rows of the cache: put there by the scan and by every answer, found by their key."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence, Set

from retrain.label.container.cache import Found, Look
from retrain.label.container.rows import COLUMNS, Row, answers_of, key_of, row_of, whole
from retrain.labels import Labels
from ripeloop.blobname import Blob

log = logging.getLogger(__name__)

LAST = "\x7f"
"""After every name that a blob may have."""

_SET = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in ("key", "id", "blob"))
_UPSERT = (
    f"INSERT INTO samples ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "  # noqa: S608
    f"ON CONFLICT (key) DO UPDATE SET {_SET}"
)


Pair = tuple[Row, Blob]


def pairs_of(blobs: Sequence[Blob], overlap: float) -> list[Pair]:
    """Those of `blobs` that are samples, with their rows. Takes a while: call it in a thread of its own."""
    return [(row, blob) for blob in blobs if (row := _row_of(blob, overlap)) is not None]


def put(look: Look, blobs: Sequence[Blob], overlap: float) -> int:
    """Remember these blobs as they are now; how many are samples."""
    return put_pairs(look, pairs_of(blobs, overlap))


def put_pairs(look: Look, pairs: Sequence[Pair], spared: Set[str] = frozenset()) -> int:
    """Remember these rows, but for the keys that are `spared`; how many."""
    kept = [(row, blob) for row, blob in pairs if row.key not in spared]
    return sum(_put_one(look, row, blob) for row, blob in kept)


def differences(look: Look, blobs: Sequence[Blob], after: str, until: str | None) -> tuple[list[str], list[Blob]]:
    """The keys the cache has and this part of a listing has not, and the blobs that are new or changed.

    The part is all blobs whose names come after `after`, up to `until` (None: to the end).
    """
    query = "SELECT key, etag FROM samples WHERE blob > ? AND blob <= ?"
    known = {row["key"]: row["etag"] for row in look.rows(query, (after, LAST if until is None else until))}
    listed = {key_of(blob.name): blob for blob in blobs}
    return [key for key in known if key not in listed], [
        blob for key, blob in listed.items() if known.get(key) != blob.etag
    ]


def forget_all(look: Look, keys: Sequence[str], spared: Set[str]) -> int:
    """Forget these samples, which are gone, but for those that are `spared`; how many."""
    gone = [key for key in keys if key not in spared]
    for key in gone:
        forget(look, key)
    return len(gone)


def forget(look: Look, key: str) -> None:
    """Forget one sample, which is gone."""
    look.run("DELETE FROM answers WHERE seq = (SELECT seq FROM samples WHERE key = ?)", (key,))
    look.run("DELETE FROM samples WHERE key = ?", (key,))
    look.run("DELETE FROM leases WHERE key = ?", (key,))


def by_key(look: Look, key: str) -> Found | None:
    """The row of one sample, with its answers."""
    found = look.row("SELECT * FROM samples WHERE key = ?", (key,))
    return with_answers(look, [found])[0] if found else None


def with_answers(look: Look, rows: Sequence[Found]) -> list[Found]:
    """The rows, each with the list `answers`."""
    query = "SELECT nth, kind, tags, by, at, how, stands FROM answers WHERE seq = ? ORDER BY nth"
    return [
        row | {"answers": [one | {"tags": json.loads(one["tags"])} for one in look.rows(query, (row["seq"],))]}
        for row in rows
    ]


def mark_broken(look: Look, key: str) -> None:
    """The image cannot be shown."""
    look.run("UPDATE samples SET broken = 1 WHERE key = ?", (key,))


_UNFIT = (ValueError, TypeError, ArithmeticError, RecursionError)
"""What hostile metadata raises on its way into a row: one blob must not keep all others out."""


def _row_of(blob: Blob, overlap: float) -> Row | None:
    try:
        return row_of(blob, overlap)
    except _UNFIT as error:
        _left_out(blob, error)
        return None


def _put_one(look: Look, row: Row, blob: Blob) -> bool:
    try:
        look.run(_UPSERT, row.values())
        _put_answers(look, row, blob)
    except _UNFIT as error:
        _left_out(blob, error)
        return False
    return True


def _left_out(blob: Blob, error: Exception) -> None:
    log.warning("a sample is left out, for its metadata cannot be used (%s): %s", error, blob.name)


def _put_answers(look: Look, row: Row, blob: Blob) -> None:
    found = look.row("SELECT seq FROM samples WHERE key = ?", (row.key,))
    assert found is not None  # noqa: S101 - it was put there in this change
    seq, labels = found["seq"], Labels.of(blob.metadata)
    look.run("DELETE FROM answers WHERE seq = ?", (seq,))
    if not labels.answers:
        return
    look.run_all(
        "INSERT INTO answers (seq, nth, kind, tags, by, at, how, stands) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (seq, labels.dropped + nth, answer.kind, json.dumps(answer.tags), whole(answer.by), whole(answer.at),
             whole(answer.how), int(stands))
            for nth, answer, stands in answers_of(labels)
        ],
    )  # fmt: skip
