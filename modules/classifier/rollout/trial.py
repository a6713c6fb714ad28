"""The time after a swap: the new model answers on trial, and its figures are looked at until the window ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from classifier.rollout.live import Serving
from classifier.rollout.watch import Figures, Rules, unjudged, worse

SETTLED = 60.0  # seconds after which an end of the process is not the new model's doing


async def judged(
    serving: Serving, before: Figures, window: float, rules: Rules, settled: Callable[[], Awaitable[None]]
) -> tuple[str | None, str]:
    """Why the model must be undone, or None once it has stood its window, and what could not be judged.

    The window, in seconds, begins with the first image. `settled` is called once the process has lived for a while.
    """
    loop = asyncio.get_running_loop()
    started, first = loop.time(), None
    calm = False
    while True:
        await asyncio.sleep(min(1.0, window / 10))
        now, figures = loop.time(), serving.figures
        if verdict := worse(before, figures, rules):
            return verdict, ""
        if first is None and (figures.seen or not window):
            first = now
        if first is not None and now - first >= window:
            return None, unjudged(before, figures, rules)
        if not calm and now - started > SETTLED:
            calm = True
            await settled()
