"""The `ripeloop` command: what a person, or a scheduled job, asks of the fleet and of what it sent."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from retrain import exchange
from retrain.asking import credential, flush, pause, reconcile, resume, why
from retrain.comparing import compare
from retrain.config import config_option
from retrain.config_command import config_command
from retrain.ending import ENDS, run
from retrain.fleet import Fleet
from retrain.judging import judge_command, package_command
from retrain.label.commands import label
from retrain.manifest.commands import manifest
from retrain.manifest.rendered import read_manifest
from retrain.release.commands import release_command, rollback_command
from retrain.release.status import status
from retrain.samples import Arrived, arrived, folder_of
from retrain.settings import (
    Hub,
    cloud_options,
    device_option,
    hub_options,
    json_option,
)
from retrain.tables import show_arrived
from retrain.turn.export_command import export_command
from retrain.turn.retrain_command import retrain_command
from retrain.turn.tag_command import tag_command
from retrain.turn.train_command import train_command
from ripeloop import log as logs
from ripeloop.blobs import Blobs, open_blobs
from ripeloop.process import log_options


@click.group(context_settings={"auto_envvar_prefix": "RIPELOOP", "show_default": True}, epilog=ENDS)
@log_options
@config_option
@click.version_option(package_name="ripeloop")
def main(log_level: str, log_json: bool) -> None:
    """The classifier that gets better with use: how its devices stand, and what they sent."""
    logs.configure(log_level, as_json=log_json)


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
      ripeloop manifest render --platform arm64v8
      ripeloop deploy config/deployment.arm64v8.json --device line-1
    """
    run(_deploy(Hub(hub, hub_ca), device, file), "deploying")
    click.echo(f"{device} will run {file}; `ripeloop status --device {device}` shows when it does")


main.add_command(exchange.dataset)
main.add_command(exchange.trainer)
main.add_command(tag_command)
main.add_command(train_command)
main.add_command(export_command)
main.add_command(retrain_command)
main.add_command(judge_command, "judge")
main.add_command(package_command, "package")
main.add_command(label)
main.add_command(release_command, "release")
main.add_command(rollback_command, "rollback")
main.add_command(manifest)
main.add_command(config_command)


async def _arrived(store: AbstractAsyncContextManager[Blobs], device: str | None, newest: int) -> Arrived:
    async with store as blobs:
        sent = blobs.list(folder_of(device) if device else "")
        return arrived([blob async for blob in sent], newest)


async def _deploy(hub: Hub, device: str, file: Path) -> None:
    wanted = read_manifest(file)
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet:
        await fleet.apply(device, wanted)


for _command in (status, compare, reconcile, why, pause, resume, flush, credential):
    main.add_command(_command)


if __name__ == "__main__":
    main()
