"""Which images of a day get a label: what classifier and sampler choose, by their own code, or chance."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from bench.sampling.pictures import Frame
from ripeloop.prediction import Flagged, Prediction
from ripeloop.uncertainty import Policy, reason_to_flag
from sampler.index.outbox import Outbox
from sampler.keeping.judge import Judge
from sampler.keeping.keep import Rules

BEGIN = datetime(2026, 11, 23, 10, tzinfo=UTC)
BETWEEN = timedelta(seconds=1)
_DAY = 10_000

Answers = Sequence[Sequence[Prediction]]


class Choice(Protocol):
    """Chooses some images of a day."""

    def of_day(self, day: int, frames: Sequence[Frame], answers: Answers, rng: np.random.Generator, /) -> list[Frame]:
        """Those to label, of `frames` in the order they came, with the model's answer to each."""


class Sampler:
    """The device's own choice, default settings but for the day's budget. Use it as a context: it has an index on disk.

    `rules` may turn the near-duplicates off.
    """

    def __init__(self, rules: Rules, policy: Policy = Policy()) -> None:
        self._rules = rules
        self._policy = policy
        self._folder = tempfile.TemporaryDirectory(prefix="ripeloop-bench-")
        self._outbox = Outbox(Path(self._folder.name) / "outbox.db")
        self._outbox.completed()
        self._judge = Judge(self._outbox, device="line-1", rules=lambda: self._rules)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self._outbox.close()
        self._folder.cleanup()

    def of_day(self, day: int, frames: Sequence[Frame], answers: Answers, rng: np.random.Generator) -> list[Frame]:
        """What waits for its upload when the day ends."""
        begin = BEGIN + timedelta(days=day)
        by_id = {frame.id: frame for frame in frames}
        for nth, (frame, answer) in enumerate(zip(frames, answers, strict=True)):
            reason = reason_to_flag(answer, self._policy, rng.random())
            if reason is not None:
                at = begin + nth * BETWEEN
                self._keep(Flagged(frame.id, at, reason, tuple(answer), dhash=frame.dhash, camera="1"), frame.image)
        waiting = [one.sample.id for one in self._outbox.due(begin + timedelta(hours=1), _DAY)]
        self._outbox.uploaded_all([(id_, begin + timedelta(hours=1)) for id_ in waiting])
        return [by_id[id_] for id_ in waiting]

    def _keep(self, flagged: Flagged, image: bytes) -> None:
        kept, dropped = self._judge.judge([(flagged, image)], self._outbox.known([flagged.id]), flagged.captured_at)
        self._judge.settled(kept, self._outbox.settle(kept, dropped))


class Chance:
    """As many images of each day as it is told, whichever they are."""

    def __init__(self, a_day: Sequence[int]) -> None:
        self._a_day = a_day

    def of_day(self, day: int, frames: Sequence[Frame], _answers: Answers, rng: np.random.Generator) -> list[Frame]:
        """So many of the day's."""
        some = rng.choice(len(frames), min(self._a_day[day], len(frames)), replace=False)
        return [frames[place] for place in sorted(some.tolist())]


def unsure_and_unlike(a_day: int) -> Sampler:
    """The sampler as it is."""
    return Sampler(Rules(max_per_day=a_day))


def unsure_alone(a_day: int) -> Sampler:
    """The sampler without its rule for near-duplicates."""
    return Sampler(replace(Rules(max_per_day=a_day), near_distance=0))
