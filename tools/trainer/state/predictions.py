"""Stored predictions: images that were sent to be classified, and what was said of them, for a month."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ripeloop.prediction import format_time
from trainer.errors import Problem
from trainer.learning import figures
from trainer.runs.predictor import Score
from trainer.state.files import PREDICTIONS, Files
from trainer.state.iterations import Iteration
from trainer.state.projects import get_project, now_text
from trainer.state.store import Row, Store, marks

KEPT = timedelta(days=30)
MAX_RESULTS = 256
USUAL_RESULTS = 50
MAX_TAGS = 2
# the order, and what comes after a place in it
ORDERS = {
    "Newest": ("seq DESC", "seq < ?"),
    "Oldest": ("seq", "seq > ?"),
    "Suggested": ("uncertainty DESC, seq DESC", "(uncertainty, seq) < (?, ?)"),
}
Place = tuple[float, int]
"""Where a list of predictions has come to: an uncertainty, and a prediction's number."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of an iteration about an image; `answer` is what the wire says of each tag."""

    id: str
    project: str
    iteration: str
    domain: str
    created: str
    answer: list[dict[str, Any]]
    uncertainty: float = 0.0
    application: str = ""


@dataclass(frozen=True, slots=True)
class Between:
    """A tag, and between which probabilities it shall lie."""

    tag: str
    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """Which stored predictions are wanted; all conditions together. Raises Problem.

    `session` is the newest prediction of the first page, so that newer ones move nothing. `after` is where the last
    page ended: nothing is counted off, so predictions that were deleted since move nothing either.
    """

    tags: tuple[Between, ...] = ()
    iteration: str | None = None
    start: str | None = None
    end: str | None = None
    application: str | None = None
    order: str = "Newest"
    session: int | None = None
    after: Place | None = None
    take: int = USUAL_RESULTS

    def __post_init__(self) -> None:
        if len(self.tags) > MAX_TAGS:
            raise Problem("BadRequestPredictionTagsExceededCount", f"at most {MAX_TAGS} tags are combined")
        if self.take > MAX_RESULTS:
            raise Problem("BadRequestPredictionResultsExceededCount", f"maxCount is at most {MAX_RESULTS}")
        if self.order not in ORDERS:
            raise Problem("BadRequestPredictionInvalidQueryParameters", f"orderBy is one of {', '.join(ORDERS)}")


@dataclass(frozen=True, slots=True)
class Found:
    """A page of stored predictions; `next` is where the next one begins, None at the end."""

    answers: list[Answered]
    session: int
    next: Place | None


def answered(iteration: Iteration, scores: Sequence[Score], application: str = "") -> Answered:
    """A new answer."""
    return Answered(
        id=str(uuid.uuid4()),
        project=iteration.project,
        iteration=iteration.id,
        domain=iteration.domain,
        created=now_text(),
        answer=[
            {
                "probability": score.probability,
                "tagId": score.tag.id,
                "tagName": score.tag.name,
                "tagType": score.tag.type,
            }
            for score in scores
        ],
        uncertainty=figures.uncertainty(
            [score.probability for score in scores], multilabel=iteration.kind == "Multilabel"
        ),
        application=application,
    )


class Predictions:
    """The stored predictions of all projects."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files

    def keep(self, answer: Answered, image: bytes) -> None:
        """Store an answer with its image. Raises Problem."""
        self._files.keep(answer.project, answer.id, image, PREDICTIONS)
        try:
            self._remember(answer)
        except Problem:
            self._files.forget(answer.project, [answer.id], PREDICTIONS)
            raise

    def _remember(self, answer: Answered) -> None:
        with self._store.change() as change:
            get_project(change, answer.project)  # it may be deleted while a model is being asked
            change.run(
                "INSERT INTO predictions (id, project, iteration, domain, application, created, answer, uncertainty) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    answer.id,
                    answer.project,
                    answer.iteration,
                    answer.domain,
                    answer.application,
                    answer.created,
                    json.dumps(answer.answer),
                    answer.uncertainty,
                ],
            )
            change.run_all(
                "INSERT INTO prediction_tags VALUES (?, ?, ?)",
                [(answer.id, one["tagId"], one["probability"]) for one in answer.answer],
            )

    def find(self, project: str, query: Query) -> Found:
        """A page of what was stored. Raises Problem."""
        where, values = ["project = ?"], list[Any]([project])
        for between in query.tags:
            where.append(
                "EXISTS (SELECT 1 FROM prediction_tags WHERE prediction = predictions.id AND tag = ? "
                "AND probability BETWEEN ? AND ?)"
            )
            values += [between.tag, between.least, between.most]
        for column, value in (
            ("iteration = ?", query.iteration),
            ("created >= ?", query.start),
            ("created <= ?", query.end),
            ("application = ?", query.application or None),
        ):
            if value is not None:
                where.append(column)
                values.append(value)
        order, beyond = ORDERS[query.order]
        if query.after:
            where.append(beyond)
            values += query.after if query.order == "Suggested" else query.after[1:]
        with self._store.look() as now:
            get_project(now, project)
            newest = now.row("SELECT max(seq) AS n FROM predictions WHERE project = ?", [project])
            session = query.session if query.session is not None else int((newest and newest["n"]) or 0)
            rows = now.rows(
                f"SELECT * FROM predictions WHERE {' AND '.join(where)} AND seq <= ? "  # noqa: S608 - marks alone
                f"ORDER BY {order} LIMIT ?",
                [*values, session, query.take + 1],
            )
        page = rows[: query.take]
        following = (page[-1]["uncertainty"], page[-1]["seq"]) if len(rows) > query.take else None
        return Found([_answered(row) for row in page], session, following)

    def image(self, project: str, id_: str) -> bytes | None:
        """The image of a stored prediction; None where there is none by that id."""
        if not self._store.row("SELECT 1 FROM predictions WHERE id = ? AND project = ?", [id_, project]):
            return None
        path = self._files.image(project, id_, PREDICTIONS)
        return path.read_bytes() if path.exists() else None

    def delete(self, project: str, ids: Sequence[str]) -> None:
        """Forget predictions and their images. Raises Problem."""
        with self._store.change() as change:
            get_project(change, project)
            change.run(
                f"DELETE FROM predictions WHERE project = ? AND id IN ({marks(ids)})",  # noqa: S608
                [project, *ids],
            )
        self._files.forget(project, ids, PREDICTIONS)

    def expire(self, now: datetime | None = None) -> int:
        """Forget predictions that were kept long enough; how many."""
        before = format_time((now or datetime.now(UTC)) - KEPT)
        rows = self._store.rows("SELECT id, project FROM predictions WHERE created < ?", [before])
        with self._store.change() as change:
            change.run("DELETE FROM predictions WHERE created < ?", [before])
        for row in rows:
            self._files.forget(row["project"], [row["id"]], PREDICTIONS)
        return len(rows)


def _answered(row: Row) -> Answered:
    return Answered(
        id=row["id"],
        project=row["project"],
        iteration=row["iteration"],
        domain=row["domain"],
        created=row["created"],
        answer=json.loads(row["answer"]),
        uncertainty=row["uncertainty"],
        application=row["application"],
    )
