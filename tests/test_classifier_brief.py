"""No flagged image is set aside for the length of its record, however many tags a model has."""

from __future__ import annotations

import json
from pathlib import Path

from classifier.models.model import load
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.rollout.live import Live
from classifier.serving.brief import MAX_BYTES, brief
from classifier.serving.classify import Classifier
from classifier.serving.handoff import OUTPUT, Bounds, Handoff
from colours import files, model, picture, zipped
from ripeloop.prediction import Prediction, image_id
from ripeloop.spool import MAX_RECORD_BYTES, Spool
from ripeloop.uncertainty import Policy
from wire import Wire

HUB_BYTES = 256 * 1024  # of a message


async def test_an_image_flagged_by_a_model_with_a_thousand_long_tags_reaches_the_sampler(tmp_path: Path) -> None:
    tags = ["rød", "grønn", "blå", *(f"{n} {'æ' * 400}" for n in range(997))]
    export = files(model(columns=len(tags))) | {"labels.txt": "\n".join(tags).encode()}
    spool, counts, hub = Spool(tmp_path / "spool"), Counts(), Wire()
    handoff = Handoff(spool, hub, counts, Bounds(wait=10))
    classifier = Classifier(
        Live(load(zipped(tmp_path / "e.zip", export))), counts, Thresholds(Policy(0, 0, 0, 1)), handoff
    )
    image = picture("blue")
    async with handoff.running():
        answer = await classifier.classify(image)
    classifier.close()
    assert len(answer.predictions) == len(tags)  # the answer leaves none out
    flagged, kept = spool.take(image_id(image))
    assert (kept, flagged.reason) == (image, "audit")
    assert max(flagged.predictions, key=lambda one: one.probability).tag == "blå"
    assert [one.tag for one in flagged.predictions] == [
        tag for tag in tags if tag in {p.tag for p in flagged.predictions}
    ]
    ((output, body, _),) = hub.sent
    assert (output, len(body) < HUB_BYTES) == (OUTPUT, True)


def test_the_likeliest_tags_are_kept_and_of_a_usual_model_all() -> None:
    usual = tuple(Prediction(f"tag {n}", n / 1000) for n in range(1000))
    assert brief(usual) == usual
    assert brief(()) == ()
    many = tuple(Prediction(f"tag {n}", (n * 7919 % 100_003) / 100_003) for n in range(100_000))
    kept = brief(many)
    chosen = set(kept)
    assert 1000 < len(kept) < len(many)
    assert {one.tag for one in kept} == {one.tag for one in sorted(many, key=lambda one: -one.probability)[: len(kept)]}
    assert list(kept) == [one for one in many if one in chosen]
    said = json.dumps([{"tag": one.tag, "probability": round(one.probability, 8)} for one in kept])
    assert len(said) <= MAX_BYTES < HUB_BYTES < MAX_RECORD_BYTES


def test_one_tag_is_told_whatever_its_letters() -> None:
    longest = Prediction("\U0001f34c" * 1024, 0.9)
    assert brief((Prediction("a", 0.1), longest)) == (Prediction("a", 0.1), longest)
