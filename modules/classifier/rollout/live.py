"""The model that answers, behind one reference: every request keeps the model it began with."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from classifier.models.model import Model
from classifier.rollout.shadow import Shadow
from classifier.rollout.watch import Figures
from ripeloop.prediction import Prediction
from ripeloop.uncertainty import Policy, reason_to_flag

REMEMBERED = 2000  # answers; what the next model is compared with
NEVER_BY_CHANCE = 1.0  # a draw that is no audit: what is kept at random says nothing of the model


class _Answered(NamedTuple):
    """`unsure` is None where that was judged by another policy than the one that counts now."""

    seconds: float
    unsure: bool | None
    failed: bool


class Serving:
    """A model at work, and how it did of late. Touched by the event loop's thread alone.

    Two models are compared on equal terms: while a model is on trial, `terms` is the policy that the one before it was
    judged by, and an answer is unsure where both that policy and the one in force would flag it.
    """

    def __init__(self, model: Model, terms: Policy | None = None) -> None:
        self.model = model
        self.terms = terms
        self.judged_by: Policy | None = None
        self._answered: deque[_Answered] = deque(maxlen=REMEMBERED)

    def answered(self, predictions: Sequence[Prediction], seconds: float, policy: Policy) -> None:
        """Count an answer that took the worker thread so many seconds, while `policy` was in force."""
        terms = self.terms or policy
        self._judge_by(terms)
        unsure = _is_unsure(predictions, policy) and (terms == policy or _is_unsure(predictions, terms))
        self._answered.append(_Answered(seconds, unsure, failed=False))

    def failed(self) -> None:
        """Count an image that the model itself could not answer; a broken image is not its fault."""
        self._answered.append(_Answered(0.0, None, failed=True))

    @property
    def figures(self) -> Figures:
        """The numbers over what is remembered."""
        answers = [a for a in self._answered if not a.failed]
        return Figures(
            answered=len(answers),
            failed=len(self._answered) - len(answers),
            judged=sum(a.unsure is not None for a in answers),
            flagged=sum(a.unsure is True for a in answers),
            p50=median(a.seconds for a in answers) if answers else 0.0,
        )

    def _judge_by(self, policy: Policy) -> None:
        """With another policy the flagged share begins anew."""
        if policy != self.judged_by:
            self.judged_by = policy
            self._answered = deque((a._replace(unsure=None) for a in self._answered), maxlen=REMEMBERED)


class Live:
    """The one reference. A model that was swapped out is freed when its last request lets go of it.

    `shadow` is told of every answer, while there is one.
    """

    def __init__(self, model: Model) -> None:
        self.serving = Serving(model)
        self.shadow: Shadow | None = None

    @property
    def model(self) -> Model:
        """The model that answers the next request."""
        return self.serving.model

    def swap(self, model: Model, terms: Policy | None = None) -> None:
        """Let `model` answer from the next request on, judged by `terms` if it is on trial. Waits for nothing."""
        self.serving = Serving(model, terms)
        if self.shadow is not None:
            self.shadow.begin_anew()


def _is_unsure(predictions: Sequence[Prediction], policy: Policy) -> bool:
    return reason_to_flag(predictions, policy, NEVER_BY_CHANCE) is not None
