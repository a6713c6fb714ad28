"""Exports of iterations, and copies of projects."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

from trainer.errors import Problem
from trainer.learning import figures
from trainer.state import domains
from trainer.state.files import EVALUATION, INT8, MODEL, MODEL_INT8, PLAIN, Files
from trainer.state.iterations import COMPLETED, FAILED, TRAINING, Iteration, get_iteration, to_iteration
from trainer.state.projects import Project, Projects, Wanted, get_project, now_text
from trainer.state.store import Store, Transaction

EXPORTING, DONE = "Exporting", "Done"
INTERRUPTED = "the trainer ended while it was exporting: export again"
_FILES = {PLAIN: MODEL, INT8: MODEL_INT8}


@dataclass(frozen=True, slots=True)
class Export:
    """An iteration's export in one flavor, an empty one is the plain model; `why` says what failed."""

    iteration: str
    flavor: str
    status: str
    why: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a project holds."""

    iterations: int
    images: int
    tags: int


class Exports:
    """The exports of all iterations: the plain model is there since the training, the 8-bit one is made if wanted."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files

    def make(self, project: str, iteration: str, platform: str, flavor: str) -> bool:
        """Export the iteration; False where its model must be made first. Raises Problem."""
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
            there = self._is_there(found, flavor)
            known = change.row("SELECT status FROM exports WHERE iteration = ? AND flavor = ?", [iteration, flavor])
            if known and (known["status"] == EXPORTING or (known["status"] == DONE and there)):
                raise Problem("BadRequestExportAlreadyInProgress", f"{iteration} is already queued for export")
            if not there:
                self.check_images(found)
            change.run(
                "INSERT OR REPLACE INTO exports (iteration, flavor, created, status) VALUES (?, ?, ?, ?)",
                [iteration, flavor, now_text(), DONE if there else EXPORTING],
            )
        return there

    def all(self, project: str, iteration: str) -> list[Export]:
        """What was asked for, the oldest first. Raises Problem."""
        with self._store.look() as now:
            get_iteration(now, project, iteration)
            rows = now.rows(f"{_EXPORTS} WHERE iteration = ? ORDER BY e.created, flavor", [iteration])
        return [Export(**row) for row in rows]

    def failures(self, project: str) -> dict[str, str]:
        """Why exports failed, by their iterations."""
        rows = self._store.rows(
            f"{_EXPORTS} JOIN iterations i ON i.id = iteration WHERE project = ? AND e.status = ?", [project, FAILED]
        )
        return {row["iteration"]: row["why"] for row in rows}

    def under_way(self, iteration: str, flavor: str) -> Iteration | None:
        """The iteration, if its export is still wanted."""
        row = self._store.row(
            "SELECT iterations.* FROM iterations JOIN exports e ON e.iteration = id "
            "WHERE id = ? AND flavor = ? AND e.status = ?",
            [iteration, flavor, EXPORTING],
        )
        return to_iteration(row) if row else None

    def done(self, iteration: str, flavor: str) -> None:
        """The file is there."""
        self._end(iteration, flavor, DONE, None)

    def failed(self, iteration: str, flavor: str, why: str) -> None:
        """There will be no file, unless it is asked for again."""
        self._end(iteration, flavor, FAILED, why)

    def interrupted(self) -> list[str]:
        """What an earlier process left under way has failed; the iterations' ids."""
        with self._store.change() as change:
            rows = change.rows("SELECT iteration FROM exports WHERE status = ?", [EXPORTING])
            change.run(
                "UPDATE exports SET status = ?, why = ? WHERE status = ?",
                [FAILED, INTERRUPTED, EXPORTING],
            )
        return [row["iteration"] for row in rows]

    def check_images(self, iteration: Iteration) -> None:
        """Raises Problem where images the iteration was trained on are gone: it cannot be learnt once more."""
        try:
            probabilities, _ = figures.load(self._files.iteration(iteration.project, iteration.id) / EVALUATION)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise Problem(
                "BadRequestExportValidationFailed", f"the iteration's figures are damaged ({error}): train again"
            ) from error
        row = self._store.row("SELECT count(*) AS n FROM iteration_images WHERE iteration = ?", [iteration.id])
        gone = len(probabilities) - (row["n"] if row else 0)
        if gone:
            raise Problem(
                "BadRequestExportValidationFailed",
                f"{gone} of the {len(probabilities)} images the iteration was trained on were deleted from all "
                f"iterations, and {INT8} is learnt from them: train again",
            )

    def path(self, project: str, iteration: str, name: str) -> Path | None:
        """The file of a model by its name in links."""
        if name not in _FILES.values():
            return None
        path = self._files.iteration(project, iteration) / name
        return path if path.exists() else None

    def _end(self, iteration: str, flavor: str, status: str, why: str | None) -> None:
        with self._store.change() as change:
            change.run(
                "UPDATE exports SET status = ?, why = ? WHERE iteration = ? AND flavor = ?",
                [status, why, iteration, flavor],
            )

    def _is_there(self, iteration: Iteration, flavor: str) -> bool:
        """Whether the flavor's file is there; False where it can be made. Raises Problem."""
        name = _FILES.get(flavor)
        if name is None:
            raise Problem(
                "BadRequestExportValidationFailed", f"there is no flavor {flavor}: leave it out, or ask for {INT8}"
            )
        home = self._files.iteration(iteration.project, iteration.id)
        if (home / name).exists():
            return True
        if flavor == INT8 and iteration.status == COMPLETED and (home / EVALUATION).exists():
            return False
        why = "its files are gone" if iteration.why is None else iteration.why
        raise Problem("BadRequestExportValidationFailed", f"the iteration cannot be exported: {why}; train again")


_EXPORTS = "SELECT iteration, flavor, e.status, e.why FROM exports e"


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
            source.augmentation,
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
