"""`python -m faults`, from the folder tests: breaks what breaks in the field, and counts every image afterwards."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import click

from azurite import CLOUD_API, running_azurite
from faults.ground import Ground
from faults.outcome import Outcome
from faults.scenarios import SCENARIOS, Scenario
from faults.table import HEAD, row

BACKLOG = 10_000
SHORT_BACKLOG = 150
NAMES = [scenario.name for scenario in SCENARIOS]


@click.command(epilog="".join(f"\b\n{scenario.name:<8} {scenario.about}\n\n" for scenario in SCENARIOS))
@click.option("--only", type=click.Choice(NAMES), multiple=True, show_envvar=True, help="Just this; may be repeated.")
@click.option(
    "--rounds", type=click.IntRange(1), show_envvar=True, help="Rounds of each; else each has its own number."
)
@click.option("--short", is_flag=True, show_envvar=True, help="A few rounds of each, as the tests play them.")
@click.option("--backlog", type=click.IntRange(10), show_envvar=True, help="Images of the backlog.")
def main(only: tuple[str, ...], rounds: int | None, short: bool, backlog: int | None) -> None:
    """Break processes, line, disk, clock and files of a device, and see that no flagged image is lost or sent twice.

    Example: python -m faults --only kill --rounds 20
    """
    click.echo(HEAD)
    bad = 0
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ripeloop-faults-") as folder,
        running_azurite(_made(Path(folder) / "cloud"), account="cloudstore", api_version=CLOUD_API) as cloud,
    ):
        ground = Ground(Path(folder), cloud, backlog or (SHORT_BACKLOG if short else BACKLOG))
        for scenario in SCENARIOS:
            if not only or scenario.name in only:
                for outcome in _played(scenario, ground, rounds or (scenario.short if short else scenario.rounds)):
                    click.echo(row(outcome))
                    bad += not outcome.good
    click.echo(
        f"{time.monotonic() - began:.0f} s; {f'{bad} OUTCOMES ARE WRONG' if bad else 'nothing lost, nothing doubled'}"
    )
    sys.exit(1 if bad else 0)


def _played(scenario: Scenario, ground: Ground, rounds: int) -> list[Outcome]:
    """The outcomes; a scenario that does not come to its end is one, too."""
    try:
        return asyncio.run(scenario.play(ground, rounds))
    except (RuntimeError, OSError, TimeoutError) as error:
        words = " ".join(f"{type(error).__name__} {error}".split())
        return [Outcome(scenario.name, rounds, 0, 0, disagrees=f"it did not come to its end: {words[-1500:]}")]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main(auto_envvar_prefix="FAULTS")
