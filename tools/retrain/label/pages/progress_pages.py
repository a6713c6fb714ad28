"""The page of progress: what is left, what each tag needs, the active model, and how its successor was judged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from retrain.label.pages.shown import page
from retrain.label.parts import Parts
from retrain.label.quality import judged
from retrain.label.quality.confusion import picture
from retrain.label.quality.fresh import Fresh
from retrain.label.quality.numerals import Numerals
from retrain.label.quality.progress import LEAST, Progress, progress
from retrain.label.strings import choose, translator
from ripeloop.errors import NotFound

SECONDS = 5.0  # the sums of progress cost milliseconds
REPORT_SECONDS = 30.0

# a file of ours, made of names from outside: nothing in it runs, and it has no part in this page's session
_SEALED = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _SEALED,
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
}

FIELD, ACTIVE, CANDIDATE = "field", "active", "candidate"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of confusion on the page: its address, and what it shows in words of the table."""

    address: str
    kind: str


def routes(parts: Parts) -> list[web.RouteDef]:
    """What this page answers."""
    pages = ProgressPages(parts)
    return [
        web.get("/progress", pages.progress),
        web.get("/report", pages.report),
        web.get("/confusion.svg", pages.confusion),
    ]


class ProgressPages:
    """The page, the judge's report, and the pictures of confusion."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sums = Fresh(self._progress, SECONDS)
        self._report = Fresh(self._found, REPORT_SECONDS)

    async def progress(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        found, report = await self._sums.get(), await self._report.get()
        kinds = [kind for kind, shown in ((ACTIVE, report), (CANDIDATE, report), (FIELD, found.mixed)) if shown]
        told = {
            "numerals": Numerals,
            "progress": found,
            "report": report,
            "needs": self._parts.settings.training_needs,
            "least": LEAST,
            "most": max((row.images for row in found.tags), default=0),
            "pictures": [Picture(f"/confusion.svg?of={quote(kind)}", kind) for kind in kinds],
        }
        return page(request, self._parts, "progress.html", told)

    async def report(self, _: web.Request) -> web.StreamResponse:
        """The judge's own report, as it was written."""
        report = await self._report.get()
        if report is None or report.html is None:
            raise NotFound("there is no report of a judge: run `ripeloop judge --report FILE`, and give --report")
        text = await asyncio.to_thread(judged.html_of, report.html)
        return web.Response(body=text, content_type="text/html", charset="utf-8", headers=_HEADERS)

    async def confusion(self, request: web.Request) -> web.StreamResponse:
        """A picture of what is taken for what: by a judged model on the holdout, or by the models in the field."""
        of = request.query.get("of", FIELD)
        counts, tags = (await self._sums.get()).mixed, sorted(row.tag for row in (await self._sums.get()).tags)
        if of in (ACTIVE, CANDIDATE):
            if (report := await self._report.get()) is None:
                raise NotFound("there is no judgement: run `ripeloop judge --json`, and give --report")
            side = report.active if of == ACTIVE else report.candidate
            counts, tags = side.confusion, list(side.tags)
        words = translator(choose(request.cookies.get("lang"), request.headers.get("Accept-Language", "")))
        told = words(f"progress.picture_{of if of in (ACTIVE, CANDIDATE) else FIELD}")
        svg = await asyncio.to_thread(picture, tags, counts, told)
        return web.Response(text=svg, content_type="image/svg+xml", headers=_HEADERS)

    async def _progress(self) -> Progress:
        names = await self._parts.tags.names()
        return await self._parts.cache.ask(progress, self._parts.now(), names)

    async def _found(self) -> judged.Report | None:
        return await asyncio.to_thread(judged.find, self._parts.settings.report)
