"""What a person sees on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retrain.compare.compare import Comparison, Latency
from retrain.compare.endpoints import Said
from retrain.devices.reconcile import Reconciled
from retrain.devices.standing import AS_WANTED, Standing, leaves
from retrain.samples import Arrived
from retrain.terminal import console as _console
from retrain.terminal import text as _text
from retrain.turn.tag.tagged import Tagged

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


def show_comparison(comparison: Comparison) -> None:
    """The latencies side by side, and every image whose answers differ."""
    console, edge, cloud = _console(), comparison.edge, comparison.cloud
    table = Table(f"{len(comparison.pairs)} images", "edge", "cloud", "cloud / edge")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("answered", str(edge.answered), str(cloud.answered))
    table.add_row("refused", str(edge.refused), str(cloud.refused))
    for word, one, other in (("p50", edge.p50, cloud.p50), ("p99", edge.p99, cloud.p99)):
        both = edge.answered and cloud.answered
        table.add_row(f"{word}, ms", _ms(edge, one), _ms(cloud, other), f"{other / one:.1f} x" if both else "-")
    console.print(table)
    if comparison.different:
        table = Table(f"{len(comparison.different)} differ", "edge", "cloud", "apart")
        for pair in comparison.different:
            style = "yellow" if pair.edge.tag != pair.cloud.tag else None
            words = (pair.image, _answered(pair.edge), _answered(pair.cloud), f"{pair.apart:.3f}")
            table.add_row(*map(_text, words), style=style)
        console.print(table)
    elif not comparison.trouble:
        console.print(f"the answers are the same; no probability is over {comparison.tolerance:g} apart")
    if comparison.unanswered:
        table = Table(f"{len(comparison.unanswered)} refused by both", "edge", "cloud")
        for pair in comparison.unanswered:
            table.add_row(*map(_text, (pair.image, pair.edge.refusal, pair.cloud.refusal)))
        console.print(table)


def _ms(latency: Latency, seconds: float) -> str:
    return f"{seconds * 1000:.1f}" if latency.answered else "-"


def _answered(said: Said) -> str:
    return said.refusal or f"{said.tag} {said.probabilities[said.tag]:.3f}"


def show_reconciled(found: Reconciled) -> None:
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


def show_tagged(tagged: Tagged) -> None:
    """How many samples each tag has, what was done, and each sample that was refused."""
    console = _console()
    table = Table("tag", "training", "holdout")
    for column in table.columns[1:]:
        column.justify = "right"
    training, held = tagged.counts, tagged.held_counts
    for tag in dict.fromkeys((*training, *held)):
        table.add_row(_text(tag), str(training.get(tag, 0)), str(held.get(tag, 0)))
    console.print(table)
    told = {
        "added": tagged.added,
        "tagged anew": tagged.retagged,
        "removed": tagged.removed,
        "there already": tagged.already,
        "newly held out": tagged.held,
        "tags made": tagged.tags_made,
        "other images of the project": tagged.others,
        "samples without a label": tagged.unlabelled,
        "samples people were unsure of": tagged.unsure,
        "samples that are junk": tagged.junk,
        "samples people differ on": tagged.disputed,
    }
    _show_counts(console, "samples", {word: count for word, count in told.items() if count})
    if tagged.refused:
        table = Table(f"{len(tagged.refused)} refused", "status", "why")
        for one in tagged.refused[:MOST_IDS]:
            table.add_row(*map(_text, (one.name, one.status, one.why)), style="yellow")
        console.print(table)
        if len(tagged.refused) > MOST_IDS:
            console.print(f"and {len(tagged.refused) - MOST_IDS} more: --json names all")


def _show_counts(console: Console, word: str, counts: dict[str, Any]) -> None:
    table = Table(word, "")
    table.columns[1].justify = "right"
    for name, count in counts.items():
        table.add_row(_text(name), _text(count))
    console.print(table)
