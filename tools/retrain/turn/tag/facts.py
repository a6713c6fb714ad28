"""The small facts of each sample that a turn looks at; images and whole metadata stay where they are. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from retrain.labels import NONE, TAG, Labels
from retrain.samples import Arrival
from retrain.turn.tag.use import HOLDOUT, TRAINING, Use
from ripeloop.blobname import Blob
from ripeloop.uncertainty import AUDIT

OPEN, DISPUTED = "", "disputed"
"""Nobody answered; people differ, or the same image lies there twice with two labels."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One sample: the names of its blobs, its label as kind and tags, and what it is for.

    `kind` is one of the kinds of an answer, or `OPEN` or `DISPUTED`; `size` in bytes.
    """

    id: str
    names: tuple[str, ...]
    size: int
    kind: str = OPEN
    tags: tuple[str, ...] = ()
    use: Use | None = None
    device: str = ""
    captured: str = ""
    reason: str = ""

    @classmethod
    def of(cls, blob: Blob) -> Fact | None:
        """None for a blob that is no sample."""
        arrival = Arrival.from_blob(blob)
        if arrival is None:
            return None
        labels = Labels.of(blob.metadata)
        final = labels.final
        return cls(
            id=PurePosixPath(blob.name).stem,
            names=(blob.name,),
            size=blob.size,
            kind=sys.intern(final.kind) if final else DISPUTED if labels.disputed else OPEN,
            tags=tuple(map(sys.intern, sorted(set(final.tags)))) if final else (),
            use=Use.of(blob.metadata),
            device=sys.intern(arrival.device),
            captured=arrival.captured_at,
            reason=sys.intern(arrival.reason),
        )

    @property
    def labelled(self) -> bool:
        """People agree on what it shows."""
        return self.kind in (TAG, NONE)

    @property
    def audit(self) -> bool:
        """Kept by lot."""
        return self.reason == AUDIT

    def wanted(self, negative: str) -> tuple[str, ...]:
        """The names of the tags it should have, `negative` for none of the others."""
        return (negative,) if self.kind == NONE else self.tags if self.kind == TAG else ()


def merged(facts: Iterable[Fact]) -> Fact:
    """One fact of all blobs that hold the same image. One that nobody answered says nothing against the others."""
    together = sorted(facts, key=lambda fact: fact.names)
    answered = [fact for fact in together if fact.kind != OPEN] or together
    first = answered[0]
    if any((fact.kind, fact.tags) != (first.kind, first.tags) for fact in answered):
        first = replace(first, kind=DISPUTED, tags=())
    return replace(
        first,
        names=tuple(name for fact in together for name in fact.names),
        use=_used(fact.use for fact in together),
        reason=AUDIT if any(fact.audit for fact in together) else first.reason,
    )


def _used(uses: Iterable[Use | None]) -> Use | None:
    """What was said first counts: what was trained on once is never held out."""
    said = sorted((use for use in uses if use is not None), key=lambda use: (use.kind != TRAINING, not use.image))
    return said[0] if said else None


def is_held(fact: Fact) -> bool:
    """Decided to be of the holdout, for ever."""
    return fact.use is not None and fact.use.kind == HOLDOUT
