"""The command `ripeloop export`: what it is told, and how it ends."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from rich.console import Console

from retrain.customvision import CustomVision
from retrain.ending import told
from retrain.package.packaging import model_sha256
from retrain.settings import NOT_AS_WANTED, endpoint_options, json_option, project_option
from retrain.turn.train.exporting import Fetched, Told, fetch_export
from retrain.turn.train.training import find_project
from retrain.turn.train.waiting import Pace

ENDS = "Ends with 0: the export is there, whole and checked; 1: the service could not make it or refused; 2: wrong \
usage or settings; 3: the service cannot be reached, or is not done in time. Do the same again to go on: nothing is \
exported twice, and what was fetched stays."


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """The service, what to export there, and the file to write."""

    endpoint: str
    key: str = field(repr=False)
    project: str
    iteration: str
    out: Path
    int8: bool
    again: bool
    pace: Pace


@click.command("export", epilog=ENDS)
@endpoint_options
@project_option
@click.option("--iteration", required=True, type=click.UUID, envvar="RIPELOOP_ITERATION", show_envvar=True,
              metavar="ID", help="The iteration's id, as `ripeloop train` told it.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), envvar="RIPELOOP_EXPORT_OUT",
              show_envvar=True, metavar="FILE.zip", help="The file to write.")  # fmt: skip
@click.option("--int8", is_flag=True, envvar="RIPELOOP_INT8", show_envvar=True,
              help="In 8 bits: a quarter of the size, faster on small devices. Only our own trainer can.")  # fmt: skip
@click.option("--again", is_flag=True, envvar="RIPELOOP_EXPORT_AGAIN", show_envvar=True,
              help="Ask the service once more for an export that failed.")  # fmt: skip
@click.option("--wait-minutes", default=60.0, type=click.FloatRange(0), envvar="RIPELOOP_EXPORT_WAIT_MINUTES",
              show_envvar=True, help="Wait for an export for so many minutes.")  # fmt: skip
@json_option
def export_command(
    endpoint: str, training_key: str, project: str, iteration: UUID, out: Path, int8: bool, again: bool,
    wait_minutes: float, as_json: bool,
) -> None:  # fmt: skip
    """Fetch the model of a trained iteration, for `ripeloop judge` and `ripeloop package`.

    \b
    Example:
      export RIPELOOP_ENDPOINT=http://127.0.0.1:8088 RIPELOOP_TRAINING_KEY=…
      ripeloop export --project fruit --iteration 5f6c… --out fruit.zip
      ripeloop export --project fruit --iteration 5f6c… --out fruit-8.zip --int8 --json
    """
    pace = Pace(seconds=wait_minutes * 60)
    settings = ExportSettings(endpoint, training_key, project, str(iteration), out, int8, again, pace)
    with Console(stderr=True).status("looking at the iteration") as spinner:
        try:
            found = told(_export(settings, spinner.update))
        except OSError as error:
            click.echo(f"error: {out} cannot be written: {error.strerror or error}", err=True)
            sys.exit(NOT_AS_WANTED)
    if as_json:
        click.echo(json.dumps(to_json(found), indent=2))
    else:
        click.echo(f"{found.path} {'was there already' if found.already else 'is there'}: iteration {found.iteration}")


def to_json(found: Fetched) -> dict[str, Any]:
    """What a program may want to know of an export."""
    return {
        "file": str(found.path),
        "bytes": found.path.stat().st_size,
        "iteration": found.iteration,
        "flavour": found.flavour or None,
        "sha256_of_model": model_sha256(found.path),
        "already": found.already,
    }


async def _export(settings: ExportSettings, shown: Told) -> Fetched:
    with closing(CustomVision(settings.endpoint, settings.key)) as service:
        project = await asyncio.to_thread(find_project, service, settings.project)
        return await fetch_export(
            service, project, settings.iteration, settings.out,
            int8=settings.int8, again=settings.again, told=shown, pace=settings.pace,
        )  # fmt: skip
