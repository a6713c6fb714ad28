"""What the tagging of one turn came to. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NEGATIVE = "Negative"
"""What the tag of images that show none of the others is called, where the project has no word for it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A sample that is not in the project as its label says: a status in one word, and why; `again`: later may help."""

    id: str
    name: str
    status: str
    why: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Tagged:
    """What stands now, and what was done for it.

    `training` and `holdout`: the samples' ids by tag. `changes`: for each training sample the UTC time its tags last
    came to the project, sorted. `others`: images of the project that are no labelled samples; they train, too.
    """

    project: str
    negative: str = NEGATIVE
    training: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    holdout: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    audits: int = 0
    others: int = 0
    added: int = 0
    retagged: int = 0
    removed: int = 0
    already: int = 0
    held: int = 0
    tags_made: int = 0
    unlabelled: int = 0
    unsure: int = 0
    junk: int = 0
    disputed: int = 0
    refused: tuple[Problem, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """All samples that are in training, sorted: what a model trained now learns from."""
        return tuple(sorted({id_ for ids in self.training.values() for id_ in ids}))

    @property
    def counts(self) -> dict[str, int]:
        """How many training samples each tag has, most first."""
        return _counts(self.training)

    @property
    def held_counts(self) -> dict[str, int]:
        """How many samples of the holdout each tag has, most first."""
        return _counts(self.holdout)

    def new_since(self, moment: str) -> int:
        """How many training samples came, or came to other tags, after that time in UTC."""
        return len(self.changes) - bisect_right(self.changes, moment)

    def to_json(self) -> dict[str, Any]:
        """For `--json`: counts, no ids but those of samples that were refused."""
        return {
            "project": self.project,
            "negative": self.negative,
            "training": self.counts,
            "holdout": self.held_counts,
            "trainingSamples": len(self.changes),
            "holdoutSamples": len({id_ for ids in self.holdout.values() for id_ in ids}),
            "auditSamples": self.audits,
            "otherImages": self.others,
            "added": self.added,
            "retagged": self.retagged,
            "removed": self.removed,
            "already": self.already,
            "newInHoldout": self.held,
            "tagsMade": self.tags_made,
            "unlabelled": self.unlabelled,
            "unsure": self.unsure,
            "junk": self.junk,
            "disputed": self.disputed,
            "refused": [
                {"id": one.id, "name": one.name, "status": one.status, "why": one.why, "again": one.again}
                for one in self.refused
            ],
        }


def _counts(by_tag: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    return {tag: len(ids) for tag, ids in sorted(by_tag.items(), key=lambda one: (-len(one[1]), one[0]))}
