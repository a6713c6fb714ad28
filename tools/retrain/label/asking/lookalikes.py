"""Images that look alike, so that one key can label many: the nearest of a hash of 256 bits. Pure.

One image is compared with all at once, which for a million takes a few hundredths of a second: there is no index to
keep, and no distance at which it stops being exact. Groups are made as they are asked for, each around one image.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

DISTANCE = 24
"""Bits of 256 within which images count as alike; devices call 10 a near-duplicate, and strangers differ in 128."""
MOST = 48
"""Images in a group: what one look takes in."""

_DIGITS = 64
_WORDS = 4
_HEX = frozenset(string.hexdigits)

Id = TypeVar("Id")


@dataclass(frozen=True, slots=True)
class Alike(Generic[Id]):
    """One image of a group, and how many bits its look differs from the seed's."""

    id: Id
    distance: int


class Looks(Generic[Id]):
    """The looks of many images, (id, `dhash`), in the order of `rows`; what has no hash is left out."""

    def __init__(self, rows: Iterable[tuple[Id, str]] = ()) -> None:
        self.ids: list[Id] = []
        self._bits = _packed([])
        self.add(rows)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, rows: Iterable[tuple[Id, str]]) -> None:
        """More of them, after the others."""
        known = [(id_, hash_) for id_, hash_ in rows if is_hash(hash_)]
        self.ids += [id_ for id_, _ in known]
        self._bits = np.concatenate([self._bits, _packed([hash_ for _, hash_ in known])])

    def near(self, dhash: str, distance: int = DISTANCE, most: int = MOST) -> list[Alike[Id]]:
        """Those within `distance` bits, at most `most`: the nearest first, of equals in the order of the rows."""
        if not is_hash(dhash) or not self.ids:
            return []
        return self._nearest(self._distances(_packed([dhash])[0]), distance, most)

    def groups(self, distance: int = DISTANCE, most: int = MOST) -> Iterator[list[Alike[Id]]]:
        """All images in groups, each made as it is asked for: the first that is in none yet, and the nearest to it.

        No image is in two groups, and one alone is a group. The same rows give the same groups.
        """
        free = np.ones(len(self.ids), np.bool_)
        for seed in range(len(self.ids)):
            if free[seed]:
                distances = self._distances(self._bits[seed])
                distances[~free] = distance + 1
                distances[seed] = -1  # before its own doubles
                chosen = self._places(distances, distance, most)
                free[chosen] = False
                yield [Alike(self.ids[place], max(0, int(distances[place]))) for place in chosen]

    def _distances(self, bits: NDArray[np.uint64]) -> NDArray[np.int16]:
        counts: NDArray[np.int16] = np.bitwise_count(self._bits ^ bits).sum(axis=1, dtype=np.int16)
        return counts

    def _nearest(self, distances: NDArray[np.int16], distance: int, most: int) -> list[Alike[Id]]:
        return [Alike(self.ids[place], int(distances[place])) for place in self._places(distances, distance, most)]

    @staticmethod
    def _places(distances: NDArray[np.int16], distance: int, most: int) -> NDArray[np.intp]:
        near = np.flatnonzero(distances <= distance)
        return near[np.argsort(distances[near], kind="stable")[:most]]


def group_of(
    seed: tuple[Id, str], candidates: Iterable[tuple[Id, str]], distance: int = DISTANCE, most: int = MOST
) -> list[Alike[Id]]:
    """The seed first, then those of `candidates` that look like it, the nearest first; at most `most` in all.

    Give candidates of one suggested tag: what looks alike and was judged differently is worth a look of its own.
    """
    id_, dhash = seed
    others = Looks(row for row in candidates if row[0] != id_)
    return [Alike(id_, 0), *others.near(dhash, distance, most - 1)]


def groups(rows: Iterable[tuple[Id, str]], distance: int = DISTANCE, most: int = MOST) -> Iterator[list[Alike[Id]]]:
    """Groups of `rows`, in their order, as they are asked for; those of one suggested tag, as for `group_of`."""
    return Looks(rows).groups(distance, most)


def is_hash(text: str) -> bool:
    """Whether it is a hash of 256 bits; images without features have none."""
    return len(text) == _DIGITS and _HEX.issuperset(text)


def _packed(hashes: Sequence[str]) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, _WORDS)
