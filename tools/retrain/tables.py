"""What a person sees on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retrain.reconcile import Comparison
from retrain.samples import Arrived
from retrain.standing import AS_WANTED, Standing, leaves

PIPE_WIDTH = 200
MOST_IDS = 20


def show_standings(standings: Iterable[Standing]) -> None:
    """Two tables a module: its settings, wanted beside reported, and its counters."""
    console = _console()
    for standing in standings:
        title = _text(f"{standing.device}/{standing.module}", "bold")
        if not standing.answers:
            title = Text("  ").join((title, _text(standing.note, "red")))
        console.print(title)
        if standing.settings:
            table = Table("setting", "wanted", "reported", "")
            for setting in standing.settings:
                style = None if setting.verdict == AS_WANTED else "yellow"
                words = (setting.name, setting.wanted, setting.reported, setting.verdict)
                table.add_row(*map(_text, words), style=style)
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


def show_comparison(found: Comparison) -> None:
    """Both sides' counts, and the ids that differ."""
    console = _console()
    _show_counts(console, "device", dict(found.device))
    _show_counts(console, "cloud", {"images": found.cloud, "of them under way": len(found.under_way)})
    for words, ids in (
        ("uploaded, says the device, but not in the cloud", found.missing),
        ("in the cloud, but unknown to the device", found.unknown),
        ("in the cloud, but given up by the device", found.given_up),
        ("in the cloud under two names", found.twice),
    ):
        if ids:
            console.print(_text(f"{len(ids)} {words}", "red"))
            for id_ in ids[:MOST_IDS]:
                console.print(_text(f"  {id_}"))
            if len(ids) > MOST_IDS:
                console.print(f"  and {len(ids) - MOST_IDS} more: --json names all")
    if found.same:
        console.print("both sides agree")


def _show_counts(console: Console, word: str, counts: dict[str, Any]) -> None:
    table = Table(word, "")
    table.columns[1].justify = "right"
    for name, count in counts.items():
        table.add_row(_text(name), _text(count))
    console.print(table)


def _console() -> Console:
    """As wide as the terminal; wide enough for whole names where the output goes to a file."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def _text(value: Any, style: str = "") -> Text:
    """Letter by letter as it came: a name from outside is no markup, no :emoji: and no order to the terminal."""
    if value is None:
        return Text("-", style)
    words = ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words), style)
