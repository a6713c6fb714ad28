"""The hub over whatever link the supervisor has open: queues, the durable sender, the twin, the direct methods."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.parse
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from ripeloop.errors import Offline, Refused, TooLarge
from ripeloop.link import Answer, Ears, HubLimits, Link, Message, Method
from ripeloop.mailbox import Letter, Mailbox
from ripeloop.supervisor import Supervisor
from ripeloop.twin import Desired, combined

log = logging.getLogger(__name__)

MAX_BYTES = 200 * 1024
"""Body and properties of one message. Over 256 KiB the hub drops the connection, and the SDK sends it again at once."""

MAX_PROPERTIES = 16 * 1024
"""Properties alone: they are written into an MQTT topic, and that ends at 64 KiB."""

TRIES_IN_A_ROW = 2
"""A posted message that got no answer this often lets the others go first."""


class EdgeHub:
    """The hub of an IoT Edge device, over links that `new_link` makes. `run` must run beside it."""

    def __init__(
        self,
        device: str,
        mailbox: Mailbox,
        new_link: Callable[[Ears], Link],
        *,
        inputs: Sequence[str] = (),
        methods: Mapping[str, Method] | None = None,
        limits: HubLimits = HubLimits(),
    ) -> None:
        self.device = device
        self._mailbox = mailbox
        self._methods = methods or {}
        self._limits = limits
        self._supervisor = Supervisor(lambda: new_link(self), self._fetch_twin, limits)
        self._inputs = {name: asyncio.Queue[Message](limits.inputs) for name in inputs}
        self._missed: Counter[str] = Counter()
        self._desired = Desired()
        self._fetching = False
        self._unreported: dict[str, Any] = {}
        self._reportable = asyncio.Event()
        self._posted = asyncio.Event()
        self._answering: set[asyncio.Task[None]] = set()
        self._running = 0

    async def run(self) -> None:
        """Keep the hub going, for ever. Raises HubLost."""
        works = [asyncio.create_task(w) for w in (self._supervisor.run(), self._deliver(), self._keep_reported())]
        try:
            await asyncio.gather(*works)  # not a TaskGroup: HubLost must come out as itself
        finally:
            rest = [*works, *self._answering]
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

    async def send(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        """See Hub."""
        checked = _fitting(body, properties)
        id_ = str(uuid.uuid4())
        await self._supervisor.use(lambda link: link.send(output, id_, body, checked))

    async def post(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        """See Hub."""
        checked = _fitting(body, properties)
        await asyncio.to_thread(self._mailbox.add, output, body, checked)
        self._posted.set()

    async def messages(self, input_: str) -> AsyncIterator[Message]:
        """See Hub."""
        if input_ not in self._inputs:
            raise ValueError(f"name the input {input_!r} in open_hub, so that it is listened to from the first moment")
        while True:
            yield await self._inputs[input_].get()

    def desired(self) -> AsyncIterator[dict[str, Any]]:
        """See Hub."""
        return self._desired.changes()

    async def report(self, patch: Mapping[str, Any]) -> None:
        """See Hub."""
        snapshot = json.loads(json.dumps(patch))  # the caller may change it later, and what is no JSON fails here
        self._unreported = combined(self._unreported, snapshot)
        self._reportable.set()

    def on_message(self, input_: str, message: Message) -> None:
        """Queue a message for its reader; one too many is dropped and counted."""
        try:
            self._inputs[input_].put_nowait(message)
        except (KeyError, asyncio.QueueFull):
            self._missed[input_] += 1
            if self._missed[input_] == 1:
                why = "is full" if input_ in self._inputs else "has no reader; is the route right?"
                log.warning("input %s %s: messages to it are dropped", input_, why)

    def on_method(self, name: str, payload: Any, answer: Answer) -> None:
        """Answer a direct method in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._answer(name, payload, answer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def on_patch(self, patch: Mapping[str, Any]) -> None:
        """Take a change of the desired properties; where one was missed, fetch them all."""
        if not self._desired.patch(patch) or self._fetching:  # the answer on its way may be older than this change
            self._supervisor.look()

    def on_change(self) -> None:
        """Let the supervisor look."""
        self._supervisor.look()

    def on_end(self, why: Offline) -> None:
        """Let the supervisor replace the link."""
        self._supervisor.end(why)

    async def _fetch_twin(self, link: Link) -> None:
        self._fetching = True
        try:
            self._desired.load((await link.twin())["desired"])
        finally:
            self._fetching = False

    async def _deliver(self) -> None:
        """Send what was posted, one after the other, the oldest first; each stays on disk until it is acknowledged."""
        tries: Counter[int] = Counter()
        while True:
            self._posted.clear()
            behind = [number for number, n in tries.items() if n >= TRIES_IN_A_ROW]
            try:
                letter = await asyncio.to_thread(self._mailbox.next, behind)
            except Offline:  # the mailbox has said it
                await asyncio.sleep(self._limits.retry)
                continue
            if letter is None:
                await self._posted.wait()
                continue
            await self._supervisor.online.wait()
            if not await self._delivered(letter, tries):
                await asyncio.sleep(self._limits.retry)
                continue
            del tries[letter.number]
            for number in set(behind) - {letter.number}:  # the hub took this one, so the hub was not at fault
                del tries[number]
                await self._refused(number, "it was never acknowledged, while others were")

    async def _delivered(self, letter: Letter, tries: Counter[int]) -> bool:
        try:
            await self._supervisor.use(lambda link: link.send(letter.output, letter.id, letter.body, letter.properties))
        except Refused as error:
            await self._refused(letter.number, str(error))
            return False
        except Offline:  # its fault perhaps: the hub drops the connection of one who sends what it cannot take
            tries[letter.number] += 1
            return False
        await asyncio.to_thread(self._mailbox.remove, letter.number)
        return True

    async def _refused(self, number: int, why: str) -> None:
        if await asyncio.to_thread(self._mailbox.refuse, number):
            log.error("a posted message was refused too often and is dropped: %s", why)

    async def _keep_reported(self) -> None:
        while True:
            await self._reportable.wait()
            await self._supervisor.online.wait()
            self._reportable.clear()
            patch, self._unreported = self._unreported, {}
            try:
                await self._report(patch)
            except Offline:
                self._unreported = combined(patch, self._unreported)
                self._reportable.set()
                await asyncio.sleep(self._limits.retry)

    async def _report(self, patch: dict[str, Any]) -> None:
        """Report `patch`; where the hub refuses it, key by key, so that one bad value takes no other with it."""
        try:
            await self._supervisor.use(lambda link: link.report(patch))
        except Refused as error:
            if len(patch) == 1:
                log.error("the hub refuses the reported property %s: %s", *patch, error)
                return
            for key, value in patch.items():
                await self._report({key: value})

    async def _answer(self, name: str, payload: Any, answer: Answer) -> None:
        status, reply = await self._call(name, payload)
        try:
            await answer(status, reply)
        except (Offline, Refused) as error:
            log.warning("the answer to the direct method %s did not get through: %s", name, error)

    async def _call(self, name: str, payload: Any) -> tuple[int, Any]:
        """Status and payload of one call: 404, 429, 500 and 504 are ours, with the reason in `error`."""
        method = self._methods.get(name)
        if method is None:
            return 404, {"error": f"there is no method {name!r}; there are {sorted(self._methods)}"}
        if self._running >= self._limits.methods:
            return 429, {"error": f"{self._running} methods are running already; try again later"}
        self._running += 1
        call = asyncio.ensure_future(method(payload))
        try:
            await asyncio.wait({call}, timeout=self._limits.method)
            if not call.done():
                return 504, {"error": f"{name} did not end within {self._limits.method:g} s"}
            return _result(name, call)
        finally:
            self._running -= 1
            call.cancel()


def _result(name: str, call: asyncio.Future[tuple[int, Any]]) -> tuple[int, Any]:
    if call.cancelled():
        return 500, {"error": f"{name} was cancelled"}
    error = call.exception()
    if error is not None:
        log.error("the direct method %s failed", name, exc_info=error)
        return 500, {"error": f"{name} failed: {error!r}"}
    status, reply = call.result()
    try:
        json.dumps(reply)
    except (TypeError, ValueError) as not_json:
        log.error("the direct method %s answered with what is no JSON: %s", name, not_json)
        return 500, {"error": f"{name} answered with what is no JSON: {not_json}"}
    return status, reply


def _fitting(body: bytes, properties: Mapping[str, str] | None) -> dict[str, str]:
    """The properties, if the hub takes a message of this size. Raises TooLarge, and TypeError for one no string."""
    given = dict(properties or {})
    size = sum(len(urllib.parse.quote(text, safe="")) + 1 for pair in given.items() for text in pair)
    if size > MAX_PROPERTIES:
        raise TooLarge(f"properties of {size} bytes; a message may have {MAX_PROPERTIES}, put more in the body")
    if len(body) + size > MAX_BYTES:
        raise TooLarge(f"a message of {len(body) + size} bytes; the hub takes {MAX_BYTES}, send a reference instead")
    return given
