"""The `ripeloop` command: what a person, or a scheduled job, asks of the fleet and of what it sent."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from retrain import exchange
from retrain.asking import credential, flush, pause, reconcile, resume, why
from retrain.comparing import compare
from retrain.ending import ENDS, run
from retrain.fleet import Fleet
from retrain.judging import judge_command, package_command
from retrain.manifest import read_manifest
from retrain.samples import Arrived, arrived, folder_of
from retrain.settings import (
    NOT_AS_WANTED,
    OFFLINE,
    Hub,
    cloud_options,
    device_option,
    hub_options,
    json_option,
)
from retrain.standing import Standing, settings
from retrain.tables import show_arrived, show_standings
from ripeloop import log as logs
from ripeloop.blobs import Blobs, open_blobs
from ripeloop.errors import Offline, Refused
from ripeloop.process import log_options

MODULES = ("classifier", "sampler")


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
    standings = run(_standings(Hub(hub, hub_ca), device, modules), "asking the modules")
    if as_json:
        click.echo(json.dumps([standing.to_json() for standing in standings], indent=2))
    else:
        show_standings(standings)
    if not all(standing.answers for standing in standings):
        sys.exit(OFFLINE)
    if not all(standing.as_wanted for standing in standings):
        sys.exit(NOT_AS_WANTED)


@main.command(epilog=ENDS)
@cloud_options
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
    found = run(_arrived(store, device, newest), "listing the samples")
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
    run(_deploy(Hub(hub, hub_ca), device, file), "deploying")
    click.echo(f"{device} will run {file}; `ripeloop status --device {device}` shows when it does")


main.add_command(exchange.dataset)
main.add_command(exchange.trainer)
main.add_command(judge_command, "judge")
main.add_command(package_command, "package")


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


for _command in (compare, reconcile, why, pause, resume, flush, credential):
    main.add_command(_command)


if __name__ == "__main__":
    main()
