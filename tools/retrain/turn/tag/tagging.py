"""The first step of a turn: the project holds the labelled samples, as they are labelled, and none of the holdout.

What is to be done is told anew each time by the labels, the marks on the blobs and a listing of the project.
So it can be killed anywhere and run again. Two at once must not run: a lease keeps them apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from retrain.customvision import CustomVision
from retrain.labels import JUNK, UNSURE
from retrain.turn.tag.acting import Acting
from retrain.turn.tag.deciding import FIND, HOLD, MARK, NOTHING, REMOVE, RETAG, SEND, Project, Step, step_for
from retrain.turn.tag.facts import DISPUTED, OPEN, Fact, is_held, merged
from retrain.turn.tag.tagged import NEGATIVE, Tagged
from retrain.turn.tag.there import There
from ripeloop.blobs import Blobs
from ripeloop.prediction import format_time

ROUNDS = 3
"""A label that changes while its sample is on its way is followed; one that still changes waits for the next turn."""

Seen = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is told: the share, 0 to 1, of the labelled samples that is held out."""

    holdout_share: float = 0.15


def unseen(_what: str, _done: int, _total: int) -> None:
    """For those who do not look."""


async def tag(
    blobs: Blobs,
    service: CustomVision,
    project: str,
    plan: Plan = Plan(),
    seen: Seen = unseen,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Tagged:
    """Make the project, by its id, hold what the labels say. `seen` hears what is done, how far it is, and of how much.

    An image that cannot be there is told in `refused`, and stops no other. Raises Offline, Denied, NotFound.
    """
    seen("looking at the project", 0, 0)
    there = await asyncio.to_thread(lambda: There(service.images(project)))
    about = await asyncio.to_thread(service.about, project)
    negative = next((one.name for one in about.tags if one.kind == NEGATIVE), NEGATIVE)
    known = Project(project, about.multilabel, {one.name: one.id for one in about.tags}, negative)
    acting = Acting(blobs, service, known, there, lambda: format_time(now()))
    await acting.clear()
    seen("looking at the samples", 0, 0)
    standing = _Standing()
    facts = await _facts(blobs, there, standing)
    for nth in range(ROUNDS + 1):
        steps = [step_for(fact, there, acting.project, plan.holdout_share) for fact in facts]
        for step in steps:
            acting.problems.pop(step.fact.id, None)
            if step.status:
                acting.tell(step, step.status, step.why)
        standing.take(step for step in steps if step.do == NOTHING)
        standing.already = standing.already if nth else len(standing.changes)
        todo = [step for step in steps if step.do != NOTHING]
        if nth == ROUNDS:
            for step in todo:
                acting.tell(step, "Changed", "its label changes all the time: the next turn looks again", again=True)
        elif todo:
            await _act(acting, todo, standing.done, seen)
        facts, acting.fresh = acting.fresh, []
    return standing.tagged(acting, len(there))


@dataclass(slots=True)
class _Standing:
    """What stands as it should, and what was done, counted as it comes."""

    training: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    holdout: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    changes: list[str] = field(default_factory=list)
    audits: int = 0
    already: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)

    def take(self, steps: Iterable[Step]) -> None:
        """Samples with which there is nothing left to do."""
        for step in steps:
            fact = step.fact
            if not fact.labelled:
                self.kinds[fact.kind] += 1
            elif is_held(fact):
                self.audits += fact.audit
                for tag in step.use.tags if step.use else ():
                    self.holdout[tag].append(fact.id)
            elif step.held is not None and step.use is not None and fact.use is not None:
                self.changes.append(fact.use.at)
                for tag in step.use.tags:
                    self.training[tag].append(fact.id)

    def tagged(self, acting: Acting, images: int) -> Tagged:
        """All of it, for others."""
        return Tagged(
            project=acting.project.id,
            negative=acting.project.negative,
            training={tag: tuple(sorted(ids)) for tag, ids in sorted(self.training.items())},
            holdout={tag: tuple(sorted(ids)) for tag, ids in sorted(self.holdout.items())},
            changes=tuple(sorted(self.changes)),
            audits=self.audits,
            others=images - len(self.changes),
            added=self.done[SEND],
            retagged=self.done[RETAG],
            removed=self.done[REMOVE],
            already=self.already,
            held=self.done[HOLD],
            tags_made=acting.tags_made,
            unlabelled=self.kinds[OPEN],
            unsure=self.kinds[UNSURE],
            junk=self.kinds[JUNK],
            disputed=self.kinds[DISPUTED],
            refused=tuple(sorted(acting.problems.values(), key=lambda one: (one.status, one.name))),
        )


async def _facts(blobs: Blobs, there: There, standing: _Standing) -> list[Fact]:
    """All samples that somebody answered, or that were used before. The others are counted."""
    found: dict[str, Fact] = {}
    async for blob in blobs.list():
        fact = Fact.of(blob)
        if fact is None:
            continue
        if fact.kind == OPEN and fact.use is None and not there.knows(fact.id):
            standing.kinds[OPEN] += 1
        else:
            found[fact.id] = merged((found[fact.id], fact)) if fact.id in found else fact
    return list(found.values())


async def _act(acting: Acting, todo: Sequence[Step], done: Counter[str], seen: Seen) -> None:
    """The holdout first: whatever happens later, it is decided. Then what must not be trained on leaves."""
    steps = {do: [step for step in todo if step.do == do] for do in (HOLD, REMOVE, FIND, RETAG, SEND, MARK)}
    done[HOLD] += await acting.hold(steps[HOLD], _told(seen, "holding out", steps[HOLD]))
    done[REMOVE] += await acting.remove(steps[REMOVE], _told(seen, "removing", steps[REMOVE]))
    done[REMOVE] += await acting.find(steps[FIND], _told(seen, "finding", steps[FIND]))
    retagging, sending = [await acting.with_tags(steps[do]) for do in (RETAG, SEND)]
    done[RETAG] += await acting.retag(retagging, _told(seen, "tagging anew", retagging))
    done[SEND] += await acting.send(sending, _told(seen, "sending", sending))
    await acting.mark(steps[MARK], _told(seen, "marking", steps[MARK]))


def _told(seen: Seen, what: str, steps: Sequence[Step]) -> Callable[[int], None]:
    return lambda done: seen(what, done, len(steps))
