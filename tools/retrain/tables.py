"""What a person sees on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from retrain.samples import Arrived
from retrain.standing import AS_WANTED, Standing, leaves


def show_standings(standings: Iterable[Standing]) -> None:
    """Two tables a module: its settings, wanted beside reported, and its counters."""
    console = Console()
    for standing in standings:
        answers = "" if standing.answers else f"  [red]{standing.note}[/red]"
        console.print(f"[bold]{standing.device}/{standing.module}[/bold]{answers}")
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
    console = Console()
    console.print(f"{arrived.images} samples, {arrived.bytes:,} bytes")
    for word, counts in (("device", arrived.devices), ("reason", arrived.reasons), ("tag", arrived.tags)):
        if counts:
            _show_counts(console, word, counts)
    if arrived.newest:
        table = Table("newest", "reason", "tag", "model")
        for sample in arrived.newest:
            table.add_row(sample.name, sample.reason, sample.tag, sample.model)
        console.print(table)


def _show_counts(console: Console, word: str, counts: dict[str, Any]) -> None:
    table = Table(word, "")
    table.columns[1].justify = "right"
    for name, count in counts.items():
        table.add_row(name, _text(count))
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    return str(value)
