"""The waiting samples whose places may be taken, the least useful first: asked of the index a few hundred at a time.

Looking for the least useful one of a long day costs milliseconds, so the next ones are remembered; what is kept
meanwhile takes its rank among them.
"""

from __future__ import annotations

from bisect import insort
from datetime import datetime

from sampler.index.outbox import Outbox
from sampler.keeping.keep import Rival

AT_ONCE = 256
QUESTIONS = 16

Question = tuple[datetime, str | None, str | None]


class Rivals:
    """Answers which sample is the least useful. One that was named is not named again until it is `free`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._known: dict[Question, list[Rival]] = {}
        self._named: set[str] = set()

    def least_useful(self, since: datetime, tag: str | None, reason: str | None) -> Rival | None:
        """The least useful waiting sample kept since then, of that tag and reason where given; no audit sample."""
        question = (since, tag, reason)
        known = self._known.get(question, [])
        while known:
            if known[0].id not in self._named and self._outbox.is_waiting(known[0].id):
                return known[0]
            known.pop(0)
        found = self._outbox.least_useful(since, tag, reason, AT_ONCE)
        if len(self._known) >= QUESTIONS:
            self._known.clear()  # mostly of minutes that are over
        self._known[question] = found
        return next((rival for rival in found if rival.id not in self._named), None)

    def take(self, rival: Rival) -> None:
        """Its place is taken."""
        self._named.add(rival.id)

    def add(self, rival: Rival) -> None:
        """A sample was kept that may have to go one day."""
        for (since, tag, reason), known in self._known.items():
            fits = rival.kept_at >= since and tag in (None, rival.tag) and reason in (None, rival.reason)
            if fits and known and rival.usefulness < known[-1].usefulness:
                insort(known, rival, key=lambda one: one.usefulness)

    def settled(self) -> None:
        """The index knows by now whose places were taken."""
        self._named.clear()
