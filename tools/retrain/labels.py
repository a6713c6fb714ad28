"""The label of a sample, as it stands in the metadata of its blob. Pure.

The key `labels` holds what people answered, oldest first. Nothing is overwritten: an answer taken back, or given anew,
is one more entry. The newest answer of each person stands, and what a review decided stands over all. What a newer
version wrote, and this one cannot read, stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ripeloop.blobname import MAX_METADATA_BYTES
from ripeloop.errors import Refused

KEY = "labels"
MAX_BYTES = 3000
"""Of the 8 KB of metadata that a blob carries; the predictions may have half of those."""
MOST_DROPPED = 10**6
MAX_TAG, MAX_NAME = 128, 64  # characters

TAG, NONE, UNSURE, JUNK, UNDONE = "tag", "none", "unsure", "junk", "undone"
KINDS = frozenset({TAG, NONE, UNSURE, JUNK, UNDONE})

SUGGESTED, BLIND, GRID, REVIEW, KNOWN, IMPORTED = "suggested", "blind", "grid", "review", "known", "imported"
SEEN = "seen"
"""How an answer came about: the model's suggestion was shown, or hidden; one of many at once; a decision on a
disagreement; an image whose answer was known and is asked again to measure the labeller; from elsewhere; given
by who had seen what the others said."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person said of one image: `tags` where `kind` is `tag`; `at` in UTC; `how` as one of the words above.

    `more`: what else stands in the entry, as JSON.
    """

    kind: str
    tags: tuple[str, ...] = ()
    by: str = ""
    at: str = ""
    how: str = ""
    more: str = ""

    @property
    def says(self) -> tuple[str, tuple[str, ...]]:
        """What it comes to, whoever said it."""
        return self.kind, tuple(sorted(self.tags))


@dataclass(frozen=True, slots=True)
class Labels:
    """All answers to one image, oldest first; `dropped` counts those that found no more room.

    `others`: the entries that are no answers we know, as JSON, each with how many answers come before it; `more`: what
    else stands beside the answers, as JSON. Where `readable` is false something is there that nobody may write over.
    """

    answers: tuple[Answer, ...] = ()
    dropped: int = 0
    others: tuple[tuple[int, str], ...] = ()
    more: str = ""
    readable: bool = True

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Labels:
        """What the metadata of a blob says; nothing where there is none, or where it cannot be read."""
        text = metadata.get(KEY, "")
        if not text:
            return cls()
        try:
            fields = json.loads(text)
            answers, others = list[Answer](), list[tuple[int, str]]()
            for entry in _entries(fields):
                if (one := _answer(entry)) is not None:
                    answers.append(one)
                else:
                    others.append((len(answers), _as_json(entry)))
            more = {name: value for name, value in fields.items() if name not in ("answers", "dropped")}
            return cls(tuple(answers), _count(fields.get("dropped")), tuple(others), _as_json(more) if more else "")
        except (ValueError, TypeError, AttributeError, RecursionError):
            return cls(readable=False)

    @property
    def standing(self) -> tuple[Answer, ...]:
        """The newest review where there is one, else the newest answer of each person.

        What was undone is no answer, and what only measured its labeller decides nothing.
        """
        left = list[Answer]()
        for answer in self.answers:
            if answer.kind != UNDONE:
                left.append(answer)
            elif mine := [nth for nth, one in enumerate(left) if one.by == answer.by]:
                del left[mine[-1]]
        left = [answer for answer in left if answer.how != KNOWN]
        newest = {answer.by: answer for answer in left}
        reviews = [answer for answer in left if answer.how == REVIEW]
        return tuple(reviews[-1:] or sorted(newest.values(), key=left.index))

    @property
    def disputed(self) -> bool:
        """People differ, and nobody has decided."""
        return len({answer.says for answer in self.standing}) > 1

    @property
    def final(self) -> Answer | None:
        """What the image is; None while nobody answered or people differ."""
        standing = self.standing
        return standing[-1] if standing and not self.disputed else None

    def with_answer(self, answer: Answer, *, late: bool = False) -> Labels:
        """With one more. Raises Refused for an answer that no blob can carry.

        `late`: it had to wait, so that what the same person said after it stands over it.
        """
        _check(answer)
        self._check_readable()
        place = next((nth for nth in self.left() if self._is_newer(nth, answer)), None) if late else None
        if place is None:
            return replace(self, answers=(*self.answers, answer))
        others = tuple((nth + (nth > place), entry) for nth, entry in self.others)
        return replace(self, answers=(*self.answers[:place], answer, *self.answers[place:]), others=others)

    def undone(self, by: str, at: str) -> Labels:
        """Without the newest answer of `by`, which stays in the history; the one before it stands again."""
        return self.with_answer(Answer(UNDONE, by=by, at=at))

    def into(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The whole metadata of the blob with these labels in it. Raises Refused where they do not fit.

        Of too many the oldest that do not stand go first: taken back or given anew, then those that only measured
        their labeller, then those that a review decided over. What stands never goes.
        """
        self._check_readable()
        rest = sum(len(key) + len(value) for key, value in metadata.items() if key != KEY)
        room = min(MAX_BYTES, MAX_METADATA_BYTES - rest - len(KEY))
        kept = self
        while len(text := kept.to_json()) > room:
            kept = kept._with_one_less()
        return {**metadata, KEY: text}

    def to_json(self) -> str:
        """As ASCII in one line, fit for a header."""
        entries = [_entry(answer) for answer in self.answers]
        for place, entry in reversed(self.others):
            entries.insert(place, json.loads(entry))
        fields: dict[str, Any] = {"answers": entries}
        if self.dropped:
            fields["dropped"] = self.dropped
        return _as_json(fields | (json.loads(self.more) if self.more else {}))

    def _check_readable(self) -> None:
        if not self.readable:
            raise Refused(
                "the labels of this sample cannot be read, so nothing is written over them: a newer ripeloop may have "
                f"written them; else remove the key `{KEY}` from the metadata of its blob"
            )

    def _is_newer(self, nth: int, answer: Answer) -> bool:
        return self.answers[nth].by == answer.by and self.answers[nth].at > answer.at

    def left(self) -> list[int]:
        """The places of the answers that were not taken back."""
        left = list[int]()
        for nth, answer in enumerate(self.answers):
            if answer.kind != UNDONE:
                left.append(nth)
            elif mine := [place for place in left if self.answers[place].by == answer.by]:
                left.remove(mine[-1])
        return left

    def _with_one_less(self) -> Labels:
        """Without the answer that is missed least, and what took it back. Raises Refused where all stand."""
        going = next(self._least(), None)
        if going is None:
            raise Refused("this sample has no room for one more answer: all that it has stand")
        others = tuple((nth - sum(place < nth for place in going), entry) for nth, entry in self.others)
        answers = tuple(answer for nth, answer in enumerate(self.answers) if nth not in going)
        return replace(self, answers=answers, dropped=self.dropped + len(going), others=others)

    def _least(self) -> Iterator[set[int]]:
        left = self.left()
        opinions = [nth for nth in left if self.answers[nth].how != KNOWN]
        newest = {self.answers[nth].by: nth for nth in opinions}
        reviews = [nth for nth in opinions if self.answers[nth].how == REVIEW]
        for nth, answer in enumerate(self.answers):
            if answer.kind == UNDONE:
                yield {nth, *self._taken_back_by(nth)}
            elif nth in opinions and nth not in newest.values() and nth not in reviews[-1:]:
                yield {nth}
        yield from ({nth} for nth in left if self.answers[nth].how == KNOWN)
        yield from ({nth} for nth in newest.values() if reviews and nth != reviews[-1])

    def _taken_back_by(self, undo: int) -> set[int]:
        before = replace(self, answers=self.answers[:undo]).left()
        return set([nth for nth in before if self.answers[nth].by == self.answers[undo].by][-1:])


