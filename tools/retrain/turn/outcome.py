"""How a turn may end, what that means to whoever started it, and whether a verdict lets a model go on. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from retrain.judging.judge import BETTER, FIRST, NOT_ENOUGH, SAME, WORSE
from retrain.settings import NOT_AS_WANTED

RELEASED, PACKAGED, NOTHING = "released", "packaged", "nothing to do"
FAILED, UNDONE, OVERTAKEN, GIVEN_UP = "failed", "undone", "overtaken", "given up"

GOOD = (RELEASED, PACKAGED)
"""With a model that is the one to beat from then on."""

ACCEPTABLE = (SAME, WORSE, NOT_ENOUGH, FIRST)
"""What may be released on an explicit word; `first`: there is no model yet to be better than."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step is done: its result, a line for people, and where the turn ends with it, how and why."""

    result: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    outcome: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said: the verdict, why, and the accuracy that the candidate has for sure on the holdout."""

    verdict: str
    because: tuple[str, ...]
    at_least: float

    def goes_on(self, accept: Collection[str], first_accuracy: float | None) -> str:
        """What the candidate is released on: the verdict or a word; empty where it is not."""
        if self.verdict == BETTER:
            return "it is better"
        if self.verdict in accept:
            return f"it was asked for: --accept {word_for(self.verdict)}"
        if self.verdict == FIRST and first_accuracy is not None and self.at_least >= first_accuracy:
            return f"it is the first, and right about at least {self.at_least:.0%} of the holdout"
        return ""

    def refusal(self, first_accuracy: float | None) -> str:
        """Why it is not released, and what to do about it."""
        because = " ".join(self.because)
        if self.verdict == FIRST and first_accuracy is not None:
            because = f"It is right about {self.at_least:.0%} of the holdout for sure, {first_accuracy:.0%} are wanted."
        word = word_for(self.verdict)
        return f"{because} Look at the report; `ripeloop retrain --accept {word}` releases it all the same."


def word_for(verdict: str) -> str:
    """The verdict as one word: in the environment a space would part it."""
    return verdict.replace(" ", "-")


def exit_code(outcome: str) -> int:
    """0 for a turn that ended well, or that may go on."""
    return 0 if outcome in (RELEASED, PACKAGED, NOTHING, "") else NOT_AS_WANTED


def reopens(outcome: str, accept: Collection[str], *, has_hub: bool) -> str:
    """The step from which a turn that ended so goes on now; empty where it does not.

    What was packed without a hub, or overtaken, is judged again: another model may answer now.
    """
    if outcome in ACCEPTABLE and outcome in accept:
        return "decide"
    return "judge" if outcome in (PACKAGED, OVERTAKEN) and has_hub else ""
