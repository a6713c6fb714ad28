"""What the routes work with: one of each, made in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from aiohttp import web

from classifier.pixels.room import Room
from classifier.serving.guard import Bodies, Limits
from classifier.serving.url import Fetch
from trainer.api.links import Links
from trainer.api.shapes import Shapes
from trainer.runs.predictor import Predictor
from trainer.runs.trainings import Trainings
from trainer.state.exports import Copies, Exports
from trainer.state.files import Files
from trainer.state.images import Images
from trainer.state.iterations import Iterations
from trainer.state.ledger import Ledger
from trainer.state.predictions import Predictions
from trainer.state.projects import Projects
from trainer.state.store import Store
from trainer.state.suggestions import Suggestions
from trainer.state.tags import Tags
from trainer.state.uploads import Uploads

MAX_REQUEST = 96 * 1024 * 1024  # of a batch; 64 images of full size would be four times that
TOGETHER = 2 * MAX_REQUEST

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """All that answers are made from. Without `fetch` nothing is taken by URL."""

    store: Store
    files: Files
    links: Links
    projects: Projects
    tags: Tags
    images: Images
    uploads: Uploads
    iterations: Iterations
    trainings: Trainings
    predictor: Predictor
    predictions: Predictions
    suggestions: Suggestions
    exports: Exports
    copies: Copies
    room: Room
    bodies: Bodies
    url: str = ""
    fetch: Fetch | None = None

    @classmethod
    def on(cls, folder: Path, store: Store, *, url: str = "", fetch: Fetch | None = None) -> Parts:
        """The parts that work on the files below `folder`, which `store` remembers."""
        files, room = Files(folder), Room()
        iterations = Iterations(store, files)
        predictor = Predictor(iterations, files, room)
        exports = Exports(store, files)
        return cls(
            store=store,
            files=files,
            links=Links(store.secret()),
            projects=Projects(store),
            tags=Tags(store),
            images=Images(store, files),
            uploads=Uploads(store, files, room),
            iterations=iterations,
            trainings=Trainings(Ledger(store, files), exports, files),
            predictor=predictor,
            predictions=Predictions(store, files),
            suggestions=Suggestions(store, files, predictor),
            exports=exports,
            copies=Copies(store, files),
            room=room,
            bodies=Bodies(Limits(MAX_REQUEST, count=32, together=TOGETHER, seconds=600.0)),
            url=url,
            fetch=fetch,
        )

    def shapes(self, request: web.Request) -> Shapes:
        """What makes the JSON for this request."""
        origin = self.url or str(request.url.origin())
        return Shapes(origin.rstrip("/"), self.links, request.match_info.get("api", "v3.4-preview"))


async def work(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what blocks in a thread."""
    return await asyncio.to_thread(function, *args, **kwargs)


def answer(body: object, status: int = 200) -> web.Response:
    """JSON, or nothing for 204."""
    return web.json_response(body, status=status)


def done(status: int = 204) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status)
