"""The command `ripeloop samples`: what has arrived."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager

import click

from retrain.devices.tables import show_arrived
from retrain.ending import ENDS, run
from retrain.samples import Arrived, arrived, folder_of
from retrain.settings import cloud_options, json_option
from ripeloop.blobs import Blobs, open_blobs


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
      ripeloop samples --cloud-blobs .demo/cloud --device line-1 --json
    """
    store = open_blobs(cloud_blobs, container, api_version)
    found = run(_arrived(store, device, newest), "listing the samples")
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_arrived(found)


async def _arrived(store: AbstractAsyncContextManager[Blobs], device: str | None, newest: int) -> Arrived:
    async with store as blobs:
        sent = blobs.list(folder_of(device) if device else "")
        return arrived([blob async for blob in sent], newest)
