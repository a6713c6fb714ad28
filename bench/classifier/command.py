"""`python -m bench classifier`: from a quiet machine to a report."""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from bench.classifier.floor import Limit
from bench.classifier.images import pictures
from bench.classifier.measures import Measuring, Outcome
from bench.classifier.models import drawn, of_folder, trained
from bench.classifier.plan import FULL, QUICK, Plan
from bench.classifier.report import PICTURE, Report
from bench.classifier.tables import Measured
from bench.machine import LOADED, this_machine, until_quiet
from ripeloop.errors import RipeloopError, SettingsError
from ripeloop.process import option

FAILED = 2
WAIT_SECONDS = 60.0
PAGE = "BENCH.md"
PACKAGES = ("ripeloop", "onnxruntime", "pillow", "aiohttp", "numpy", "flask", "simplejpeg")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run is told: where the page goes, the pictures to train on, and whether a busy machine will do."""

    plan: Plan
    report: Path | None
    images: Path | None
    anyway: bool
    command: str


@click.command("classifier")
@option("--quick", is_flag=True, help="Two minutes, rougher numbers, on any machine.")
@option("--rounds", type=click.IntRange(1, 50), help="How often all is measured.  [default: 3]")
@option("--soak", type=click.IntRange(min=10),
        help="Requests over which memory must stay flat.  [default: 4000]")  # fmt: skip
@option("--report", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help=f"Also write {PAGE} and {PICTURE} into DIR.")  # fmt: skip
@option("--images", type=click.Path(path_type=Path, file_okay=False, exists=True),
        metavar="DIR",
        help="Train on DIR/<tag>/*.jpg and judge by half of them.  [default: drawn bananas]")  # fmt: skip
@option("--anyway", is_flag=True, help="Measure although other programs use the cores.")
def command(
    quick: bool, rounds: int | None, soak: int | None, report: Path | None, images: Path | None, anyway: bool
) -> None:
    """How fast the classifier is, beside the hardware's limit and the containers it replaces.

    \b
    Example:
      python -m bench classifier --report docs
    """
    plan = QUICK if quick else FULL
    plan = replace(plan, rounds=rounds or plan.rounds, soak=soak or plan.soak)
    settings = Settings(plan, report, images, anyway or quick, _again(quick, rounds, soak, images))
    try:
        made = run(settings)
        click.echo("\n" + made.terminal())
        if report:
            _write(report, made)
    except RipeloopError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)


def run(settings: Settings) -> Report:
    """Measure everything; says on stderr how far it is. Raises RipeloopError."""
    if not Path("/proc/stat").exists():
        raise SettingsError("the bench reads processor time and memory from /proc: run it on Linux")
    _check_quiet(settings)
    machine, when = this_machine(PACKAGES), datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="ripeloop-bench-") as name:
        folder = Path(name)
        _say("drawing pictures and training the model in 32 and in 8 bits")
        posted = pictures(settings.plan.sizes)
        images = of_folder(settings.images) if settings.images else drawn(settings.plan.drawn)
        flavours = {one.name: one for one in trained(images, folder)}
        measuring = Measuring(settings.plan, posted, folder, _say)
        with measuring.running(flavours):
            limit = Limit({name: one.onnx for name, one in flavours.items()}, machine.cores)
            rounds = tuple(measuring.round(nth + 1, limit) for nth in range(settings.plan.rounds))
            health = measuring.health()
        soak = measuring.soak(flavours)
    count = sum(len(files) for files in images.values()) // 2
    return Report(
        machine,
        when,
        settings.command,
        f"{count} photographs" if settings.images else f"{count} drawn pictures",
        Measured(settings.plan, posted, flavours, Outcome(rounds, health, soak)),
    )


def _check_quiet(settings: Settings) -> None:
    busy = until_quiet(0.0 if settings.anyway else WAIT_SECONDS)
    if busy <= LOADED:
        return
    told = f"other programs use {busy:.0%} of the cores"
    if not settings.anyway:
        raise SettingsError(f"{told}; stop them, or measure nevertheless with --anyway (make bench ANYWAY=1)")
    click.echo(f"WARNING: {told}. Nothing but the ratios will mean anything, and those little.", err=True)


def _again(quick: bool, rounds: int | None, soak: int | None, images: Path | None) -> str:
    """The `make` command that does the same; the folder of pictures is named without its place."""
    words = ["make", "bench", "REPORT=docs"]
    words += ["QUICK=1"] if quick else []
    words += [f"ROUNDS={rounds}"] if rounds else []
    words += [f"SOAK={soak}"] if soak else []
    words += [f"IMAGES={images.name}"] if images else []
    return shlex.join(words)


def _write(folder: Path, report: Report) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PAGE).write_text(report.page(), encoding="utf-8")
        (folder / PICTURE).write_text(report.svg(), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}; name another folder") from error
    _say(f"wrote {folder / PAGE} and {folder / PICTURE}")


def _say(text: str) -> None:
    click.echo(text, err=True)
