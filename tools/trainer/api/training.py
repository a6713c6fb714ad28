"""Trainings, iterations, their figures, exports and publishing, over HTTP."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from aiohttp import web

from trainer.api import asked, shapes
from trainer.api.images import MAX_IDS, page
from trainer.api.parts import Parts, answer, done, work
from trainer.errors import Problem
from trainer.learning import figures
from trainer.state.exports import EXPORTING, Export
from trainer.state.files import EVALUATION, PLAIN
from trainer.state.images import Asked, Image
from trainer.state.iterations import Iteration, TrainedTag
from trainer.state.ledger import ADVANCED, MAX_HOURS, REGULAR, Order
from trainer.state.uploads import MAX_BATCH_TAGS

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def routes(parts: Parts, base: str) -> list[web.RouteDef]:
    """The routes below `base`, the training API's address, that are about iterations."""
    return _Training(parts).routes(base)


class _Training:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self, base: str) -> list[web.RouteDef]:
        project = f"{base}/projects/{{projectId}}"
        iteration = f"{project}/iterations/{{iterationId}}"
        return [
            web.post(f"{project}/train", self.train),
            web.get(f"{project}/iterations", self.iterations),
            web.get(iteration, self.get),
            web.patch(iteration, self.update),
            web.delete(iteration, self.delete),
            web.get(f"{iteration}/performance", self.performance),
            web.get(f"{iteration}/performance/images", self.image_performances),
            web.get(f"{iteration}/performance/images/count", self.image_performance_count),
            web.post(f"{iteration}/export", self.export),
            web.get(f"{iteration}/export", self.exports),
            web.post(f"{iteration}/publish", self.publish),
            web.delete(f"{iteration}/publish", self.unpublish),
        ]

    async def train(self, request: web.Request) -> web.Response:
        project = asked.id_in(request, "projectId")
        async with self._parts.bodies.of(request) as body:
            parameters = asked.fields(body, needed=False)
        if parameters.get("customBaseModelInfo"):
            raise Problem("BadRequestNotSupported", "every training here begins with the same backbone: leave it out")
        email = asked.text(request, "notificationEmailAddress")
        if email and not _EMAIL.fullmatch(email):
            raise Problem("BadRequestInvalidEmailAddress", "that is no address; and no mail is sent: leave it out")
        order = Order(
            training=asked.word(request, "trainingType", (REGULAR, ADVANCED), REGULAR),
            hours=_hours(request),
            force=asked.flag(request, "forceTrain"),
            selected=asked.ids_of(parameters, "selectedTags"),
        )
        iteration = await self._parts.trainings.begin(project, order)
        return answer(self._parts.shapes(request).iteration(iteration))

    async def iterations(self, request: web.Request) -> web.Response:
        shaped = self._parts.shapes(request)
        found = await work(self._parts.iterations.all, asked.id_in(request, "projectId"))
        return answer([shaped.iteration(iteration) for iteration in found])

    async def get(self, request: web.Request) -> web.Response:
        found = await work(self._parts.iterations.get, *_ids(request))
        return answer(self._parts.shapes(request).iteration(found))

    async def update(self, request: web.Request) -> web.Response:
        async with self._parts.bodies.of(request) as body:
            name = asked.string(asked.fields(body), "name") or ""
        found = await work(self._parts.iterations.rename, *_ids(request), name)
        return answer(self._parts.shapes(request).iteration(found))

    async def delete(self, request: web.Request) -> web.Response:
        project, id_ = _ids(request)
        await work(self._parts.iterations.delete, project, id_)
        self._parts.trainings.cancel(id_)
        self._parts.trainings.tidy(project)
        self._parts.predictor.forget(id_)
        return done()

    async def performance(self, request: web.Request) -> web.Response:
        threshold = asked.share(request.query.get("threshold"), "threshold", figures.THRESHOLD)
        asked.share(request.query.get("overlapThreshold"), "overlapThreshold", 0.0)  # of no use without regions
        iteration = await work(self._parts.iterations.get, *_ids(request))
        _check_figures(iteration)
        return answer(await work(self._performance, iteration, threshold))

    async def image_performances(self, request: web.Request) -> web.Response:
        project, id_ = _ids(request)
        wanted = Asked(iteration=id_, tags=asked.ids(request, "tagIds", MAX_BATCH_TAGS))
        iteration = await work(self._parts.iterations.get, project, id_)
        _check_figures(iteration)
        images = await work(self._parts.images.find, project, wanted, page(request))
        answers = await work(self._answers, iteration, images)
        shaped = self._parts.shapes(request)
        return answer([shaped.performed(project, image, answers[image.id]) for image in images])

    async def image_performance_count(self, request: web.Request) -> web.Response:
        project, id_ = _ids(request)
        wanted = Asked(iteration=id_, tags=asked.ids(request, "tagIds", MAX_IDS))
        return answer(await work(self._parts.images.count, project, wanted))

    async def export(self, request: web.Request) -> web.Response:
        project, id_ = _ids(request)
        platform = asked.text(request, "platform", needed=True) or ""
        flavor = request.query.get("flavor") or PLAIN
        await self._parts.trainings.export(project, id_, platform, flavor)
        # as Custom Vision says it, where it is done at once, too
        return answer(self._parts.shapes(request).export(project, Export(id_, flavor, EXPORTING, None)))

    async def exports(self, request: web.Request) -> web.Response:
        project, id_ = _ids(request)
        shaped = self._parts.shapes(request)
        found = await work(self._parts.exports.all, project, id_)
        return answer([shaped.export(project, export) for export in found])

    async def publish(self, request: web.Request) -> web.Response:
        await work(
            self._parts.iterations.publish,
            *_ids(request),
            asked.text(request, "publishName", needed=True) or "",
            asked.text(request, "predictionId", needed=True) or "",
            overwrite=asked.flag(request, "overwrite"),
        )
        return answer(True)

    async def unpublish(self, request: web.Request) -> web.Response:
        await work(self._parts.iterations.unpublish, *_ids(request))
        return done()

    def _performance(self, iteration: Iteration, threshold: float) -> dict[str, Any]:
        tags = _columns(self._parts.iterations.tags(iteration.id))
        evaluation = self._evaluation(iteration, tags)
        return {
            "perTagPerformance": [
                {"id": tag.id, "name": tag.name, **shapes.figure(figures.of_tag(evaluation, column, threshold))}
                for column, tag in enumerate(tags)
            ],
            **shapes.figure(figures.of_all(evaluation, threshold)),
        }

    def _evaluation(self, iteration: Iteration, tags: list[TrainedTag]) -> figures.Evaluation:
        probabilities, folds = figures.load(self._parts.files.iteration(iteration.project, iteration.id) / EVALUATION)
        column = {tag.id: number for number, tag in enumerate(tags)}
        truth = np.zeros(probabilities.shape, bool)
        for place, tag in self._parts.iterations.truth(iteration.id):
            if tag in column:  # of several tags, the negative one has no column
                truth[place, column[tag]] = True
        kept = self._parts.iterations.kept(iteration.id)
        return figures.Evaluation(probabilities[kept], folds[kept], truth[kept])

    def _answers(self, iteration: Iteration, images: list[Image]) -> dict[str, list[dict[str, Any]]]:
        """What cross-validation said of each image, the likeliest tag first."""
        tags = _columns(self._parts.iterations.tags(iteration.id))
        probabilities, _ = figures.load(self._parts.files.iteration(iteration.project, iteration.id) / EVALUATION)
        places = self._parts.iterations.places(iteration.id, [image.id for image in images])
        return {
            image: [
                {
                    "probability": float(probabilities[place, column]),
                    "tagId": tags[column].id,
                    "tagName": tags[column].name,
                    "tagType": tags[column].type,
                }
                for column in np.argsort(-probabilities[place], kind="stable")
            ]
            for image, place in places.items()
        }


def _ids(request: web.Request) -> tuple[str, str]:
    return asked.id_in(request, "projectId"), asked.id_in(request, "iterationId")


def _hours(request: web.Request) -> int:
    value = request.query.get("reservedBudgetInHours", "0")
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or int(value) > MAX_HOURS:
        raise Problem(
            "BadRequestReservedBudgetInHoursNotEnoughForAdvancedTraining",
            f"reservedBudgetInHours: {value[:20]!r} is not a number from 0 to {MAX_HOURS}",
        )
    return int(value)


def _columns(tags: list[TrainedTag]) -> list[TrainedTag]:
    return [tag for tag in tags if tag.place is not None]


def _check_figures(iteration: Iteration) -> None:
    if iteration.status != "Completed":
        raise Problem(
            "NotFoundIterationPerformance", f"the iteration's status is {iteration.status}: it has no figures yet"
        )
