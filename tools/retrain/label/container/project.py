"""The tags of the project that the labels will train, so that people answer in its words."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from retrain.customvision import CustomVision
from retrain.label.parts import Parts
from retrain.label.settings import Settings
from retrain.turn.train.training import find_project
from ripeloop.errors import Offline, RipeloopError

log = logging.getLogger(__name__)

NEGATIVE = "Negative"  # the type of the tag that means none of the others


@dataclass(frozen=True, slots=True)
class Words:
    """The project's tags, in the order of their keys, and what none of them is called."""

    tags: Sequence[str]
    negative: str


async def run(parts: Parts) -> None:
    """Ask the project once, while the page serves already; without one, or where it is away, the samples' tags do."""
    settings, stopped = parts.settings, threading.Event()
    if not (settings.endpoint and settings.project):
        return
    try:
        words = await asyncio.to_thread(words_of, settings, stopped)
    except RipeloopError as error:
        log.warning("the project's tags cannot be had now, those of the samples will do: %s", error)
        return
    finally:
        stopped.set()  # the thread's pauses between its tries end, or the program would wait for them
    parts.tags.know(words.tags, words.negative)


def words_of(settings: Settings, stopped: threading.Event) -> Words:
    """The project's tags. Raises NotFound, Refused, Offline."""
    service = CustomVision(settings.endpoint, settings.training_key, sleep=lambda seconds: _pause(stopped, seconds))
    try:
        about = service.about(find_project(service, settings.project))
    finally:
        service.close()
    own = sorted((tag.name for tag in about.tags if tag.kind != NEGATIVE), key=str.casefold)
    negative = next((tag.name for tag in about.tags if tag.kind == NEGATIVE), settings.negative_tag)
    return Words(tuple(own), negative)


def _pause(stopped: threading.Event, seconds: float) -> None:
    if stopped.wait(seconds):
        raise Offline("the program ends")
