"""Tags of a project, and which images have them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import category

from trainer.errors import Problem, not_found
from trainer.state.projects import MAX_DESCRIPTION, MAX_NAME, get_project, now_text, touch, unique
from trainer.state.store import Row, Store, Transaction, marks

REGULAR, NEGATIVE = "Regular", "Negative"
MAX_TAGS = 500
MAX_TAGS_OF_AN_IMAGE = 100


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag; `images` is how many have it."""

    id: str
    name: str
    description: str | None
    type: str
    images: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A tag to give to an image."""

    image: str
    tag: str


@dataclass(frozen=True, slots=True)
class Given:
    """What came of giving tags: new ones, ones that were there, ones that would have been too many."""

    created: tuple[Pair, ...]
    duplicated: tuple[Pair, ...]
    exceeded: tuple[Pair, ...]


class Tags:
    """The tags of all projects in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, project: str, name: str, description: str | None, type_: str) -> Tag:
        """A new tag. Raises Problem."""
        _check(name, description, type_)
        id_ = str(uuid.uuid4())
        with self._store.change() as change:
            get_project(change, project)
            there = change.rows("SELECT type FROM tags WHERE project = ?", [project])
            if len(there) >= MAX_TAGS:
                raise Problem("BadRequestExceedTagPerProjectLimit", f"a project has at most {MAX_TAGS} tags")
            if type_ == NEGATIVE:
                _check_first_negative(change, project, "")
            with unique("BadRequestTagNameNotUnique", f"there is a tag {name!r}: choose another name"):
                change.run(
                    "INSERT INTO tags VALUES (?, ?, ?, ?, ?, ?)", [id_, project, name, description, type_, now_text()]
                )
            touch(change, project)
        return Tag(id_, name, description, type_, 0)

    def all(self, project: str, iteration: str | None = None) -> list[Tag]:
        """The project's tags by name, now or as that iteration was trained on them. Raises Problem."""
        with self._store.look() as now:
            get_project(now, project)
            return all_tags(now, project, iteration)

    def get(self, project: str, id_: str, iteration: str | None = None) -> Tag:
        """Raises Problem."""
        for tag in self.all(project, iteration):
            if tag.id == id_:
                return tag
        raise not_found("Tag", id_)

    def update(self, project: str, id_: str, name: str, description: str | None, type_: str) -> Tag:
        """The tag as it is after the change. Raises Problem."""
        _check(name, description, type_)
        with self._store.change() as change:
            before = get_tag(change, project, id_)
            if type_ == NEGATIVE != before["type"]:
                _check_first_negative(change, project, id_)
                _check_alone(change, id_)
            with unique("BadRequestTagNameNotUnique", f"there is a tag {name!r}: choose another name"):
                change.run(
                    "UPDATE tags SET name = ?, description = ?, type = ? WHERE id = ?", [name, description, type_, id_]
                )
            touch(change, project)
        return self.get(project, id_)

    def delete(self, project: str, id_: str) -> None:
        """Take it from all images; iterations trained with it keep it. Raises Problem."""
        with self._store.change() as change:
            get_tag(change, project, id_)
            change.run("DELETE FROM tags WHERE id = ?", [id_])
            touch(change, project)

    def give(self, project: str, pairs: Sequence[Pair]) -> Given:
        """Give tags to images. Raises Problem."""
        created, duplicated, exceeded = list[Pair](), list[Pair](), list[Pair]()
        with self._store.change() as change:
            found = get_project(change, project)
            known = types(change, project)
            for pair in pairs:
                if pair.tag not in known:
                    raise not_found("Tag", pair.tag)
                if not change.row(
                    "SELECT 1 FROM images WHERE id = ? AND project = ? AND deleted = 0", [pair.image, project]
                ):
                    raise not_found("Image", pair.image)
                had = tags_of(change, pair.image)
                if pair.tag in had:
                    duplicated.append(pair)
                    continue
                if len(had) >= most_tags(multilabel=found.multilabel):
                    exceeded.append(pair)
                    continue
                if mixed([known[tag] for tag in (*had, pair.tag)]):
                    raise Problem(
                        "BadRequestNegativeAndRegularTagOnSameImage",
                        f"image {pair.image} would have the negative tag and others: take one away first",
                    )
                give(change, pair.image, [pair.tag])
                created.append(pair)
            touch(change, project)
        return Given(tuple(created), tuple(duplicated), tuple(exceeded))

    def take(self, project: str, images: Sequence[str], tags: Sequence[str]) -> None:
        """Take the tags from the images. Raises Problem."""
        with self._store.change() as change:
            get_project(change, project)
            there = types(change, project)
            for tag in tags:
                if tag not in there:
                    raise not_found("Tag", tag)
            change.run(
                f"DELETE FROM image_tags WHERE tag IN ({marks(tags)}) AND image IN "  # noqa: S608
                f"(SELECT id FROM images WHERE project = ? AND deleted = 0 AND id IN ({marks(images)}))",
                [*tags, project, *images],
            )
            touch(change, project)


