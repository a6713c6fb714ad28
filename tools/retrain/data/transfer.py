"""Move a data set: from a service into a folder, from a folder into a service, from one service into another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from retrain.customvision import CustomVision, Kept
from retrain.data.dataset import About, Item, Record
from retrain.shown import plain
from retrain.turn.train.training import find_project
from ripeloop.errors import Denied, Refused, SettingsError
from ripeloop.prediction import image_id

WORKERS = 4
_AHEAD = 8

Given = TypeVar("Given")
Made = TypeVar("Made")
Told = Callable[[int], None]


@dataclass(slots=True)
class Counts:
    """What became of the images, and how many tags were made."""

    tags: int = 0
    added: int = 0
    already: int = 0
    retagged: int = 0
    refused: int = 0
    shortened: int = 0
    """Images of whose record not all had room in the service's metadata."""
    reasons: tuple[str, ...] = ()
    """Why images were refused, the first few."""


def items_of(service: CustomVision, project: str) -> Iterator[Item]:
    """The images of a project, their records as they are kept there."""
    for kept in service.images(project):
        yield Item(kept.record, partial(service.read, kept.address))


def project_for(service: CustomVision, about: About, project: str = "") -> str:
    """The id of the one given by id or name, else of the only one of the data set's name, else of a new one.

    Raises Refused, and NotFound for one given.
    """
    if project:
        return find_project(service, project)
    found = service.projects(about.name)
    if len(found) > 1:
        raise Refused(f"there are {len(found)} projects called {about.name!r} there: say which by its id")
    return found[0] if found else service.create(about)


def copy(about: About, items: Iterable[Item], service: CustomVision, project: str, told: Told) -> Counts:
    """Bring the images into a project of a service. Again, it brings only what is missing.

    Images known by the record they carry are not read again; their tags are made the same. Images that only the project
    has stay as they are. `told` hears how many are done.
    """
    counts = Counts()
    tag_ids = _tags(about, service, project, counts)
    there = _by_origin(service.images(project))

    def bring(item: Item) -> Callable[[Counts], None]:
        if unknown := [tag for tag in item.record.tags if tag not in tag_ids]:
            raise Refused(f"the tag {unknown[0]!r} is new since the copying began: do it again")
        wanted = frozenset(tag_ids[tag] for tag in item.record.tags)
        known = there.get(item.record.source) or there.get(item.record.id)
        if known is not None:
            return _same_tags(service, project, known, wanted)
        return _added(service, project, item, wanted)

    for done, count in enumerate(in_turn(items, bring), 1):
        count(counts)
        told(done)
    return counts


def in_turn(given: Iterable[Given], make: Callable[[Given], Made], workers: int = WORKERS) -> Iterator[Made]:
    """What is made of each, in order, several being made at once and few waiting."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="transfer")
    waiting: deque[Future[Made]] = deque()
    try:
        for one in given:
            waiting.append(pool.submit(make, one))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _tags(about: About, service: CustomVision, project: str, counts: Counts) -> dict[str, str]:
    there = service.about(project)
    if about.multilabel and not there.multilabel:
        raise Refused(f"project {there.name!r} takes one tag an image, these have more; copy into a multilabel project")
    ids = {tag.name: tag.id for tag in there.tags}
    for tag in about.tags:
        if tag.name not in ids:
            ids[tag.name] = service.create_tag(project, tag)
            counts.tags += 1
    return ids


def _by_origin(images: Iterable[Kept]) -> dict[str, Kept]:
    """The images by their ids: where they came from, and of their bytes."""
    found: dict[str, Kept] = {}
    for kept in images:
        found |= {id_: kept for id_ in (kept.record.source, kept.record.id) if id_}
    return found


def _added(service: CustomVision, project: str, item: Item, wanted: frozenset[str]) -> Callable[[Counts], None]:
    try:
        image = item.read()
        record: Record = replace(item.record, id=image_id(image))
        _, whole = service.add(project, record, image, sorted(wanted))
    except Denied:
        raise
    except Refused as error:  # this image; the others may do
        return partial(_refused, f"{plain(item.place)}: {error}" if item.place else str(error))
    except SettingsError as error:  # its file, which it names
        return partial(_refused, str(error))

    def count(counts: Counts) -> None:
        counts.added += 1
        counts.shortened += not whole

    return count


def _refused(reason: str, counts: Counts) -> None:
    counts.refused += 1
    counts.reasons = (*counts.reasons, reason)[:5]


def _same_tags(service: CustomVision, project: str, known: Kept, wanted: frozenset[str]) -> Callable[[Counts], None]:
    if surplus := known.tag_ids - wanted:
        service.untag(project, known.id, sorted(surplus))
    if missing := wanted - known.tag_ids:
        service.tag(project, [(known.id, tag) for tag in sorted(missing)])

    def count(counts: Counts) -> None:
        counts.already += 1
        counts.retagged += bool(surplus or missing)

    return count
