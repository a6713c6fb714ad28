"""The command `ripeloop samples`: what has arrived."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager

import click

from retrain.devices.tables import show_arrived
from retrain.ending import ENDS, run, warned
from retrain.samples import Arrived, arrived, folder_of
from retrain.settings import cloud_options, json_option
from retrain.store import missing, opened
from ripeloop.blobs import Blobs, is_there


@click.command(epilog=ENDS)
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
      ripeloop samples --cloud-blobs .demo/run/cloud --device laptop --json
    """
    found = run(_arrived(opened(cloud_blobs, container, api_version), device, newest), "listing the samples")
    warning = warned(missing(cloud_blobs, container) if found is None else "")
    if as_json:
        click.echo(json.dumps((found or Arrived()).to_json() | {"warning": warning}, indent=2))
    else:
        show_arrived(found or Arrived())


async def _arrived(store: AbstractAsyncContextManager[Blobs], device: str | None, newest: int) -> Arrived | None:
    """None where there is no container."""
    async with store as blobs:
        if not await is_there(blobs):
            return None
        sent = blobs.list(folder_of(device) if device else "")
        return arrived([blob async for blob in sent], newest)
