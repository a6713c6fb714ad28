"""The label of a sample, as it stands in the metadata of its blob. Pure.

The key `labels` holds what people answered, oldest first. Nothing is overwritten: an answer taken back, or given anew,
is one more entry. The newest answer of each person stands, and what a review decided stands over all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ripeloop.errors import Refused

KEY = "labels"
MAX_BYTES = 3000
"""Of the 8 KB of metadata that a blob carries; the predictions may have half of those."""
MAX_TAG, MAX_NAME = 128, 64  # characters

TAG, NONE, UNSURE, JUNK, UNDONE = "tag", "none", "unsure", "junk", "undone"
KINDS = frozenset({TAG, NONE, UNSURE, JUNK, UNDONE})

SUGGESTED, BLIND, GRID, REVIEW, KNOWN, IMPORTED = "suggested", "blind", "grid", "review", "known", "imported"
"""How an answer came about: the model's suggestion was shown, or hidden; one of many at once; a decision on a
disagreement; an image whose answer was known and is asked again to measure the labeller; from elsewhere."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person said of one image: `tags` where `kind` is `tag`; `at` in UTC; `how` as one of the words above."""

    kind: str
    tags: tuple[str, ...] = ()
    by: str = ""
    at: str = ""
    how: str = ""

    @property
    def says(self) -> tuple[str, tuple[str, ...]]:
        """What it comes to, whoever said it."""
        return self.kind, tuple(sorted(self.tags))


@dataclass(frozen=True, slots=True)
class Labels:
    """All answers to one image, oldest first; `dropped` counts old ones that found no more room."""

    answers: tuple[Answer, ...] = ()
    dropped: int = 0

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Labels:
        """What the metadata of a blob says; nothing where there is none, or where it cannot be read."""
        try:
            fields = json.loads(metadata.get(KEY, "{}"))
            entries = fields.get("answers", [])
            found = [one for entry in entries if (one := _answer(entry)) is not None]
            return cls(tuple(found), int(fields.get("dropped", 0)))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return cls()

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

    def with_answer(self, answer: Answer) -> Labels:
        """With one more. Raises Refused for an answer that no blob can carry."""
        _check(answer)
        return replace(self, answers=(*self.answers, answer))

    def undone(self, by: str, at: str) -> Labels:
        """Without the newest answer of `by`, which stays in the history; the one before it stands again."""
        return self.with_answer(Answer(UNDONE, by=by, at=at))

    def into(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The whole metadata of the blob with these labels in it. Of too many the oldest answers go first."""
        kept = self
        while len(text := kept.to_json()) > MAX_BYTES:
            kept = Labels(kept.answers[1:], kept.dropped + 1)
        return {**metadata, KEY: text}

    def to_json(self) -> str:
        """As ASCII in one line, fit for a header."""
        fields: dict[str, Any] = {"answers": [_entry(answer) for answer in self.answers]}
        if self.dropped:
            fields["dropped"] = self.dropped
        return json.dumps(fields, separators=(",", ":"))


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
    return {name: value for name, value in fields.items() if value}


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
    return Answer(tags=tuple(tags), **words) if words["kind"] in KINDS else None
