"""Projects: what one model is trained from, and for."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ripeloop.prediction import format_time
from trainer.errors import Problem, not_found
from trainer.state import domains
from trainer.state.store import Row, Store, Transaction

MULTICLASS, MULTILABEL = "Multiclass", "Multilabel"
MAX_PROJECTS = 100
MAX_NAME = 256  # characters
MAX_DESCRIPTION = 2048
MAX_METHODS = 50  # of augmentation


@dataclass(frozen=True, slots=True)
class Project:
    """A project; `kind` is Multiclass or Multilabel, `thumbnail` an image's id.

    `augmentation` is kept for whoever asks for it: trainings here choose their own views of an image.
    """

    id: str
    name: str
    description: str | None
    domain: str
    kind: str
    platforms: tuple[str, ...]
    created: str
    modified: str
    status: str
    negative: bool = False
    thumbnail: str | None = None
    augmentation: Mapping[str, bool] | None = None

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several tags."""
        return self.kind == MULTILABEL


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a project shall be; None leaves it as it is, or takes what is usual. Raises Problem."""

    name: str | None = None
    description: str | None = None
    domain: str | None = None
    kind: str | None = None
    platforms: tuple[str, ...] | None = None
    augmentation: Mapping[str, bool] | None = None

    def __post_init__(self) -> None:
        if self.name is not None and (not self.name.strip() or len(self.name) > MAX_NAME):
            raise Problem("BadRequestProjectName", f"a project's name has 1 to {MAX_NAME} characters")
        if len(self.description or "") > MAX_DESCRIPTION:
            raise Problem("BadRequestProjectDescription", f"a description has at most {MAX_DESCRIPTION} characters")
        if self.domain is not None:
            domains.for_project(self.domain)
        if self.kind not in (None, MULTICLASS, MULTILABEL):
            raise Problem(
                "BadRequestProjectUnknownClassification", f"{self.kind}: a project is {MULTICLASS} or {MULTILABEL}"
            )
        if len(methods := self.augmentation or {}) > MAX_METHODS or any(len(name) > MAX_NAME for name in methods):
            raise Problem("BadRequestInvalid", f"augmentationMethods: at most {MAX_METHODS}, with short names")
        for platform in self.platforms or ():
            if platform not in domains.PLATFORMS:
                raise Problem(
                    "BadRequestProjectUnsupportedExportPlatform",
                    f"there is no platform {platform}; there are {', '.join(domains.PLATFORMS)}",
                )


class Projects:
    """All projects in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, wanted: Wanted, status: str = "Succeeded") -> Project:
        """A new, empty project. Raises Problem."""
        if wanted.name is None:
            raise Problem("BadRequestProjectName", "a project needs a name: add ?name=")
        now = now_text()
        id_ = str(uuid.uuid4())
        with self._store.change() as change:
            count = change.row("SELECT count(*) AS n FROM projects")
            if count and count["n"] >= MAX_PROJECTS:
                raise Problem("BadRequestExceedProjectLimit", f"there are {MAX_PROJECTS} projects: delete one first")
            with unique("BadRequestProjectNameNotUnique", f"there is a project {wanted.name!r}: choose another name"):
                change.run(
                    "INSERT INTO projects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
                    [
                        id_,
                        wanted.name,
                        wanted.description,
                        wanted.domain or domains.GENERAL,
                        wanted.kind or MULTILABEL,
                        json.dumps(wanted.platforms or ()),
                        now,
                        now,
                        status,
                        _stored(wanted.augmentation),
                    ],
                )
            return get_project(change, id_)

    def all(self) -> list[Project]:
        """Every project, the newest first."""
        return [_project(row) for row in self._store.rows(f"{_SELECT} ORDER BY created DESC, id")]

    def get(self, id_: str) -> Project:
        """Raises Problem."""
        with self._store.look() as now:
            return get_project(now, id_)

    def update(self, id_: str, wanted: Wanted) -> Project:
        """The project as it is after the change. Raises Problem."""
        with self._store.change() as change:
            before = get_project(change, id_)
            kind = wanted.kind or before.kind
            if kind == MULTICLASS != before.kind:
                _check_one_tag_each(change, id_)
            platforms = before.platforms if wanted.platforms is None else wanted.platforms
            augmentation = before.augmentation if wanted.augmentation is None else wanted.augmentation
            with unique("BadRequestProjectNameNotUnique", f"there is a project {wanted.name!r}: choose another name"):
                change.run(
                    "UPDATE projects SET name = ?, description = ?, domain = ?, kind = ?, platforms = ?, "
                    "augmentation = ?, modified = ? WHERE id = ?",
                    [
                        wanted.name or before.name,
                        before.description if wanted.description is None else wanted.description,
                        wanted.domain or before.domain,
                        kind,
                        json.dumps(platforms),
                        _stored(augmentation),
                        now_text(),
                        id_,
                    ],
                )
            return get_project(change, id_)

    def delete(self, id_: str) -> None:
        """Forget it and all that belongs to it, files excepted. Raises Problem."""
        with self._store.change() as change:
            get_project(change, id_)
            published = change.row(
                "SELECT published FROM iterations WHERE project = ? AND published IS NOT NULL", [id_]
            )
            if published:
                raise Problem(
                    "BadRequestIterationIsPublished",
                    f"an iteration is published as: {published['published']}; unpublish it first",
                )
            # tags and images hang on the project, and iterations on both: this order leaves nothing to check
            for table in ("predictions", "iterations", "images", "tags", "projects"):
                column = "id" if table == "projects" else "project"
                change.run(f"DELETE FROM {table} WHERE {column} = ?", [id_])  # noqa: S608 - names of our own

    def became(self, id_: str, status: str) -> None:
        """Say how an import ended."""
        with self._store.change() as change:
            change.run("UPDATE projects SET status = ?, modified = ? WHERE id = ?", [status, now_text(), id_])


