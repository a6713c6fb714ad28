"""Was the model unsure of this image, and why? Pure: the policy and the chance come in as arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ripeloop.prediction import Prediction

LOW_CONFIDENCE = "low_confidence"
NARROW_MARGIN = "narrow_margin"
HIGH_ENTROPY = "high_entropy"
AUDIT = "audit"

MOST_ENTROPY = 1000.0  # nats; no model has the tags for more


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds. A threshold of 0 turns its reason off.

    `min_confidence` and `min_margin` are probabilities, `max_entropy` is in nats (0 to ln of the number of tags),
    `audit_share` is the share, 0 to 1, of all images kept whatever the model thought.
    """

    min_confidence: float = 0.8
    min_margin: float = 0.3
    max_entropy: float = 0.0
    audit_share: float = 0.02

    @classmethod
    def from_desired(cls, section: object, before: Policy) -> tuple[Policy, dict[str, str]]:
        """The policy a twin section asks for, and per refused field the reason.

        Unknown fields are ignored; a bad value is refused and the value of `before` stays.
        """
        if not isinstance(section, Mapping):
            return before, {"policy": f"must be an object, not {section!r}"}
        values: dict[str, Any] = {}
        refused: dict[str, str] = {}
        for field in fields(cls):
            wire = _camel(field.name)
            if wire not in section:
                values[field.name] = getattr(before, field.name)
                continue
            reason = _reason_to_refuse(field.name, section[wire])
            if reason is None:
                values[field.name] = section[wire]
            else:
                refused[f"policy.{wire}"] = reason
                values[field.name] = getattr(before, field.name)
        return cls(**values), refused

    def to_reported(self) -> dict[str, Any]:
        """The policy in the twin's words."""
        return {_camel(field.name): getattr(self, field.name) for field in fields(self)}


def reason_to_flag(predictions: Sequence[Prediction], policy: Policy, chance: float) -> str | None:
    """Why this image should be kept for labelling, or None. `chance` is drawn from [0, 1) by the caller.

    The audit is drawn first: an audit sample must not depend on what the model thought.
    """
    if chance < policy.audit_share:
        return AUDIT
    if confidence(predictions) < policy.min_confidence:
        return LOW_CONFIDENCE
    if margin(predictions) < policy.min_margin:
        return NARROW_MARGIN
    if 0 < policy.max_entropy < entropy(predictions):
        return HIGH_ENTROPY
    return None


def confidence(predictions: Sequence[Prediction]) -> float:
    """The highest probability; 0 without predictions."""
    return max((p.probability for p in predictions), default=0.0)


def margin(predictions: Sequence[Prediction]) -> float:
    """The highest probability minus the second; the highest alone where there is one tag."""
    top = sorted((p.probability for p in predictions), reverse=True)[:2]
    return top[0] - top[1] if len(top) == 2 else sum(top)


def entropy(predictions: Sequence[Prediction]) -> float:
    """-Σ p ln p over the tags, in nats."""
    return -sum(p.probability * math.log(p.probability) for p in predictions if p.probability > 0)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _reason_to_refuse(name: str, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {value!r}"
    most = MOST_ENTROPY if name == "max_entropy" else 1
    if not 0 <= value <= most:  # nor is nan
        return f"must be between 0 and {most:g}, not {value!r}"
    return None
