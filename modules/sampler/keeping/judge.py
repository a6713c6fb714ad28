"""Judges a batch of flagged images with what the index knows, the most useful first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ripeloop.prediction import Flagged, format_time
from ripeloop.uncertainty import AUDIT
from sampler.index.outbox import EVICTED, Dropped, Kept, Outbox
from sampler.keeping.keep import Candidate, Decision, Rival, Rules, decide, places, top_tag
from sampler.keeping.near import Recent
from sampler.keeping.rivals import Rivals
from sampler.sample import Sample

STARTING_LOOKS = 8000  # of the newest samples: a restart forgets no near-duplicate of the last minutes


class Judge:
    """Knows the recent looks of this device's cameras. For one caller at a time; it blocks."""

    def __init__(self, outbox: Outbox, *, device: str, rules: Callable[[], Rules]) -> None:
        self._outbox = outbox
        self._device = device
        self._rules = rules
        self._rivals = Rivals(outbox)
        self._recent: Recent | None = None

    def judge(
        self, taken: Sequence[tuple[Flagged, bytes]], known: Collection[str], now: datetime
    ) -> tuple[list[Kept], list[Dropped]]:
        """What of these to keep and what to drop, as if one came after the other; of `known` the index has samples.

        Those that were dropped before are in neither list. Raises Offline.
        """
        recent, rules, local = self._looks(), self._rules(), now.astimezone()
        spent = Counter(self._outbox.spent(local))
        kept: list[Kept] = []
        dropped: list[Dropped] = []
        candidates = [(Candidate(flagged, known=flagged.id in known), image) for flagged, image in taken]
        for one, image in sorted(candidates, key=lambda pair: -pair[0].usefulness):
            flagged, at = one.flagged, format_time(one.flagged.captured_at)
            if self._outbox.was_dropped(flagged.id, at):
                continue
            candidate = replace(one, nearest=self._nearest(recent, one, rules))
            decision = decide(candidate, rules, spent, self._rivals.least_useful, local)
            if decision.dropped is not None:
                dropped.append(Dropped(flagged.id, at, decision.dropped, now))
                continue
            recent.add(flagged.id, flagged.dhash, flagged.camera, one.tag, flagged.captured_at)
            spent.update(places(one.tag, flagged.reason, local))
            self._make_way(decision, spent)
            kept.append(_kept(self.sample(flagged, image, now), candidate, decision))
        return kept, dropped

    def sample(self, flagged: Flagged, image: bytes, now: datetime | None = None) -> Sample:
        """The sample this flagged image is when it is kept."""
        return Sample.of(flagged, image, device=self._device, now=now or datetime.now(UTC))

    def settled(self, kept: Sequence[Kept], gone: Collection[str]) -> None:
        """The index has `kept`; `gone` are not kept after all, or no longer."""
        self._looks().forget(gone)
        self._rivals.settled()
        for one in kept:
            sample = one.sample
            if sample.reason != AUDIT and sample.id not in gone:
                tag = top_tag(sample.predictions)
                self._rivals.add(Rival(sample.id, one.usefulness, sample.kept_at, tag, sample.reason))

    def _nearest(self, recent: Recent, one: Candidate, rules: Rules) -> int | None:
        """The bits to the nearest look; one that would make this a duplicate, but was evicted meanwhile, is forgotten.

        The evictor works beside this judge and takes what it needs; nothing is a duplicate of what is gone.
        """
        flagged = one.flagged
        look = flagged.dhash, flagged.camera, one.tag, flagged.captured_at, rules.near_minutes
        while (found := recent.nearest_look(*look)) is not None and found[0] <= rules.near_distance:
            if not any(state == EVICTED for _, state, _ in self._outbox.states_of([found[1]])):
                break
            recent.forget([found[1]])
        return None if found is None else found[0]

    def _make_way(self, decision: Decision, spent: Counter[tuple[str, str]]) -> None:
        rival = decision.instead_of
        if rival is not None:
            spent.subtract(places(rival.tag, rival.reason, rival.kept_at.astimezone()))
            self._rivals.take(rival)

    def _looks(self) -> Recent:
        if self._recent is None:
            recent = Recent()
            for look in self._outbox.looks(STARTING_LOOKS):
                recent.add(look.id, look.dhash, look.camera, look.tag, look.captured_at)
            self._recent = recent
        return self._recent


def _kept(sample: Sample, candidate: Candidate, decision: Decision) -> Kept:
    rival = decision.instead_of
    return Kept(sample, candidate.usefulness, rival.id if rival else "", decision.word)
