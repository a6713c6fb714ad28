"""A data set: images, their tags, and where both came from. The same values whether a service holds it or a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# what Custom Vision takes as metadata of one image (3.4; before, it took more): pairs, and characters
MAX_PAIRS = 10
MAX_KEY = 128
MAX_VALUE = 256

_OURS = "ripeloop"


@dataclass(frozen=True, slots=True)
class Label:
    """A tag of one image, and where that comes from: when it was given, and by whom, as far as anybody knows."""

    tag: str
    at: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as the service knows it; `kind` is Regular, Negative or GeneralProduct."""

    name: str
    id: str = ""
    description: str = ""
    kind: str = "Regular"


@dataclass(frozen=True, slots=True)
class Record:
    """All about one image but its pixels.

    `id` is the SHA-256 of its bytes, empty while nobody has read them; `source` its id in the service it came from.
    """

    id: str = ""
    labels: tuple[Label, ...] = ()
    source: str = ""
    created: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags' names."""
        return tuple(label.tag for label in self.labels)


@dataclass(frozen=True, slots=True)
class About:
    """What is true of the whole data set; the project it came from, where it came from one."""

    name: str = ""
    description: str = ""
    project: str = ""
    domain: str = ""
    multilabel: bool = False
    tags: tuple[Tag, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One image: its record, its bytes when they are needed, and its file's place, where it lies in a folder.

    `before` are the tags it had when that folder was written.
    """

    record: Record
    read: Callable[[], bytes]
    place: str = ""
    before: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy gave an image: the data set it came from, and the tags that the image had from nobody else."""

    origin: str
    tags: frozenset[str] = frozenset()


def together(first: Record, second: Record) -> Record:
    """One record of the same image under two: all labels of both, those that say more where both have one."""
    labels = {label.tag: label for label in first.labels}
    for label in second.labels:
        if label.tag not in labels or not (labels[label.tag].at or labels[label.tag].by):
            labels[label.tag] = label
    return Record(
        first.id,
        tuple(labels.values()),
        first.source or second.source,
        first.created or second.created,
        {**second.metadata, **first.metadata},
    )


def packed(record: Record, copied: Copied | None = None) -> tuple[dict[str, str], bool]:
    """The record as metadata of an image in a service, and whether all of it had room.

    The person's own pairs go first; then the ids; then what a copy gave; then who labelled what, and when.
    """
    own = [(key, value) for key, value in record.metadata.items() if len(key) <= MAX_KEY and len(value) <= MAX_VALUE]
    fits = dict(own[:MAX_PAIRS])
    ids = {"id": record.id, "source": record.source, "created": record.created}
    labels = sorted([label.tag, label.at, label.by] for label in record.labels if label.at or label.by)
    given = [copied.origin, *sorted(copied.tags)] if copied else []
    least = {name: value for name, value in ids.items() if value}
    less = least | ({"copied": given} if given else {})
    whole = less | ({"labels": labels} if labels else {})
    for kept in (whole, less, least):
        pairs = fits | _pairs(kept)
        if len(pairs) <= MAX_PAIRS:
            return pairs, kept == whole and len(fits) == len(record.metadata)
    return fits, False


def unpacked(metadata: Mapping[str, str], found: Record) -> Record:
    """The record that `packed` wrote into `metadata`, upon what the service itself has `found`.

    The labels are those the service tells; when and by whom is ours where we know it.
    """
    own = {name: value for name, value in metadata.items() if not _is_ours(name)}
    ours = _ours(metadata)
    known = {label.tag: label for label in _labels(ours.get("labels"))}
    return replace(
        found,
        id=str(ours.get("id", found.id)),
        source=str(ours.get("source", found.source)),
        created=str(ours.get("created", found.created)),
        labels=tuple(known.get(label.tag, label) for label in found.labels),
        metadata=own,
    )


def copied_in(metadata: Mapping[str, str]) -> Copied:
    """What the last copy gave, as `packed` wrote it; nothing, from nowhere, where that is not there."""
    given = _ours(metadata).get("copied")
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        return Copied("")
    return Copied(given[0], frozenset(given[1:]))


def _ours(metadata: Mapping[str, str]) -> dict[str, Any]:
    pieces = [metadata[name] for name in sorted(filter(_is_ours, metadata), key=lambda name: (len(name), name))]
    try:
        # a longer one that was there before may have left its end behind: no service takes a pair away
        ours, _ = json.JSONDecoder().raw_decode("".join(pieces) or "{}")
    except ValueError:  # somebody edited it: what the service tells still holds
        return {}
    return ours if isinstance(ours, dict) else {}


def _pairs(ours: Mapping[str, Any]) -> dict[str, str]:
    if not ours:
        return {}
    text = json.dumps(ours, separators=(",", ":"))
    pieces = [text[start : start + MAX_VALUE] for start in range(0, len(text), MAX_VALUE)]
    return {f"{_OURS}.{number}" if number else _OURS: piece for number, piece in enumerate(pieces)}


def _is_ours(name: str) -> bool:
    head, dot, number = name.partition(".")
    return head == _OURS and (not dot or number.isdecimal())


def _labels(value: Any) -> Iterable[Label]:
    for one in value if isinstance(value, list) else ():
        if isinstance(one, list) and len(one) == 3 and all(isinstance(part, str) for part in one):
            yield Label(*one)
