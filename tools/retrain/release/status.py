"""`ripeloop status`: how the whole fleet stands with its models, or all that one device is told."""

# ruff: noqa: D301 - \b is how click marks lines to leave as they are

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from retrain.devices.fleet import Fleet
from retrain.devices.standing import Standing, settings
from retrain.devices.tables import show_standings
from retrain.ending import ENDS, run
from retrain.release.board import ACTIVE, NONE, Board, Row, row
from retrain.release.commands import place_of
from retrain.release.plan import ALL, CLASSIFIER, Ring
from retrain.release.shown import show_fleet
from retrain.settings import NOT_AS_WANTED, OFFLINE, Hub, hub_options, json_option
from ripeloop.errors import Offline, Refused

MODULES = (CLASSIFIER, "sampler")


async def fleet_rows(fleet: Fleet, ring: Ring, module: str = CLASSIFIER) -> list[Row]:
    """How each device of the ring stands, by one query. Raises Offline, Refused."""
    return [row(twin) for twin in await fleet.modules_where(ring.where(module))]


@click.command(epilog=ENDS)
@click.option(
    "--device",
    envvar="RIPELOOP_DEVICE",
    show_envvar=True,
    help="One IoT Edge device: ask its modules for all their settings and counters.",
)
@click.option(  # not RIPELOOP_RING: where releases go must not hide the devices that have failed elsewhere
    "--ring", default=ALL, envvar="RIPELOOP_STATUS_RING", show_envvar=True, help="Only the devices of this ring."
)
@click.option(
    "--ring-condition",
    multiple=True,
    metavar="NAME=CONDITION",
    envvar="RIPELOOP_RING_CONDITION",
    show_envvar=True,
    help="What a ring means, as `ripeloop release --help` says.",
)
@hub_options
@click.option(
    "--module",
    "modules",
    multiple=True,
    default=MODULES,
    envvar="RIPELOOP_MODULE",
    show_envvar=True,
    help="A module of the device to ask; may be given more than once.",
)
@json_option
def status(
    device: str | None,
    ring: str,
    ring_condition: tuple[str, ...],
    hub: str,
    hub_ca: Path | None,
    modules: tuple[str, ...],
    as_json: bool,
) -> None:
    """How every device stands with its model: wanted, reported, since when, and why not. With --device, all of one.

    \b
    Example:
      export RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING"
      ripeloop status
      ripeloop status --ring canary --json
      ripeloop status --device line-1
    """
    where = Hub(hub, hub_ca)
    if device:
        _tell_device(run(_standings(where, device, modules), "asking the modules"), as_json=as_json)
    else:
        _tell_fleet(ring, run(_rows(where, ring, ring_condition), "asking the hub"), as_json=as_json)


def _tell_device(standings: Sequence[Standing], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([standing.to_json() for standing in standings], indent=2))
    else:
        show_standings(standings)
    if not all(standing.answers for standing in standings):
        sys.exit(OFFLINE)
    if not all(standing.as_wanted for standing in standings):
        sys.exit(NOT_AS_WANTED)


def _tell_fleet(ring: str, rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        found: dict[str, Any] = {"devices": [row.to_json() for row in rows], "states": dict(Board.of("", rows).counts)}
        click.echo(json.dumps(found, indent=2))
    else:
        show_fleet(rows, "" if ring == ALL else f" in ring {ring}")
    if not rows and ring != ALL:
        click.echo(f"error: no device is in ring {ring}: the tags of its module's twin say who is", err=True)
        sys.exit(NOT_AS_WANTED)
    if not all(row.state in (ACTIVE, NONE) for row in rows):
        sys.exit(NOT_AS_WANTED)


async def _rows(hub: Hub, name: str, conditions: tuple[str, ...]) -> list[Row]:
    place = place_of(name, None, conditions)
    async with Fleet.open(hub.connection_string, hub.ca_file) as fleet:
        return await fleet_rows(fleet, place) if isinstance(place, Ring) else []


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
