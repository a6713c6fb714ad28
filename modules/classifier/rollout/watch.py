"""Is the new model worse than the one before it? Pure: figures in, a reason to undo out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Figures:
    """How one model did: images answered, images it failed on, the median seconds of an answer.

    Of the answers `judged` by the policy that the comparison is about, `flagged` were unsure.
    """

    answered: int = 0
    failed: int = 0
    judged: int = 0
    flagged: int = 0
    p50: float = 0.0

    @property
    def seen(self) -> int:
        """All images that reached the model."""
        return self.answered + self.failed

    def to_json(self) -> dict[str, Any]:
        """The figures as they outlive a restart."""
        return asdict(self) | {"p50": round(self.p50, 6)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """What `to_json` wrote; absent fields are zero. Raises ValueError, TypeError."""
        answered, failed, judged, flagged = (
            int(fields.get(name, 0)) for name in ("answered", "failed", "judged", "flagged")
        )
        return cls(answered, failed, judged, flagged, float(fields.get("p50", 0.0)))


@dataclass(frozen=True, slots=True)
class Rules:
    """What is worse. Shares are of the images seen or answered, and add to the old model's.

    Failures need few images to tell; latency and the flagged share need `enough` answers of both models.
    """

    failures: int = 3
    failed_share: float = 0.02
    enough: int = 50
    slower: float = 2.0
    slower_by: float = 0.02  # seconds: what is quick already may double
    flagged_share: float = 0.2
    sigmas: float = 4.0  # and the flagged share must differ by more than chance makes it differ


def worse(old: Figures, new: Figures, rules: Rules = Rules()) -> str | None:
    """Why the new model is worse than the old one; None while nothing says so."""
    return _fails(old, new, rules) or _is_slow(old, new, rules) or _flags(old, new, rules)


def unjudged(old: Figures, new: Figures, rules: Rules = Rules()) -> str:
    """What the watch could not compare for want of images, as a remark; empty where it compared everything."""
    if new.answered < rules.enough:
        return f"watched over {new.seen} images only: too few to judge its latency and what it flags"
    if old.answered < rules.enough:
        return f"the model before it answered {old.answered} images only: too few to compare with"
    if min(old.judged, new.judged) < rules.enough:
        return "the policy has changed: too few images were judged by one policy to compare what is flagged"
    return ""


def _fails(old: Figures, new: Figures, rules: Rules) -> str | None:
    if new.failed < rules.failures:
        return None
    share, before = new.failed / new.seen, old.failed / old.seen if old.seen else 0.0
    if share <= before + rules.failed_share:
        return None
    return f"it failed on {new.failed} of {new.seen} images"


def _is_slow(old: Figures, new: Figures, rules: Rules) -> str | None:
    if min(old.answered, new.answered) < rules.enough:
        return None
    if new.p50 <= old.p50 * rules.slower + rules.slower_by:
        return None
    return f"it takes {new.p50 * 1000:.1f} ms for an image, the model before it took {old.p50 * 1000:.1f} ms"


def _flags(old: Figures, new: Figures, rules: Rules) -> str | None:
    if min(old.judged, new.judged) < rules.enough:
        return None
    before, share = old.flagged / old.judged, new.flagged / new.judged
    together = (old.flagged + new.flagged) / (old.judged + new.judged)
    chance = math.sqrt(together * (1 - together) * (1 / old.judged + 1 / new.judged))
    if share - before <= max(rules.flagged_share, rules.sigmas * chance):
        return None
    return f"it is unsure of {share:.0%} of the images, the model before it was of {before:.0%}"
