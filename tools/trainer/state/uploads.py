"""New images: checked, stored, then remembered; a batch may succeed in part."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from classifier.pixels.decoding import TOO_LONG, opened
from classifier.pixels.room import Room
from ripeloop.errors import BadImage
from ripeloop.prediction import image_id
from trainer.errors import Problem
from trainer.state import tags as tagging
from trainer.state.files import Files
from trainer.state.images import MAX_METADATA, Asked, Image, Images, Page, check_metadata, describe, metadata_of
from trainer.state.projects import Project, get_project, now_text, touch
from trainer.state.store import Store, Transaction

log = logging.getLogger(__name__)

MAX_BYTES = 6 * 1024 * 1024
MAX_BATCH = 64
MAX_BATCH_TAGS = 20
MAX_IMAGES = 100_000  # of one project
MAX_RATIO = 25

OK, DUPLICATE = "OK", "OKDuplicate"


@dataclass(frozen=True, slots=True)
class Upload:
    """An image to add; `source` is what its sender calls it. Without `data` it did not arrive, and `why` says why."""

    source: str
    data: bytes | None
    tags: tuple[str, ...] = ()
    why: str = "ErrorSource"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one upload, in Custom Vision's words; `id` is the image's, new or known."""

    source: str
    status: str
    id: str = ""
    image: Image | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """An upload on its way, without its bytes: refused with a status, or with its SHA-256 and, if new, its size."""

    source: str
    tags: tuple[str, ...] = ()
    status: str = OK
    id: str = ""
    sha256: str = ""
    size: tuple[int, int] | None = None


class Uploads:
    """Adds images to projects. Images are decoded in `room`."""

    def __init__(self, store: Store, files: Files, room: Room) -> None:
        self._store = store
        self._files = files
        self._images = Images(store, files)
        self._room = room

    def add(self, project: str, uploads: Sequence[Upload], metadata: Mapping[str, str] | None = None) -> list[Result]:
        """Add all that can be added, one result for each in their order. Raises Problem."""
        check_metadata(metadata or {})
        return self.finish(project, [self.check(project, upload) for upload in uploads], metadata or {})

    def check(self, project: str, upload: Upload) -> Checked:
        """Look at one image, and store its file where it is new; `finish` is to follow. Raises Problem."""
        sha256 = image_id(upload.data or b"")
        if upload.data is not None and self._is_known(project, sha256):
            return Checked(upload.source, upload.tags, sha256=sha256)
        try:
            status, size = _looked_at(upload, self._room)
            id_ = str(uuid.uuid4())
            if size is not None:
                self._files.keep(project, id_, upload.data or b"")
        except Problem as problem:
            log.error("%s", problem)
            return Checked(upload.source, upload.tags, "ErrorStorage")
        return Checked(upload.source, upload.tags, status, id_, sha256, size)

    def finish(self, project: str, checked: Sequence[Checked], metadata: Mapping[str, str]) -> list[Result]:
        """Remember what was checked, one result for each in their order. Raises Problem."""
        with self._store.change() as change:
            found = get_project(change, project)
            adding = _Adding(change, found, metadata)
            results = [adding.add(one) for one in checked]
            touch(change, project)
        kept = {result.id for result in results}
        self._files.forget(project, [one.id for one in checked if one.size and one.id not in kept])
        return self._with_images(project, results)

    def _is_known(self, project: str, sha256: str) -> bool:
        """Whether the project has that image. Raises Problem."""
        with self._store.look() as now:
            get_project(now, project)
            return bool(
                now.row("SELECT 1 FROM images WHERE project = ? AND deleted = 0 AND sha256 = ?", [project, sha256])
            )

    def _with_images(self, project: str, results: Sequence[Result]) -> list[Result]:
        ids = tuple({one.id for one in results if one.id})
        images = {image.id: image for image in self._images.find(project, Asked(ids=ids), Page(take=max(1, len(ids))))}
        return [replace(one, image=images.get(one.id)) for one in results]


