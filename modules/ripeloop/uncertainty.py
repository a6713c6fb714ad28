"""Was the model unsure of this image, and why? Pure: the policy and the chance come in as arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ripeloop.prediction import Prediction

LOW_CONFIDENCE = "low_confidence"
NARROW_MARGIN = "narrow_margin"
HIGH_ENTROPY = "high_entropy"
AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class TagPolicy:
    """The thresholds of the images of one tag; None where it has those of all the others."""

    confidence_below: float | None = None
    margin_below: float | None = None
    entropy_above: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds. A threshold of 0 turns its reason off.

    `confidence_below` and `margin_below` are probabilities, `entropy_above` is in nats (0 to ln of the number of tags),
    `audit_rate` is the share, 0 to 1, of all images kept whatever the model thought. `tags` holds what differs for the
    images whose likeliest tag it names. Equal policies flag the same images for the same reasons.
    """

    confidence_below: float = 0.8
    margin_below: float = 0.3
    entropy_above: float = 0.0
    audit_rate: float = 0.02
    tags: Mapping[str, TagPolicy] = field(default_factory=dict)


def reason_to_flag(predictions: Sequence[Prediction], policy: Policy, chance: float) -> str | None:
    """Why this image should be kept for labelling, or None. `chance` is drawn from [0, 1) by the caller.

    The audit is drawn first: an audit sample must not depend on what the model thought.
    """
    if chance < policy.audit_rate:
        return AUDIT
    own = _own(predictions, policy)
    if confidence(predictions) < _first(own.confidence_below, policy.confidence_below):
        return LOW_CONFIDENCE
    if margin(predictions) < _first(own.margin_below, policy.margin_below):
        return NARROW_MARGIN
    if 0 < _first(own.entropy_above, policy.entropy_above) < entropy(predictions):
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


_NOTHING_OWN = TagPolicy()


def _own(predictions: Sequence[Prediction], policy: Policy) -> TagPolicy:
    if not policy.tags or not predictions:
        return _NOTHING_OWN
    likeliest = max(predictions, key=lambda p: p.probability)
    return policy.tags.get(likeliest.tag, _NOTHING_OWN)


def _first(own: float | None, common: float) -> float:
    return common if own is None else own
