"""What the page's scripts ask, in JSON: the next samples, answers, undo, skip, and how things stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from retrain.label.answering.answers import Offer
from retrain.label.answering.journal import KEPT, NOTHING, REFUSED, TAKEN, UNDONE, UNKNOWN, WRITTEN, Entry
from retrain.label.answering.writing import CHECK, DECIDE, DOUBT, Wish
from retrain.label.asking.asking import (
    MOST_AT_ONCE,
    id_in,
    json_of,
    key_in,
    keys_of,
    mode_in,
    number_in,
    said_in,
)
from retrain.label.asking.gathering import gathered
from retrain.label.asking.queue import BROWSE, GRID, LABEL, MODES, REVIEW
from retrain.label.asking.tags import COMMANDS
from retrain.label.container import finding, samples
from retrain.label.container.cache import Found, Look
from retrain.label.container.filters import BROWSE_STATE, USEFUL, Filters
from retrain.label.container.rows import key_of, row_of
from retrain.label.pages.shown import answer_json, asked_of, in_words, sample_json, set_visit
from retrain.label.parts import Parts
from retrain.label.people import Person, admins_only, person_of
from retrain.label.quality import standing
from retrain.label.security import visit
from ripeloop.blobname import Blob, is_name
from ripeloop.errors import NotFound, Refused

STATUS = {WRITTEN: 200, UNDONE: 200, NOTHING: 200, KEPT: 202, UNKNOWN: 404, TAKEN: 409, REFUSED: 422}
PREFETCH = 6
MOST_SEEN = 100_000

Told = dict[str, Any]


def routes(parts: Parts) -> list[web.RouteDef]:
    """Everything under /api/ that is about labelling."""
    api = _Api(parts)
    return [
        web.get("/api/visit", api.visit),
        web.get("/api/start", api.start),
        web.get("/api/next", api.next),
        web.get("/api/samples", api.samples),
        web.get("/api/sample/{key:[0-9a-f]{32}}", api.sample),
        web.get("/api/standing", api.standing),
        web.post("/api/answer", api.answer),
        web.post("/api/answers", api.answers),
        web.post("/api/undo", api.undo),
        web.post("/api/skip", api.skip),
        web.post("/api/release", api.release),
        web.post("/api/tags", api.tag),
        web.post("/api/delete", api.delete),
    ]


@dataclass(frozen=True, slots=True)
class _Api:
    parts: Parts

    async def visit(self, request: web.Request) -> web.Response:
        """The CSRF token, also for who has not signed in."""
        csrf, cookie = visit(request, self.parts.people)
        response = web.json_response({"csrf": csrf})
        if cookie:
            set_visit(request, response, self.parts, cookie)
        return response

    async def start(self, request: web.Request) -> web.Response:
        """What a page needs once."""
        person, settings = person_of(request), self.parts.settings
        return web.json_response(
            {
                "csrf": visit(request, self.parts.people)[0],
                "person": {"name": person.name, "admin": person.admin},
                "tags": await self.parts.tags.told(),
                "negative": self.parts.tags.negative,
                "keys": COMMANDS,
                "lease": settings.lease_seconds,
                "prefetch": PREFETCH,
                "standing": await standing.of(self.parts, person),
            }
        )

    async def next(self, request: web.Request) -> web.Response:
        """Samples to label, leased to who asks."""
        person, query = person_of(request), request.query
        mode = mode_in(query)
        n, filters = number_in(query, "n", PREFETCH, MOST_AT_ONCE), _filters(query, person)
        queue, have = self.parts.queue, keys_of(query.get("have", ""))
        known = _tells_tags(filters)
        if mode == REVIEW and not person.admin:
            filters = replace(filters, state="")  # what people agree on, or are still asked of, is no labeller's to see
        if mode == GRID:
            found, groups = await gathered(queue, self.parts.alike, person, filters, have, n)
        else:
            found, groups = await queue.next(person.name, person.admin, filters, mode, have, n), []
        return web.json_response(
            {
                "groups": groups,
                "samples": [sample_json(row, self.parts, person, mode, known=known) for row in found.rows],
                "left": found.left,
                "standing": await standing.of(self.parts, person),
            }
        )

    async def samples(self, request: web.Request) -> web.Response:
        """A page of samples, whatever their state, without leases."""
        person, query = person_of(request), request.query
        filters = _browsed(_filters(query, person), person)
        n = max(1, number_in(query, "n", MOST_AT_ONCE, MOST_AT_ONCE))
        after = finding.from_cursor(query.get("after", ""), filters)
        rows = await self.parts.cache.ask(_browse, filters, n, after)
        return web.json_response(
            {
                "samples": [sample_json(row, self.parts, person, BROWSE) for row in rows],
                "after": finding.to_cursor(finding.place_of(rows[-1], filters)) if len(rows) == n else "",
            }
        )

    async def sample(self, request: web.Request) -> web.Response:
        """One sample with what was said of it."""
        person, row = person_of(request), await self._row(request.match_info["key"])
        if await self.parts.journal.was_late(person.name, row["key"]):  # they were told what it is said to be
            return web.json_response(sample_json(row | {"asked": DOUBT}, self.parts, person, REVIEW))
        return web.json_response(sample_json(row, self.parts, person, BROWSE))

    async def standing(self, request: web.Request) -> web.Response:
        """How things stand; the page has shown what it `heard` last."""
        person = person_of(request)
        if heard := [id_ for id_ in request.query.get("heard", "").split(",")[:MOST_AT_ONCE] if id_.isascii()]:
            await self.parts.journal.heard(person.name, heard)
        return web.json_response(await standing.of(self.parts, person))

    async def answer(self, request: web.Request) -> web.Response:
        """One answer."""
        person = person_of(request)
        status, told = await self._answered(await json_of(request), person)
        told = in_words(request, told) | {"standing": await standing.of(self.parts, person)}
        return web.json_response(told, status=status)

    async def answers(self, request: web.Request) -> web.Response:
        """Several, in order: those of a grid, or those that had to wait in the page."""
        person, given = person_of(request), (await json_of(request)).get("answers")
        if not isinstance(given, list) or not 0 < len(given) <= MOST_AT_ONCE:
            raise Refused(f"`answers` is a list of 1 to {MOST_AT_ONCE}")
        outcomes = []
        for one in given:
            try:
                status, told = await self._answered(one if isinstance(one, dict) else {}, person)
            except Refused as error:
                status, told = STATUS[REFUSED], {"outcome": REFUSED, "message": str(error)}
            outcomes.append({"status": status} | in_words(request, told))
        return web.json_response({"outcomes": outcomes, "standing": await standing.of(self.parts, person)})

    async def undo(self, request: web.Request) -> web.Response:
        """Take an answer back; the sample is this person's again."""
        person, fields = person_of(request), await json_of(request)
        id_, key = id_in(fields), key_in(fields)
        answer = id_in(fields, "answer") if fields.get("answer") else ""
        before = await self.parts.answers.before(person.name, answer) if answer else None
        row = await self.parts.cache.ask(samples.by_key, key)
        if before is not None and before.key != key:
            raise Refused("that answer was to another sample")
        if row is None and before is None:
            return web.json_response(self._unknown(id_, key), status=STATUS[UNKNOWN])
        blob = before.blob if before else str((row or {})["blob"])
        entry = await self.parts.answers.undo(id_, person.name, answer, key, blob)
        told: Told = {"outcome": entry.outcome, "id": id_, "key": key}
        leased = await self.parts.queue.lease([key], person.name)
        asked = before.body.get("asked", "") if before else ""
        known = before is None or bool(before.body.get("shown"))
        for one in leased or ([row] if row else []):
            one = one | ({"asked": CHECK} if asked == CHECK else {})
            told["sample"] = sample_json(one, self.parts, person, LABEL, known=known)
        told["standing"] = await standing.of(self.parts, person)
        return web.json_response(told, status=STATUS[entry.outcome])

    async def skip(self, request: web.Request) -> web.Response:
        """Not now."""
        await self.parts.queue.skip(key_in(await json_of(request)), person_of(request).name)
        return web.json_response({})

    async def release(self, request: web.Request) -> web.Response:
        """The page was left."""
        keys = keys_of((await json_of(request)).get("keys"))
        await self.parts.queue.release(keys, person_of(request).name)
        return web.json_response({})

    async def tag(self, request: web.Request) -> web.Response:
        """A new tag."""
        await self.parts.tags.add((await json_of(request)).get("tag"))
        return web.json_response({"tags": await self.parts.tags.told()})

    async def delete(self, request: web.Request) -> web.Response:
        """Remove a sample for good."""
        admins_only(request)
        row = await self._row(key_in(await json_of(request)))
        await self.parts.answers.delete(row["key"], row["blob"])
        await self.parts.images.forget(row["key"])
        return web.json_response({})

    async def _answered(self, fields: Mapping[str, Any], person: Person) -> tuple[int, Told]:
        """Raises Refused, Offline where our own disk does not take it."""
        id_, key, mode = id_in(fields), key_in(fields), mode_in(fields)
        kind, tags = said_in(fields, person.name, self.parts.tags.negative)
        entry = await self.parts.answers.before(person.name, id_)
        if entry is None or entry.outcome == KEPT:
            named = _named(fields, key)
            row = await self.parts.cache.ask(samples.by_key, key)
            if row is None and entry is None and named:  # another server showed it: this one has not met it yet
                await self.parts.answers.look_up(key, named)
                row = await self.parts.cache.ask(samples.by_key, key)
            blob = row["blob"] if row else entry.blob if entry else named
            if not blob:
                return STATUS[UNKNOWN], self._unknown(id_, key)
            asked = asked_of(self.parts, person, key, fields.get("asked"))
            # of a history nobody has seen more than there is: what comes later is news to them
            seen = min(number_in(fields, "seen", 0, MOST_SEEN), _length(row) if row else MOST_SEEN)
            wish = Wish(
                id=row["id"] if row else key, by=person.name, kind=kind, tags=tags, at="",
                asked=DECIDE if mode == REVIEW else asked.why, seen=seen, grid=mode == GRID, admin=person.admin,
                predicted=bool(row and row["tag"]), shown=not asked.hidden, doubted=asked.why == DOUBT,
            )  # fmt: skip
            entry = await self.parts.answers.accept(Offer(id_, key, blob, wish))
        return STATUS[entry.outcome], await self._told(entry, person, mode)

    async def _told(self, entry: Entry, person: Person, mode: str) -> Told:
        """What became of an answer, for who gave it."""
        result = dict(entry.result or {})
        told: Told = {"outcome": entry.outcome, "id": entry.id, "key": entry.key, **result}
        if "state" in result and not person.admin and entry.body.get("asked") != DECIDE:
            # what it is with the answers of others would tell which images are known, or what they said
            told |= {"state": entry.body["kind"], "said": entry.body["tags"]}
        if entry.outcome == TAKEN:
            told["theirs"] = answer_json(result["theirs"], person)
            row = await self.parts.cache.ask(samples.by_key, entry.key)
            told["sample"] = sample_json(row, self.parts, person, mode if mode in MODES else LABEL) if row else None
        return told

    def _unknown(self, id_: str, key: str) -> Told:
        return {"outcome": UNKNOWN, "id": id_, "key": key, "later": self.parts.scan.may_come(key)}

    async def _row(self, key: str) -> Found:
        row = await self.parts.cache.ask(samples.by_key, key)
        if row is None:
            raise NotFound("there is no such sample, or it is not listed yet")
        return row


