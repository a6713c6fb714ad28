"""What an image may be: the tags named at the start, those the model knows, those seen on samples, those added here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from retrain.label.answering.journal import Journal
from retrain.label.container.cache import Cache, Look
from retrain.labels import MAX_TAG, TAG
from ripeloop.errors import Offline, Refused, SettingsError
from ripeloop.prediction import format_time
from ripeloop.sampling import is_text

log = logging.getLogger(__name__)

COMMANDS = {
    "skip": "s", "unsure": "u", "junk": "j", "none": "n", "newTag": "t", "undo": "Backspace", "zoom": "z",
    "contrast": "c", "all": "a",
}  # fmt: skip
KEYS = "123456789" + "".join(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in COMMANDS.values())
MOST = 500  # as many tags as a Custom Vision project has

Told = dict[str, object]


def is_tag(text: str) -> bool:
    """Whether that can be a tag: what is so is offered and taken in answers, all else is neither."""
    return len(text) <= MAX_TAG and is_text(text) and bool(text.strip())


def as_typed(text: str) -> str:
    """A tag that somebody typed, as it is written from then on. Raises Refused."""
    tag = " ".join(text.split())
    if not is_tag(tag):
        raise Refused(f"a tag has 1 to {MAX_TAG} letters, digits, spaces and signs")
    return tag


class Tags:
    """The tags of this container. `named` come first and keep their order; `negative`: what none of them is called.

    Raises SettingsError for a name that no tag can have.
    """

    def __init__(self, cache: Cache, journal: Journal, named: Sequence[str], negative: str) -> None:
        self._cache, self._journal = cache, journal
        try:
            self._typed = {name: as_typed(name) for name in named}
        except Refused as error:
            raise SettingsError(f"--tag: {error}; check {', '.join(map(repr, named))}") from None
        self._named = tuple(dict.fromkeys(self._typed.values()))
        self.negative = " ".join(negative.split())

    def know(self, named: Sequence[str], negative: str) -> None:
        """What the project calls them."""
        self._named = tuple(dict.fromkeys(self._typed.get(name, name) for name in named))
        self.negative = negative

    async def names(self) -> list[str]:
        """All of them: the named, then the others as they came; a new one goes to the end, so that keys stay."""
        added = await self._journal.tags()
        seen = {tag for tag in await self._cache.ask(_seen) if is_tag(tag)} - {*added, self.negative}
        new = sorted(seen, key=lambda tag: (tag.casefold(), tag))[: max(0, MOST - len(added))]
        await self._remember(new)
        every = dict.fromkeys((*self._named, *added, *new))
        return [tag for tag in every if tag != self.negative and is_tag(tag)][:MOST]

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
        tag = as_typed(text if isinstance(text, str) else "")
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

    async def _remember(self, new: Sequence[str]) -> None:
        """Keep the places of tags that were seen for the first time, one after the other."""
        now = datetime.now(UTC)
        try:
            for nth, tag in enumerate(new):
                await self._journal.add_tag(tag, format_time(now + timedelta(microseconds=nth)))
        except Offline as error:
            log.warning("the places of new tags cannot be kept now: %s", error)


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
