"""Classifying, what was stored of it, and suggestions, over HTTP."""

from __future__ import annotations

import base64
import math
from datetime import datetime
from typing import Any

from aiohttp import web

from classifier.serving.multipart import image_in
from classifier.serving.url import BadUrl, BigImage, ForbiddenUrl, url_in
from ripeloop.errors import BadImage
from ripeloop.prediction import format_time, parse_time
from trainer.api import asked, shapes
from trainer.api.parts import Parts, answer, done, work
from trainer.errors import Problem
from trainer.state import suggestions
from trainer.state.iterations import Iteration, check_trained
from trainer.state.predictions import MAX_RESULTS, USUAL_RESULTS, Answered, Between, Found, Query, answered
from trainer.state.uploads import MAX_BATCH, MAX_BYTES

MAX_PREDICTED = 4 * 1024 * 1024  # bytes of an image
MAX_APPLICATION = 256  # characters


def routes(parts: Parts, base: str) -> list[web.RouteDef]:
    """The routes below `base`, the training API's address, that classify or are about what was stored of it."""
    return _Predictions(parts).routes(base)


def prediction_routes(parts: Parts, base: str) -> list[web.RouteDef]:
    """The routes below `base`, the prediction API's address."""
    return _Predictions(parts).prediction_routes(base)


