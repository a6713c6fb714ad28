"""Images that come as messages of the edge hub, and predictions that go out as such.

Input `images`: the body is one encoded image. Output `predictions`: the JSON that HTTP answers, with the properties of
the image's message, and `imageId`, `status` and `source`. Images posted over HTTP are told there, too, while the twin
asks for it; routes tell the two apart by `source`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from classifier.serving.answers import as_container
from classifier.serving.classify import Answer, Busy, Classifier
from classifier.serving.problems import refusal
from ripeloop.errors import BadImage, BadModel, Offline, Refused, TooLarge
from ripeloop.hub import Hub
from ripeloop.prediction import image_id

log = logging.getLogger(__name__)

INPUT = "images"
OUTPUT = "predictions"
BY_HTTP = "http"
BY_MESSAGE = "message"

WAITING = 1000  # predictions that wait for the hub
TRIES = 5
RETRY_SECONDS = 1.0
SEND_SECONDS = 10.0
BUSY_SECONDS = 0.02  # until a message asks again for a place that HTTP requests hold


class Predictions:
    """Predictions on their way to the hub, a bounded number, in memory: those lost are counted in `lost`.

    `wanted`: whether images posted over HTTP are to be told, too.
    """

    def __init__(self, hub: Hub, *, waiting: int = WAITING, retry: float = RETRY_SECONDS) -> None:
        self.wanted = False
        self.lost = 0
        self._hub = hub
        self._retry = retry
        self._queue: asyncio.Queue[tuple[bytes, dict[str, str]]] = asyncio.Queue(waiting)
        self._losing = False

    def posted(self, image: bytes, answer: Answer) -> None:
        """Tell of an image posted over HTTP, if that is wanted. Never waits."""
        if not self.wanted:
            return
        body = as_container(answer, now=datetime.now(UTC))
        try:
            self._queue.put_nowait(_message(body, {"source": BY_HTTP}, image, 200))
        except asyncio.QueueFull:
            self._lose("too many wait for the hub")

    async def reply(self, body: Mapping[str, Any], properties: Mapping[str, str], image: bytes, status: int) -> None:
        """Answer a message; waits for room."""
        await self._queue.put(_message(body, {**properties, "source": BY_MESSAGE}, image, status))

    async def run(self) -> None:
        """Send what waits, for ever, each after a few tries at most."""
        while True:
            body, properties = await self._queue.get()
            for _ in range(TRIES):
                why = await self._send(body, properties)
                if why is None:
                    self._losing = False
                    break
                await asyncio.sleep(self._retry)
            else:
                self._lose(why or "")

    async def _send(self, body: bytes, properties: dict[str, str]) -> str | None:
        """Why it could not be sent; None where it was."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._hub.send(OUTPUT, body, properties)
        except (Offline, Refused, TooLarge, TimeoutError) as error:
            return str(error) or "no answer in time"
        return None

    def _lose(self, why: str) -> None:
        self.lost += 1
        if not self._losing:
            log.warning("predictions are lost: %s", why)
        self._losing = True


async def answer_images(hub: Hub, classifier: Classifier, predictions: Predictions, statuses: Counter[int]) -> None:
    """Answer one message of the input `images` after the other, for ever, flagged as posted images are.

    `statuses` counts the answers.
    """
    async for message in hub.messages(INPUT):
        status, body = await _answer(classifier, message.body)
        statuses[status] += 1
        await predictions.reply(body, message.properties, message.body, status)


async def follow(hub: Hub, predictions: Predictions) -> None:
    """Obey the desired `report.predictions` whenever it changes, and report what is in force; for ever."""
    async for desired in hub.desired():
        refused = _apply(desired.get("report"), predictions)
        await hub.report({"report": {"predictions": predictions.wanted}, "refused": {"report": refused}})


def _apply(section: object, predictions: Predictions) -> Any:
    """Take the twin's section; what to report as refused: nothing is null, and a bad value changes nothing."""
    if not isinstance(section, Mapping | None):
        return f"must be an object, not {section!r}"[:200]
    wanted = (section or {}).get("predictions")
    if not isinstance(wanted, bool | None):
        return {"predictions": f"must be true or false, not {wanted!r}"[:200]}
    predictions.wanted = bool(wanted)
    return {"predictions": None}


async def _answer(classifier: Classifier, image: bytes) -> tuple[int, Mapping[str, Any]]:
    while True:
        try:
            with classifier.place():
                answer = await classifier.classify(image)
                return 200, as_container(answer, now=datetime.now(UTC))
        except Busy:
            await asyncio.sleep(BUSY_SECONDS)
        except (BadImage, BadModel, MemoryError) as error:
            classifier.refused()
            told = refusal(error)
            return told.status, told.body


def _message(
    body: Mapping[str, Any], properties: Mapping[str, str], image: bytes, status: int
) -> tuple[bytes, dict[str, str]]:
    return json.dumps(body).encode(), {**properties, "imageId": image_id(image), "status": str(status)}
