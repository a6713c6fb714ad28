"""The page of quality: how much people agree, how good each is on known images, how much the suggestion steers."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from retrain.label.pages.shown import page
from retrain.label.parts import Parts
from retrain.label.people import person_of
from retrain.label.quality.agreement import Pair
from retrain.label.quality.fresh import Fresh
from retrain.label.quality.labellers import ENOUGH, FEW
from retrain.label.quality.numerals import Numerals
from retrain.label.quality.quality import DAYS, Person, Quality, quality


def routes(parts: Parts) -> list[web.RouteDef]:
    """What this page answers."""
    return [web.get("/quality", QualityPages(parts).quality)]


class QualityPages:
    """The page. Who is no admin sees the sums and themselves; others have no names, and no rows of their own."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sums = Fresh(self._quality)

    async def quality(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        person, found = person_of(request), await self._sums.get()
        people: Sequence[Person] = found.people
        pairs: Sequence[Pair] = found.agreement.pairs
        if not person.admin:
            people = [one for one in people if one.name == person.name]
            pairs = [pair for pair in pairs if person.name in (pair.one, pair.other)]
        told = {
            "numerals": Numerals,
            "people": people,
            "pairs": pairs,
            "agreement": found.agreement,
            "steered": found.steered,
            "few": FEW,
            "enough": ENOUGH,
            "days": DAYS,
            "shares": self._parts.settings,
        }
        return page(request, self._parts, "quality.html", told)

    async def _quality(self) -> Quality:
        return await self._parts.cache.ask(quality, self._parts.now())
