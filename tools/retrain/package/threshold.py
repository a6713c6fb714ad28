"""How sure is sure enough? The confidence below which a model's answers are worth a label, chosen on the holdout. Pure.

An image that is answered wrong and not flagged is a mistake nobody sees. The threshold is the lowest for which such
mistakes are at most a given share of all images, counting one more than were found: so it holds for images to come, as
far as they are like those of the holdout, and not for these alone (conformal risk control, Angelopoulos et al., 2022).
Much of a holdout was flagged once and is harder than what cameras see, so in the field there are fewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEAST = 0.5  # below it, all other tags together are as likely
MOST = 0.999
_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Threshold:
    """The chosen `confidence_below`, None where `reason` says why there is none.

    `unseen` of the holdout's `images` would be answered wrong and not flagged, `flagged` would be flagged.
    """

    confidence_below: float | None
    reason: str
    images: int
    flagged: int = 0
    unseen: int = 0

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "confidence_below": self.confidence_below,
            "reason": self.reason,
            "images": self.images,
            "flagged": self.flagged,
            "wrong_unflagged": self.unseen,
        }


def chosen(answers: Sequence[tuple[float, bool]], wrong_unflagged: float) -> Threshold:
    """The threshold for these answers, each its confidence and whether it was right, and that share of mistakes."""
    images = len(answers)
    bearable = math.floor(wrong_unflagged * (images + 1) + 1e-9) - 1
    if bearable < 0:
        needed = math.ceil(1 / wrong_unflagged - 1 - 1e-9) if wrong_unflagged > 0 else None
        why = f"{images} images of the holdout are too few; {needed} are needed" if needed else "0 cannot be promised"
        return Threshold(None, f"to keep unseen mistakes at {wrong_unflagged:.2%}: {why}", images)
    wrong = sorted((confidence for confidence, right in answers if not right), reverse=True)
    lowest = _above(wrong[bearable]) if len(wrong) > bearable else 0.0
    value = min(max(lowest, LEAST), MOST)
    unseen = sum(confidence >= value for confidence in wrong)
    reason = f"{unseen} of {images} images of the holdout are wrong and not flagged"
    if lowest > MOST:
        reason += f", more than {wrong_unflagged:.2%} of them: the model is sure of its mistakes"
    return Threshold(value, reason, images, sum(confidence < value for confidence, _ in answers), unseen)


def _above(confidence: float) -> float:
    """The next step above, so that an answer of that confidence is flagged."""
    return (math.floor(confidence * _STEPS) + 1) / _STEPS