def well_shaped(size: tuple[int, int]) -> bool:
    """Whether Custom Vision takes an image of that shape."""
    return max(size) <= MAX_RATIO * min(size)


def size_of(image: bytes, room: Room) -> tuple[int, int]:
    """Width and height of the upright image, all of which was looked at. Raises BadImage."""
    with opened(image, room, enough=lambda _: (1, 1)) as source:  # a large JPEG in little memory
        return source.size


def check_batch(uploads: int, tags: int) -> None:
    """Raises Problem for a batch of too many images or tags."""
    if uploads == 0:
        raise Problem("BadRequestImageBatch", "the batch holds no image: give one or more")
    if uploads > MAX_BATCH:
        raise Problem("BadRequestExceededBatchSize", f"a batch has at most {MAX_BATCH} images: send several")
    if tags > MAX_BATCH_TAGS:
        raise Problem("BadRequestExceededBatchSize", f"a batch has at most {MAX_BATCH_TAGS} tags: send several")


def _looked_at(upload: Upload, room: Room) -> tuple[str, tuple[int, int] | None]:
    """What stands in the way, or OK and the image's size."""
    if upload.data is None:
        return upload.why, None
    if len(upload.data) > MAX_BYTES:
        return "ErrorImageSize", None
    try:
        size = size_of(upload.data, room)
    except BadImage as error:
        return "ErrorImageDimensions" if error.kind == TOO_LONG else "ErrorImageFormat", None
    return (OK, size) if well_shaped(size) else ("ErrorImageDimensions", None)


class _Adding:
    """The rows of one batch."""

    def __init__(self, change: Transaction, project: Project, metadata: Mapping[str, str]) -> None:
        self._change = change
        self._project = project
        self._metadata = metadata
        self._types = tagging.types(change, project.id)
        row = change.row("SELECT count(*) AS n FROM images WHERE project = ? AND deleted = 0", [project.id])
        self._left = MAX_IMAGES - int(row["n"] if row else 0)

    def add(self, one: Checked) -> Result:
        if one.status != OK:
            return Result(one.source, one.status)
        there = self._change.row(
            "SELECT id FROM images WHERE project = ? AND deleted = 0 AND sha256 = ?", [self._project.id, one.sha256]
        )
        had = tagging.tags_of(self._change, there["id"]) if there else []
        new = [tag for tag in dict.fromkeys(one.tags) if tag not in had]
        refused = self._refused(one, had, new, there["id"] if there else None)
        if refused:
            return Result(one.source, refused)
        id_ = there["id"] if there else one.id
        if one.size and not there:
            self._change.run(
                "INSERT INTO images (id, project, sha256, created, width, height) VALUES (?, ?, ?, ?, ?, ?)",
                [id_, self._project.id, one.sha256, now_text(), *one.size],
            )
            self._left -= 1
        tagging.give(self._change, id_, new)
        describe(self._change, id_, self._metadata)
        return Result(one.source, DUPLICATE if there else OK, id_)

    def _refused(self, one: Checked, had: Sequence[str], new: Sequence[str], there: str | None) -> str | None:
        """The status of what cannot be added."""
        if there is None and one.size is None:
            return "ErrorUnknown"  # somebody deleted it between two looks
        if there is None and self._left <= 0:
            return "ErrorLimitExceed"
        if there is not None and len(metadata_of(self._change, there) | dict(self._metadata)) > MAX_METADATA:
            return "ErrorLimitExceed"
        if any(tag not in self._types for tag in new):
            return "ErrorInvalidTag"
        if new and len(had) + len(new) > tagging.most_tags(multilabel=self._project.multilabel):
            return "ErrorTagLimitExceed"
        if tagging.mixed([self._types[tag] for tag in (*had, *new)]):
            return "ErrorNegativeAndRegularTagOnSameImage"
        return None
