"""The images a project learns from: asked for, deleted, described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trainer.api.filters import Condition
from trainer.errors import Problem, not_found
from trainer.state.files import Files
from trainer.state.projects import get_project, touch
from trainer.state.store import Store, Transaction, marks

MAX_METADATA = 10  # pairs
MAX_KEY, MAX_VALUE = 128, 256  # characters


@dataclass(frozen=True, slots=True)
class GivenTag:
    """A tag an image has, since when."""

    id: str
    name: str
    created: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a project; sizes in pixels, of the upright picture."""

    id: str
    created: str
    width: int
    height: int
    tags: tuple[GivenTag, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which images are wanted: all conditions together; of `tags` an image has one or more.

    `tagged`: only those with tags (or, False, without). `iteration`: as that one was trained on them.
    """

    iteration: str | None = None
    tags: tuple[str, ...] = ()
    tagged: bool | None = None
    condition: Condition | None = None
    ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of them: so many after the first `skip`, the newest first or the oldest."""

    take: int = 50
    skip: int = 0
    oldest: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """What came of describing an image: OK, ErrorImageNotFound or ErrorLimitExceed."""

    id: str
    status: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class Images:
    """The images of all projects."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files

    def find(self, project: str, asked: Asked, page: Page = Page()) -> list[Image]:
        """A page of the images wanted. Raises Problem."""
        with self._store.look() as now:
            where, values = _where(now, project, asked)
            order = "ASC" if page.oldest else "DESC"
            rows = now.rows(
                f"SELECT images.* FROM {where} ORDER BY images.seq {order} LIMIT ? OFFSET ?",  # noqa: S608
                [*values, page.take, page.skip],
            )
            ids = [row["id"] for row in rows]
            tags, metadata = _tags(now, ids, asked.iteration), _metadata(now, ids)
        return [
            Image(
                row["id"],
                row["created"],
                row["width"],
                row["height"],
                tuple(tags.get(row["id"], ())),
                metadata.get(row["id"], {}),
            )
            for row in rows
        ]

    def count(self, project: str, asked: Asked) -> int:
        """How many images are wanted. Raises Problem."""
        with self._store.look() as now:
            where, values = _where(now, project, asked)
            row = now.row(f"SELECT count(*) AS n FROM {where}", values)  # noqa: S608 - marks alone
        return int(row["n"]) if row else 0

    def delete(self, project: str, ids: Sequence[str] | None, *, all_iterations: bool) -> None:
        """Delete images, or all for None; those an iteration was trained on stay with it, unless from them, too."""
        with self._store.change() as change:
            get_project(change, project)
            chosen, values = "project = ?", [project]
            if ids is not None:
                chosen, values = f"{chosen} AND id IN ({marks(ids)})", [project, *ids]
            if not all_iterations:
                trained = "EXISTS (SELECT 1 FROM iteration_images WHERE image = images.id)"
                change.run(f"UPDATE images SET deleted = 1 WHERE {chosen} AND {trained}", values)  # noqa: S608
                chosen = f"{chosen} AND NOT {trained}"
            gone = [row["id"] for row in change.rows(f"SELECT id FROM images WHERE {chosen}", values)]  # noqa: S608
            change.run(f"DELETE FROM images WHERE {chosen}", values)  # noqa: S608
            touch(change, project)
        self._files.forget(project, gone)

    def describe(self, project: str, ids: Sequence[str], metadata: Mapping[str, str]) -> list[Described]:
        """Add to what is known of each image. Raises Problem."""
        check_metadata(metadata)
        with self._store.change() as change:
            get_project(change, project)
            return [_describe(change, project, id_, metadata) for id_ in ids]

    def check_exists(self, project: str, id_: str) -> None:
        """Raises Problem where the project has no such image, not even one that an iteration keeps."""
        if not self._store.row("SELECT 1 FROM images WHERE id = ? AND project = ?", [id_, project]):
            raise not_found("Image", id_)


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises Problem for what an image cannot be described with."""
    if len(metadata) > MAX_METADATA or any(not 0 < len(key) <= MAX_KEY for key in metadata):
        raise Problem(
            "BadRequestImageMetadataKey", f"at most {MAX_METADATA} keys of 1 to {MAX_KEY} characters describe an image"
        )
    if any(len(value) > MAX_VALUE for value in metadata.values()):
        raise Problem("BadRequestImageMetadataValue", f"a value has at most {MAX_VALUE} characters")


def describe(change: Transaction, id_: str, metadata: Mapping[str, str]) -> None:
    """Add to what is known of an image, which was checked."""
    change.run_all(
        "INSERT INTO image_metadata VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        [(id_, key, value) for key, value in metadata.items()],
    )


def metadata_of(change: Transaction, id_: str) -> dict[str, str]:
    """What is known of an image."""
    return _metadata(change, [id_]).get(id_, {})


def purge(change: Transaction, project: str) -> list[str]:
    """Forget deleted images that no iteration keeps any more; their ids, for their files."""
    lost = "project = ? AND deleted = 1 AND NOT EXISTS (SELECT 1 FROM iteration_images WHERE image = images.id)"
    gone = [row["id"] for row in change.rows(f"SELECT id FROM images WHERE {lost}", [project])]  # noqa: S608
    change.run(f"DELETE FROM images WHERE {lost}", [project])  # noqa: S608 - words of our own
    return gone


def _describe(change: Transaction, project: str, id_: str, metadata: Mapping[str, str]) -> Described:
    if not change.row("SELECT 1 FROM images WHERE id = ? AND project = ? AND deleted = 0", [id_, project]):
        return Described(id_, "ErrorImageNotFound")
    known = metadata_of(change, id_)
    if len(known | dict(metadata)) > MAX_METADATA:
        return Described(id_, "ErrorLimitExceed", known)
    describe(change, id_, metadata)
    return Described(id_, "OK", known | dict(metadata))


def _where(change: Transaction, project: str, asked: Asked) -> tuple[str, list[str]]:
    """The tables and conditions of a query, and their values. Raises Problem."""
    get_project(change, project)
    if asked.iteration is None:
        tables, conditions, values = "images", ["images.project = ?", "images.deleted = 0"], [project]
        tags, of_tags = "image_tags WHERE image = images.id", list[str]()
    else:
        if not change.row("SELECT 1 FROM iterations WHERE id = ? AND project = ?", [asked.iteration, project]):
            raise not_found("Iteration", asked.iteration)
        tables = "iteration_images ii JOIN images ON images.id = ii.image"
        conditions, values = ["ii.iteration = ?"], [asked.iteration]
        tags, of_tags = "iteration_image_tags WHERE image = images.id AND iteration = ?", [asked.iteration]
    if asked.tags:
        conditions.append(f"EXISTS (SELECT 1 FROM {tags} AND tag IN ({marks(asked.tags)}))")  # noqa: S608
        values += [*of_tags, *asked.tags]
    if asked.tagged is not None:
        conditions.append(f"{'' if asked.tagged else 'NOT '}EXISTS (SELECT 1 FROM {tags})")  # noqa: S608
        values += of_tags
    if asked.condition is not None:
        conditions.append(asked.condition.sql)
        values += asked.condition.values
    if asked.ids is not None:
        conditions.append(f"images.id IN ({marks(asked.ids)})")
        values += asked.ids
    return f"{tables} WHERE {' AND '.join(conditions)}", values


def _tags(change: Transaction, ids: Sequence[str], iteration: str | None) -> dict[str, list[GivenTag]]:
    if iteration is None:
        query = f"""SELECT image, tag, name, image_tags.created FROM image_tags JOIN tags ON tags.id = tag
            WHERE image IN ({marks(ids)}) ORDER BY image_tags.created, tag"""  # noqa: S608
        rows = change.rows(query, ids)
    else:
        query = f"""SELECT image, iit.tag, name, iit.created FROM iteration_image_tags iit JOIN iteration_tags t
            ON t.tag = iit.tag AND t.iteration = iit.iteration WHERE iit.iteration = ? AND image IN ({marks(ids)})
            ORDER BY iit.created, iit.tag"""  # noqa: S608
        rows = change.rows(query, [iteration, *ids])
    found: dict[str, list[GivenTag]] = {}
    for row in rows:
        found.setdefault(row["image"], []).append(GivenTag(row["tag"], row["name"], row["created"]))
    return found


def _metadata(change: Transaction, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in change.rows(
        f"SELECT * FROM image_metadata WHERE image IN ({marks(ids)}) ORDER BY key",  # noqa: S608
        ids,
    ):
        found.setdefault(row["image"], {})[row["key"]] = row["value"]
    return found
