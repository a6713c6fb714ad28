"""What the cache tells of quality: agreement, people on known images, how much the suggestion steers, and pace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter

from retrain.label.container.cache import Found, Look
from retrain.label.quality.agreement import Agreement, agreement
from retrain.label.quality.labellers import Measured, Same, Steered, measured, seconds_each, steered, steered_by_person
from retrain.label.quality.progress import today
from retrain.labels import BLIND, KNOWN, NONE, SUGGESTED, TAG, Answer

DAYS = 14
NEWEST = 2000
"""Answers of one person whose pace is looked at."""
JUDGED = 5000
"""Those of one person that tell whether the suggestion steers: enough for a percent."""


@dataclass(frozen=True, slots=True)
class Person:
    """One labeller: all answers, those of the last days (UTC, newest first), and the seconds half of them took less."""

    name: str
    answers: int
    days: tuple[tuple[str, int], ...] = ()
    seconds: float | None = None
    measured: Measured | None = None
    steered: Steered | None = None

    @property
    def today(self) -> int:
        """The answers of the newest of the days."""
        return self.days[0][1] if self.days else 0


@dataclass(frozen=True, slots=True)
class Quality:
    """All people, most answers first, how much they agree, and how much the suggestion steers all together."""

    people: tuple[Person, ...]
    agreement: Agreement
    steered: Steered


def quality(look: Look, now: datetime) -> Quality:
    """All of it as it stands in the cache. Takes seconds where a million images are labelled."""
    everybody = names(look)
    same = [one for name, _ in everybody for one in _same(look, name)]
    known = {one.by: one for one in measured(_known(look))}
    by_person = steered_by_person(same)
    people = [
        Person(name, answers, days(look, name, now), _seconds(look, name), known.get(name), by_person.get(name))
        for name, answers in everybody
    ]
    people.sort(key=lambda person: (-person.answers, person.name))
    return Quality(tuple(people), agreement(_shared(look)), steered(same))


def names(look: Look) -> list[tuple[str, int]]:
    """Everybody who answered, by name, and how often."""
    return [(row["by"], row["n"]) for row in look.rows("SELECT by, count(*) n FROM answers GROUP BY by ORDER BY by")]


def days(look: Look, name: str, now: datetime, many: int = DAYS) -> tuple[tuple[str, int], ...]:
    """How many answers that person gave on each of the last days, today first."""
    wanted = [today(now - timedelta(days=back)) for back in range(many)]
    query = "SELECT substr(at, 1, 10) day, count(*) n FROM answers WHERE by = ? AND at >= ? GROUP BY day"
    counts = {row["day"]: row["n"] for row in look.rows(query, (name, wanted[-1]))}
    return tuple((day, counts.get(day, 0)) for day in wanted)


def _seconds(look: Look, name: str) -> float | None:
    query = "SELECT at FROM answers WHERE by = ? AND how IN (?, ?) ORDER BY at DESC LIMIT ?"
    return seconds_each(row["at"] for row in look.rows(query, (name, SUGGESTED, BLIND, NEWEST)))


def _same(look: Look, name: str) -> list[Same]:
    """That person's first word on each image, against the model's suggestion: later ones saw it."""
    query = """
        SELECT a.how, count(*) n,
               a.kind = 'tag' AND json_array_length(a.tags) = 1 AND json_extract(a.tags, '$[0]') = s.tag same
        FROM (SELECT * FROM answers WHERE by = ? AND how IN (?, ?) ORDER BY at DESC LIMIT ?) a
        JOIN samples s ON s.seq = a.seq
        WHERE s.tag <> ''
          AND NOT EXISTS (SELECT 1 FROM answers b WHERE b.seq = a.seq AND +b.by = a.by AND b.nth < a.nth)
        GROUP BY 1, 3"""
    rows = look.rows(query, (name, SUGGESTED, BLIND, JUDGED))
    return [Same(name, row["how"], bool(row["same"]), row["n"]) for row in rows]


def _known(look: Look) -> Iterable[tuple[Answer, Answer]]:
    """What was said of known images, and what they are."""
    query = """
        SELECT a.kind, a.tags, a.by, a.at, a.how, s.state, s.said
        FROM answers a JOIN samples s ON s.seq = a.seq WHERE a.how = ? AND s.state IN (?, ?)"""
    for row in look.rows(query, (KNOWN, TAG, NONE)):
        yield _answer(row), Answer(row["state"], tuple(row["said"].split("\n")) if row["said"] else ())


def _shared(look: Look) -> Iterable[Sequence[Answer]]:
    """The answers to each image that several people answered."""
    query = """
        SELECT seq, kind, tags, by, at, how FROM answers
        WHERE seq IN (SELECT seq FROM answers GROUP BY seq HAVING min(by) <> max(by)) ORDER BY seq, nth"""
    for _, rows in groupby(look.rows(query), key=itemgetter("seq")):
        yield [_answer(row) for row in rows]


def _answer(row: Found) -> Answer:
    return Answer(row["kind"], tuple(json.loads(row["tags"])), row["by"], row["at"], row["how"])
