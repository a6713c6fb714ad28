"""How every program of this project starts and ends: logs, signals and exit codes in one place."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import click

from ripeloop import log as logs
from ripeloop.errors import HubLost, SettingsError

log = logging.getLogger(__name__)

STOPPED_BY_HUB = 1
BAD_SETTINGS = 2

Command = TypeVar("Command", bound=Callable[..., Any])


class Option(click.Option):
    """See `option`: a container is set up with nothing but the environment."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """What an error calls it: '--model' (env var: 'CLASSIFIER_MODEL')."""
        hint = super().get_error_hint(ctx)
        if ctx is None or not ctx.auto_envvar_prefix or self.envvar or not self.name:
            return hint
        return f"{hint} (env var: '{ctx.auto_envvar_prefix}_{self.name.upper()}')"


def option(*words: str, **about: Any) -> Callable[[Command], Command]:
    """A `click.option` whose help and errors name its environment variable, too."""
    return click.option(*words, cls=Option, show_envvar=True, **about)


def log_options(command: Command) -> Command:
    """Add `--log-level` and `--log-json` to a click command; pass both on to `run`."""
    level = option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="The least serious event to log.",
    )
    as_json = option("--log-json", is_flag=True, help="Log one JSON object a line.")
    return level(as_json(command))


def run(program: Coroutine[Any, Any, None], *, log_level: str, log_json: bool) -> NoReturn:
    """Run `program` until it ends or SIGTERM or SIGINT asks it to; then it is cancelled and may clean up.

    Ends the process: with 0, with 2 and one line for a SettingsError, with 1 for HubLost, so that the edge runtime
    starts the module again. No thread is waited for: the SDK's may hang for ever.
    """
    logs.configure(log_level, as_json=log_json)
    failed: list[BaseException] = []
    try:
        asyncio.run(_until_signalled(program))
    except* (SettingsError, HubLost) as errors:  # raising in here would wrap what is raised in a group
        failed.append(first_of(errors))
    code = 0
    if failed and isinstance(failed[0], SettingsError):
        sys.stderr.write(f"error: {failed[0]}\n")
        code = BAD_SETTINGS
    elif failed:
        log.error("%s", failed[0])
        code = STOPPED_BY_HUB
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def first_of(error: BaseException) -> BaseException:
    """The first error in a group of groups; what is no group is that error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _until_signalled(program: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(program)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise
