"""New images: checked, stored, then remembered; a batch may succeed in part."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from classifier.decoding import MAX_SIDE, decode
from classifier.room import Room
from ripeloop.errors import BadImage
from ripeloop.prediction import image_id
from trainer import tags as tagging
from trainer.errors import Problem
from trainer.files import Files
from trainer.images import Asked, Image, Images, Page, check_metadata, describe
from trainer.projects import Project, get_project, now_text, touch
from trainer.store import Store, Transaction, marks

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
class _Checked:
    """An upload on its way: refused with a status, or with its SHA-256 and, if it was not known, its size."""

    upload: Upload
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
        known = self._known(project, uploads)
        checked = [self._check(project, upload, known) for upload in uploads]
        with self._store.change() as change:
            found = get_project(change, project)
            adding = _Adding(change, found, metadata or {})
            results = [adding.add(one) for one in checked]
            touch(change, project)
        kept = {result.id for result in results}
        self._files.forget(project, [one.id for one in checked if one.size and one.id not in kept])
        return self._with_images(project, results)

    def _known(self, project: str, uploads: Sequence[Upload]) -> set[str]:
        """The SHA-256 of those uploads that the project has already. Raises Problem."""
        hashes = [image_id(one.data) for one in uploads if one.data]
        with self._store.look() as now:
            get_project(now, project)
            return {
                row["sha256"]
                for row in now.rows(
                    f"SELECT sha256 FROM images WHERE project = ? AND deleted = 0 AND sha256 IN ({marks(hashes)})",  # noqa: S608
                    [project, *hashes],
                )
            }

    def _check(self, project: str, upload: Upload, known: set[str]) -> _Checked:
        """Look at the image, and store its file where it is new."""
        if upload.data is None:
            return _Checked(upload, upload.why)
        if len(upload.data) > MAX_BYTES:
            return _Checked(upload, "ErrorImageSize")
        sha256 = image_id(upload.data)
        if sha256 in known:
            return _Checked(upload, sha256=sha256)
        try:
            size = decode(upload.data, self._room).size
        except BadImage:
            return _Checked(upload, "ErrorImageFormat")
        if not well_shaped(size):
            return _Checked(upload, "ErrorImageDimensions")
        id_ = str(uuid.uuid4())
        try:
            self._files.keep(project, id_, upload.data)
        except Problem as problem:
            log.error("%s", problem)
            return _Checked(upload, "ErrorStorage")
        return _Checked(upload, id=id_, sha256=sha256, size=size)

    def _with_images(self, project: str, results: Sequence[Result]) -> list[Result]:
        ids = tuple({one.id for one in results if one.id})
        images = {image.id: image for image in self._images.find(project, Asked(ids=ids), Page(take=max(1, len(ids))))}
        return [replace(one, image=images.get(one.id)) for one in results]


def well_shaped(size: tuple[int, int]) -> bool:
    """Whether Custom Vision takes an image of that width and height."""
    return max(size) <= MAX_SIDE and max(size) <= MAX_RATIO * min(size)


def check_batch(uploads: int, tags: int) -> None:
    """Raises Problem for a batch of too many images or tags."""
    if uploads == 0:
        raise Problem("BadRequestImageBatch", "the batch holds no image: give one or more")
    if uploads > MAX_BATCH:
        raise Problem("BadRequestExceededBatchSize", f"a batch has at most {MAX_BATCH} images: send several")
    if tags > MAX_BATCH_TAGS:
        raise Problem("BadRequestExceededBatchSize", f"a batch has at most {MAX_BATCH_TAGS} tags: send several")


class _Adding:
    """The rows of one batch."""

    def __init__(self, change: Transaction, project: Project, metadata: Mapping[str, str]) -> None:
        self._change = change
        self._project = project
        self._metadata = metadata
        self._types = tagging.types(change, project.id)
        row = change.row("SELECT count(*) AS n FROM images WHERE project = ? AND deleted = 0", [project.id])
        self._left = MAX_IMAGES - int(row["n"] if row else 0)

    def add(self, one: _Checked) -> Result:
        if one.status != OK:
            return Result(one.upload.source, one.status)
        there = self._change.row(
            "SELECT id FROM images WHERE project = ? AND deleted = 0 AND sha256 = ?", [self._project.id, one.sha256]
        )
        had = tagging.tags_of(self._change, there["id"]) if there else []
        new = [tag for tag in dict.fromkeys(one.upload.tags) if tag not in had]
        refused = self._refused(one, had, new, is_new=there is None)
        if refused:
            return Result(one.upload.source, refused)
        id_ = there["id"] if there else one.id
        if one.size and not there:
            self._change.run(
                "INSERT INTO images (id, project, sha256, created, width, height) VALUES (?, ?, ?, ?, ?, ?)",
                [id_, self._project.id, one.sha256, now_text(), *one.size],
            )
            self._left -= 1
        tagging.give(self._change, id_, new)
        describe(self._change, id_, self._metadata)
        return Result(one.upload.source, DUPLICATE if there else OK, id_)

    def _refused(self, one: _Checked, had: Sequence[str], new: Sequence[str], *, is_new: bool) -> str | None:
        """The status of what cannot be added."""
        if is_new and one.size is None:
            return "ErrorUnknown"  # somebody deleted it between two looks
        if is_new and self._left <= 0:
            return "ErrorLimitExceed"
        if any(tag not in self._types for tag in new):
            return "ErrorInvalidTag"
        if new and len(had) + len(new) > tagging.most_tags(multilabel=self._project.multilabel):
            return "ErrorTagLimitExceed"
        if tagging.mixed([self._types[tag] for tag in (*had, *new)]):
            return "ErrorNegativeAndRegularTagOnSameImage"
        return None
