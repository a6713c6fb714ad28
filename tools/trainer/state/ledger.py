"""The beginning and the end of a training, as the memory sees them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.errors import Problem, not_found
from trainer.state import tags as tagging
from trainer.state.files import Files
from trainer.state.iterations import COMPLETED, FAILED, TRAINING, Iteration, get_iteration, to_iteration
from trainer.state.projects import Project, get_project, now_text
from trainer.state.store import Store, Transaction

MAX_ITERATIONS = 20
LEAST_IMAGES = 5
LEAST_TAGS = {True: 1, False: 2}  # by multilabel, the negative tag counted for multiclass alone
REGULAR, ADVANCED = "Regular", "Advanced"
MAX_HOURS = 96
INTERRUPTED = "the trainer ended while it was training: train again"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a training. Raises Problem."""

    training: str = REGULAR
    hours: int = 0
    force: bool = False
    selected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.training not in (REGULAR, ADVANCED):
            raise Problem("BadRequestTrainingValidationFailed", f"{self.training}: train {REGULAR} or {ADVANCED}")
        if self.training == ADVANCED and not 1 <= self.hours <= MAX_HOURS:
            raise Problem(
                "BadRequestReservedBudgetInHoursNotEnoughForAdvancedTraining",
                f"advanced training takes a reservedBudgetInHours of 1 to {MAX_HOURS}",
            )


class Ledger:
    """Begins and ends trainings in a store."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files

    def begin(self, project: str, order: Order) -> Iteration:
        """A new iteration in training, on the images as they are now. Raises Problem."""
        with self._store.change() as change:
            found = get_project(change, project)
            if change.row("SELECT 1 FROM iterations WHERE project = ? AND status = ?", [project, TRAINING]):
                raise Problem("BadRequestTrainingAlreadyInProgress", "a training is in progress: wait for its end")
            tags = _chosen(change, found, order)
            _check_enough(found, tags)
            fingerprint = _fingerprint(change, found, order, tags)
            if not order.force:
                _check_needed(change, project, fingerprint)
            _check_room(change, project)
            return _begun(change, found, order, tags, fingerprint)

    def request(self, iteration: Iteration) -> dict[str, Any]:
        """What the training process is told, as JSON has it."""
        tags = self._store.rows("SELECT * FROM iteration_tags WHERE iteration = ? ORDER BY name", [iteration.id])
        rows = self._store.rows(
            """SELECT images.id, sha256, (SELECT json_group_array(tag) FROM iteration_image_tags
                WHERE iteration = ii.iteration AND image = images.id) AS tags
                FROM iteration_images ii JOIN images ON images.id = ii.image WHERE ii.iteration = ? ORDER BY place""",
            [iteration.id],
        )
        return {
            "images": [
                # what is remembered of an image is remembered by its bytes: they may come again under another id
                [row["sha256"], str(self._files.image(iteration.project, row["id"])), json.loads(row["tags"])]
                for row in rows
            ],
            "tags": [[tag["tag"], tag["name"], tag["type"] == tagging.NEGATIVE] for tag in tags],
            "multilabel": iteration.kind == "Multilabel",
            "cache": str(self._files.features(iteration.project)),
            "iteration_id": iteration.id,
            "int8": False,
            "seconds": iteration.hours * 3600.0 if iteration.training == ADVANCED else 0.0,
        }

    def completed(self, iteration: str, tags: Sequence[str], seconds: float) -> bool:
        """The model is there, its outputs in the order of `tags`; False where nobody wants it any more."""
        with self._store.change() as change:
            change.run_all(
                "UPDATE iteration_tags SET place = ? WHERE iteration = ? AND tag = ?",
                [(place, iteration, tag) for place, tag in enumerate(tags)],
            )
            return bool(
                change.run(
                    "UPDATE iterations SET status = ?, trained = ?, modified = ?, seconds = ? "
                    "WHERE id = ? AND status = ?",
                    [COMPLETED, now_text(), now_text(), seconds, iteration, TRAINING],
                )
            )

    def failed(self, iteration: str, why: str, seconds: float = 0.0) -> None:
        """There will be no model."""
        with self._store.change() as change:
            change.run(
                "UPDATE iterations SET status = ?, why = ?, modified = ?, seconds = ? WHERE id = ? AND status = ?",
                [FAILED, why, now_text(), seconds, iteration, TRAINING],
            )

    def interrupted(self) -> list[Iteration]:
        """What an earlier process left in training has failed; those iterations."""
        with self._store.change() as change:
            rows = change.rows("SELECT * FROM iterations WHERE status = ?", [TRAINING])
            change.run(
                "UPDATE iterations SET status = ?, why = ?, modified = ? WHERE status = ?",
                [FAILED, INTERRUPTED, now_text(), TRAINING],
            )
            change.run("DELETE FROM projects WHERE status = 'Importing'")  # nobody was told of such a copy
        return [to_iteration(row) for row in rows]

    def projects(self) -> list[str]:
        """All projects' ids."""
        return [row["id"] for row in self._store.rows("SELECT id FROM projects")]

    def bytes_known(self, project: str) -> list[str]:
        """The SHA-256 of each image that is there, for the project or an iteration of it."""
        return [row["sha256"] for row in self._store.rows("SELECT sha256 FROM images WHERE project = ?", [project])]

    def in_training(self, iteration: str) -> Iteration | None:
        """The iteration, if it is still wanted."""
        row = self._store.row("SELECT * FROM iterations WHERE id = ? AND status = ?", [iteration, TRAINING])
        return to_iteration(row) if row else None


