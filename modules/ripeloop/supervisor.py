"""Keeps one connection to the hub open for as long as the program runs. It knows nothing of the SDK.

A connection is never mended, always replaced: a new one costs some 20 ms, subscribes again (the SDK does not) and
signs with the key of now. Three things are told apart:

- the hub is away (`Offline`): tried again for ever, waiting longer each time; a new process would not help
- the connection is broken (`LinkBroken`) in a way the SDK never gets over: replaced, and counted
- a row of such faults with no good time in between: `HubLost`, for what hangs in the SDK ends only with the process
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from ripeloop.errors import HubLost, Offline, Refused
from ripeloop.link import HubLimits, Link, LinkBroken, TimedOut

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUTS_IN_A_ROW = 2
CHANCE = random.SystemRandom()


class Supervisor:
    """Opens links with `new_link` and watches each; `greet` is called for a link that is new, back or long quiet."""

    def __init__(
        self, new_link: Callable[[], Link], greet: Callable[[Link], Awaitable[None]], limits: HubLimits
    ) -> None:
        self.online = asyncio.Event()
        self._new_link = new_link
        self._greet = greet
        self._limits = limits
        self._link: Link | None = None
        self._why: Offline | None = None
        self._over = asyncio.Event()
        self._timeouts = 0
        self._looked = asyncio.Event()
        self._told: bool | None = None

    def look(self) -> None:
        """Something about the link may have changed: look at it, and greet it again."""
        self._looked.set()

    def end(self, why: Offline) -> None:
        """The link is over and must be replaced, says whoever noticed."""
        self._why = self._why or why
        self._over.set()

    async def use(self, action: Callable[[Link], Awaitable[T]]) -> T:
        """What `action` returns for the link of now. Raises Offline at once without one, and what a link raises."""
        link = self._link
        if link is None:
            raise Offline("the edge hub cannot be reached now; try again later")
        try:
            result = await action(link)
        except TimedOut as error:
            self._timeouts += 1
            if self._timeouts >= TIMEOUTS_IN_A_ROW and link is self._link:
                self.end(LinkBroken(f"{self._timeouts} requests in a row were not answered, the last: {error}"))
            raise
        except LinkBroken as error:
            if link is self._link:
                self.end(error)
            raise
        except Refused:
            self._timeouts = 0
            raise
        self._timeouts = 0
        return result

    async def run(self) -> None:
        """Keep a link open, for ever. Raises HubLost."""
        faults = tries = 0
        while True:
            began: float | None = None
            self._why, self._timeouts = None, 0
            self._over.clear()
            link = self._new_link()
            try:
                await link.open()
                began = time.monotonic()
                await self._keep(link)
            except Offline as error:
                if began is not None and time.monotonic() - began >= self._limits.healthy:
                    faults = tries = 0
                faults += isinstance(error, LinkBroken)
                self._tell_offline(error, faults)
            finally:
                self._link = None
                self.online.clear()
                await link.close()
            await asyncio.sleep(self._wait(tries))
            tries += 1

    async def _keep(self, link: Link) -> None:
        """Watch an open link until it fails. Raises Offline, LinkBroken."""
        self._link = link
        self.online.set()
        self._tell_online()
        watching = asyncio.create_task(self._watch(link))
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({watching, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            over.cancel()
            await asyncio.gather(watching, over, return_exceptions=True)
        if self._why is not None:
            raise self._why
        watching.result()

    async def _watch(self, link: Link) -> None:
        """Greet the link when it is new, when it changed, and now and then. Raises Offline when it no longer serves."""
        known: bool | None = None
        while True:
            self._looked.clear()
            await self._settle(link)
            known = await self._knows(link, before=known)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.probe if known else self._limits.request):
                    await self._looked.wait()

    async def _settle(self, link: Link) -> None:
        """Return while the link is up; one that is down has a moment to come back by itself."""
        try:
            async with asyncio.timeout(self._limits.settle):
                while not link.connected:
                    self._looked.clear()
                    await self._looked.wait()
        except TimeoutError:
            raise Offline("the connection to the edge hub was lost") from None

    async def _knows(self, link: Link, *, before: bool | None) -> bool:
        """Whether the hub answers requests on this link. Raises Offline for one that did and no longer does.

        A new link is kept without an answer: an edge hub that is cut off from the cloud may be slow with a twin and
        quick with messages.
        """
        try:
            await self._greet(link)
        except TimedOut as error:
            if before:
                raise Offline(f"the edge hub seems to have forgotten this connection: {error}") from error
            if before is None:
                log.warning("connected, but the edge hub does not tell the twin yet: %s", error)
            return False
        except Refused as error:
            log.warning("the edge hub refuses to tell the twin: %s", error)
        return True

    def _wait(self, tries: int) -> float:
        longest = min(self._limits.retry_most, self._limits.retry * 2.0 ** min(tries, 30))
        return longest * CHANCE.uniform(0.5, 1.0)

    def _tell_online(self) -> None:
        if self._told is not True:
            log.info("online: connected to the edge hub")
        self._told = True

    def _tell_offline(self, error: Offline, faults: int) -> None:
        if isinstance(error, LinkBroken):
            if faults >= self._limits.faults:
                raise HubLost(
                    f"the connection to the edge hub broke {faults} times in a row, the last time: {error};"
                    " this process must end and be started again"
                ) from error
            log.warning("fault %d: the connection to the edge hub is broken, making a new one: %s", faults, error)
        elif self._told is not False:
            log.warning("offline, trying again until the edge hub is back: %s", error)
        self._told = False
