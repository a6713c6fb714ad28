"""`python -m bench sampler`: keeping, deciding, starting and uploading, and whether they are as fast as wanted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from bench.machine import this_machine
from bench.sampler import backlog, keeping, upload
from bench.table import Table
from ripeloop.process import option

AT_LEAST, AT_MOST = "≥", "≤"
FIGURES: Mapping[str, tuple[str, str, float | None, str]] = {
    "kept_per_cpu_second": ("images kept, on one core", "images/s", 300, AT_LEAST),
    "kept_per_second": ("images kept, by the clock", "images/s", None, ""),
    "kept_and_freed_per_cpu_second": (
        "kept, looked at again and freed from the spool, on one core",
        "images/s",
        None,
        "",
    ),
    "decide_ms": ("to decide on one image", "ms", 1, AT_MOST),
    "decide_over_budget_ms": ("to decide while budgets are spent", "ms", 1, AT_MOST),
    "decide_over_a_days_budget_ms": ("to decide while the day's budget is spent", "ms", 1, AT_MOST),
    "counters_ms": ("to read all counters", "ms", None, ""),
    "start_seconds": ("to start after `kill -9` with the backlog", "s", 3, AT_MOST),
    "peak_megabytes": ("memory with the backlog", "MB", 120, AT_MOST),
    "upload_share_of_sdk": ("uploads, as a share of azure-storage-blob alone", "", 0.8, AT_LEAST),
    "upload_sdk_alone_per_second": ("uploads of azure-storage-blob alone", "images/s", None, ""),
    "upload_per_second": ("uploads of the sampler", "images/s", None, ""),
}
PAGE = "SAMPLER-BENCH.md"


@click.command()
@option("--rows", default=backlog.ROWS, help="Rows of the index to decide with.")
@option("--backlog", "waiting", default=backlog.BACKLOG, help="Images to start with.")
@option("--images", default=keeping.IMAGES, help="Images to keep.")
@option("--report", type=click.Path(file_okay=False, path_type=Path),
        help=f"The folder to write {PAGE} into.")  # fmt: skip
def command(rows: int, waiting: int, images: int, report: Path | None) -> None:
    """Measure the sampler: keeping, deciding on a large index, starting with a backlog, uploading to Azurite.

    \b
    Example:
      python -m bench sampler --rows 100000
    """
    figures = keeping.measure(images) | backlog.measure(rows, waiting) | upload.measure()
    table = table_of(figures)
    click.echo(table.plain())
    if report is not None:
        (report / PAGE).write_text(page(table, rows, waiting))
        click.echo(f"written: {report / PAGE}")


def table_of(figures: Mapping[str, float]) -> Table:
    """What was found beside what is wanted."""
    rows = []
    for name, (what, unit, wanted, sense) in FIGURES.items():
        found = figures[name]
        verdict = "" if wanted is None else "met" if _is_met(found, wanted, sense) else "missed"
        rows.append([what, f"{found:.3g} {unit}".strip(), f"{sense} {wanted:g}" if wanted else "", verdict])
    return Table(["", "found", "wanted", ""], rows)


def page(table: Table, rows: int, waiting: int) -> str:
    """The report in Markdown."""
    return f"""# How fast the sampler is

`make bench PART=sampler REPORT=docs` wrote this page. Images of {keeping.BYTES / 1000:.0f} kB are kept in a folder
store; the index holds {rows:,} rows where it decides, and {waiting:,} waiting images where it starts. Uploads go to
Azurite on the same machine, eight at a time: ours beside azure-storage-blob alone, in turn.

{datetime.now(UTC):%Y-%m-%d}, {_machine()}

{table.markdown()}
"""


def _is_met(found: float, wanted: float, sense: str) -> bool:
    return found >= wanted if sense == AT_LEAST else found <= wanted


def _machine() -> str:
    here = this_machine(("azure-storage-blob", "sqlite-utils"))
    versions = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    return (
        f"{here.cores} cores of {here.processor}, {here.memory_gb} GB, {here.system}, Python {here.python}; {versions}."
    )
