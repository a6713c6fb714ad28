"""The model that answers, behind one reference: every request keeps the model it began with."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import NamedTuple

from classifier.model import Model
from classifier.watch import Figures

REMEMBERED = 2000  # answers; what the next model is compared with


class _Answered(NamedTuple):
    seconds: float
    flagged: bool
    failed: bool


class Serving:
    """A model at work, and how it did of late. Touched by the event loop's thread alone."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._answered: deque[_Answered] = deque(maxlen=REMEMBERED)

    def answered(self, seconds: float, *, flagged: bool) -> None:
        """Count an answer that took the worker thread so many seconds."""
        self._answered.append(_Answered(seconds, flagged, failed=False))

    def failed(self) -> None:
        """Count an image that the model itself could not answer; a broken image is not its fault."""
        self._answered.append(_Answered(0.0, flagged=False, failed=True))

    @property
    def figures(self) -> Figures:
        """The numbers over what is remembered."""
        answers = [a for a in self._answered if not a.failed]
        return Figures(
            answered=len(answers),
            failed=len(self._answered) - len(answers),
            flagged=sum(a.flagged for a in answers),
            p50=median(a.seconds for a in answers) if answers else 0.0,
        )


class Live:
    """The one reference. A model that was swapped out is freed when its last request lets go of it."""

    def __init__(self, model: Model) -> None:
        self.serving = Serving(model)

    @property
    def model(self) -> Model:
        """The model that answers the next request."""
        return self.serving.model

    def swap(self, model: Model) -> None:
        """Let `model` answer from the next request on. Waits for nothing."""
        self.serving = Serving(model)
