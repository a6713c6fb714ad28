"""What happened to a release, beside the packages: each fact is a small blob that is written once and never changes.

`releases/{number}-{place}-{hash}/{fact}.json`. So a release that was killed finds its own facts when it runs again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from retrain.release.plan import Place, name_of
from ripeloop.blobname import segment
from ripeloop.blobs import Blobs
from ripeloop.errors import NotFound

FOLDER = "releases/"
BEFORE, ANSWERS, DONE, UNDONE = "before", "answers", "done", "undone"

MOST_OF_A_NAME = 120  # characters: one that is longer is cut

_NAME = re.compile(rf"{FOLDER}(\d+)-(.+)-([0-9a-f]{{12}})/(\w+)\.json")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One package on its way to one place; `number` orders all attempts of a fleet."""

    number: int
    place: str
    digest: str

    @classmethod
    def of(cls, number: int, place: Place, sha256: str) -> Attempt:
        """The attempt to bring that package there."""
        return cls(number, _segment(name_of(place)).replace(" ", "-"), sha256[:12])

    @property
    def folder(self) -> str:
        """Where its facts are."""
        return f"{FOLDER}{self.number:06}-{self.place}-{self.digest}/"


class Journal:
    """The facts in the container of the packages. Every call raises Offline and Refused, as the store does."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def note(
        self, attempt: Attempt, fact: str, about: Mapping[str, Any], *, anew: bool = False
    ) -> Mapping[str, Any]:
        """Write a fact down; what stands there, if it was known before. `anew`: in place of one that is damaged."""
        name = f"{attempt.folder}{fact}.json"
        if anew:
            await self._blobs.delete(name)
        if await self._blobs.put(name, json.dumps(about).encode(), content_type="application/json"):
            return about
        return _object(await self._blobs.get(name))

    async def told(self, attempt: Attempt, fact: str) -> Mapping[str, Any] | None:
        """A fact that was written down; None where it was not."""
        try:
            return _object(await self._blobs.get(f"{attempt.folder}{fact}.json"))
        except NotFound:
            return None

    async def facts(self) -> list[tuple[Attempt, str]]:
        """Every attempt with each of its facts, the oldest first."""
        found = [_NAME.fullmatch(blob.name) async for blob in self._blobs.list(FOLDER)]
        return sorted(
            ((Attempt(int(one[1]), one[2], one[3]), one[4]) for one in found if one is not None),
            key=lambda fact: (fact[0].number, fact[1]),
        )

    async def undone_versions(self) -> set[str]:
        """The versions of packages whose newest attempt anywhere was undone."""
        newest: dict[str, tuple[Attempt, bool]] = {}
        for attempt, fact in await self.facts():
            before = newest.get(attempt.digest)
            same = before is not None and before[0] == attempt and before[1]
            newest[attempt.digest] = attempt, same or fact == UNDONE
        notes = [await self.told(attempt, UNDONE) for attempt, undone in newest.values() if undone]
        return {str(note["version"]) for note in notes if note and note.get("version")}


def _segment(word: str) -> str:
    """A long word is cut; what it was is told by its hash."""
    cut = segment(word)
    return cut if len(quote(word)) < MOST_OF_A_NAME else f"{cut[:100]}-{hashlib.sha256(word.encode()).hexdigest()[:16]}"


def _object(text: bytes) -> Mapping[str, Any]:
    """What cannot be read is as good as empty: the fact itself stands."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
