"""Iterations: what trainings made, their names, and where they are published."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.errors import Problem, not_found
from trainer.state import domains
from trainer.state.files import Files
from trainer.state.images import purge
from trainer.state.projects import MAX_NAME, get_project, now_text, unique
from trainer.state.store import Row, Store, Transaction

TRAINING, COMPLETED, FAILED = "Training", "Completed", "Failed"
_PUBLISHED = re.compile(r"[^\x00-\x1f/\\?#]{1,256}")


@dataclass(frozen=True, slots=True)
class Iteration:
    """One training and its model; `why` says what failed, `seconds` how long it took."""

    id: str
    project: str
    name: str
    status: str
    created: str
    modified: str
    trained: str | None
    domain: str
    kind: str
    training: str
    hours: int
    seconds: float
    published: str | None
    resource: str | None
    why: str | None

    @property
    def exportable(self) -> bool:
        """Whether its model may be downloaded."""
        return domains.get(self.domain).exportable


@dataclass(frozen=True, slots=True)
class TrainedTag:
    """A tag as an iteration knows it; `place` is its column in the model's output, None where it has none."""

    id: str
    name: str
    type: str
    place: int | None


class Iterations:
    """The iterations of all projects."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files

    def all(self, project: str) -> list[Iteration]:
        """The project's iterations, the newest first. Raises Problem."""
        with self._store.look() as now:
            get_project(now, project)
            rows = now.rows("SELECT * FROM iterations WHERE project = ? ORDER BY seq DESC", [project])
        return [to_iteration(row) for row in rows]

    def get(self, project: str, id_: str) -> Iteration:
        """Raises Problem."""
        with self._store.look() as now:
            return get_iteration(now, project, id_)

    def trained(self, project: str, id_: str) -> Iteration:
        """The iteration, if it has a model. Raises Problem."""
        found = self.get(project, id_)
        check_trained(found)
        return found

    def newest(self, project: str) -> Iteration:
        """The newest with a model. Raises Problem."""
        for iteration in self.all(project):
            if iteration.status == COMPLETED:
                return iteration
        raise Problem("NotFoundProjectDefaultIteration", "the project has no trained iteration: train it first")

    def published(self, project: str, name: str) -> Iteration:
        """The iteration published by that name. Raises Problem."""
        with self._store.look() as now:
            get_project(now, project)
            row = now.row("SELECT * FROM iterations WHERE project = ? AND published = ?", [project, name])
        if row is None:
            raise Problem("NotFoundIteration", f"no iteration is published as {name!r}: publish one by that name")
        return to_iteration(row)

    def tags(self, iteration: str) -> list[TrainedTag]:
        """The iteration's tags, in the order of the model's output; those without a column last."""
        rows = self._store.rows(
            "SELECT * FROM iteration_tags WHERE iteration = ? ORDER BY place < 0, place, name", [iteration]
        )
        return [
            TrainedTag(row["tag"], row["name"], row["type"], row["place"] if row["place"] >= 0 else None)
            for row in rows
        ]

    def truth(self, iteration: str) -> list[tuple[int, str]]:
        """Which image, by its row in the evaluation, had which tag."""
        rows = self._store.rows(
            "SELECT place, tag FROM iteration_images i JOIN iteration_image_tags t "
            "ON t.iteration = i.iteration AND t.image = i.image WHERE i.iteration = ?",
            [iteration],
        )
        return [(row["place"], row["tag"]) for row in rows]

    def places(self, iteration: str, images: Sequence[str]) -> dict[str, int]:
        """The row of each image in the evaluation."""
        wanted = set(images)
        rows = self._store.rows("SELECT image, place FROM iteration_images WHERE iteration = ?", [iteration])
        return {row["image"]: row["place"] for row in rows if row["image"] in wanted}

    def kept(self, iteration: str) -> list[int]:
        """The rows in the evaluation whose images are still there."""
        rows = self._store.rows("SELECT place FROM iteration_images WHERE iteration = ? ORDER BY place", [iteration])
        return [row["place"] for row in rows]

    def rename(self, project: str, id_: str, name: str) -> Iteration:
        """The iteration with its new name. Raises Problem."""
        if not name.strip() or len(name) > MAX_NAME:
            raise Problem("BadRequestIterationName", f"an iteration's name has 1 to {MAX_NAME} characters")
        with self._store.change() as change:
            get_iteration(change, project, id_)
            with unique("BadRequestIterationNameNotUnique", f"there is an iteration {name!r}: choose another name"):
                change.run("UPDATE iterations SET name = ?, modified = ? WHERE id = ?", [name, now_text(), id_])
            return get_iteration(change, project, id_)

    def delete(self, project: str, id_: str) -> None:
        """Forget an iteration that is not published, and images only it kept. Raises Problem."""
        with self._store.change() as change:
            found = get_iteration(change, project, id_)
            _check_unpublished(found)
            change.run("DELETE FROM iterations WHERE id = ?", [id_])
            gone = purge(change, project)
        self._files.forget_iteration(project, id_)
        self._files.forget(project, gone)

    def publish(self, project: str, id_: str, name: str, resource: str, *, overwrite: bool) -> None:
        """Let the iteration answer under that name. Raises Problem."""
        if not _PUBLISHED.fullmatch(name) or name in (".", ".."):  # no client asks for an address with such a part
            raise Problem(
                "BadRequestInvalidPublishName",
                "a published name has 1 to 256 characters, no / ? # or \\, and not . or ..",
            )
        if not resource.strip():
            raise Problem("BadRequestInvalidPublishTarget", "say where to publish to: any predictionId will do here")
        with self._store.change() as change:
            found = get_iteration(change, project, id_)
            check_trained(found)
            _check_unpublished(found)
            if overwrite:
                change.run(
                    "UPDATE iterations SET published = NULL, resource = NULL WHERE project = ? AND published = ?",
                    [project, name],
                )
            taken = f"another iteration is published as {name!r}: unpublish it, or publish with overwrite"
            with unique("BadRequestInvalidPublishName", taken):
                change.run(
                    "UPDATE iterations SET published = ?, resource = ?, modified = ? WHERE id = ?",
                    [name, resource, now_text(), id_],
                )

    def unpublish(self, project: str, id_: str) -> None:
        """Let it answer no more. Raises Problem."""
        with self._store.change() as change:
            found = get_iteration(change, project, id_)
            if found.published is None:
                raise Problem("BadRequestIterationNotPublished", "the iteration is not published")
            change.run(
                "UPDATE iterations SET published = NULL, resource = NULL, modified = ? WHERE id = ?", [now_text(), id_]
            )


def get_iteration(change: Transaction, project: str, id_: str) -> Iteration:
    """The iteration, within a change. Raises Problem."""
    get_project(change, project)
    row = change.row("SELECT * FROM iterations WHERE id = ? AND project = ?", [id_, project])
    if row is None:
        raise not_found("Iteration", id_)
    return to_iteration(row)


def check_trained(iteration: Iteration) -> None:
    """Raises Problem for an iteration without a model."""
    if iteration.status != COMPLETED:
        raise Problem("BadRequestIterationIsNotTrained", f"the iteration's status is {iteration.status}: train first")


def to_iteration(row: Row) -> Iteration:
    """The iteration in a row."""
    left_out: dict[str, Any] = {"seq": None, "fingerprint": None}
    return Iteration(**{key: value for key, value in row.items() if key not in left_out})


def _check_unpublished(iteration: Iteration) -> None:
    if iteration.published is not None:
        raise Problem(
            "BadRequestIterationIsPublished",
            f"Iteration is already published as: {iteration.published}; unpublish it first",
        )
