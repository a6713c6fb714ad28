"""What the sampler did and how it stands: asked for by the method `status`, reported and posted when it changed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ripeloop.errors import Offline, SpoolFull
from ripeloop.hub import Hub
from ripeloop.prediction import format_time
from sampler.index.outbox import Counters
from sampler.keeping.evict import DISK, QUOTA
from sampler.keeping.keep import BUDGET, DAMAGED, DUPLICATE, NEAR_DUPLICATE, QUOTA_REASON, QUOTA_TAG, REFUSED
from sampler.telling.trouble import KINDS
from sampler.uploading.upload import Standing

log = logging.getLogger(__name__)

OUTPUT = "summary"
MAX_WORDS = 300  # characters; reported properties are small
REASONS = {
    "dropped": (DUPLICATE, NEAR_DUPLICATE, BUDGET, QUOTA_TAG, QUOTA_REASON, DAMAGED, REFUSED),
    "evicted": (BUDGET, QUOTA_TAG, QUOTA_REASON, QUOTA, DISK),
}


def status(
    counters: Counters, standing: Standing, trouble: Mapping[str, str] | None = None, expires: str = ""
) -> dict[str, Any]:
    """The answer to the direct method `status`: the numbers, how uploading stands, what is wrong.

    `expires`: when the credential for the cloud ends, where it says so.
    """
    closed = standing.closed
    uploading: dict[str, Any] = {
        "online": standing.online,
        "closed": closed.kind if closed else "",
        "trouble": standing.kind,
        "words": (closed.words if closed else standing.trouble)[:MAX_WORDS],
        "credential_expires": expires,
    }
    return {**asdict(counters), "uploading": uploading, "trouble": dict(trouble or {})}


async def tell(hub: Hub, now: Callable[[], Awaitable[dict[str, Any]]], seconds: float) -> None:
    """Report and post the status every `seconds` where it changed, for ever."""
    told: dict[str, Any] = {}
    while True:
        try:
            current = await now()
            if current != told:
                await hub.report(_reported(current))
                body = {"at": format_time(datetime.now(UTC)), **current}
                await hub.post(OUTPUT, json.dumps(body).encode())
                told = current
        except (Offline, SpoolFull) as error:
            log.warning("a summary is lost: %s", error)
        await asyncio.sleep(seconds)


def _reported(current: Mapping[str, Any]) -> dict[str, Any]:
    """A status as a patch of the twin; None removes what an earlier life told and is no longer so."""
    counters = {name: value for name, value in current.items() if name not in ("uploading", "trouble")}
    for name, reasons in REASONS.items():
        counters[name] = dict.fromkeys(reasons) | dict(counters.get(name, {}))
    trouble = dict.fromkeys(KINDS) | current["trouble"]
    return {"counters": counters, "uploading": current["uploading"], "trouble": trouble}
