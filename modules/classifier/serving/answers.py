"""An answer as JSON: in the exported container's form, and in that of the cloud's prediction endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from classifier.serving.classify import Answer
from ripeloop.prediction import Prediction, image_id


def as_container(answer: Answer, *, now: datetime) -> dict[str, Any]:
    """The exported container's JSON: the tags in the model's order, `created` in UTC without a zone."""
    return {
        "id": "",
        "project": answer.model.project,
        "iteration": answer.model.iteration,
        "created": now.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
        "predictions": _predictions(answer.predictions, answer.model.tag_ids),
    }


def as_cloud(answer: Answer, image: bytes, project: str, *, now: datetime) -> dict[str, Any]:
    """The prediction endpoint's JSON: the likeliest tag first, `created` with its zone.

    `id` is the first half of the image id, written as the UUID that clients expect. `project` is what was asked for;
    the model's own counts where it is known.
    """
    likeliest_first = sorted(answer.predictions, key=lambda p: -p.probability)
    return {
        "id": str(UUID(image_id(image)[:32])),
        "project": answer.model.project or project,
        "iteration": answer.model.iteration,
        "created": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "predictions": _predictions(likeliest_first, answer.model.tag_ids),
    }


def _predictions(predictions: Sequence[Prediction], tag_ids: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "tagName": p.tag,
            "probability": round(p.probability, 8),
            "tagId": tag_ids.get(p.tag, ""),
            "boundingBox": None,
        }
        for p in predictions
    ]
