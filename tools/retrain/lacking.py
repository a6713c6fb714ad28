"""What a command lacks, told in one go: whoever sets up a job wants the whole list, and not one setting a night."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click


class AllAtOnce(click.Group):
    """A group of commands each of which names everything that is not set, where that is more than one thing."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises UsageError."""
        try:
            return super().invoke(ctx)
        except click.MissingParameter as first:
            lacking = list(_lacking(first.ctx)) if first.ctx else []
            if len(lacking) < 2:
                raise
            raise click.UsageError("these are not set:\n  " + "\n  ".join(lacking), first.ctx) from None


def _lacking(ctx: click.Context) -> Iterator[str]:
    """By their names in errors. What the command line gives was taken first, so it is among the parameters by now."""
    for parameter in ctx.command.get_params(ctx):
        if parameter.required and parameter.name not in ctx.params:
            try:
                parameter.handle_parse_result(ctx, {}, [])
            except click.MissingParameter:
                yield parameter.get_error_hint(ctx)
