"""Exports of iterations, and copies of projects."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from trainer import domains
from trainer.errors import Problem
from trainer.files import MODEL, MODEL_INT8, Files
from trainer.iterations import TRAINING, Iteration, get_iteration
from trainer.projects import Project, Projects, Wanted, get_project, now_text
from trainer.store import Store, Transaction

PLAIN, INT8 = "", "ONNXInt8"
_FILES = {PLAIN: MODEL, INT8: MODEL_INT8}


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a project holds."""

    iterations: int
    images: int
    tags: int


class Exports:
    """The exports of all iterations: the files are there since the training; a row says that one was asked for."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files

    def make(self, project: str, iteration: str, platform: str, flavor: str) -> Iteration:
        """Export the iteration. Raises Problem."""
        if platform not in domains.EXPORTED:
            raise Problem(
                "BadRequestProjectUnsupportedExportPlatform",
                f"{platform}: this trainer exports for {', '.join(domains.EXPORTED)}",
            )
        with self._store.change() as change:
            found = get_iteration(change, project, iteration)
            if found.status == TRAINING:
                raise Problem("BadRequestExportWhileTraining", "the iteration is in training: wait for its end")
            if not found.exportable:
                raise Problem(
                    "BadRequestExportValidationFailed",
                    "the iteration's domain is not exportable: set the project's to General (compact) and train again",
                )
            self._check_there(found, flavor)
            if change.row("SELECT 1 FROM exports WHERE iteration = ? AND flavor = ?", [iteration, flavor]):
                raise Problem("BadRequestExportAlreadyInProgress", f"{iteration} is already queued for export")
            change.run("INSERT INTO exports VALUES (?, ?, ?)", [iteration, flavor, now_text()])
        return found

    def all(self, project: str, iteration: str) -> list[str]:
        """The flavors that were exported; an empty one is the plain model. Raises Problem."""
        with self._store.look() as now:
            get_iteration(now, project, iteration)
            rows = now.rows("SELECT flavor FROM exports WHERE iteration = ? ORDER BY created, flavor", [iteration])
        return [row["flavor"] for row in rows]

    def path(self, project: str, iteration: str, name: str) -> Path | None:
        """The file of a model by its name in links."""
        if name not in _FILES.values():
            return None
        path = self._files.iteration(project, iteration) / name
        return path if path.exists() else None

    def _check_there(self, iteration: Iteration, flavor: str) -> None:
        name = _FILES.get(flavor)
        if name is None:
            raise Problem(
                "BadRequestExportValidationFailed", f"there is no flavor {flavor}: leave it out, or ask for {INT8}"
            )
        if not (self._files.iteration(iteration.project, iteration.id) / name).exists():
            why = f"its training made no {flavor or 'model'}" if iteration.why is None else iteration.why
            raise Problem("BadRequestExportValidationFailed", f"the iteration cannot be exported: {why}; train again")


def file_of(flavor: str) -> str:
    """The name of a flavor's file."""
    return _FILES[flavor]


class Copies:
    """Copies of whole projects: their tags and images, not their iterations."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files
        self._projects = Projects(store)

    def counts(self, project: str) -> Counts:
        """How much there is to copy. Raises Problem."""
        with self._store.look() as now:
            get_project(now, project)
            of = {
                table: now.row(f"SELECT count(*) AS n FROM {table} WHERE project = ?{only}", [project])  # noqa: S608
                for table, only in (("iterations", ""), ("images", " AND deleted = 0"), ("tags", ""))
            }
        return Counts(**{table: int(row["n"]) if row else 0 for table, row in of.items()})

    def copy(self, project: str, name: str | None) -> Project:
        """A new project with the same settings, tags and images. Raises Problem."""
        source = self._projects.get(project)
        wanted = Wanted(
            name or f"{source.name} (copy {uuid.uuid4().hex[:6]})",
            source.description,
            source.domain,
            source.kind,
            source.platforms,
        )
        made = self._projects.create(wanted, status="Importing")
        try:
            self._fill(source.id, made.id)
        except Problem:
            self._projects.became(made.id, "Failed")
            raise
        self._projects.became(made.id, "Succeeded")
        return self._projects.get(made.id)

    def _fill(self, source: str, target: str) -> None:
        images = self._store.rows("SELECT id FROM images WHERE project = ? AND deleted = 0 ORDER BY seq", [source])
        ids = [(row["id"], str(uuid.uuid4())) for row in images]
        for old, new in ids:
            self._files.link(target, new, self._files.image(source, old))
        with self._store.change() as change:
            tags = [
                (row["id"], str(uuid.uuid4())) for row in change.rows("SELECT id FROM tags WHERE project = ?", [source])
            ]
            _copy_rows(change, target, ids, tags)


def _copy_rows(change: Transaction, target: str, images: list[tuple[str, str]], tags: list[tuple[str, str]]) -> None:
    change.run("CREATE TEMP TABLE copied (old TEXT PRIMARY KEY, new TEXT NOT NULL)")
    change.run_all("INSERT INTO copied VALUES (?, ?)", [*images, *tags])
    change.run(
        "INSERT INTO tags SELECT new, ?, name, description, type, created FROM tags JOIN copied ON old = tags.id",
        [target],
    )
    change.run(
        "INSERT INTO images (id, project, sha256, created, width, height) SELECT new, ?, sha256, created, width, "
        "height FROM images JOIN copied ON old = images.id WHERE deleted = 0 ORDER BY seq",
        [target],
    )
    change.run(
        "INSERT INTO image_tags SELECT i.new, t.new, created FROM image_tags "
        "JOIN copied i ON i.old = image JOIN copied t ON t.old = tag"
    )
    change.run("INSERT INTO image_metadata SELECT i.new, key, value FROM image_metadata JOIN copied i ON i.old = image")
    change.run("DROP TABLE copied")
