"""All pages of the labelling server, and what runs behind them: one line for each module."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from retrain.label.container import project
from retrain.label.pages import api, export, mistakes_pages, pages, progress_pages, quality_pages
from retrain.label.parts import Parts

PAGES: tuple[Callable[[Parts], list[web.RouteDef]], ...] = (
    api.routes,
    pages.routes,
    progress_pages.routes,
    quality_pages.routes,
    mistakes_pages.routes,
    export.routes,
)


async def _look_alikes(parts: Parts) -> None:
    await parts.alike.run()


TASKS: tuple[Callable[[Parts], Coroutine[Any, Any, None]], ...] = (mistakes_pages.run, _look_alikes, project.run)
"""Each runs until it is cancelled, or returns where there is nothing to do."""
