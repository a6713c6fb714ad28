"""The command `ripeloop deploy`: a rendered manifest becomes what one device runs."""

from __future__ import annotations

from pathlib import Path

import click

from retrain.devices.fleet import Fleet
from retrain.ending import ENDS, run
from retrain.manifest.rendered import read_manifest
from retrain.settings import Hub, device_option, hub_options


@click.command(epilog=ENDS)
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


async def _deploy(hub: Hub, device: str, file: Path) -> None:
    wanted = read_manifest(file)
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet:
        await fleet.apply(device, wanted)
