"""Background work for as long as a body of code runs, where a TaskGroup would hide what the body raises in a group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the body, and end it with the body; its failure ends the body and is raised in its place."""
    body = asyncio.current_task()
    assert body is not None  # noqa: S101 - a coroutine always runs in a task
    failed: list[BaseException] = []
    task = asyncio.create_task(work)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failed.append(error)
            body.cancel()

    task.add_done_callback(ended)
    try:
        try:
            yield
        finally:
            task.remove_done_callback(ended)
            task.cancel()
            await asyncio.wait({task})
    except asyncio.CancelledError:
        if not failed or body.uncancel() > 0:  # somebody else wants the body to end as well
            raise
        raise failed[0] from None
