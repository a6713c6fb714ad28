"""The direct methods: what the cloud may ask of one sampler, and tell it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ripeloop.errors import Offline
from ripeloop.hub import Method
from sampler.index.outbox import Outbox
from sampler.uploading.credential import Credentials
from sampler.uploading.pause import Pause
from sampler.uploading.upload import Uploader

MOST_IDS = 1000  # of 64 letters: an answer of a direct method has 128 KB

Telling = Callable[[], Awaitable[dict[str, Any]]]


class Methods:
    """What stands behind each method; `status` and `why` make the answers of those two."""

    def __init__(
        self,
        uploader: Uploader,
        pause: Pause,
        credentials: Credentials,
        outbox: Outbox,
        *,
        status: Telling,
        why: Telling,
    ) -> None:
        self._uploader = uploader
        self._pause = pause
        self._credentials = credentials
        self._outbox = outbox
        self._status = status
        self._why = why

    def by_name(self) -> dict[str, Method]:
        """The methods as the hub takes them."""
        return {
            "status": self.status,
            "why": self.why,
            "flush": self.flush,
            "pause": self.pause,
            "resume": self.resume,
            "credential": self.credential,
            "samples": self.samples,
        }

    async def status(self, _: Any) -> tuple[int, Any]:
        """The numbers, how uploading stands, what is wrong."""
        return 200, await self._status()

    async def why(self, _: Any) -> tuple[int, Any]:
        """Why (almost) nothing was captured or uploaded, in words."""
        return 200, await self._why()

    async def flush(self, payload: Any) -> tuple[int, Any]:
        """Upload now all that waits, whatever the window; {"set_aside": true}: also what was set aside."""
        closed = self._uploader.flush()
        if closed is not None:
            return 409, {"error": closed.words, "kind": closed.kind}
        if isinstance(payload, Mapping) and payload.get("set_aside") is True:
            await asyncio.to_thread(self._outbox.revive)
            self._uploader.flush()  # again: the first may be over by now
        return 200, await self._status()

    async def pause(self, payload: Any) -> tuple[int, Any]:
        """Upload nothing until `resume`, also after a restart; {"reason": "..."} is shown."""
        reason = payload.get("reason", "") if isinstance(payload, Mapping) else ""
        return await self._paused(lambda: self._pause.begin(str(reason)))

    async def resume(self, _: Any) -> tuple[int, Any]:
        """Go on uploading."""
        return await self._paused(self._pause.end)

    async def credential(self, payload: Any) -> tuple[int, Any]:
        """Use another credential from now on, if it works; the answer holds no part of it."""
        return await self._credentials.take(payload, self._uploader.hurry)

    async def samples(self, payload: Any) -> tuple[int, Any]:
        """A page of the index: {"after": id, "limit": n}, or {"ids": [...]}; ids by state, and where to go on."""
        asked = payload if isinstance(payload, Mapping) else {}
        ids, after, limit = asked.get("ids"), asked.get("after", ""), asked.get("limit", MOST_IDS)
        if ids is not None:
            if not isinstance(ids, list) or len(ids) > MOST_IDS or not all(isinstance(id_, str) for id_ in ids):
                return 400, {"error": f"ids must be a list of at most {MOST_IDS} ids"}
            found = await asyncio.to_thread(self._outbox.states_of, ids)
            return 200, {"states": _by_state(found), "next": None}
        if not isinstance(after, str) or isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            return 400, {"error": "after must be an id, limit a whole number from 1 on"}
        limit = min(limit, MOST_IDS)
        found = await asyncio.to_thread(self._outbox.states, after, limit)
        return 200, {"states": _by_state(found), "next": found[-1][0] if len(found) == limit else None}

    async def _paused(self, change: Callable[[], None]) -> tuple[int, Any]:
        try:
            await asyncio.to_thread(change)
        except Offline as error:
            return 500, {"error": str(error)}
        finally:
            self._uploader.wake()
        return 200, await self._status()


def _by_state(found: list[tuple[str, str, str]]) -> dict[str, list[str]]:
    states: dict[str, list[str]] = {}
    for id_, state, _ in found:
        states.setdefault(state, []).append(id_)
    return states
