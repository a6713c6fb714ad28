"""The page of likely mistakes: the labels that a model doubts most, one after the other, one key to put each right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from retrain.label.answering.writing import DOUBT
from retrain.label.asking.asking import keys_of, number_in
from retrain.label.asking.queue import REVIEW as DECIDING
from retrain.label.container import samples
from retrain.label.container.cache import Found, Look
from retrain.label.pages.shown import page, sample_json
from retrain.label.parts import Parts
from retrain.label.people import person_of
from retrain.label.quality.asker import Sought
from retrain.label.quality.doubted import Doubted, doubted, suspects, to_ask
from retrain.label.quality.fresh import Fresh
from retrain.labels import NONE, REVIEW

AT_ONCE = 20
MOST_AT_ONCE = 60


async def run(parts: Parts) -> None:
    """Ask the newer model, where one was given, about every labelled image, until cancelled."""
    if parts.asker is None:
        return

    async def wanted() -> Sequence[Sought]:
        return await parts.cache.ask(to_ask)

    await parts.asker.run(wanted, parts.blobs.get)


def routes(parts: Parts) -> list[web.RouteDef]:
    """What this page answers."""
    pages = MistakesPages(parts)
    return [web.get("/mistakes", pages.mistakes), web.get("/api/mistakes", pages.some)]


class MistakesPages:
    """The page, and the labels in doubt that it asks for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._doubts = Fresh(self._doubted)

    async def mistakes(self, request: web.Request) -> web.StreamResponse:
        """The page; its script asks for the images."""
        return page(request, self._parts, "mistakes.html")

    async def some(self, request: web.Request) -> web.StreamResponse:
        """The likeliest mistakes that nobody has decided meanwhile, without those the page `have`s."""
        many = number_in(request.query, "n", AT_ONCE, MOST_AT_ONCE)
        have = set(keys_of(request.query.get("have", "")))
        doubts = [one for one in await self._doubts.get() if one.doubt.id not in have]
        rows, left = await self._parts.cache.ask(_still, doubts, self._parts.tags.negative, many)
        person = person_of(request)
        shown = [
            _as_json(one) | {"sample": sample_json(row | {"asked": DOUBT}, self._parts, person, DECIDING)}
            for one, row in rows
        ]
        asker = self._parts.asker.asked if self._parts.asker else None
        newer = {"version": asker.version, "done": asker.done, "of": asker.of, "why": asker.why} if asker else None
        told = {"mistakes": shown, "left": left, "newer": newer, "negative": self._parts.tags.negative}
        return web.json_response(told)

    async def _doubted(self) -> Sequence[Doubted]:
        asker, negative = self._parts.asker, self._parts.tags.negative
        images = await self._parts.cache.ask(suspects, negative)
        newer = await asyncio.to_thread(asker.said, [image.id for image in images]) if asker else {}
        return await asyncio.to_thread(doubted, images, newer, asker.version if asker else "")


def _still(look: Look, doubts: Sequence[Doubted], negative: str, most: int) -> tuple[list[tuple[Doubted, Found]], int]:
    """The first of those whose label is still the doubted one, and about how many there are."""
    found, gone = list[tuple[Doubted, Found]](), 0
    for one in doubts:
        if len(found) == most:
            break
        row = samples.by_key(look, one.doubt.id)
        if row is None or not _stands(row, one, negative):
            gone += 1
            continue
        found.append((one, row))
    return found, len(doubts) - gone


def _stands(row: Found, one: Doubted, negative: str) -> bool:
    label = negative if row["state"] == NONE else row["said"]
    answers = [answer for answer in row["answers"] if answer["stands"]]
    again = [answer for answer in row["answers"] if answer["by"] == row["by"]]
    return label == one.doubt.label and len(again) < 2 and not any(answer["how"] == REVIEW for answer in answers)


def _as_json(one: Doubted) -> dict[str, Any]:
    doubt = one.doubt
    return {
        "key": doubt.id, "label": doubt.label, "says": doubt.says, "ofLabel": round(doubt.of_label, 4),
        "ofSays": round(doubt.of_says, 4), "unseen": doubt.unseen, "model": one.model,
        "predictions": [{"tag": tag, "probability": value} for tag, value in one.said.items()],
    }  # fmt: skip
