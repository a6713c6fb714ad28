"""The command that compares a classifier nearby with the cloud's endpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from retrain.compare.compare import Comparison, find_images
from retrain.compare.compare import compare as compare_sides
from retrain.compare.endpoints import cloud_side, edge_side
from retrain.devices.tables import show_comparison
from retrain.ending import ENDS, told
from retrain.settings import KEEP_KEYS, NOT_AS_WANTED, json_option


@click.command(epilog=ENDS)
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--edge",
    default="http://localhost:8080",
    envvar="RIPELOOP_EDGE",
    show_envvar=True,
    metavar="ADDRESS",
    help="The classifier nearby.",
)
@click.option(
    "--cloud",
    required=True,
    envvar="RIPELOOP_CLOUD",
    show_envvar=True,
    metavar="ADDRESS",
    help="The published iteration's Prediction URL, as Custom Vision shows it.",
)
@click.option(
    "--key",
    required=True,
    envvar="RIPELOOP_PREDICTION_KEY",
    show_envvar=True,
    help=f"Its Prediction-Key. {KEEP_KEYS}",
)
@click.option(
    "--edge-key",
    default="",
    envvar="RIPELOOP_EDGE_KEY",
    show_envvar=True,
    show_default=False,
    help="The classifier's Prediction-Key, where it wants one.",
)
@click.option(
    "--tolerance",
    default=0.02,
    type=click.FloatRange(0, 1),
    envvar="RIPELOOP_TOLERANCE",
    show_envvar=True,
    help="How far apart two probabilities may be before the answers differ.",
)
@json_option
def compare(images: tuple[Path, ...], as_json: bool, **asked: Any) -> None:
    """Edge or cloud? Post IMAGES (files or folders) to both: latency side by side, and every answer that differs.

    Images are posted one at a time, and neither side keeps them. Each call to the cloud may cost money.

    \b
    Example:
      export RIPELOOP_PREDICTION_KEY=...
      ripeloop compare --cloud "$PREDICTION_URL" pictures/
      ripeloop compare --edge http://line-1:8080 --cloud "$PREDICTION_URL" --json a.jpg b.jpg
    """
    found = told(_compared(images, **asked))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_comparison(found)
    if found.trouble:
        click.echo(f"error: {found.trouble}", err=True)
    if found.different or found.trouble:
        sys.exit(NOT_AS_WANTED)


async def _compared(
    images: tuple[Path, ...], edge: str, cloud: str, key: str, edge_key: str, tolerance: float
) -> Comparison:
    sides = edge_side(edge, edge_key), cloud_side(cloud, key)
    found = find_images(images)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("asking both", total=len(found))
        return await compare_sides(
            *sides, found, tolerance=tolerance, seen=lambda count: progress.update(task, completed=count)
        )
