"""Domains, projects and tags over HTTP."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from trainer.api import asked, shapes
from trainer.api.parts import Parts, answer, done, work
from trainer.errors import Problem
from trainer.state import domains
from trainer.state.projects import Wanted

# what a copy of one image costs, about
IMPORT_MS_PER_IMAGE = 1


def routes(parts: Parts, base: str) -> list[web.RouteDef]:
    """The routes below `base`, the training API's address, that are about projects."""
    return _Projects(parts).routes(base)


class _Projects:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self, base: str) -> list[web.RouteDef]:
        project, tags = f"{base}/projects/{{projectId}}", f"{base}/projects/{{projectId}}/tags"
        return [
            web.get(f"{base}/domains", self.domains),
            web.get(f"{base}/domains/{{domainId}}", self.domain),
            web.get(f"{base}/projects", self.projects),
            web.post(f"{base}/projects", self.create),
            web.post(f"{base}/projects/import", self.import_),
            web.get(project, self.get),
            web.patch(project, self.update),
            web.delete(project, self.delete),
            web.get(f"{project}/export", self.export),
            web.get(tags, self.tags),
            web.post(tags, self.create_tag),
            web.get(f"{tags}/{{tagId}}", self.tag),
            web.patch(f"{tags}/{{tagId}}", self.update_tag),
            web.delete(f"{tags}/{{tagId}}", self.delete_tag),
        ]

    async def domains(self, request: web.Request) -> web.Response:
        shaped = self._parts.shapes(request)
        return answer([shaped.domain(domain) for domain in domains.DOMAINS])

    async def domain(self, request: web.Request) -> web.Response:
        found = domains.get(asked.id_in(request, "domainId"))
        return answer(self._parts.shapes(request).domain(found))

    async def projects(self, request: web.Request) -> web.Response:
        shaped = self._parts.shapes(request)
        return answer([shaped.project(project) for project in await work(self._parts.projects.all)])

    async def create(self, request: web.Request) -> web.Response:
        async with self._parts.bodies.of(request) as body:
            options = asked.fields(body, needed=False)
        for name in ("exportModelContainerUri", "notificationQueueUri"):
            if options.get(name):
                raise Problem("BadRequestNotSupported", f"{name}: this trainer sends nothing anywhere; leave it out")
        platforms = asked.text(request, "targetExportPlatforms") or ""
        wanted = Wanted(
            name=asked.text(request, "name", needed=True),
            description=asked.text(request, "description"),
            domain=_domain_in(asked.text(request, "domainId")),
            kind=asked.text(request, "classificationType"),
            platforms=tuple(one for one in platforms.split(",") if one),
        )
        made = await work(self._parts.projects.create, wanted)
        return answer(self._parts.shapes(request).project(made))

    async def get(self, request: web.Request) -> web.Response:
        found = await work(self._parts.projects.get, asked.id_in(request, "projectId"))
        return answer(self._parts.shapes(request).project(found))

    async def update(self, request: web.Request) -> web.Response:
        id_ = asked.id_in(request, "projectId")
        async with self._parts.bodies.of(request) as body:
            wanted = _project_in(asked.fields(body))
        found = await work(self._parts.projects.update, id_, wanted)
        return answer(self._parts.shapes(request).project(found))

    async def delete(self, request: web.Request) -> web.Response:
        id_ = asked.id_in(request, "projectId")
        iterations = await work(self._parts.iterations.all, id_)
        await work(self._parts.projects.delete, id_)
        for iteration in iterations:
            self._parts.trainings.cancel(iteration.id)
            self._parts.predictor.forget(iteration.id)
        await work(self._parts.files.forget_project, id_)
        return done()

    async def export(self, request: web.Request) -> web.Response:
        id_ = asked.id_in(request, "projectId")
        counts = await work(self._parts.copies.counts, id_)
        return answer(
            {
                "iterationCount": 0,  # a copy is trained anew
                "imageCount": counts.images,
                "tagCount": counts.tags,
                "regionCount": 0,
                "estimatedImportTimeInMS": IMPORT_MS_PER_IMAGE * counts.images,
                "token": self._parts.links.token(id_),
            }
        )

    async def import_(self, request: web.Request) -> web.Response:
        token = asked.text(request, "token", needed=True) or ""
        source = self._parts.links.of_token(token)
        if source is None:
            raise Problem(
                "BadRequestInvalidImportToken", "the token is not one of this trainer's, or too old: export again"
            )
        made = await work(self._parts.copies.copy, source, asked.text(request, "name"))
        return answer(self._parts.shapes(request).project(made))

    async def tags(self, request: web.Request) -> web.Response:
        project, iteration = asked.id_in(request, "projectId"), asked.optional_id(request, "iterationId")
        return answer([shapes.tag(tag) for tag in await work(self._parts.tags.all, project, iteration)])

    async def create_tag(self, request: web.Request) -> web.Response:
        made = await work(
            self._parts.tags.create,
            asked.id_in(request, "projectId"),
            asked.text(request, "name", needed=True) or "",
            asked.text(request, "description"),
            asked.text(request, "type") or "Regular",
        )
        return answer(shapes.tag(made))

    async def tag(self, request: web.Request) -> web.Response:
        project, id_ = asked.id_in(request, "projectId"), asked.id_in(request, "tagId")
        found = await work(self._parts.tags.get, project, id_, asked.optional_id(request, "iterationId"))
        return answer(shapes.tag(found))

    async def update_tag(self, request: web.Request) -> web.Response:
        project, id_ = asked.id_in(request, "projectId"), asked.id_in(request, "tagId")
        async with self._parts.bodies.of(request) as body:
            fields = asked.fields(body)
        before = await work(self._parts.tags.get, project, id_)
        description = asked.string(fields, "description")
        found = await work(
            self._parts.tags.update,
            project,
            id_,
            asked.string(fields, "name") or before.name,
            before.description if description is None else description,
            asked.string(fields, "type") or before.type,
        )
        return answer(shapes.tag(found))

    async def delete_tag(self, request: web.Request) -> web.Response:
        await work(self._parts.tags.delete, asked.id_in(request, "projectId"), asked.id_in(request, "tagId"))
        return done()


def _domain_in(value: str | None) -> str | None:
    return asked.an_id(value, "domainId") if value else None


def _project_in(fields: dict[str, Any]) -> Wanted:
    settings = asked.object_(fields, "settings")
    processing = asked.object_(settings, "imageProcessingSettings")
    platforms = asked.listed(settings, "targetExportPlatforms") if "targetExportPlatforms" in settings else None
    return Wanted(
        name=asked.string(fields, "name"),
        description=asked.string(fields, "description"),
        domain=_domain_in(asked.string(settings, "domainId")),
        kind=asked.string(settings, "classificationType"),
        platforms=None if platforms is None else tuple(str(one) for one in platforms),
        augmentation=asked.flags(processing, "augmentationMethods"),
    )
