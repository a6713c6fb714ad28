"""How a command runs and ends: a spinner, one line for a failure, an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click
from rich.console import Console

from retrain.settings import NOT_AS_WANTED, OFFLINE, USAGE
from ripeloop.errors import Offline, RipeloopError, SettingsError

Answer = TypeVar("Answer")

ENDS = "Ends with 0: all is well; 1: something is not as wanted, or was refused; 2: wrong usage or settings; \
3: the hub, a module or the storage cannot be reached."


def run(work: Coroutine[Any, Any, Answer], doing: str) -> Answer:
    """The answer of `work`, with a spinner on a terminal; a failure is one line and an exit code."""
    with Console(stderr=True).status(doing):
        return told(work)


def told(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of `work`; a failure is one line and an exit code."""
    try:
        return asyncio.run(work)
    except RipeloopError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(_code(error))


def _code(error: RipeloopError) -> int:
    if isinstance(error, SettingsError):
        return USAGE
    return OFFLINE if isinstance(error, Offline) else NOT_AS_WANTED
