"""Whether a model answers alike, however its JPEGs are decoded: judged on the golden images of its own package.

Pure. docs/SPEED.md says how far the two usually are apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from ripeloop.prediction import Prediction

MEAN_CHANGE = 0.05  # of the probability that changes most, over the images
OTHER_TAGS = 0.05  # the share of the images whose likeliest tag may become another
LOOKED_AT = 20  # images

Predictions = Sequence[Prediction]


def disagreement(pairs: Sequence[tuple[Predictions, Predictions]]) -> str | None:
    """How the fast answers differ from the exact ones by more than is tolerated; None where they agree.

    `pairs` are the exact and the fast answer to each image.
    """
    if not pairs:
        return None
    change = sum(_change(exact, fast) for exact, fast in pairs) / len(pairs)
    others = sum(_likeliest(exact) != _likeliest(fast) for exact, fast in pairs)
    if change <= MEAN_CHANGE and others <= OTHER_TAGS * len(pairs):
        return None
    return (
        f"of {len(pairs)} golden images {others} get another tag, and probabilities change by {change:.3f} on average"
    )


def _change(exact: Predictions, fast: Predictions) -> float:
    return max((abs(a.probability - b.probability) for a, b in zip(exact, fast, strict=True)), default=0.0)


def _likeliest(predictions: Predictions) -> str:
    return max(predictions, key=lambda p: p.probability).tag if predictions else ""