def _check(answer: Answer) -> None:
    if answer.kind not in KINDS:
        raise Refused(f"{answer.kind!r} is no kind of answer: say one of {', '.join(sorted(KINDS))}")
    if bool(answer.tags) != (answer.kind == TAG):
        raise Refused("an answer of the kind `tag` names one tag or more, and no other does")
    if not all(0 < len(tag) <= MAX_TAG for tag in answer.tags):
        raise Refused(f"a tag has 1 to {MAX_TAG} characters")
    if not 0 < len(answer.by) <= MAX_NAME:
        raise Refused(f"a person's name has 1 to {MAX_NAME} characters")
    if len(_as_json(_entry(answer))) > MAX_BYTES // 2:
        raise Refused("the answer has too many tags for one image: say the most important ones")


def _entry(answer: Answer) -> dict[str, Any]:
    fields = {"kind": answer.kind, "tags": list(answer.tags), "by": answer.by, "at": answer.at, "how": answer.how}
    more: dict[str, Any] = json.loads(answer.more) if answer.more else {}
    return {name: value for name, value in fields.items() if value} | more


def _entries(fields: dict[str, Any]) -> list[object]:
    """Raises TypeError where there is no list of them."""
    entries = fields.get("answers", [])
    if not isinstance(entries, list):
        raise TypeError("answers is no list")
    return entries


def _count(dropped: object) -> int:
    """What cannot be a number of answers is none."""
    is_count = isinstance(dropped, int) and not isinstance(dropped, bool) and 0 <= dropped <= MOST_DROPPED
    return dropped if is_count and isinstance(dropped, int) else 0


def _as_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _answer(entry: object) -> Answer | None:
    """None for what a newer version wrote, or somebody else."""
    if not isinstance(entry, dict):
        return None
    tags = entry.get("tags", [])
    words = {name: entry.get(name, "") for name in ("kind", "by", "at", "how")}
    if not isinstance(tags, list) or not all(isinstance(word, str) for word in (*tags, *words.values())):
        return None
    if words["kind"] not in KINDS:
        return None
    more = {name: value for name, value in entry.items() if name not in (*words, "tags")}
    return Answer(tags=tuple(tags), **words, more=_as_json(more) if more else "")
