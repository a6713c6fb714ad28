"""Images, and the tags they have, over HTTP."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from classifier.serving.multipart import IMAGE_FIELD, parts
from classifier.serving.url import BadUrl, BigImage, ForbiddenUrl
from ripeloop.errors import BadImage
from trainer.api import asked, filters, shapes
from trainer.api.parts import Parts, answer, done, work
from trainer.errors import Problem
from trainer.state.images import Asked, Page, check_metadata
from trainer.state.tags import Pair
from trainer.state.uploads import MAX_BATCH, MAX_BATCH_TAGS, MAX_BYTES, Checked, Upload, check_batch

MAX_PAIRS = 128
MAX_IDS = 256
MAX_PARTS = 2 * MAX_BATCH  # so that a form of too many images is told so
ORDERS = ("Newest", "Oldest")
STATUSES = {"All": None, "Tagged": True, "Untagged": False}


def routes(parts_: Parts, base: str) -> list[web.RouteDef]:
    """The routes below `base`, the training API's address, that are about images."""
    return _Images(parts_).routes(base)


class _Images:
    def __init__(self, parts_: Parts) -> None:
        self._parts = parts_
        self._one_image = asyncio.Semaphore(1)
        """Images that no request brings along are held in memory one by one, however many are asked for."""

    def routes(self, base: str) -> list[web.RouteDef]:
        images = f"{base}/projects/{{projectId}}/images"
        return [
            web.get(images, self.find),
            web.post(images, self.from_data),
            web.delete(images, self.delete),
            web.get(f"{images}/count", self.count),
            web.get(f"{images}/{{status:tagged|untagged}}", self.find),
            web.get(f"{images}/{{status:tagged|untagged}}/count", self.count),
            web.get(f"{images}/id", self.by_ids),
            web.post(f"{images}/files", self.from_files),
            web.post(f"{images}/urls", self.from_urls),
            web.post(f"{images}/predictions", self.from_predictions),
            web.post(f"{images}/tags", self.give_tags),
            web.delete(f"{images}/tags", self.take_tags),
            web.post(f"{images}/metadata", self.describe),
            web.post(f"{images}/regions", self.regions),
            web.delete(f"{images}/regions", self.regions),
            web.post(f"{images}/{{imageId}}/regionproposals", self.regions),
        ]

    async def find(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        images = await work(self._parts.images.find, project, _asked(request), page(request))
        shaped = self._parts.shapes(request)
        return answer([shaped.image(project, image) for image in images])

    async def count(self, request: web.Request) -> web.Response:
        return answer(await work(self._parts.images.count, asked.id_in(request, "projectId"), _asked(request)))

    async def by_ids(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        ids = asked.ids(request, "imageIds", MAX_IDS)
        wanted = Asked(iteration=asked.optional_id(request, "iterationId"), ids=ids or None)
        images = await work(self._parts.images.find, project, wanted, Page(take=MAX_IDS))
        shaped = self._parts.shapes(request)
        return answer([shaped.image(project, image) for image in images])

    async def from_data(self, request: web.Request) -> web.Response:
        tags = asked.ids(request, "tagIds", MAX_BATCH_TAGS)
        async with self._parts.bodies.of(request) as body:
            kind = request.headers.get("Content-Type", "")
            uploads = await work(_uploads_in, kind, body, tags)
            return await self._add(request, uploads, {})

    async def from_files(self, request: web.Request) -> web.Response:
        async with self._parts.bodies.of(request) as body:
            batch = await work(asked.fields, body)
            uploads = await work(_files_in, batch)
            return await self._add(request, uploads, batch)

    async def from_urls(self, request: web.Request) -> web.Response:
        async with self._parts.bodies.of(request) as body:
            batch = await work(asked.fields, body)
        entries = _entries(batch)
        if self._parts.fetch is None:
            raise Problem("BadRequestImageUrl", "no host is listed that images may come from: set --url-hosts")
        project, metadata = asked.id_in(request, "projectId"), _metadata_in(batch)
        checked = []
        for one in entries:
            async with self._one_image:
                url, tags = asked.string(one, "url") or "", _tags_of(batch, one)
                checked.append(await work(self._parts.uploads.check, project, await self._fetched(url, tags)))
        return await self._finish(request, checked, metadata)

    async def from_predictions(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        async with self._parts.bodies.of(request) as body:
            batch = asked.fields(body)
        wanted = [(asked.an_id(one.get("id"), "id"), _tags_of(batch, one)) for one in _entries(batch)]
        metadata = _metadata_in(batch)
        known: dict[str, Checked] = {}
        for id_ in dict(wanted):
            async with self._one_image:
                known[id_] = await work(self._from_prediction, project, id_)
        return await self._finish(request, [replace(known[id_], tags=tags) for id_, tags in wanted], metadata)

    async def delete(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        ids = asked.ids(request, "imageIds", MAX_IDS)
        everything = asked.flag(request, "allImages")
        if bool(ids) == everything:
            raise Problem("BadRequestRequiredParamIsNull", "give either imageIds or allImages=true")
        all_iterations = asked.flag(request, "allIterations")
        await work(self._parts.images.delete, project, None if everything else ids, all_iterations=all_iterations)
        self._parts.trainings.tidy(project)
        return done(202 if everything or all_iterations else 204)

    async def give_tags(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        async with self._parts.bodies.of(request) as body:
            entries = asked.objects(asked.fields(body), "tags")
        if len(entries) > MAX_PAIRS:
            raise Problem("BadRequestExceededBatchSize", f"at most {MAX_PAIRS} tags are given at once: send several")
        pairs = [
            Pair(asked.an_id(one.get("imageId"), "imageId"), asked.an_id(one.get("tagId"), "tagId")) for one in entries
        ]
        return answer(shapes.given(await work(self._parts.tags.give, project, pairs)))

    async def take_tags(self, request: web.Request) -> web.Response:
        images = asked.needed_ids(request, "imageIds", MAX_BATCH)
        tags = asked.needed_ids(request, "tagIds", MAX_BATCH_TAGS)
        await work(self._parts.tags.take, asked.id_in(request, "projectId"), images, tags)
        return done()

    async def describe(self, request: web.Request) -> web.Response:
        project, ids = asked.id_in(request, "projectId"), asked.needed_ids(request, "imageIds", MAX_BATCH)
        async with self._parts.bodies.of(request) as body:
            metadata = asked.strings(asked.fields(body), "metadata")
        status, shape = shapes.described(await work(self._parts.images.describe, project, ids, metadata))
        return answer(shape, status)

    async def regions(self, request: web.Request) -> web.Response:
        await work(self._parts.projects.get, asked.id_in(request, "projectId"))
        raise Problem("BadRequestImageRegions", "images of a classification project have no regions: give tags")

    async def _add(self, request: web.Request, uploads: Sequence[Upload], batch: dict[str, Any]) -> web.Response:
        project = asked.id_in(request, "projectId")
        check_batch(len(uploads), len(asked.ids_of(batch, "tagIds")))
        results = await work(self._parts.uploads.add, project, uploads, _metadata_in(batch))
        status, shape = self._parts.shapes(request).summary(project, results)
        return answer(shape, status)

    async def _finish(self, request: web.Request, checked: Sequence[Checked], metadata: dict[str, str]) -> web.Response:
        project = asked.id_in(request, "projectId")
        results = await work(self._parts.uploads.finish, project, checked, metadata)
        status, shape = self._parts.shapes(request).summary(project, results)
        return answer(shape, status)

    def _from_prediction(self, project: str, id_: str) -> Checked:
        return self._parts.uploads.check(project, Upload(id_, self._parts.predictions.image(project, id_)))

    async def _fetched(self, url: str, tags: tuple[str, ...]) -> Upload:
        assert self._parts.fetch is not None  # noqa: S101 - asked before
        try:
            return Upload(url, await self._parts.fetch(url), tags)
        except BigImage:
            return Upload(url, None, tags, "ErrorImageSize")
        except (BadUrl, ForbiddenUrl):
            return Upload(url, None, tags)


def page(request: web.Request) -> Page:
    """Which part of a list is wanted. Raises Problem."""
    return Page(
        take=asked.number(request, "take", 50, MAX_IDS),
        skip=asked.number(request, "skip", 0, 999_999_999),
        oldest=asked.word(request, "orderBy", ORDERS, "Newest") == "Oldest",
    )


def _asked(request: web.Request) -> Asked:
    status = request.match_info.get("status") or asked.word(request, "taggingStatus", STATUSES, "All")
    condition = request.query.get("$filter")
    # the counts take any number of tags
    most = MAX_IDS if request.path.endswith("/count") else MAX_BATCH_TAGS
    return Asked(
        iteration=asked.optional_id(request, "iterationId"),
        tags=asked.ids(request, "tagIds", most),
        tagged=STATUSES[status.capitalize()],
        condition=filters.parse(condition) if condition else None,
    )


def _metadata_in(batch: dict[str, Any]) -> dict[str, str]:
    """What describes all images of a batch. Raises Problem."""
    metadata = asked.strings(batch.get("metadata"), "metadata")
    check_metadata(metadata)
    return metadata


def _uploads_in(content_type: str, body: bytes, tags: tuple[str, ...]) -> list[Upload]:
    if not content_type.strip().lower().startswith("multipart/"):
        return [Upload("", body, tags)] if body else []
    try:
        return [
            Upload(_quoted(part.filename or ""), part.data, tags)
            for part in parts(content_type, body, MAX_PARTS)
            if part.name == IMAGE_FIELD or part.filename is not None
        ]
    except BadImage as error:
        raise Problem("BadRequestImageStream", str(error)) from error


def _files_in(batch: dict[str, Any]) -> list[Upload]:
    return [
        Upload(_quoted(asked.string(one, "name") or ""), _contents(one), _tags_of(batch, one), "ErrorSource")
        for one in _entries(batch)
    ]


def _entries(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The images of a batch. Raises Problem."""
    entries = asked.objects(batch, "images")
    check_batch(len(entries), len(asked.listed(batch, "tagIds")))
    if any(one.get("regions") for one in entries):
        raise Problem("BadRequestImageRegions", "images of a classification project have no regions: give tags")
    return entries


def _tags_of(batch: dict[str, Any], entry: dict[str, Any]) -> tuple[str, ...]:
    """An image's own tags and those of the batch."""
    return tuple(dict.fromkeys((*asked.ids_of(entry, "tagIds"), *asked.ids_of(batch, "tagIds"))))


def _contents(entry: dict[str, Any]) -> bytes | None:
    contents = asked.string(entry, "contents") or ""
    if len(contents) > 2 * MAX_BYTES:
        return bytes(MAX_BYTES + 1)  # too large in any case: its size is all that is looked at
    try:
        return base64.b64decode(contents, validate=True)
    except (ValueError, binascii.Error):
        return None


def _quoted(name: str) -> str:
    """The service gives a file's name with its quotes."""
    return f'"{name}"'
