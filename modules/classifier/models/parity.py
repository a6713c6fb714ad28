"""Parity: a model answers here as it did where it was judged."""

from __future__ import annotations

from collections.abc import Sequence

from classifier.models.model import Model
from ripeloop.errors import BadImage, BadModel
from ripeloop.package import GoldenSet
from ripeloop.prediction import Prediction


def check(model: Model, golden: GoldenSet) -> None:
    """Return if the model answers every golden image as expected. Raises BadModel.

    Decoded exactly, as where it was judged; whether it may answer faster here, `Model.disagreement` tells.
    """
    for number, expected in enumerate(golden.images, 1):
        try:
            answer = model.predict(expected.image, exact=True)
        except BadImage as error:
            raise BadModel(f"golden image {number} is no image: build the package again ({error})") from error
        if reason := difference(expected.predictions, answer, golden.tolerance):
            raise BadModel(f"golden image {number} of {len(golden.images)}: {reason}")


def difference(expected: Sequence[Prediction], answer: Sequence[Prediction], tolerance: float) -> str | None:
    """How the answer differs from the expected one; None where it does not."""
    wanted, got = ({p.tag: p.probability for p in predictions} for predictions in (expected, answer))
    if not wanted or wanted.keys() != got.keys():
        return f"expected are the tags {', '.join(wanted) or '(none)'}, the model has {', '.join(got)}"
    best, found = max(wanted, key=wanted.__getitem__), max(got, key=got.__getitem__)
    if wanted[best] > wanted[found]:  # two equally likely tags may change places
        return f"expected is {best} with {wanted[best]:.3f}, the model says {found} with {got[found]:.3f}"
    tag = max(wanted, key=lambda tag: abs(wanted[tag] - got[tag]))
    if abs(wanted[tag] - got[tag]) > tolerance:
        return f"{tag} is {got[tag]:.3f}, expected is {wanted[tag]:.3f} within {tolerance:g}"
    return None
