"""What an image may be: the tags named at the start, those the model knows, those seen on samples, those added here."""

from __future__ import annotations

import logging
import unicodedata
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

_JOINERS = "\u200c\u200d"  # scripts and emoji need them between two characters; elsewhere nobody sees them
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # letters and signs that leave nothing on a screen

Told = dict[str, object]


def is_tag(text: str) -> bool:
    """Whether that can be a tag: what is so is offered and taken in answers, all else is neither."""
    return len(text) <= MAX_TAG and is_text(text) and bool(text.strip())


def as_typed(text: str) -> str:
    """A tag that somebody typed, as it is written from then on: in NFC, and all of it can be seen. Raises Refused."""
    tag = one_form(text)
    if any(_is_hidden(tag, nth) for nth in range(len(tag))):
        raise Refused("a tag has no hidden characters, and none that change the direction of writing: type it anew")
    if not is_tag(tag) or not any(_is_seen(character) for character in tag):
        raise Refused(f"a tag has 1 to {MAX_TAG} letters, digits, spaces and signs")
    return tag


def one_form(tag: str) -> str:
    """The same for all ways to write the same characters and spaces."""
    return unicodedata.normalize("NFC", " ".join(tag.split()))


def _is_hidden(tag: str, nth: int) -> bool:
    character = tag[nth]
    if character in _JOINERS:
        around = tag[max(0, nth - 1) : nth] + tag[nth + 1 : nth + 2]
        return len(around) < 2 or not all(one not in _JOINERS and not one.isspace() for one in around)
    return character in _BLANK or unicodedata.category(character)[0] == "C"


def _is_seen(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNPS"


def _looks(tag: str) -> str:
    """The same for tags that people would take for one another."""
    plain = one_form(one_form(tag).casefold())
    return "".join(one for nth, one in enumerate(plain) if one not in _JOINERS and not _is_hidden(plain, nth))


class Tags:
    """The tags of this container. `named` come first and keep their order; `negative`: what none of them is called.

    Where the project or the samples write one of them in other characters that look the same (Unicode's NFD), it is
    offered as they write it: its labels stay one tag. Raises SettingsError for a name that no tag can have.
    """

    def __init__(self, cache: Cache, journal: Journal, named: Sequence[str], negative: str) -> None:
        self._cache, self._journal = cache, journal
        self._own = tuple[str, ...]()
        try:
            self._named = tuple(dict.fromkeys(as_typed(name) for name in named))
        except Refused as error:
            raise SettingsError(f"--tag: {error}; check {', '.join(map(repr, named))}") from None
        self.negative = " ".join(negative.split())

    def know(self, own: Sequence[str], negative: str) -> None:
        """What the project calls them: these come after those that were named."""
        self._own, self.negative = tuple(own), negative

    async def names(self) -> list[str]:
        """All of them: the named, then the others as they came; a new one goes to the end, so that keys stay."""
        added = await self._journal.tags()
        seen = {tag for tag in await self._cache.ask(_seen) if is_tag(tag)}
        new = sorted(seen - {*added, self.negative}, key=lambda tag: (tag.casefold(), tag))[: max(0, MOST - len(added))]
        await self._remember(new)
        every = dict.fromkeys(map(one_form, (*self._named, *self._own, *added, *new)))
        written = {one_form(tag): tag for tag in (*sorted({*seen, *added}), *self._own)}
        tags = [written.get(tag, tag) for tag in every if tag != one_form(self.negative)]
        return [tag for tag in tags if is_tag(tag)][:MOST]

    async def told(self) -> list[Told]:
        """The tags with their keys, and how many samples have each."""
        counts = await self._cache.ask(_counts)
        names = await self.names()
        keys = [*KEYS, *[""] * len(names)]
        return [
            {"tag": name, "key": key, "labelled": counts.get(one_form(name), 0)}
            for name, key in zip(names, keys, strict=False)
        ]

    async def add(self, text: object) -> str:
        """A new tag, as it is written from now on. Raises Refused."""
        tag = as_typed(text if isinstance(text, str) else "")
        names = await self.names()
        like = next((name for name in (*names, self.negative) if _looks(name) == _looks(tag)), None)
        if like is not None:
            if one_form(like) == tag and like != self.negative:
                return like
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
            counts[one_form(tag)] = counts.get(one_form(tag), 0) + row["n"]
    return counts
