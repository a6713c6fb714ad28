"""What happened to a release, beside the packages: each fact is a small blob that is written once and never changes.

`releases/{number}-{place}-{hash}/{fact}.json`. So a release that was killed finds its own facts when it runs again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retrain.release.plan import Place, name_of
from ripeloop.blobname import segment
from ripeloop.blobs import Blobs
from ripeloop.errors import NotFound

FOLDER = "releases/"
BEFORE, ANSWERS, DONE, UNDONE = "before", "answers", "done", "undone"

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
        return cls(number, segment(name_of(place)).replace(" ", "-"), sha256[:12])

    @property
    def folder(self) -> str:
        """Where its facts are."""
        return f"{FOLDER}{self.number:06}-{self.place}-{self.digest}/"


class Journal:
    """The facts in the container of the packages. Every call raises Offline and Refused, as the store does."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def note(self, attempt: Attempt, fact: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write a fact down; what stands there, if it was known before."""
        name = f"{attempt.folder}{fact}.json"
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


def _object(text: bytes) -> Mapping[str, Any]:
    """What cannot be read is as good as empty: the fact itself stands."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
