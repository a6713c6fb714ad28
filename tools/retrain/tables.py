"""What a person sees on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retrain.samples import Arrived
from retrain.standing import AS_WANTED, Standing, leaves

PIPE_WIDTH = 200


def show_standings(standings: Iterable[Standing]) -> None:
    """Two tables a module: its settings, wanted beside reported, and its counters."""
    console = _console()
    for standing in standings:
        note = "" if standing.answers else f"  [red]{escape(standing.note)}[/red]"
        console.print(f"[bold]{escape(standing.device)}/{escape(standing.module)}[/bold]{note}", highlight=False)
        if standing.settings:
            table = Table("setting", "wanted", "reported", "")
            for setting in standing.settings:
                style = None if setting.verdict == AS_WANTED else "yellow"
                table.add_row(
                    setting.name, _text(setting.wanted), _text(setting.reported), setting.verdict, style=style
                )
            console.print(table)
        if standing.counters:
            _show_counts(console, "counter", dict(leaves(standing.counters)))


def show_arrived(arrived: Arrived) -> None:
    """How many samples arrived, from where and why, and the newest."""
    console = _console()
    console.print(f"{arrived.images} samples, {arrived.bytes:,} bytes")
    for word, counts in (("device", arrived.devices), ("reason", arrived.reasons), ("tag", arrived.tags)):
        if counts:
            _show_counts(console, word, counts)
    if arrived.newest:
        table = Table("newest", "reason", "tag", "model")
        for sample in arrived.newest:
            table.add_row(*map(_text, (sample.name, sample.reason, sample.tag, sample.model)))
        console.print(table)


def _show_counts(console: Console, word: str, counts: dict[str, Any]) -> None:
    table = Table(word, "")
    table.columns[1].justify = "right"
    for name, count in counts.items():
        table.add_row(_text(name), _text(count))
    console.print(table)


def _console() -> Console:
    """As wide as the terminal; wide enough for whole names where the output goes to a file."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return escape(", ".join(str(part) for part in value))
    return escape(str(value))
