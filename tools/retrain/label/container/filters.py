"""What a person wants to see, as it stands in the page's address. Pure; what makes no sense is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from retrain.label.container.rows import DISPUTED, OPEN, STATES
from retrain.labels import NONE, TAG

USEFUL, NEWEST, OLDEST = "useful", "newest", "oldest"
ORDERS = (USEFUL, NEWEST, OLDEST, "tag", "device", "reason")
CELLS = ("device", "reason", "tag")
LABELLED, ANY = "labelled", "any"
STATE_WORDS = (*STATES, LABELLED, ANY)
MAX_WORD = 300


@dataclass(frozen=True, slots=True)
class Filters:
    """Empty: whatever it is. `begin` and `end` are days, both included; `tag` is what the model suggests."""

    order: str = USEFUL
    device: str = ""
    reason: str = ""
    tag: str = ""
    begin: str = ""
    end: str = ""
    state: str = ""
    said: str = ""
    by: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str], *, name: str, admin: bool) -> Filters:
        """What the address asks for; only an admin asks for what somebody else labelled."""
        words = {key: value[:MAX_WORD] for key, value in query.items()}
        by = words.get("by", "")
        return cls(
            order=_one_of(words.get("order", ""), ORDERS) or USEFUL,
            device=words.get("device", ""),
            reason=words.get("reason", ""),
            tag=words.get("tag", ""),
            begin=_day(words.get("from", "")),
            end=_day(words.get("to", "")),
            state=_one_of(words.get("state", ""), STATE_WORDS),
            said=words.get("said", ""),
            by=by if admin or by == name else "",
        )

    def query(self, **changed: str) -> str:
        """As it stands in an address, with these words changed."""
        words = {
            "order": "" if self.order == USEFUL else self.order, "device": self.device, "reason": self.reason,
            "tag": self.tag, "from": self.begin, "to": self.end, "state": self.state, "said": self.said, "by": self.by,
        }  # fmt: skip
        return urlencode({key: word for key, word in (words | changed).items() if word})

    def states(self, otherwise: str) -> tuple[str, ...]:
        """The states it means, where it names none those that the word `otherwise` means."""
        word = self.state or otherwise
        if word == ANY:
            return STATES
        return (TAG, NONE) if word == LABELLED else (word,)

    @property
    def cell(self) -> dict[str, str]:
        """What it asks of device, reason and tag."""
        wanted: dict[str, Any] = {"device": self.device, "reason": self.reason, "tag": self.tag}
        return {name: word for name, word in wanted.items() if word}

    @property
    def moments(self) -> tuple[str, str]:
        """From when and before when, as texts that times compare with; empty for no bound."""
        end = (date.fromisoformat(self.end) + timedelta(days=1)).isoformat() if self.end else ""
        return self.begin, end


def _day(word: str) -> str:
    try:
        day = date.fromisoformat(word)
    except ValueError:
        return ""
    return day.isoformat() if day.year < date.max.year else ""


def _one_of(word: str, words: tuple[str, ...]) -> str:
    return word if word in words else ""


REVIEW_STATE, LABEL_STATE, BROWSE_STATE = DISPUTED, OPEN, ANY
"""What each page shows where the address names no state."""
