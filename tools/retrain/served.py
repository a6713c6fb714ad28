"""`ripeloop trainer`: hands over to the trainer's own program, which this one does not know from inside."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click


@click.command(
    "serve",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    options_metavar="[OPTIONS OF python -m trainer]",
)
@click.pass_context
def serve_command(context: click.Context, /) -> None:
    """Serve a trainer of your own: the same as python -m trainer; --help tells its options.

    Example: TRAINER_TRAINING_KEY=… ripeloop trainer serve --data trainer-data --port 8088
    """
    hand_over(context.args)


def hand_over(arguments: list[str]) -> NoReturn:
    """Become `python -m trainer` with these arguments."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "trainer", *arguments])  # noqa: S606 - a list, no shell
