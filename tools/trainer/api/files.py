"""Images and models for those whom a link allows to read them."""

from __future__ import annotations

from aiohttp import web

from classifier.pixels.decoding import content_type
from ripeloop.errors import BadImage
from trainer.api import asked
from trainer.api.parts import Parts, work
from trainer.errors import GatewayProblem, Problem, not_found
from trainer.state.files import IMAGES, MODEL, MODEL_INT8, PREDICTIONS, SIDES, smaller

_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KIND = f"{{kind:{IMAGES}|{PREDICTIONS}}}"
_SIZE = f"{{size:original|{'|'.join(SIDES)}}}"
NEVER_A_PAGE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}


def routes(parts: Parts, base: str) -> list[web.RouteDef]:
    """The route below `base`, the training API's address, that takes a link's path with a key."""
    return _Files(parts).routes(base)


def link_routes(parts: Parts) -> list[web.RouteDef]:
    """What links lead to."""
    return _Files(parts).link_routes()


class _Files:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def link_routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"/files/{{project:{_ID}}}/{_KIND}/{{id:{_ID}}}/{_SIZE}", self.image),
            web.get(f"/files/{{project:{_ID}}}/models/{{id:{_ID}}}/{{name:{MODEL}|{MODEL_INT8}}}", self.model),
        ]

    def routes(self, base: str) -> list[web.RouteDef]:
        return [web.get(f"{base}/projects/{{projectId}}/artifacts", self.artifact)]

    async def image(self, request: web.Request) -> web.Response:
        self._check(request)
        match = request.match_info
        return await self._image(match["project"], match["kind"], match["id"], match["size"])

    async def model(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        match = request.match_info
        path = await work(self._parts.exports.path, match["project"], match["id"], match["name"])
        if path is None:
            raise not_found("Iteration", match["id"])
        # a piece of it can be asked for: a device goes on where its connection broke
        return web.FileResponse(path, headers={"Content-Type": "application/zip", **NEVER_A_PAGE})

    async def artifact(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        path = (asked.text(request, "path", needed=True) or "").removeprefix(f"/files/{project}/")
        kind, _, rest = path.partition("/")
        id_, _, size = rest.partition("/")
        if kind not in (IMAGES, PREDICTIONS) or size not in ("original", *SIDES):
            raise Problem("BadRequestInvalidArtifactUri", f"a path is like {IMAGES}/<id>/original, as in image URIs")
        return await self._image(project, kind, asked.an_id(id_, "path"), size)

    async def _image(self, project: str, kind: str, id_: str, size: str) -> web.Response:
        path = self._parts.files.image(project, id_, kind)
        try:
            data = await work(path.read_bytes)
            if size != "original":
                data = await work(smaller, data, size, self._parts.room)
        except FileNotFoundError:
            raise not_found("Image", id_) from None
        except BadImage as error:
            raise Problem("ErrorUnknown", f"the image's file is damaged: {error}; delete it") from error
        return web.Response(body=data, content_type=content_type(data), headers=NEVER_A_PAGE)

    def _check(self, request: web.Request) -> None:
        if not self._parts.links.allows(request.path, request.query.get("se", ""), request.query.get("sig", "")):
            raise GatewayProblem(403, "the link is wrong, or too old: ask for a new one")
