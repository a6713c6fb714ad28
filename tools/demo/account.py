"""The account at the end: where is every flagged image? Pure: the counters come in as arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from demo.camera import Shift


@dataclass(frozen=True, slots=True)
class Account:
    """What the modules and the cloud folder say, side by side.

    `uploaded` holds the ids found in the cloud whose bytes hash to their name; `damaged` those whose bytes do not.
    """

    answered: int = 0
    flagged: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    waiting: int = 0
    set_aside: int = 0
    uploaded: frozenset[str] = frozenset()
    uploaded_bytes: int = 0
    damaged: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, classifier: Mapping[str, Any], sampler: Mapping[str, Any], found: Iterable[tuple[str, str, int]]
    ) -> Account:
        """From both modules' `status` and the cloud's blobs as (id in the name, id of the bytes, size in bytes)."""
        blobs = list(found)
        good = [(name, size) for name, id_, size in blobs if name == id_]
        return cls(
            answered=classifier.get("answered", 0),
            flagged=dict(classifier.get("flagged", {})),
            dropped=dict(Counter(classifier.get("dropped", {})) + Counter(sampler.get("dropped", {}))),
            kept=sampler.get("kept", 0),
            waiting=sampler.get("waiting", 0),
            set_aside=sampler.get("set_aside", 0),
            uploaded=frozenset(name for name, _ in good),
            uploaded_bytes=sum(size for _, size in good),
            damaged=frozenset(name for name, id_, _ in blobs if name != id_),
        )

    def settled(self, shift: Shift) -> bool:
        """The classifier told of every answer of this shift, and nothing is on its way any more."""
        handled = self.kept + sum(self.dropped.values())
        told_all = self.answered == len(shift.answered)
        return told_all and sum(self.flagged.values()) == handled and self.waiting == 0

    @property
    def missing(self) -> int:
        """Flagged images that are neither in the cloud nor counted as dropped."""
        return sum(self.flagged.values()) - sum(self.dropped.values()) - len(self.uploaded)


def strangers(account: Account, shift: Shift) -> set[str]:
    """Ids in the cloud that no camera posted; there must be none."""
    return set(account.uploaded | account.damaged) - {answer.id for answer in shift.answers}