class _Predictions:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self, base: str) -> list[web.RouteDef]:
        project = f"{base}/projects/{{projectId}}"
        return [
            web.post(f"{project}/predictions/query", self.query),
            web.delete(f"{project}/predictions", self.delete),
            web.post(f"{project}/quicktest/{{form:image|url}}", self.quick_test),
            web.post(f"{project}/tagsandregions/suggestions", self.suggest),
            web.post(f"{project}/images/suggested", self.suggested),
            web.post(f"{project}/images/suggested/count", self.suggested_count),
        ]

    def prediction_routes(self, base: str) -> list[web.RouteDef]:
        classify = f"{base}/{{projectId}}/classify/iterations/{{name}}/{{form:image|url}}"
        detect = f"{base}/{{projectId}}/detect/iterations/{{name}}/{{form:image|url}}"
        return [
            web.post(classify, self.classify),
            web.post(f"{classify}/nostore", self.classify),
            web.post(detect, self.detect),
            web.post(f"{detect}/nostore", self.detect),
        ]

    async def classify(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        iteration = await work(self._parts.iterations.published, project, request.match_info["name"])
        application = asked.text(request, "application") or ""
        if len(application) > MAX_APPLICATION:
            raise Problem("BadRequestPredictionInvalidApplicationName", f"at most {MAX_APPLICATION} characters")
        keep = not request.path.endswith("/nostore")
        return await self._classified(request, iteration, MAX_PREDICTED, application, keep=keep)

    async def detect(self, request: web.Request) -> web.Response:
        await work(self._parts.projects.get, asked.id_in(request, "projectId"))
        raise Problem("BadRequestNotSupported", "this trainer detects no objects: ask it to classify")

    async def quick_test(self, request: web.Request) -> web.Response:
        project, id_ = asked.id_in(request, "projectId"), asked.optional_id(request, "iterationId")
        if id_:
            iteration = await work(self._parts.iterations.get, project, id_)
            check_trained(iteration)
        else:
            iteration = await work(self._parts.iterations.newest, project)
        keep = asked.flag(request, "store", usual=True)
        return await self._classified(request, iteration, MAX_BYTES, "", keep=keep)

    async def query(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        async with self._parts.bodies.of(request) as body:
            token = asked.fields(body)
        query = _query(token)
        found = await work(self._parts.predictions.find, project, query)
        shaped = self._parts.shapes(request)
        results = [shaped.stored(one) for one in found.answers]
        return answer({"token": _token(query, found), "results": results})

    async def delete(self, request: web.Request) -> web.Response:
        ids = asked.ids(request, "ids", 10 * MAX_BATCH)
        if not ids:
            raise Problem("BadRequestPredictionIdsMissing", "ids is missing: give one id or more")
        if len(ids) > MAX_BATCH:
            raise Problem("BadRequestPredictionIdsExceededCount", f"at most {MAX_BATCH} are deleted at once")
        await work(self._parts.predictions.delete, asked.id_in(request, "projectId"), ids)
        return done()

    async def suggest(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        iteration = asked.optional_id(request, "iterationId")
        if iteration is None:
            raise Problem("BadRequestRequiredParamIsNull", "iterationId is missing: say which is to be asked")
        ids = asked.needed_ids(request, "imageIds", MAX_BATCH)
        made = await work(self._parts.suggestions.make, project, iteration, ids)
        return answer([shapes.suggestion(one) for one in made])

    async def suggested(self, request: web.Request) -> web.Response:
        project, iteration = asked.id_in(request, "projectId"), _iteration(request)
        async with self._parts.bodies.of(request) as body:
            token = asked.fields(body)
        take, after = _take(token), _after(token)
        wanted = suggestions.Wanted(
            tags=asked.ids_of(token, "tagIds"),
            threshold=asked.share(token.get("threshold"), "threshold", 0.0),
            sort=asked.string(token, "sortBy") or "UncertaintyDescending",
            after=(after[0], asked.an_id(after[1], "continuation")) if after else None,
            take=take,
        )
        found, following = await work(self._parts.suggestions.find, project, iteration, wanted)
        shaped = self._parts.shapes(request)
        return answer(
            {
                "token": {
                    "tagIds": list(wanted.tags),
                    "threshold": wanted.threshold,
                    "session": iteration,
                    "continuation": _continuation(following),
                    "maxCount": take,
                    "sortBy": wanted.sort,
                },
                "results": [shaped.suggested(one, image) for one, image in found],
            }
        )

    async def suggested_count(self, request: web.Request) -> web.Response:
        project, iteration = asked.id_in(request, "projectId"), _iteration(request)
        async with self._parts.bodies.of(request) as body:
            wanted = asked.fields(body)
        threshold = asked.share(wanted.get("threshold"), "threshold", 0.0)
        tags = asked.ids_of(wanted, "tagIds")
        return answer(await work(self._parts.suggestions.count, project, iteration, tags, threshold))

    async def _classified(
        self, request: web.Request, iteration: Iteration, most: int, application: str, *, keep: bool
    ) -> web.Response:
        async with self._parts.bodies.of(request) as body:
            image = await self._image(request, body)
            made = await work(self._answered, iteration, image, most, application, keep=keep)
        return answer(shapes.prediction(made))

    async def _image(self, request: web.Request, body: bytes) -> bytes:
        if request.match_info["form"] == "image":
            kind = request.headers.get("Content-Type", "")
            try:
                return image_in(kind, body) if kind.strip().lower().startswith("multipart/") else body
            except BadImage as error:
                raise Problem("BadRequestImageStream", str(error)) from error
        if self._parts.fetch is None:
            raise Problem("BadRequestImageUrl", "no host is listed that images may come from: set --url-hosts")
        try:
            return await self._parts.fetch(url_in(body))
        except BigImage as error:
            raise Problem("BadRequestImageSizeBytes", str(error)) from error
        except (BadUrl, ForbiddenUrl) as error:
            raise Problem("BadRequestImageUrl", str(error)) from error

    def _answered(self, iteration: Iteration, image: bytes, most: int, application: str, *, keep: bool) -> Answered:
        self._parts.predictor.check_image(image, most)
        made = answered(iteration, self._parts.predictor.scores(iteration, image), application)
        if keep:
            self._parts.predictions.keep(made, image)
        return made


def _iteration(request: web.Request) -> str:
    found = asked.optional_id(request, "iterationId")
    if found is None:
        raise Problem("BadRequestRequiredParamIsNull", "iterationId is missing: say which one's suggestions")
    return found


def _query(token: dict[str, Any]) -> Query:
    session, after = asked.string(token, "session"), _after(token)
    tags = [
        Between(
            asked.an_id(one.get("id"), "tags"),
            asked.share(one.get("minThreshold"), "minThreshold", 0.0),
            asked.share(one.get("maxThreshold"), "maxThreshold", 1.0),
        )
        for one in asked.objects(token, "tags")
    ]
    iteration = asked.string(token, "iterationId")
    return Query(
        tags=tuple(tags),
        iteration=asked.an_id(iteration, "iterationId") if iteration else None,
        start=_moment(token, "startTime"),
        end=_moment(token, "endTime"),
        application=asked.string(token, "application"),
        order=asked.string(token, "orderBy") or "Newest",
        session=_digits(session, "session") if session else None,
        after=(after[0], _digits(after[1], "continuation")) if after else None,
        take=_take(token),
    )


def _token(query: Query, found: Found) -> dict[str, Any]:
    """What to ask for the next page with."""
    return {
        "session": str(found.session),
        "continuation": _continuation(found.next),
        "maxCount": query.take,
        "orderBy": query.order,
        "tags": [{"id": one.tag, "minThreshold": one.least, "maxThreshold": one.most} for one in query.tags],
        "iterationId": query.iteration,
        "startTime": query.start,
        "endTime": query.end,
        "application": query.application or "",
    }


def _take(token: dict[str, Any]) -> int:
    most = token.get("maxCount") or USUAL_RESULTS
    if not isinstance(most, int) or most < 0:
        raise Problem("BadRequestPredictionInvalidQueryParameters", "maxCount is not a number")
    if most > MAX_RESULTS:
        raise Problem("BadRequestPredictionResultsExceededCount", f"maxCount is at most {MAX_RESULTS}")
    return most


def _continuation(place: tuple[float, object] | None) -> str:
    """Words that stand for a place in a list; none at its end."""
    return "" if place is None else base64.urlsafe_b64encode(f"{place[0]!r} {place[1]}".encode()).decode()


def _after(token: dict[str, Any]) -> tuple[float, str] | None:
    """The place that such words stand for. Raises Problem."""
    value = asked.string(token, "continuation")
    if not value:
        return None
    try:
        uncertainty, which = base64.urlsafe_b64decode(value).decode("ascii").split(" ")
        place = (float(uncertainty), which)
    except ValueError:
        raise _not_ours("continuation") from None
    if not math.isfinite(place[0]):
        raise _not_ours("continuation")
    return place


def _digits(value: str, name: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 15:
        raise _not_ours(name)
    return int(value)


def _not_ours(name: str) -> Problem:
    return Problem("BadRequestPredictionInvalidQueryParameters", f"{name}: give back what the last answer said")


def _moment(token: dict[str, Any], name: str) -> str | None:
    value: object = token.get(name)
    if value is None:
        return None
    try:
        moment = parse_time(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise Problem("BadRequestPredictionInvalidQueryParameters", f"{name} is no time like 2026-11-22T02:10:00Z")
    return format_time(moment)
