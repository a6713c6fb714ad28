"""The `ripeloop` command: what a person, or a scheduled job, asks of the fleet and of what it sent."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import Progress

from retrain.compare import Comparison, find_images
from retrain.compare import compare as compare_sides
from retrain.endpoints import cloud_side, edge_side
from retrain.fleet import Fleet
from retrain.judging import judge_command, package_command
from retrain.manifest import read_manifest
from retrain.samples import Arrived, arrived, folder_of
from retrain.settings import (
    KEEP_KEYS,
    NOT_AS_WANTED,
    OFFLINE,
    USAGE,
    Hub,
    device_option,
    hub_options,
    json_option,
)
from retrain.standing import Standing, settings
from retrain.tables import show_arrived, show_comparison, show_standings
from ripeloop import log as logs
from ripeloop.blobs import Blobs, open_blobs
from ripeloop.errors import Offline, Refused, RipeloopError, SettingsError
from ripeloop.process import log_options

Answer = TypeVar("Answer")

MODULES = ("classifier", "sampler")
ENDS = "Ends with 0: all is well; 1: something is not as wanted, or was refused; 2: wrong usage or settings; \
3: the hub, a module or the storage cannot be reached."


@click.group(context_settings={"auto_envvar_prefix": "RIPELOOP", "show_default": True}, epilog=ENDS)
@log_options
@click.version_option(package_name="ripeloop")
def main(log_level: str, log_json: bool) -> None:
    """The classifier that gets better with use: how its devices stand, and what they sent."""
    logs.configure(log_level, as_json=log_json)


@main.command(epilog=ENDS)
@device_option
@hub_options
@click.option(
    "--module",
    "modules",
    multiple=True,
    default=MODULES,
    envvar="RIPELOOP_MODULE",
    show_envvar=True,
    help="A module to ask; may be given more than once.",
)
@json_option
def status(device: str, hub: str, hub_ca: Path | None, modules: tuple[str, ...], as_json: bool) -> None:
    """How the modules of a device stand: what is wanted, what is so, and their counters.

    \b
    Example:
      export RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING"
      ripeloop status --device line-1
      ripeloop status --device line-1 --module classifier --json
    """
    standings = _run(_standings(Hub(hub, hub_ca), device, modules), "asking the modules")
    if as_json:
        click.echo(json.dumps([standing.to_json() for standing in standings], indent=2))
    else:
        show_standings(standings)
    if not all(standing.answers for standing in standings):
        sys.exit(OFFLINE)
    if not all(standing.as_wanted for standing in standings):
        sys.exit(NOT_AS_WANTED)


@main.command(epilog=ENDS)
@click.option(
    "--cloud-blobs",
    required=True,
    envvar=["RIPELOOP_CLOUD_BLOBS", "SAMPLER_CLOUD_BLOBS"],
    show_envvar=True,
    metavar="ADDRESS",
    help="Where the devices upload to: a connection string, a container's SAS URL (rights: list, read) or a folder. "
    f"{KEEP_KEYS}",
)
@click.option(
    "--container",
    default="samples",
    envvar=["RIPELOOP_CONTAINER", "SAMPLER_CLOUD_CONTAINER"],
    show_envvar=True,
    help="The container, or the folder in the folder.",
)
@click.option(
    "--api-version",
    envvar=["RIPELOOP_API_VERSION", "SAMPLER_CLOUD_API_VERSION"],
    show_envvar=True,
    help="The blob API version of the store, where it is not the newest.",
)
@click.option(
    "--device",
    envvar="RIPELOOP_DEVICE",
    show_envvar=True,
    help="Only what this device sent.",
)
@click.option(
    "--newest", default=5, type=click.IntRange(0), envvar="RIPELOOP_NEWEST", show_envvar=True, help="How many to name."
)
@json_option
def samples(
    cloud_blobs: str, container: str, api_version: str | None, device: str | None, newest: int, as_json: bool
) -> None:
    """What has arrived: how many samples, from which devices, flagged for which reason and seen as which tag.

    \b
    Example:
      export RIPELOOP_CLOUD_BLOBS="$STORAGE_CONNECTION_STRING"
      ripeloop samples
      ripeloop samples --cloud-blobs .demo/cloud --device line-1 --json
    """
    store = open_blobs(cloud_blobs, container, api_version)
    found = _run(_arrived(store, device, newest), "listing the samples")
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_arrived(found)


@main.command(epilog=ENDS)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@device_option
@hub_options
def deploy(file: Path, device: str, hub: str, hub_ca: Path | None) -> None:
    """Make FILE, a rendered deployment manifest, what one device is told to run.

    \b
    Example:
      iotedgedev solution genconfig -f deployment.template.json -P arm64v8
      ripeloop deploy config/deployment.arm64v8.json --device line-1
    """
    _run(_deploy(Hub(hub, hub_ca), device, file), "deploying")
    click.echo(f"{device} will run {file}; `ripeloop status --device {device}` shows when it does")


@main.command(epilog=ENDS)
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
    found = _told(_compared(images, **asked))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_comparison(found)
    if found.different:
        sys.exit(NOT_AS_WANTED)


main.add_command(judge_command, "judge")
main.add_command(package_command, "package")


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


async def _standings(hub: Hub, device: str, modules: tuple[str, ...]) -> list[Standing]:
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet:
        return [await _standing(fleet, device, module) for module in modules]


async def _standing(fleet: Fleet, device: str, module: str) -> Standing:
    """The twin first: where that cannot be had, nothing can; a silent module still has its settings."""
    twin = await fleet.twin(device, module)
    wanted = settings(twin.desired, twin.reported)
    try:
        counters = await fleet.invoke(device, module, "status", seconds=10)
    except (Offline, Refused) as error:
        return Standing(device, module, answers=False, note=str(error), settings=wanted)
    return Standing(device, module, answers=True, settings=wanted, counters=counters)


async def _arrived(store: AbstractAsyncContextManager[Blobs], device: str | None, newest: int) -> Arrived:
    async with store as blobs:
        sent = blobs.list(folder_of(device) if device else "")
        return arrived([blob async for blob in sent], newest)


async def _deploy(hub: Hub, device: str, file: Path) -> None:
    manifest = read_manifest(file)
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet:
        await fleet.apply(device, manifest)


def _run(work: Coroutine[Any, Any, Answer], doing: str) -> Answer:
    """The answer of `work`, with a spinner on a terminal; a failure is one line and an exit code."""
    with Console(stderr=True).status(doing):
        return _told(work)


def _told(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of `work`; a failure is one line and an exit code."""
    try:
        return asyncio.run(work)
    except RipeloopError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(_code(error))


def _code(error: RipeloopError) -> int:
    if isinstance(error, SettingsError):
        return USAGE
    return OFFLINE if isinstance(error, Offline) else NOT_AS_WANTED


if __name__ == "__main__":
    main()
