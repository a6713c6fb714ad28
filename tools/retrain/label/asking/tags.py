"""What an image may be: the tags named at the start, those the model knows, those seen on samples, those added here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from retrain.label.answering.journal import Journal
from retrain.label.container.cache import Cache, Look
from retrain.labels import MAX_TAG, TAG
from ripeloop.errors import Refused
from ripeloop.prediction import format_time
from ripeloop.sampling import is_text

COMMANDS = {
    "skip": "s", "unsure": "u", "junk": "j", "none": "n", "newTag": "t", "undo": "Backspace", "zoom": "z",
    "contrast": "c", "all": "a",
}  # fmt: skip
KEYS = "123456789" + "".join(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in COMMANDS.values())
MOST = 500  # as many tags as a Custom Vision project has

Told = dict[str, object]


class Tags:
    """The tags of this container. `named` come first and keep their order; `negative`: what none of them is called."""

    def __init__(self, cache: Cache, journal: Journal, named: Sequence[str], negative: str) -> None:
        self._cache, self._journal = cache, journal
        self._named, self.negative = tuple(named), negative

    def know(self, named: Sequence[str], negative: str) -> None:
        """What the project calls them."""
        self._named, self.negative = tuple(named), negative

    async def names(self) -> list[str]:
        """All of them: the named, then the others by name; a new one goes to the end, so that keys stay."""
        seen = await self._cache.ask(_seen)
        added = await self._journal.tags()
        older = sorted((set(seen) - {*self._named, *added}), key=lambda tag: (tag.casefold(), tag))
        every = dict.fromkeys((*self._named, *older, *added))
        return [tag for tag in every if tag != self.negative][:MOST]

    async def told(self) -> list[Told]:
        """The tags with their keys, and how many samples have each."""
        counts = await self._cache.ask(_counts)
        names = await self.names()
        keys = [*KEYS, *[""] * len(names)]
        return [
            {"tag": name, "key": key, "labelled": counts.get(name, 0)} for name, key in zip(names, keys, strict=False)
        ]

    async def add(self, text: object) -> str:
        """A new tag, as it is written from now on. Raises Refused."""
        tag = " ".join(text.split()) if isinstance(text, str) else ""
        if not tag or len(tag) > MAX_TAG or not is_text(tag):
            raise Refused(f"a tag has 1 to {MAX_TAG} letters, digits, spaces and signs")
        names = await self.names()
        like = next((name for name in (*names, self.negative) if name.casefold() == tag.casefold()), None)
        if like is not None:
            if like == tag and like != self.negative:
                return tag
            raise Refused(f"there is {like!r} already: use that")
        if len(names) >= MOST:
            raise Refused(f"there are {MOST} tags already, as many as a project may have")
        await self._journal.add_tag(tag, format_time(datetime.now(UTC)))
        return tag


def _seen(look: Look) -> list[str]:
    query = (
        "SELECT DISTINCT tag FROM counts WHERE tag <> '' AND n > 0 UNION SELECT DISTINCT said FROM counts WHERE n > 0"
    )
    return [tag for row in look.rows(query) for tag in row["tag"].split("\n") if tag]


def _counts(look: Look) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in look.rows("SELECT said, sum(n) AS n FROM counts WHERE state = ? GROUP BY said", (TAG,)):
        for tag in row["said"].split("\n"):
            counts[tag] = counts.get(tag, 0) + row["n"]
    return counts
