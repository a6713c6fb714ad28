"""How a command runs and ends: a spinner, one line for a failure, an exit code, and with `--json` a document of it."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from retrain.settings import NOT_AS_WANTED, OFFLINE, STOPPED, USAGE
from ripeloop.errors import Denied, NotFound, Offline, RipeloopError, SettingsError

Answer = TypeVar("Answer")

ENDS = "Ends with 0: all is well; 1: something is not as wanted, or was refused; 2: wrong usage, settings or keys; \
3: the hub, a module or the storage cannot be reached."

PROJECT = frozenset({"project", "NotFoundProject"})
"""What is not found, in our word and in the service's, where the project that was named is not there."""

_DISK = {errno.ENOSPC: "there is no room", errno.EDQUOT: "there is no room", errno.EROFS: "it may only be read",
         errno.EACCES: "this user may not", errno.EPERM: "this user may not"}  # fmt: skip


def run(work: Coroutine[Any, Any, Answer], doing: str) -> Answer:
    """The answer of `work`, with a spinner on a terminal; a failure is one line and an exit code."""
    with Console(stderr=True).status(doing):
        return told(work)


def told(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of `work`; a failure is one line and an exit code."""
    with answered():
        answer = asyncio.run(work)
    return answer  # noqa: RET504 - of a return inside, mypy thinks that it may not come to it


@contextmanager
def answered() -> Iterator[None]:
    """What fails inside is one line and an exit code."""
    try:
        yield
    except RipeloopError as error:
        end(str(error), error.kind or type(error).__name__, code_of(error))
    except KeyboardInterrupt:
        end("stopped by a person; the same again goes on from here", "stopped", STOPPED)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = error.filename or "a file"
        end(f"{where} cannot be written: {_DISK[error.errno]}; mend that and do the same again", "disk", USAGE)


def warned(words: str) -> str:
    """The same words, which a person has seen, too; none where there are none."""
    if words:
        click.echo(f"warning: {words}", err=True)
    return words


def end(words: str, kind: str, code: int) -> NoReturn:
    """The last line, on stderr; where the command was asked for JSON, a document of it on stdout."""
    click.echo(f"error: {words}", err=True)
    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        click.echo(json.dumps({"error": words, "kind": kind, "exit": code}))
    sys.exit(code)


def code_of(error: RipeloopError) -> int:
    """A wrong key or project is a setting: it does not mend itself."""
    if isinstance(error, SettingsError | Denied) or (isinstance(error, NotFound) and error.kind in PROJECT):
        return USAGE
    return OFFLINE if isinstance(error, Offline) else NOT_AS_WANTED
