"""What a link to the hub does without a hub."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from hubs import LIMITS
from ripeloop.hub import _SdkLink


class Deaf:
    """Ears that hear nothing."""

    def _nothing(self, *_: Any) -> None: ...

    on_message = on_method = on_patch = on_change = on_end = _nothing


@pytest.mark.parametrize("steps", range(5))
async def test_a_request_that_is_cancelled_while_its_answer_comes_stays_cancelled(steps: int) -> None:
    link = _SdkLink({}, Deaf(), LIMITS)
    answered = threading.Event()

    async def answer() -> str:
        while not answered.is_set():  # noqa: ASYNC110 - the event is a thread's
            await asyncio.sleep(0.001)
        return "answer"

    request = asyncio.create_task(link._do(answer, 5))
    await asyncio.sleep(0.02)
    answered.set()
    time.sleep(0.05)  # noqa: ASYNC251 - meanwhile the answer stands at the door
    for _ in range(steps):
        await asyncio.sleep(0)
    in_time = request.cancel()
    await asyncio.wait({request})
    assert request.cancelled() == in_time
    await link.close()