def get_project(change: Transaction, id_: str) -> Project:
    """The project, within a change. Raises Problem."""
    row = change.row(f"{_SELECT} WHERE id = ?", [id_])
    if row is None:
        raise not_found("Project", id_)
    return _project(row)


def touch(change: Transaction, id_: str) -> None:
    """Note that something in the project changed."""
    change.run("UPDATE projects SET modified = ? WHERE id = ?", [now_text(), id_])


def now_text() -> str:
    """The time, as it stands in rows and answers."""
    return format_time(datetime.now(UTC))


class unique:  # noqa: N801 - reads as the statement it is
    """Turns a clash with a unique name into a Problem."""

    def __init__(self, code: str, message: str) -> None:
        self._problem = Problem(code, message)

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.IntegrityError):
            raise self._problem from error


_SELECT = """
    SELECT *, EXISTS (SELECT 1 FROM tags WHERE project = projects.id AND type = 'Negative') AS negative,
        (SELECT id FROM images WHERE project = projects.id AND deleted = 0 ORDER BY seq LIMIT 1) AS thumbnail
    FROM projects
"""


def _check_one_tag_each(change: Transaction, id_: str) -> None:
    row = change.row(
        "SELECT image FROM image_tags JOIN images ON images.id = image WHERE project = ? AND deleted = 0 "
        "GROUP BY image HAVING count(*) > 1",
        [id_],
    )
    if row:
        raise Problem("BadRequestImageTags", f"image {row['image']} has several tags: leave one, then change the type")


def _stored(augmentation: Mapping[str, bool] | None) -> str | None:
    return None if augmentation is None else json.dumps(augmentation)


def _project(row: Row) -> Project:
    return Project(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        domain=row["domain"],
        kind=row["kind"],
        platforms=tuple(json.loads(row["platforms"])),
        created=row["created"],
        modified=row["modified"],
        status=row["status"],
        negative=bool(row["negative"]),
        thumbnail=row["thumbnail"],
        augmentation=json.loads(row["augmentation"]) if row["augmentation"] else None,
    )
