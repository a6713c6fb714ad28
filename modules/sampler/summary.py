"""What the sampler did: asked for by the method `status`, reported and posted when it changed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from ripeloop.errors import Offline, SpoolFull
from ripeloop.hub import Hub
from ripeloop.prediction import format_time
from sampler.outbox import Counters

log = logging.getLogger(__name__)

OUTPUT = "summary"


def status(counters: Counters, *, online: bool) -> dict[str, Any]:
    """The answer to the direct method `status`."""
    return {
        "kept": counters.kept,
        "dropped": dict(counters.dropped),
        "uploaded": counters.uploaded,
        "waiting": counters.waiting,
        "setAside": counters.set_aside,
        "online": online,
        "uploadedBytes": counters.uploaded_bytes,
    }


async def tell(hub: Hub, now: Callable[[], Awaitable[dict[str, Any]]], seconds: float) -> None:
    """Report and post the status every `seconds` where it changed, for ever."""
    told: dict[str, Any] = {}
    while True:
        try:
            current = await now()
            if current != told:
                await hub.report({"counters": current})
                body = {"at": format_time(datetime.now(UTC)), **current}
                await hub.post(OUTPUT, json.dumps(body).encode())
                told = current
        except (Offline, SpoolFull) as error:
            log.warning("a summary is lost: %s", error)
        await asyncio.sleep(seconds)