def all_tags(change: Transaction, project: str, iteration: str | None = None) -> list[Tag]:
    """The tags by name, now or as that iteration knew them."""
    if iteration is None:
        rows = change.rows(
            """SELECT tags.*, (SELECT count(*) FROM image_tags JOIN images ON images.id = image AND deleted = 0
                WHERE tag = tags.id) AS n FROM tags WHERE project = ? ORDER BY name""",
            [project],
        )
    else:
        rows = change.rows(
            """SELECT t.tag AS id, t.name, t.description, t.type, (SELECT count(*) FROM iteration_image_tags
                WHERE iteration = t.iteration AND tag = t.tag) AS n FROM iteration_tags t
                JOIN iterations ON iterations.id = t.iteration WHERE t.iteration = ? AND project = ? ORDER BY t.name""",
            [iteration, project],
        )
    return [Tag(row["id"], row["name"], row["description"], row["type"], row["n"]) for row in rows]


def get_tag(change: Transaction, project: str, id_: str) -> Row:
    """The tag's row, within a change. Raises Problem."""
    get_project(change, project)
    row = change.row("SELECT * FROM tags WHERE id = ? AND project = ?", [id_, project])
    if row is None:
        raise not_found("Tag", id_)
    return row


def tags_of(change: Transaction, image: str) -> list[str]:
    """The ids of the tags an image has."""
    return [row["tag"] for row in change.rows("SELECT tag FROM image_tags WHERE image = ?", [image])]


def give(change: Transaction, image: str, tags: Sequence[str]) -> None:
    """Give tags that were checked."""
    now = now_text()
    change.run_all("INSERT INTO image_tags VALUES (?, ?, ?)", [(image, tag, now) for tag in tags])


def most_tags(*, multilabel: bool) -> int:
    """How many tags an image may have."""
    return MAX_TAGS_OF_AN_IMAGE if multilabel else 1


def mixed(kinds: Sequence[str]) -> bool:
    """Whether the negative tag would stand beside others."""
    return NEGATIVE in kinds and len(kinds) > 1


def types(change: Transaction, project: str) -> dict[str, str]:
    """The type of each tag of the project, by id."""
    return {row["id"]: row["type"] for row in change.rows("SELECT id, type FROM tags WHERE project = ?", [project])}


def _check(name: str, description: str | None, type_: str) -> None:
    if type_ not in (REGULAR, NEGATIVE):
        raise Problem("BadRequestTagType", f"{type_}: a tag here is {REGULAR} or {NEGATIVE}")
    if not name.strip() or len(name) > MAX_NAME:
        raise Problem("BadRequestTagName", f"a tag's name has 1 to {MAX_NAME} characters")
    if len(name.splitlines()) != 1 or name.startswith("\ufeff") or any(category(letter) == "Cc" for letter in name):
        words = "a tag's name is one line of text without control characters: it becomes a line of labels.txt"
        raise Problem("BadRequestTagName", words)
    if len(description or "") > MAX_DESCRIPTION:
        raise Problem("BadRequestTagDescription", f"a description has at most {MAX_DESCRIPTION} characters")


def _check_first_negative(change: Transaction, project: str, but: str) -> None:
    if change.row("SELECT 1 FROM tags WHERE project = ? AND type = ? AND id <> ?", [project, NEGATIVE, but]):
        raise Problem("BadRequestMultipleNegativeTag", "the project has a negative tag: use that one")


def _check_alone(change: Transaction, tag: str) -> None:
    row = change.row(
        "SELECT image FROM image_tags WHERE image IN (SELECT image FROM image_tags WHERE tag = ?) "
        "GROUP BY image HAVING count(*) > 1",
        [tag],
    )
    if row:
        raise Problem("BadRequestNegativeAndRegularTagOnSameImage", f"image {row['image']} has this tag and others")
