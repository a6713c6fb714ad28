"""Suggested tags: what an iteration says of images that nobody tagged yet, the doubtful ones to be found first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.errors import Problem, not_found
from trainer.runs.predictor import Predictor
from trainer.state.files import Files
from trainer.state.images import Asked, Image, Images, Page
from trainer.state.iterations import Iteration, Iterations, get_iteration
from trainer.state.predictions import Answered, answered
from trainer.state.store import Store, marks

# the direction, and what comes after an image in it
SORTS = {"UncertaintyAscending": ("ASC", ">"), "UncertaintyDescending": ("DESC", "<")}
Place = tuple[float, str]
"""Where a list of suggestions has come to: an uncertainty, and the id of an image."""
_UNTAGGED = """
    FROM suggestions s JOIN images ON images.id = s.image
    WHERE s.iteration = ? AND images.deleted = 0 AND NOT EXISTS (SELECT 1 FROM image_tags WHERE image = s.image)
"""
_LIKELY = """
    AND EXISTS (SELECT 1 FROM suggestion_tags t WHERE t.iteration = s.iteration AND t.image = s.image
        AND t.tag IN ({marks}) AND t.probability >= ?)
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which suggestions: one of `tags` at `threshold` or more (no tags: all), those that come `after`. Raises Problem.

    Nothing is counted off: images that were tagged since the last page are in the list no more.
    """

    tags: tuple[str, ...] = ()
    threshold: float = 0.0
    sort: str = "UncertaintyDescending"
    after: Place | None = None
    take: int = 50

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise Problem("BadRequestInvalid", f"sortBy is one of {', '.join(SORTS)}")


class Suggestions:
    """The suggestions of all projects."""

    def __init__(self, store: Store, files: Files, predictor: Predictor) -> None:
        self._store = store
        self._files = files
        self._predictor = predictor
        self._images = Images(store, files)
        self._iterations = Iterations(store, files)

    def make(self, project: str, iteration: str, ids: Sequence[str]) -> list[Answered]:
        """What the iteration says of the images; those it said something of before are not looked at again.

        Images that are not there are left out. Raises Problem.
        """
        found = self._iterations.trained(project, iteration)
        there = self._images.find(project, Asked(ids=tuple(ids)), Page(take=max(1, len(ids))))
        known = self._known(found, [image.id for image in there])
        answers = []
        for image in sorted(there, key=lambda one: ids.index(one.id)):
            answer = known.get(image.id)
            if answer is None:
                try:
                    data = self._files.image(project, image.id).read_bytes()
                except FileNotFoundError:
                    raise not_found("Image", image.id) from None
                answer = answered(found, self._predictor.scores(found, data))
                self._keep(image.id, answer)
            answers.append(answer)
        return answers

    def find(self, project: str, iteration: str, wanted: Wanted) -> tuple[list[tuple[Answered, Image]], Place | None]:
        """A page of suggestions for untagged images, with their images, and where more follow. Raises Problem."""
        found = self._iterations.get(project, iteration)
        likely, values = _likely(wanted.tags, wanted.threshold)
        direction, beyond = SORTS[wanted.sort]
        rest = f"AND (s.uncertainty, s.image) {beyond} (?, ?)" if wanted.after else ""
        rows = self._store.rows(
            f"SELECT s.* {_UNTAGGED} {likely} {rest} ORDER BY s.uncertainty {direction}, s.image {direction} LIMIT ?",
            [iteration, *values, *(wanted.after or ()), wanted.take + 1],
        )
        page = rows[: wanted.take]
        answers = self._known(found, [row["image"] for row in page])
        images = self._images.find(
            project, Asked(ids=tuple(row["image"] for row in page)), Page(take=max(1, len(page)))
        )
        by_id = {image.id: image for image in images}
        together = [(answers[row["image"]], by_id[row["image"]]) for row in page if row["image"] in by_id]
        return together, (page[-1]["uncertainty"], page[-1]["image"]) if len(rows) > wanted.take else None

    def count(self, project: str, iteration: str, tags: Sequence[str], threshold: float) -> dict[str, int]:
        """For each tag, of how many untagged images it is suggested. Raises Problem."""
        self._iterations.get(project, iteration)
        counts = {}
        for tag in tags:
            likely, values = _likely([tag], threshold)
            row = self._store.row(f"SELECT count(*) AS n {_UNTAGGED} {likely}", [iteration, *values])
            counts[tag] = int(row["n"]) if row else 0
        return counts

    def _known(self, iteration: Iteration, images: Sequence[str]) -> dict[str, Answered]:
        rows = self._store.rows(
            f"SELECT * FROM suggestions WHERE iteration = ? AND image IN ({marks(images)})",  # noqa: S608
            [iteration.id, *images],
        )
        return {
            row["image"]: Answered(
                id=row["id"],
                project=iteration.project,
                iteration=iteration.id,
                domain=iteration.domain,
                created=row["created"],
                answer=json.loads(row["answer"]),
                uncertainty=row["uncertainty"],
            )
            for row in rows
        }

    def _keep(self, image: str, answer: Answered) -> None:
        with self._store.change() as change:
            get_iteration(change, answer.project, answer.iteration)  # it, or all, may be deleted meanwhile
            if not change.row("SELECT 1 FROM images WHERE id = ?", [image]):
                raise not_found("Image", image)
            change.run(
                "INSERT OR REPLACE INTO suggestions VALUES (?, ?, ?, ?, ?, ?)",
                [
                    answer.iteration,
                    image,
                    answer.id,
                    answer.created,
                    json.dumps(answer.answer),
                    answer.uncertainty,
                ],
            )
            change.run_all(
                "INSERT OR REPLACE INTO suggestion_tags VALUES (?, ?, ?, ?)",
                [(answer.iteration, image, one["tagId"], one["probability"]) for one in answer.answer],
            )


def _likely(tags: Sequence[str], threshold: float) -> tuple[str, list[str | float]]:
    if not tags:
        return "", []
    return _LIKELY.format(marks=marks(tags)), [*tags, threshold]