def _filters(query: Mapping[str, str], person: Person) -> Filters:
    return Filters.of(query, name=person.name, admin=person.admin)


def _named(fields: Mapping[str, Any], key: str) -> str:
    """The blob of the sample with that key, as the page was told it; empty where it does not say so."""
    blob = fields.get("blob")
    if not isinstance(blob, str) or not is_name(blob) or key_of(blob) != key:
        return ""
    return blob if row_of(Blob(blob, 0), 0.0) else ""


def _browsed(filters: Filters, person: Person) -> Filters:
    """What a labeller may look through: no filter and no order tells what is hidden, but of their own answers."""
    if person.admin or filters.by:
        return filters
    return replace(filters, tag="", state="", said="", order=USEFUL if filters.order == "tag" else filters.order)


def _tells_tags(filters: Filters) -> bool:
    """Whether who asks for that knows what the model suggests."""
    return bool(filters.tag) or filters.order == "tag"


def _length(row: Found) -> int:
    return max((int(answer["nth"]) + 1 for answer in row["answers"]), default=0)


def _browse(look: Look, filters: Filters, n: int, after: finding.Place | None) -> list[Found]:
    rows = finding.find(look, filters, filters.states(BROWSE_STATE), finding.Condition(), n, after)
    return samples.with_answers(look, rows)
