"""What is happening right now, in words for somebody who sees it for the first time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from demo.account import Account
from demo.camera import Shift
from demo.rounds import Round

CAMERA, LABELS, UNDO = "camera", "labels", "undo"
STAGES = (CAMERA, LABELS, "tag", "train", "export", "judge", "package", "release")
WORDS = {
    CAMERA: "A camera posts pictures. The classifier answers each, the sampler uploads those it was unsure of.",
    LABELS: "A stand-in for the person who labels, who knows the truth, says what each uploaded picture is.",
    "tag": "Labelled pictures go to the trainer; some are held out, to judge by.",
    "train": "The trainer, which speaks Custom Vision, trains a model on all labels so far.",
    "export": "The new model is exported, as Custom Vision does.",
    "judge": "Both models answer the pictures held out, by the code the device runs.",
    "package": "The model is packed with pictures whose answers the device must find again, and signed.",
    "release": "The device's twin says: take this model. It fetches it, checks it, tries it and swaps it in.",
    UNDO: "Four of five of its tags were wrong. It is signed, and no judge was asked: the device must see it.",
}
_DONE_THEN = {"tag": "train", "train": "export", "export": "judge", "holdout": "judge", "judge": "judge",
              "decide": "package", "package": "release"}  # fmt: skip
_WAITING = ("train: waiting", "release: ")


@dataclass(slots=True)
class Scene:
    """What there is to show: turns that ended, the step the open one is at, the stream, the account."""

    turns: int = 0
    number: int = 1
    stage: str = CAMERA
    words: str = WORDS[CAMERA]
    shift: Shift = field(default_factory=lambda: Shift(0))
    account: Account = field(default_factory=Account)
    reasons: Mapping[str, str] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()

    def at(self, stage: str) -> None:
        """The next step has begun."""
        self.stage, self.words = stage, WORDS[stage]

    def heard(self, line: str) -> None:
        """A line of the turn: it tells which step is done, or what is waited for."""
        step = line.partition(":")[0]
        if line.startswith("turn "):
            self.at("tag")
        elif step in _DONE_THEN and not line.startswith(_WAITING):
            self.at(_DONE_THEN[step])

    def reported(self, state: str) -> None:
        """What the device says of the model it was told to take."""
        if self.stage == "release" and state:
            self.words = f"{WORDS['release'].partition(':')[0]}: take this model. The device says: {state}."
