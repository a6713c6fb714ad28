"""How far the labelling is: what is left, what was labelled, and what each tag still needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from retrain.label.container.cache import Look
from retrain.label.container.rows import DISPUTED, OPEN
from retrain.labels import JUNK, NONE, TAG, UNSURE

LEAST = 5
"""Images of a tag below which Custom Vision refuses to train."""


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag: how many images have it, and how many of them are for training and for the holdout so far."""

    tag: str
    images: int
    training: int = 0
    holdout: int = 0

    def missing(self, wanted: int) -> int:
        """How many it is short of `wanted`."""
        return max(0, wanted - self.images)


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything in numbers of images; `tags` those with the fewest images first; `today` counts answers (UTC).

    `mixed`: what the models took each label for when the images were flagged, (label, likeliest tag) → images.
    """

    open: int
    tagged: int
    none: int
    unsure: int
    junk: int
    disputed: int
    today: int
    tags: tuple[TagRow, ...]
    mixed: Mapping[tuple[str, str], int]

    @property
    def images(self) -> int:
        """All samples."""
        return self.open + self.answered

    @property
    def answered(self) -> int:
        """Those that need no first answer any more."""
        return self.tagged + self.none + self.unsure + self.junk + self.disputed

    @property
    def usable(self) -> int:
        """Those that training can use."""
        return self.tagged + self.none


def today(now: datetime) -> str:
    """The day that every page calls today: that of UTC, so that all servers on one container count the same."""
    return f"{now.astimezone(UTC):%Y-%m-%d}"


def progress(look: Look, now: datetime, tags: Iterable[str] = ()) -> Progress:
    """How far it is; `tags` are listed even where no image has them."""
    states = Counter[str]()
    labels, mixed = Counter[str](), Counter[tuple[str, str]]()
    for row in look.rows("SELECT state, said, tag, sum(n) n FROM counts GROUP BY state, said, tag HAVING sum(n) > 0"):
        states[row["state"]] += row["n"]
        for label in _tags(row["said"]) if row["state"] == TAG else ():
            labels[label] += row["n"]
            if row["tag"]:
                mixed[label, row["tag"]] += row["n"]
    training, holdout = _uses(look)
    rows = [TagRow(tag, labels[tag], training[tag], holdout[tag]) for tag in dict.fromkeys((*sorted(tags), *labels))]
    return Progress(
        open=states[OPEN],
        tagged=states[TAG],
        none=states[NONE],
        unsure=states[UNSURE],
        junk=states[JUNK],
        disputed=states[DISPUTED],
        today=_today(look, now),
        tags=tuple(sorted(rows, key=lambda row: (row.images, row.tag))),
        mixed=mixed,
    )


def _uses(look: Look) -> tuple[Counter[str], Counter[str]]:
    """Of each tag the images for training, and those in the holdout."""
    found: dict[str, Counter[str]] = {"training": Counter(), "holdout": Counter()}
    query = "SELECT use, said, count(*) n FROM samples WHERE use <> '' GROUP BY use, said"
    for row in look.rows(query):
        for label in _tags(row["said"]):
            found[row["use"]][label] += row["n"]
    return found["training"], found["holdout"]


def _today(look: Look, now: datetime) -> int:
    """Down the index by person and time: it looks at nobody's older answers."""
    query = """
        WITH RECURSIVE people (name) AS (
            SELECT min(by) FROM answers
            UNION ALL SELECT (SELECT min(by) FROM answers WHERE by > name) FROM people WHERE name IS NOT NULL)
        SELECT sum((SELECT count(*) FROM answers WHERE by = name AND at >= ?)) n FROM people WHERE name IS NOT NULL"""
    row = look.row(query, (today(now),))
    return int(row["n"] or 0) if row else 0


def _tags(said: str) -> list[str]:
    return said.split("\n") if said else []
