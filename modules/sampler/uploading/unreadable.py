"""Blobs of the local store that cannot be read, while the store itself answers: one trouble for all of them."""

from __future__ import annotations

import asyncio

from sampler.index.outbox import EVICTED, UPLOADED, Outbox
from sampler.telling.trouble import LOCAL_BLOB, Troubles

MOST = 1000


class Unreadable:
    """The samples whose local blobs cannot be read; the trouble ends when each was read, or is needed no more."""

    def __init__(self, outbox: Outbox, troubles: Troubles) -> None:
        self._outbox = outbox
        self._troubles = troubles
        self._why: dict[str, str] = {}

    def failed(self, id_: str, why: str) -> None:
        """Tell that it cannot be read."""
        if id_ in self._why or len(self._why) < MOST:
            self._why[id_] = why
            self._say()

    def was_read(self, id_: str) -> None:
        """Tell that it can be read."""
        if self._why.pop(id_, None) is not None:
            self._say()

    async def look(self) -> None:
        """Forget those that are in the cloud or given up by now. Raises Offline."""
        if not self._why:
            return
        found = await asyncio.to_thread(self._outbox.states_of, list(self._why))
        here = {id_ for id_, state, _ in found if state not in (UPLOADED, EVICTED)}
        for id_ in self._why.keys() - here:
            del self._why[id_]
        self._say()

    def _say(self) -> None:
        if not self._why:
            self._troubles.say(LOCAL_BLOB, "")
            return
        id_, why = next(iter(self._why.items()))
        self._troubles.say(
            LOCAL_BLOB,
            f"{len(self._why)} images in the local store cannot be read, as {id_} ({why}): is the disk sound?",
        )
