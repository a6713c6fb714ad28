"""`python -m bench label`: the labelling page with a million samples and twenty people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from bench.label import serving
from bench.machine import this_machine
from bench.table import Table
from ripeloop.process import option

FIGURES: Mapping[str, tuple[str, str, float | None]] = {
    "listens_seconds": ("from the start of the program until it listens", "s", None),
    "first_page_seconds": ("then: signing in, the first page and its first images' data", "s", 2),
    "next_p50_ms": ("the next sample, half of the time", "ms", None),
    "next_p99_ms": ("the next sample, 99 in 100", "ms", 50),
    "image_p50_ms": ("an image never shown before, half of the time", "ms", None),
    "image_p99_ms": ("an image never shown before, 99 in 100", "ms", None),
    "answer_p50_ms": ("an answer, until it is in its blob, half of the time", "ms", None),
    "answer_p99_ms": ("an answer, 99 in 100", "ms", None),
    "answers_per_second": ("answers a second, of all together", "/s", None),
}
PAGE = "LABEL-BENCH.md"


@click.command()
@option("--rows", default=serving.ROWS, help="Samples in the cache.")
@option("--people", default=serving.PEOPLE, help="People who label at once.")
@option("--seconds", default=serving.SECONDS, help="How long they do.")
@option("--state", type=click.Path(file_okay=False, path_type=Path),
        help="A folder to keep the full cache in for the next time.")  # fmt: skip
@option("--report", type=click.Path(file_okay=False, path_type=Path),
        help=f"The folder to write {PAGE} into.")  # fmt: skip
def command(rows: int, people: int, seconds: float, state: Path | None, report: Path | None) -> None:
    """Measure the labelling page: its start on a warm cache, and what each of many people waits for.

    \b
    Example:
      python -m bench label --rows 100000
    """
    if state is not None:
        state.mkdir(parents=True, exist_ok=True)
    table = table_of(serving.measure(rows, people, seconds, state))
    click.echo(table.plain())
    if report is not None:
        (report / PAGE).write_text(page(table, rows, people))
        click.echo(f"written: {report / PAGE}")


def table_of(figures: Mapping[str, float]) -> Table:
    """What was found beside what is wanted."""
    rows = []
    for name, (what, unit, wanted) in FIGURES.items():
        found = figures[name]
        verdict = "" if wanted is None else "met" if found <= wanted else "missed"
        rows.append([what, f"{found:.3g} {unit}", f"≤ {wanted:g}" if wanted else "", verdict])
    rows += [[name.replace("_", ": "), f"{n:g}", "", ""] for name, n in figures.items() if name.startswith("other_")]
    return Table(["", "found", "wanted", ""], rows)


def page(table: Table, rows: int, people: int) -> str:
    """The report in Markdown."""
    here = this_machine(("aiohttp", "sqlite-utils", "pillow"))
    versions = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    return f"""# How fast the labelling page is

`make bench PART=label REPORT=docs` wrote this page. The cache holds {rows:,} samples; {people} people label at once,
each with a key about every 0.7 s, from a process of their own on the same machine. Images of 1.2 megapixels lie in a
folder and are encoded anew for each first look; a page asks for six ahead, so nobody waits for them.

{datetime.now(UTC):%Y-%m-%d}, {here.cores} cores of {here.processor}, {here.memory_gb} GB, {here.system},
Python {here.python}; {versions}.

{table.markdown()}
"""