def _chosen(change: Transaction, project: Project, order: Order) -> list[tagging.Tag]:
    """The tags to train, by name. Raises Problem."""
    tags = tagging.all_tags(change, project.id)
    if not order.selected:
        return [tag for tag in tags if tag.type != tagging.NEGATIVE or tag.images]
    for id_ in order.selected:
        if id_ not in {tag.id for tag in tags}:
            raise not_found("Tag", id_)
    return [tag for tag in tags if tag.id in order.selected]


def _check_enough(project: Project, tags: Sequence[tagging.Tag]) -> None:
    kind = "MultiLabel" if project.multilabel else "MultiClass"
    code = f"BadRequest{kind}ClassificationTrainingValidationFailed"
    counted = [tag for tag in tags if not (project.multilabel and tag.type == tagging.NEGATIVE)]
    least = LEAST_TAGS[project.multilabel]
    if len(counted) < least:
        raise Problem(code, f"Not enough tags for training: there are {len(counted)}, {least} or more are needed")
    few = [f"{tag.name!r} has {tag.images}" for tag in tags if tag.images < LEAST_IMAGES]
    if few:
        raise Problem(
            code,
            f"Not enough images per tag for training: {', '.join(few[:10])}; {LEAST_IMAGES} or more are needed of each",
        )


def _fingerprint(change: Transaction, project: Project, order: Order, tags: Sequence[tagging.Tag]) -> str:
    """Alike for two trainings that would give the same model."""
    digest = hashlib.sha256()
    digest.update(json.dumps([project.domain, project.kind, order.training, order.hours]).encode())
    digest.update(json.dumps([[tag.id, tag.name, tag.type] for tag in tags]).encode())
    ids = json.dumps([tag.id for tag in tags])
    for row in change.rows(
        "SELECT image, tag FROM image_tags JOIN images ON images.id = image "
        "WHERE project = ? AND deleted = 0 AND tag IN (SELECT value FROM json_each(?)) ORDER BY image, tag",
        [project.id, ids],
    ):
        digest.update(f"{row['image']} {row['tag']}\n".encode())
    return digest.hexdigest()


def _check_needed(change: Transaction, project: str, fingerprint: str) -> None:
    newest = change.row(
        "SELECT fingerprint FROM iterations WHERE project = ? AND status = ? ORDER BY seq DESC LIMIT 1",
        [project, COMPLETED],
    )
    if newest and newest["fingerprint"] == fingerprint:
        raise Problem("BadRequestTrainingNotNeeded", "Nothing changed since last training")


def _check_room(change: Transaction, project: str) -> None:
    row = change.row("SELECT count(*) AS n FROM iterations WHERE project = ?", [project])
    if row and row["n"] >= MAX_ITERATIONS:
        raise Problem(
            "BadRequestExceedIterationPerProjectLimit",
            f"the project has {MAX_ITERATIONS} iterations: delete one that is not published",
        )


def _begun(
    change: Transaction, project: Project, order: Order, tags: Sequence[tagging.Tag], fingerprint: str
) -> Iteration:
    id_, now = str(uuid.uuid4()), now_text()
    change.run(
        "INSERT INTO iterations (id, project, name, status, created, modified, domain, kind, training, hours, "
        "fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            id_,
            project.id,
            _free_name(change, project.id),
            TRAINING,
            now,
            now,
            project.domain,
            project.kind,
            order.training,
            order.hours,
            fingerprint,
        ],
    )
    change.run_all(
        "INSERT INTO iteration_tags VALUES (?, ?, ?, ?, ?, -1)",
        [(id_, tag.id, tag.name, tag.description, tag.type) for tag in tags],
    )
    ids = json.dumps([tag.id for tag in tags])
    change.run(
        """INSERT INTO iteration_images SELECT ?, id, seq, row_number() OVER (ORDER BY seq) - 1 FROM images
            WHERE project = ? AND deleted = 0 AND EXISTS (
                SELECT 1 FROM image_tags WHERE image = images.id AND tag IN (SELECT value FROM json_each(?)))""",
        [id_, project.id, ids],
    )
    change.run(
        """INSERT INTO iteration_image_tags SELECT iteration, i.image, tag, created FROM iteration_images i
            JOIN image_tags t ON t.image = i.image
            WHERE iteration = ? AND tag IN (SELECT value FROM json_each(?))""",
        [id_, ids],
    )
    return get_iteration(change, project.id, id_)


def _free_name(change: Transaction, project: str) -> str:
    """The next name that nobody gave another iteration."""
    taken = {row["name"] for row in change.rows("SELECT name FROM iterations WHERE project = ?", [project])}
    while True:
        change.run("UPDATE projects SET iterations = iterations + 1 WHERE id = ?", [project])
        row = change.row("SELECT iterations FROM projects WHERE id = ?", [project])
        name = f"Iteration {row['iterations'] if row else ''}"
        if name not in taken:
            return name
