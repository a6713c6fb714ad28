"""What is wrong now, said once when it begins and once when it ends: in the log, the metrics and the twin."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping

log = logging.getLogger(__name__)

SPOOL = "spool"
LOCAL_STORE = "local_store"
INDEX = "index"
INDEX_DAMAGED = "index_damaged"
MISSING_BLOB = "missing_blob"
DISK_FULL = "disk_full"
LOCAL_BLOB = "local_blob"
LOCAL_DELETE = "local_delete"
LOCAL_LIST = "local_list"
SPOOL_FILE = "spool_file"

KINDS = (
    SPOOL,
    SPOOL_FILE,
    LOCAL_STORE,
    LOCAL_BLOB,
    LOCAL_DELETE,
    LOCAL_LIST,
    INDEX,
    INDEX_DAMAGED,
    MISSING_BLOB,
    DISK_FULL,
)

MOST_WORDS = 300  # characters of a detail in the twin, which is small


class Troubles:
    """The troubles of now and how often each began since the start. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, str] = {}
        self._begun: Counter[str] = Counter()

    def say(self, kind: str, detail: str) -> None:
        """`detail` is wrong, or nothing any more where it is empty; the same again says nothing."""
        with self._lock:
            before = self._now.get(kind, "")
            if detail:
                self._now[kind] = detail
                self._begun[kind] += not before
            else:
                self._now.pop(kind, None)
        if detail and not before:
            log.warning("%s: %s", kind.replace("_", " "), detail)
        elif before and not detail:
            log.info("%s: well again", kind.replace("_", " "))

    def count(self, kind: str, times: int = 1) -> None:
        """Something that is not a state happened."""
        with self._lock:
            self._begun[kind] += times

    def now(self) -> dict[str, str]:
        """What is wrong, by kind."""
        with self._lock:
            return {kind: detail[:MOST_WORDS] for kind, detail in self._now.items()}

    def counts(self) -> Mapping[str, int]:
        """How often each kind began since the start."""
        with self._lock:
            return dict(self._begun)
