"""Commands to the sampler of one device: why, pause, resume, flush, credential grant, reconcile."""

# ruff: noqa: D301 - \b is how click marks lines to leave as they are

from __future__ import annotations

import json
import sys
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from retrain.devices.fleet import Fleet
from retrain.devices.reconcile import Reconciled, compare, ids_in
from retrain.devices.tables import show_reconciled
from retrain.ending import ENDS, run, warned
from retrain.samples import folder_of
from retrain.settings import NOT_AS_WANTED, Hub, cloud_options, device_option, hub_options, json_option
from retrain.store import check_address, missing, opened
from ripeloop.blobgrant import grant
from ripeloop.blobs import Blobs, is_there
from ripeloop.errors import Refused

SAMPLER = "sampler"
PAGE = 1000
MOST_HOURS = 7 * 24


@click.command(epilog=ENDS)
@device_option
@hub_options
@cloud_options
@json_option
def reconcile(
    device: str, hub: str, hub_ca: Path | None, cloud_blobs: str, container: str, api_version: str | None, as_json: bool
) -> None:
    """Does the cloud hold what a device says it uploaded? Both sides' counts, and the ids that differ.

    \b
    Example:
      export RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING" RIPELOOP_CLOUD_BLOBS="$STORAGE_CONNECTION_STRING"
      ripeloop reconcile --device line-1
    """
    store = opened(cloud_blobs, container, api_version)
    found, there = run(_compared(Hub(hub, hub_ca), device, store), "asking both sides")
    warning = warned("" if there else missing(cloud_blobs, container))
    if as_json:
        click.echo(json.dumps(found.to_json() | {"warning": warning}, indent=2))
    else:
        show_reconciled(found)
    if not found.same:
        sys.exit(NOT_AS_WANTED)


@click.command(epilog=ENDS)
@device_option
@hub_options
@json_option
def why(device: str, hub: str, hub_ca: Path | None, as_json: bool) -> None:
    """Say in words why (almost) nothing was captured or uploaded by a device.

    \b
    Example:
      export RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING"
      ripeloop why --device line-1
    """
    answer = run(_ask(Hub(hub, hub_ca), device, "why"), "asking")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for sentence in answer["why"] or ["nothing stands in the way"]:
        click.echo("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(sentence)))


@click.command(epilog=ENDS)
@device_option
@hub_options
@click.option("--reason", default="", envvar="RIPELOOP_REASON", show_envvar=True, help="Shown to who asks why.")
def pause(device: str, hub: str, hub_ca: Path | None, reason: str) -> None:
    """Let a device upload nothing until `ripeloop resume`, also after a restart. It goes on keeping images.

    \b
    Example:
      export RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING"
      ripeloop pause --device line-1 --reason "the link is needed for a backup"
    """
    told = run(_ask(Hub(hub, hub_ca), device, "pause", {"reason": reason}), "pausing")
    click.echo(f"{device} uploads nothing until `ripeloop resume --device {device}`; {told['waiting']} images wait")


@click.command(epilog=ENDS)
@device_option
@hub_options
def resume(device: str, hub: str, hub_ca: Path | None) -> None:
    """Let a device upload again after `ripeloop pause`.

    \b
    Example:
      export RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING"
      ripeloop resume --device line-1
    """
    told = run(_ask(Hub(hub, hub_ca), device, "resume"), "resuming")
    words = told["uploading"]["words"]
    click.echo(f"{device} is no longer paused; {told['waiting']} images wait" + (f"; {words}" if words else ""))


@click.command(epilog=ENDS)
@device_option
@hub_options
@click.option(
    "--set-aside",
    is_flag=True,
    envvar="RIPELOOP_SET_ASIDE",
    show_envvar=True,
    help="Try what was set aside after failing too often again, too.",
)
def flush(device: str, hub: str, hub_ca: Path | None, set_aside: bool) -> None:
    """Let a device upload now all that waits, whatever its upload window.

    \b
    Example:
      export RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING"
      ripeloop flush --device line-1
    """
    told = run(_ask(Hub(hub, hub_ca), device, "flush", {"set_aside": set_aside}), "flushing")
    click.echo(f"{device} uploads now; {told['waiting']} images wait")


@click.group()
def credential() -> None:
    """Credentials with which devices upload."""


@credential.command(name="grant", epilog=ENDS)
@click.argument("device")
@hub_options
@cloud_options
@click.option(
    "--hours",
    default=24.0,
    type=click.FloatRange(0.1, MOST_HOURS),
    envvar="RIPELOOP_HOURS",
    show_envvar=True,
    show_default=True,
    help="How long it is good for.",
)
def grant_(
    device: str, hub: str, hub_ca: Path | None, cloud_blobs: str, container: str, api_version: str | None, hours: float
) -> None:
    """Give DEVICE a new credential for the container: to create images there until it expires, and for nothing else.

    It goes to the device by direct method, and is printed nowhere. The device tries it before it takes it.

    \b
    Example:
      export RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING" RIPELOOP_CLOUD_BLOBS="$STORAGE_CONNECTION_STRING"
      ripeloop credential grant line-1 --hours 24
    """
    work = _grant(Hub(hub, hub_ca), device, cloud_blobs, container, api_version, timedelta(hours=hours))
    expires = run(work, "granting")
    click.echo(f"{device} may create images in {container} until {expires:%Y-%m-%d %H:%M} UTC")


async def _grant(
    hub: Hub, device: str, address: str, container: str, api_version: str | None, lasts: timedelta
) -> datetime:
    check_address(address)
    granted = await grant(address, container, api_version, lasts=lasts, now=datetime.now(UTC))
    await _ask(hub, device, "credential", {"address": granted.address, "container": container}, seconds=60)
    return granted.expires


async def _ask(hub: Hub, device: str, method: str, payload: Any = None, seconds: int = 30) -> Any:
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet:
        return await fleet.invoke(device, SAMPLER, method, payload, seconds=seconds)


async def _compared(hub: Hub, device: str, store: AbstractAsyncContextManager[Blobs]) -> tuple[Reconciled, bool]:
    """The device first: what is uploaded between the two listings is then known to be under way.

    With it whether there is a container.
    """
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet, store as blobs:
        states: dict[str, str] = {}
        after: str | None = ""
        while after is not None:
            after = await _learn(fleet, device, {"after": after, "limit": PAGE}, states)
        there = await is_there(blobs)
        cloud = ids_in([blob async for blob in blobs.list(folder_of(device))] if there else [])
        strange = [id_ for id_ in cloud if id_ not in states]
        for start in range(0, len(strange), PAGE):  # kept after the device was asked?
            await _learn(fleet, device, {"ids": strange[start : start + PAGE]}, states)
        return compare(states, cloud), there


async def _learn(fleet: Fleet, device: str, asked: dict[str, Any], states: dict[str, str]) -> str | None:
    """Ask for a page, and where the next one begins."""
    page = await fleet.invoke(device, SAMPLER, "samples", asked)
    try:
        states.update({id_: state for state, ids in page["states"].items() for id_ in ids})
        return str(page["next"]) if page["next"] is not None else None
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(f"the sampler of {device} does not tell its samples: is it an older one?") from error
