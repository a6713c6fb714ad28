"""What is to be done with a sample, given its label and what the project holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from retrain.turn.tag.facts import Fact, is_held
from retrain.turn.tag.heldout import is_held_out
from retrain.turn.tag.there import Held, There
from retrain.turn.tag.use import HOLDOUT, TRAINING, Use

NOTHING, HOLD, MARK, SEND, RETAG, REMOVE = "nothing", "hold", "mark", "send", "retag", "remove"
FIND = "find"
"""A sending that was killed may have left its image there, where no id tells of it: find and remove it."""

MAX_IMAGE_BYTES = 6 * 1024 * 1024
"""What the service takes; larger images are refused, for a smaller copy would not be the image the device saw."""

NEVER = frozenset({"ErrorImageFormat", "ErrorImageSize", "ErrorImageDimensions"})
"""Statuses of images that no later try makes better."""


@dataclass(frozen=True, slots=True)
class Project:
    """The project to tag in, by its id; `tag_ids` by the tags' names; `negative` is the name of its negative tag."""

    id: str
    multilabel: bool
    tag_ids: Mapping[str, str]
    negative: str


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with one sample, and what its blob is to say afterwards; `held` is its image in the project.

    `status` and `why`: it cannot be as its label says.
    """

    do: str
    fact: Fact
    use: Use | None = None
    held: Held | None = None
    status: str = ""
    why: str = ""


def step_for(fact: Fact, there: There, project: Project, share: float) -> Step:
    """The one step to take, whatever was done before or left half done."""
    held = _image_of(fact, there, project)
    if not fact.labelled:
        return _without(fact, held, project, there)
    wanted = fact.wanted(project.negative)
    if is_held(fact) or (fact.use is None and held is None and is_held_out(fact.id, share)):
        return _held_out(fact, held, wanted)
    if len(wanted) > 1 and not project.multilabel:
        why = f"it shows {len(wanted)} tags and the project takes one an image: use a multilabel project"
        gone = _without(fact, held, project, there)
        return Step(gone.do, fact, gone.use, held, "TooManyTags", why)
    if held is None:
        return _absent(fact, project, wanted)
    use = Use(TRAINING, project.id, held.image, wanted)
    right = held.tag_ids == {project.tag_ids.get(tag, tag) for tag in wanted}
    return Step((MARK if _differs(fact, use) else NOTHING) if right else RETAG, fact, use, held)


def _image_of(fact: Fact, there: There, project: Project) -> Held | None:
    known = fact.use.image if fact.use and fact.use.project == project.id else ""
    return there.of(fact.id, known)


def _without(fact: Fact, held: Held | None, project: Project, there: There) -> Step:
    """No label: it leaves the project, unless somebody else put it there."""
    mine = held is not None and (held.sent or (fact.use is not None and fact.use.image == held.image))
    if mine:
        kind = fact.use.kind if fact.use else TRAINING
        return Step(REMOVE, fact, Use(kind, project.id), held)
    use = fact.use
    if use is None or use.project != project.id or not (use.image or (use.tags and not use.refused)):
        return Step(NOTHING, fact)
    on_its_way = held is None and not use.image and there.strangers
    return Step(FIND if on_its_way else MARK, fact, Use(TRAINING, project.id))


def _held_out(fact: Fact, held: Held | None, wanted: tuple[str, ...]) -> Step:
    use = Use(HOLDOUT, tags=wanted)
    if held is not None:  # somebody put it there: a model that learned it could not be judged by it
        return Step(REMOVE, fact, use, held)
    return Step(HOLD if _differs(fact, use) else NOTHING, fact, use)


def _absent(fact: Fact, project: Project, wanted: tuple[str, ...]) -> Step:
    use = Use(TRAINING, project.id, tags=wanted)
    if fact.use and fact.use.refused in NEVER and fact.use.project == project.id:
        return Step(NOTHING, fact, fact.use, None, fact.use.refused, "as the service said before")
    if fact.size > MAX_IMAGE_BYTES:
        why = f"it has {fact.size} bytes and the service takes {MAX_IMAGE_BYTES}: let the camera send smaller ones"
        return Step(NOTHING, fact, use, None, "ErrorImageSize", why)
    return Step(SEND, fact, use)


def _differs(fact: Fact, use: Use) -> bool:
    """The blob does not say so yet. The tags may have had no room there."""
    return fact.use is None or replace(fact.use, at="", tags=fact.use.tags or use.tags) != use
