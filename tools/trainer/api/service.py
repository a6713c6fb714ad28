"""The service: Custom Vision's Training and Prediction APIs for classification projects, and a page to look at."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from classifier.serving.classify import Busy
from ripeloop.errors import BadImage
from trainer.api import files, images, predictions, projects, training
from trainer.api.files import NEVER_A_PAGE
from trainer.api.gate import Gate
from trainer.api.page import Made, Standing, page
from trainer.api.parts import MAX_REQUEST, Parts, work
from trainer.errors import GatewayProblem, Problem
from trainer.state.images import Asked

log = logging.getLogger(__name__)

TRAINING_API = "/customvision/{api:v3\\.3|v3\\.4-preview}/training"
PREDICTION_API = "/customvision/{api:v3\\.[01]}/prediction"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(parts: Parts, gate: Gate) -> web.Application:
    """The HTTP side of a trainer."""
    app = web.Application(middlewares=[refusals, gate.check])
    for api in (projects, images, training, predictions, files):
        app.add_routes(api.routes(parts, TRAINING_API))
    app.add_routes(predictions.prediction_routes(parts, PREDICTION_API))
    app.add_routes(files.link_routes(parts))
    person = _ForAPerson(parts)
    app.router.add_get("/", person.page)
    app.router.add_get("/healthz", person.health)
    return app


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every no in the shape that Custom Vision, or the gateway before it, says it in."""
    try:
        return await handler(request)
    except (Problem, GatewayProblem) as problem:
        told: GatewayProblem | Problem = problem
    except ConnectionError:
        raise  # nobody is there to be told
    except (Busy, MemoryError, TimeoutError, web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        told = _by_the_gateway(error)
    except (BadImage, web.HTTPRequestEntityTooLarge, OSError) as error:
        told = _by_the_service(error)
    if told.status >= 500:
        log.error("%s %s: %s", request.method, request.path, told)
    headers = {"Retry-After": str(told.retry_after)} if isinstance(told, GatewayProblem) and told.retry_after else {}
    return web.json_response(told.to_json(), status=told.status, headers=headers)


def _by_the_gateway(error: Exception) -> GatewayProblem | Problem:
    if isinstance(error, Busy):
        return GatewayProblem(429, str(error), retry_after=1)
    if isinstance(error, MemoryError):
        return GatewayProblem(429, "there is no memory for this now: send it again in a moment", retry_after=1)
    if isinstance(error, TimeoutError):
        return GatewayProblem(408, "the request did not arrive in time: send it again")
    return GatewayProblem(404, "Resource not found")


def _by_the_service(error: Exception) -> GatewayProblem | Problem:
    if isinstance(error, BadImage):  # a body that is not as its headers say
        return Problem("BadRequestImageStream", str(error))
    if isinstance(error, OSError):
        return Problem("ErrorUnknown", f"the trainer's disk does not give or take it ({error.strerror or error})")
    return Problem(
        "BadRequestExceededBatchSize", f"the request has over {MAX_REQUEST} bytes: send fewer images at once"
    )


class _ForAPerson:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def page(self, _: web.Request) -> web.Response:
        standings = []
        for project in await work(self._parts.projects.all):
            iterations = await work(self._parts.iterations.all, project.id)
            images = await work(self._parts.images.count, project.id, Asked())
            failures = await work(self._parts.exports.failures, project.id)
            far = [Made(one, self._parts.trainings.progress(one.id), failures.get(one.id, "")) for one in iterations]
            standings.append(Standing(project, images, far))
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return web.Response(
            text=page(standings),
            content_type="text/html",
            headers={**NEVER_A_PAGE, "Content-Security-Policy": policy, "Cache-Control": "no-store"},
        )

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})
