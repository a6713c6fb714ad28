"""The pages around the labelling: signing in, the desk, an image's bytes, the admins' retraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from retrain.label.container import samples
from retrain.label.container.cache import Look
from retrain.label.container.filters import ORDERS, STATE_WORDS, Filters
from retrain.label.pages.images import width_of
from retrain.label.pages.shown import LANGUAGE_COOKIE, page
from retrain.label.parts import Parts
from retrain.label.people import SESSION_SECONDS, VISITOR, admins_only, person_of
from retrain.label.security import is_here, is_secure
from retrain.label.strings import LANGUAGES
from ripeloop.errors import NotFound, Refused

MOST_CHOICES = 500
YEAR_SECONDS = 365 * 24 * 3600
IMAGE_CACHE = "private, max-age=86400, immutable"


def routes(parts: Parts) -> list[web.RouteDef]:
    """Pages and images."""
    pages = _Pages(parts)
    return [
        web.get("/", pages.home),
        web.get("/healthz", pages.health),
        web.get("/sign-in", pages.sign_in_page),
        web.post("/sign-in", pages.sign_in),
        web.post("/sign-out", pages.sign_out),
        web.post("/lang", pages.language),
        web.get("/label", pages.desk("label.html")),
        web.get("/grid", pages.desk("grid.html")),
        web.get("/review", pages.desk("review.html")),
        web.get("/image/{key:[0-9a-f]{32}}", pages.image),
        web.get("/admin/retrain", pages.retraining),
        web.post("/admin/retrain", pages.retrain),
    ]


@dataclass(frozen=True, slots=True)
class _Pages:
    parts: Parts

    async def home(self, _: web.Request) -> web.Response:
        raise web.HTTPSeeOther("/label")

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def sign_in_page(self, request: web.Request) -> web.Response:
        if request[VISITOR].person is not None:
            raise web.HTTPSeeOther(_next(request.query.get("next", "")))
        return self._door(request, request.query.get("next", ""))

    async def sign_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        name, token, next_ = (str(form.get(field, "")) for field in ("name", "token", "next"))
        try:
            _, cookie = self.parts.people.sign_in(request, name, token)
        except Refused as error:
            return self._door(request, next_, str(error), status=422)
        response = _to(_next(next_))
        response.set_cookie(
            self.parts.people.cookie, cookie, max_age=SESSION_SECONDS, httponly=True, samesite="Strict",
            secure=is_secure(request, self.parts.people),
        )  # fmt: skip
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        self.parts.people.sign_out(request)
        response = _to("/sign-in")
        response.del_cookie(self.parts.people.cookie, httponly=True, samesite="Strict")
        return response

    async def language(self, request: web.Request) -> web.Response:
        form = await request.post()
        language, next_ = str(form.get("lang", "")), str(form.get("next", ""))
        response = _to(_next(next_))
        if language in LANGUAGES:
            response.set_cookie(
                LANGUAGE_COOKIE, language, max_age=YEAR_SECONDS, httponly=True, samesite="Strict",
                secure=is_secure(request, self.parts.people),
            )  # fmt: skip
        return response

    def desk(self, template: str) -> Any:
        """The handler of one of the pages people label on."""

        async def desk(request: web.Request) -> web.Response:
            person = person_of(request)
            filters = Filters.of(request.query, name=person.name, admin=person.admin)
            choices = await self.parts.cache.ask(_choices)
            choices |= {"orders": list(ORDERS), "states": list(STATE_WORDS)}
            choices["people"] = await self.parts.cache.ask(_people) if person.admin else []
            return page(
                request, self.parts, template, {"filters": filters, "query": filters.query(), "choices": choices}
            )

        return desk

    async def image(self, request: web.Request) -> web.Response:
        """A JPEG of our own making, whatever was posted."""
        key, width = request.match_info["key"], width_of(request.query.get("w", ""))
        etag = f'"{key}-{width}"'
        headers = {"Cache-Control": IMAGE_CACHE, "ETag": etag, "Content-Security-Policy": "default-src 'none'; sandbox"}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        row = await self.parts.cache.ask(samples.by_key, key)
        if row is None:
            raise NotFound("there is no such sample, or it is not listed yet")
        made = await self.parts.images.jpeg(row, width)
        if made.broken:
            headers |= {"Cache-Control": "no-store", "X-Broken": "1"}
        return web.Response(body=made.jpeg, content_type="image/jpeg", headers=headers)

    async def retraining(self, request: web.Request) -> web.Response:
        admins_only(request)
        retraining = self.parts.retraining
        if not retraining.offered:
            raise NotFound("no retraining was configured: start `ripeloop label` with --retrain")
        run = retraining.run
        return page(
            request,
            self.parts,
            "retrain.html",
            {"running": run.running, "log": await retraining.said() if run.started else "", "started": run.started,
             "exit_code": run.exit_code},
        )  # fmt: skip

    async def retrain(self, request: web.Request) -> web.Response:
        await self.parts.retraining.start(admins_only(request).name)
        return _to("/admin/retrain")

    def _door(self, request: web.Request, next_: str, error: str = "", status: int = 200) -> web.Response:
        told = {"error": error, "needs_token": bool(self.parts.settings.token), "next": _next(next_)}
        return page(request, self.parts, "sign_in.html", told, status)


def _to(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


def _next(path: str) -> str:
    return path if is_here(path) else "/label"


def _choices(look: Look) -> dict[str, list[str]]:
    """What there is to filter by."""
    return {
        f"{name}s": [
            row["word"]
            for row in look.rows(
                f"SELECT DISTINCT {name} AS word FROM counts WHERE n > 0 AND {name} <> '' ORDER BY 1 "  # noqa: S608
                f"LIMIT {MOST_CHOICES}"
            )
        ]
        for name in ("device", "reason", "tag")
    }


def _people(look: Look) -> list[str]:
    """Everybody who ever answered, found by steps along the index."""
    found, row = list[str](), look.row("SELECT min(by) AS by FROM answers")
    while row and row["by"] is not None and len(found) < MOST_CHOICES:
        found.append(row["by"])
        row = look.row("SELECT min(by) AS by FROM answers WHERE by > ?", (row["by"],))
    return found
