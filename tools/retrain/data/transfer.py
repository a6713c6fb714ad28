"""Move a data set: from a service into a folder, from a folder into a service, from one service into another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from retrain.customvision import CustomVision, Kept
from retrain.data.dataset import About, Copied, Item, Record, copied_in, packed, unpacked
from retrain.shown import plain
from retrain.turn.train.training import find_project
from ripeloop.errors import Denied, NotFound, Refused, SettingsError
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
    other_tags: int = 0
    """Images that have other tags there than here, and keep them."""
    other_words: int = 0
    """Images whose metadata has another value there than here, and keeps it."""
    other_descriptions: int = 0
    """Tags that have another description there than here, and keep it."""
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
    """Bring the images into a project of a service. Again, it brings only what is missing or has changed.

    Images known by the record they carry are not read again. What somebody gave in the project stays, and what somebody
    took away there stays away: only tags that the last copy gave, as that record says, go with the source's. Images
    that only the project has stay as they are. `told` hears how many are done.
    """
    counts = Counts()
    target = _target(about, service, project, counts)
    there = _by_origin(service.images(project))

    def bring(item: Item) -> Callable[[Counts], None]:
        check_tags(item.record, target.tag_ids)
        known = there.get(item.record.source) or there.get(item.record.id)
        try:
            return _added(target, item) if known is None else _followed(target, known, item)
        except Denied:
            raise
        except (Refused, NotFound) as error:  # this image; the others may do
            return partial(_refused, f"{plain(item.place)}: {error}" if item.place else str(error))
        except SettingsError as error:  # its file, which it names
            return partial(_refused, str(error))

    for done, count in enumerate(in_turn(items, bring), 1):
        count(counts)
        told(done)
    return counts


def check_tags(record: Record, known: Container[str]) -> None:
    """Raises Refused for a tag that was made after the tags were listed."""
    for tag in record.tags:
        if tag not in known:
            raise Refused(f"the tag {tag!r} is new since the copying began: do it again")


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


@dataclass(frozen=True, slots=True)
class _Target:
    """The project to copy into; `origin` is the data set that is copied, `back` says that it came from this project."""

    service: CustomVision
    project: str
    multilabel: bool
    tag_ids: Mapping[str, str]
    origin: str
    back: bool

    def ids(self, tags: Iterable[str]) -> frozenset[str]:
        """The ids of those tags that the project has."""
        return frozenset(self.tag_ids[tag] for tag in tags if tag in self.tag_ids)


def _target(about: About, service: CustomVision, project: str, counts: Counts) -> _Target:
    there = service.about(project)
    if about.multilabel and not there.multilabel:
        raise Refused(f"project {there.name!r} takes one tag an image, these have more; copy into a multilabel project")
    ids = {tag.name: tag.id for tag in there.tags}
    descriptions = {tag.name: tag.description for tag in there.tags}
    for tag in about.tags:
        if tag.name not in ids:
            ids[tag.name] = service.create_tag(project, tag)
            counts.tags += 1
        elif tag.description and tag.description != descriptions[tag.name]:
            counts.other_descriptions += 1
    back = about.project == there.project
    return _Target(service, project, there.multilabel, ids, about.project or about.name, back)


def _by_origin(images: Iterable[Kept]) -> dict[str, Kept]:
    """The images by their ids: where they came from, and of their bytes."""
    found: dict[str, Kept] = {}
    for kept in images:
        found |= {id_: kept for id_ in (kept.record.source, kept.record.id) if id_}
    return found


def _added(target: _Target, item: Item) -> Callable[[Counts], None]:
    """Uploaded; as one that is there, where the service says that it has it."""
    image = item.read()
    record: Record = replace(item.record, id=image_id(image))
    wanted = target.ids(record.tags)
    try:
        copied = Copied(target.origin, frozenset(record.tags))
        added = target.service.add(target.project, record, image, sorted(wanted), copied)
    except Refused as error:
        if error.kind != "ErrorTagLimitExceed" or len(wanted) != 1:
            raise
        # with its one tag it is one too many: so it is there with another, and without one its id is told
        added = target.service.add(target.project, Record(), image, ())
    if not added.new:
        known = target.service.images_by_ids(target.project, [added.id])
        if known:
            return _followed(target, known[0], replace(item, record=record))

    def count(counts: Counts) -> None:
        counts.added += 1
        counts.shortened += not added.whole

    return count


def _refused(reason: str, counts: Counts) -> None:
    counts.refused += 1
    counts.reasons = (*counts.reasons, reason)[:5]


def _followed(target: _Target, known: Kept, item: Item) -> Callable[[Counts], None]:
    """One that is there follows what changed at the source since the last copy; then that is written down."""
    wanted, last = target.ids(item.record.tags), copied_in(known.metadata)
    given = target.ids(last.tags) if last.origin == target.origin else frozenset[str]()
    old = given
    if target.back and given != wanted:
        old |= target.ids(item.before)  # what somebody took away in the folder
    gone, new = (old - wanted) & known.tag_ids, wanted - known.tag_ids - given
    if not target.multilabel and known.tag_ids - gone:
        new = frozenset()
    if gone:
        target.service.untag(target.project, known.id, sorted(gone))
    over = target.service.tag(target.project, [(known.id, tag) for tag in sorted(new)])
    new -= {tag for _, tag in over}
    ours = (given | new) & wanted
    copied = Copied(target.origin, frozenset(tag for tag in item.record.tags if target.tag_ids[tag] in ours))
    record = _joined(known, item.record)
    pairs, whole = packed(record, copied)
    untouched = target.back and not gone and not new  # it is where it came from
    if not untouched and not pairs.items() <= known.metadata.items():
        whole = target.service.describe(target.project, known.id, record, copied) and whole
    others = item.record.metadata.items() - record.metadata.items()

    def count(counts: Counts) -> None:
        counts.already += 1
        counts.retagged += bool(gone or new)
        counts.shortened += not whole
        counts.other_tags += (known.tag_ids - gone) | new != wanted
        counts.other_words += bool(others)

    return count


def _joined(known: Kept, record: Record) -> Record:
    """What the source tells of the image, and what only the project does; pairs of metadata as they are there."""
    written = unpacked(known.metadata, Record())
    labels = {label.tag: label for label in known.record.labels if label.by}
    labels |= {label.tag: label for label in record.labels if label.at or label.by}
    return Record(
        record.id or written.id,
        tuple(labels.values()),
        record.source or written.source,
        record.created or written.created,
        {
            **written.metadata,
            **{name: value for name, value in record.metadata.items() if name not in written.metadata},
        },
    )
