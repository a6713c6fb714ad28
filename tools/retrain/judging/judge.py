"""Is the candidate better than the active model? A plain verdict by a written rule, `Rule.words`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retrain.judging.answers import Answered
from retrain.judging.chances import Paired, Share
from retrain.judging.figures import Figures, figures, likeliest
from retrain.judging.holdout import LeftOut
from ripeloop.prediction import Prediction

BETTER, SAME, WORSE, NOT_ENOUGH = "better", "same", "worse", "not enough data"
FIRST = "first"
"""No verdict of this judge: a turn says so of the first model of all, which there is none to compare with."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a verdict needs; `chance` is how likely an accident may be before it counts as none."""

    min_images: int = 50
    min_per_tag: int = 5
    tag_loss: float = 0.1
    chance: float = 0.05

    @property
    def words(self) -> tuple[str, ...]:
        """The rule in sentences: the first that fits is the verdict."""
        beyond = f"more than chance explains (exact test of McNemar, {self.chance:.0%})"
        return (
            (
                f"worse: of the images that one model alone got right, the active one got more, {beyond}; or so it is "
                f"within one tag (the {self.chance:.0%} divided by the number of tags of which {self.tag_loss:.0%} "
                f"changed), and the candidate finds at least {self.tag_loss:.0%} less of it, however good it is over "
                "all. A tag that it does not know any more needs no test."
            ),
            (
                f"not enough data: fewer than {self.min_images} images, or fewer than {self.min_per_tag} of a tag that "
                "either model knows."
            ),
            (
                f"better: of the images that one model alone got right, the candidate got more, {beyond}. A tag that "
                f"lost {self.tag_loss:.0%}, and has too few images to tell, is named; and that is not enough data "
                "where chance is expected to make fewer than one of the tags look so bad."
            ),
            "same: anything else.",
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """One of the two models: its version, the SHA-256 of its ONNX file, its tags and its figures."""

    version: str
    sha256: str
    tags: tuple[str, ...]
    figures: Figures
    field: Share
    """Its accuracy over all audit samples: what it is in the field, for only they are no choice of a model's.

    Those of a tag that no model knows are among them: in the field they are answered wrong.
    """

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        about = {"version": self.version, "sha256": self.sha256, "tags": list(self.tags)}
        return about | self.figures.to_json() | {"field_accuracy": self.field.to_json()}


@dataclass(frozen=True, slots=True)
class Contender:
    """A model that is to be judged: its version, the SHA-256 of its ONNX file, and its tags."""

    version: str
    sha256: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """An image whose answer is another one now."""

    answered: Answered
    before: Prediction
    after: Prediction

    @property
    def kind(self) -> str:
        """`better`, `worse`, or `other`: wrong both times."""
        tag = self.answered.case.tag
        return BETTER if self.after.tag == tag else WORSE if self.before.tag == tag else "other"

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        case = self.answered.case
        return {"image": case.name, "id": self.answered.id, "tag": case.tag, "change": self.kind,
                "active": _said(self.before), "candidate": _said(self.after)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, the sentences that say why, and all it rests on; `tags` are those of both models."""

    verdict: str
    because: tuple[str, ...]
    rule: Rule
    tags: tuple[str, ...]
    active: Judged
    candidate: Judged
    paired: Paired
    by_tag: dict[str, Paired]
    flips: tuple[Flip, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def images(self) -> int:
        """The images judged on."""
        return self.paired.images

    @property
    def new_tags(self) -> list[str]:
        """Those that only the candidate knows."""
        return [tag for tag in self.candidate.tags if tag not in self.active.tags]

    @property
    def removed_tags(self) -> list[str]:
        """Those that only the active model knows."""
        return [tag for tag in self.active.tags if tag not in self.candidate.tags]

    def to_json(self) -> dict[str, Any]:
        """The judgement for a program."""
        low, high = self.paired.interval
        return {
            "verdict": self.verdict,
            "because": list(self.because),
            "images": self.images,
            "active": self.active.to_json(),
            "candidate": self.candidate.to_json(),
            "paired": {
                "gained": self.paired.gained,
                "lost": self.paired.lost,
                "p": round(self.paired.p, 6),
                "difference": {"value": round(self.paired.difference, 6), "low": round(low, 6), "high": round(high, 6)},
                "tags": [
                    {"tag": tag, "images": one.images, "gained": one.gained, "lost": one.lost}
                    for tag, one in self.by_tag.items()
                ],
            },
            "new_tags": self.new_tags,
            "removed_tags": self.removed_tags,
            "flips": [flip.to_json() for flip in self.flips],
            "left_out": [{"image": one.name, "why": one.why} for one in self.left_out],
            "rule": asdict(self.rule),
        }


def judge(
    active: Contender,
    candidate: Contender,
    answered: Sequence[Answered],
    rule: Rule = Rule(),
    left_out: Sequence[LeftOut] = (),
) -> Judgement:
    """The judgement over `answered`, whose answers are the active model's and the candidate's, in this order.

    Images of a tag that neither knows are left out: nobody could be right about them.
    """
    known = {*active.tags, *candidate.tags}
    strange = [one for one in answered if one.case.tag not in known]
    judged = [one for one in answered if one.case.tag in known]
    tags = tuple(dict.fromkeys((*active.tags, *candidate.tags)))
    by_tag = {tag: _paired([one for one in judged if one.case.tag == tag]) for tag in tags}
    verdict, because = decide(_paired(judged), by_tag, candidate.tags, rule)
    reason = "neither model knows the tag of its folder"
    return Judgement(
        verdict,
        tuple(because),
        rule,
        tags,
        _judged(active, tags, judged, _field(answered, 0), 0),
        _judged(candidate, tags, judged, _field(answered, 1), 1),
        _paired(judged),
        by_tag,
        tuple(sorted(_flips(judged), key=lambda flip: (-flip.after.probability, flip.answered.case.name))),
        (*left_out, *(LeftOut(one.case.name, reason) for one in strange)),
    )


def decide(
    paired: Paired, by_tag: dict[str, Paired], candidate_tags: Sequence[str], rule: Rule
) -> tuple[str, list[str]]:
    """The verdict and why, in sentences.

    Of equally good models, at most `rule.chance` are `worse` by accident: half over all, and half at all tags together.
    At most half of it are `better`. Only a tag of which enough images changed can be found worse: so these alone share.
    """
    could = [one for one in by_tag.values() if one.changed and one.changed / one.images >= rule.tag_loss]
    losers = {tag: one for tag, one in by_tag.items() if one.lost > one.gained and -one.difference >= rule.tag_loss}
    gone = losers.keys() - set(candidate_tags)
    lost = [tag for tag, one in losers.items() if tag in gone or one.p < rule.chance / len(could)]
    worse = paired.lost > paired.gained and paired.p < rule.chance
    split = _split(paired)
    if worse or lost:
        overall = [f"{split}: more than chance explains."] if worse else []
        return WORSE, overall + [_lost(tag, by_tag[tag], gone=tag in gone) for tag in lost]
    if paired.images < rule.min_images:
        return NOT_ENOUGH, [f"There are {paired.images} images to judge on, and {rule.min_images} are needed."]
    if few := [tag for tag, one in by_tag.items() if one.images < rule.min_per_tag]:
        counts = ", ".join(f"{tag} has {by_tag[tag].images}" for tag in few)
        return NOT_ENOUGH, [f"Each tag needs {rule.min_per_tag} images in the holdout: {counts}."]
    doubts = [f"It may be worse at {_counted(losers)}: too few images to tell."] if losers else []
    if paired.gained > paired.lost and paired.p < rule.chance:
        if heavy := [tag for tag, one in losers.items() if one.p * len(could) < 1]:
            label = f"Chance is not expected to make any tag look as bad as {', '.join(heavy)}: label more there."
            return NOT_ENOUGH, [f"Over all tags it is better: {split}.", *doubts, label]
        if doubts:
            return BETTER, [f"{split}: more than chance explains.", *doubts]
        return BETTER, [f"{split}: more than chance explains, and no tag lost {rule.tag_loss:.0%} of its images."]
    if paired.changed:
        return SAME, [f"{split}: chance explains that.", *doubts]
    return SAME, ["Both models are right about the very same images."]


def _judged(one: Contender, tags: Sequence[str], answered: Sequence[Answered], field: Share, number: int) -> Judged:
    found = figures(tags, one.tags, [a.case.tag for a in answered], [a.answers[number] for a in answered])
    return Judged(one.version, one.sha256, one.tags, found, field)


def _field(answered: Sequence[Answered], number: int) -> Share:
    audited = [one for one in answered if one.case.audit]
    return Share(sum(_right(one, number) for one in audited), len(audited))


def _paired(answered: Sequence[Answered]) -> Paired:
    rights = [(_right(one, 0), _right(one, 1)) for one in answered]
    return Paired(rights.count((False, True)), rights.count((True, False)), len(rights))


def _right(one: Answered, number: int) -> bool:
    return likeliest(one.answers[number]).tag == one.case.tag


def _flips(answered: Sequence[Answered]) -> list[Flip]:
    flips = [Flip(one, *map(likeliest, one.answers)) for one in answered]
    return [flip for flip in flips if flip.before.tag != flip.after.tag]


def _split(one: Paired) -> str:
    return f"{one.gained} of {one.images} images only the candidate got right, {one.lost} only the active model"


def _counted(tags: dict[str, Paired]) -> str:
    return ", ".join(f"{tag} ({one.gained} gained and {one.lost} lost of {one.images})" for tag, one in tags.items())


def _lost(tag: str, one: Paired, *, gone: bool) -> str:
    if gone:
        return f"It does not know {tag} any more, of which the holdout has {one.images} images."
    return f"At {tag} it is worse: {_split(one)}."


def _said(said: Prediction) -> dict[str, Any]:
    return {"tag": said.tag, "probability": round(said.probability, 6)}
