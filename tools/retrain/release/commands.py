"""`ripeloop release` and `ripeloop rollback`: what they are told, and how they end."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from retrain.devices.fleet import Fleet
from retrain.ending import ENDS, told, warned
from retrain.release.board import Board
from retrain.release.plan import CANARY, Device, Place, Plan, Ring
from retrain.release.plan import ring as ring_of
from retrain.release.releasing import WAITING, Released, release
from retrain.release.rollingback import RolledBack, rollback
from retrain.release.shown import show_released
from retrain.settings import KEEP_KEYS, NOT_AS_WANTED, OFFLINE, Hub, hub_options, json_option
from retrain.shown import plain
from retrain.store import missing, opened
from ripeloop.blobs import Blobs, is_there
from ripeloop.errors import SettingsError

MODELS = "models"
CONTAINER = "--models-container"
USUAL = Plan(Ring(CANARY))
MOST_DAYS = 365


class _Condition(click.types.StringParamType):
    """A text that may hold spaces, in a variable of several, too."""

    envvar_list_splitter = ";"


def _option(flag: str, help_: str, **more: Any) -> Callable[[Any], Any]:
    name = more.pop("envvar", flag.lstrip("-").upper().replace("-", "_"))
    return click.option(flag, envvar=f"RIPELOOP_{name}", show_envvar=True, help=help_, **more)


def place_options(command: Any) -> Any:
    """Add where: --ring, --device and --ring-condition."""
    for option in (
        _option("--ring-condition", "What a ring means in IoT Hub's query language, over modules' twins: "
                "north=tags.site='north'. May be given more than once; in the environment with ; between them. Without "
                "it `all` is every classifier, and any other name a value of the tag `ring` of the module's twin.",
                multiple=True, metavar="NAME=CONDITION", type=_Condition()),
        _option("--device", "One device in place of a ring.", envvar="RELEASE_DEVICE"),
        _option("--ring", "The devices that are meant, such as canary or all."),
    ):  # fmt: skip
        command = option(command)
    return command


def plan_options(command: Any) -> Any:
    """Add all that a plan holds, but for the package's own; `plan_of` makes one of them."""
    seconds = click.FloatRange(0)
    share = click.FloatRange(0, 1)
    for option in (
        _option("--again", "Release it even where it was undone before.", is_flag=True, envvar="RELEASE_AGAIN"),
        _option("--link-days", "Devices can fetch the package for so many days.", default=USUAL.lasts.days,
                type=click.IntRange(1, MOST_DAYS)),
        _option("--base-url", "Devices fetch from below this address instead of by a link with a SAS; or, where a "
                "folder holds the packages, the absolute path under which they see it.", default=""),
        _option("--bad-share", "Of the ring of --then, up to this share may fail without an undo.",
                default=USUAL.bad_share, type=share),
        _option("--enough", "A ring is done once this share of its devices is active: some may be switched off.",
                default=USUAL.enough, type=click.FloatRange(0, 1, min_open=True)),
        _option("--poll", "Seconds between two looks at the devices.", default=USUAL.poll,
                type=click.FloatRange(0, min_open=True), envvar="RELEASE_POLL"),
        _option("--wait", "Seconds that the devices of a ring have to report.", default=USUAL.wait, type=seconds,
                envvar="RELEASE_WAIT"),
        _option("--watch", "Seconds that the first devices are watched once the model answers there.",
                default=USUAL.watch, type=seconds, envvar="RELEASE_WATCH"),
        _option("--then", "The ring it goes on to, where the first stayed well; without it, it stays there.",
                metavar="RING"),
    ):  # fmt: skip
        command = option(command)
    return place_options(command)


def models_options(command: Any) -> Any:
    """Add --cloud-blobs, --models-container and --api-version: where packages are."""
    for option in (
        click.option("--api-version", envvar=["RIPELOOP_API_VERSION", "SAMPLER_CLOUD_API_VERSION"], show_envvar=True,
                     help="The blob API version of the store, where it is not the newest."),
        _option(CONTAINER, "The container of the packages, or the folder in the folder.", default=MODELS),
        click.option("--cloud-blobs", required=True, envvar=["RIPELOOP_CLOUD_BLOBS", "SAMPLER_CLOUD_BLOBS"],
                     show_envvar=True, metavar="ADDRESS", help="Where packages are stored: a connection string with "
                     f"the account's key, or a folder. {KEEP_KEYS}"),
    ):  # fmt: skip
        command = option(command)
    return command


def plan_of(
    *,
    ring: str | None,
    device: str | None,
    ring_condition: Iterable[str],
    then: str | None,
    watch: float,
    wait: float,
    poll: float,
    enough: float,
    bad_share: float,
    base_url: str,
    link_days: int,
    again: bool,
    version: str = "",
) -> Plan:
    """The plan that `plan_options` say. Raises SettingsError."""
    conditions = _conditions(ring_condition)
    ring, device = _one_of(ring, device)
    if device and _is_flag("device") and not _is_flag("then"):
        then = None  # a release to one device stays there
    return Plan(
        first=place_of(ring, device, ring_condition),
        then=ring_of(then, conditions) if then else None,
        version=version,
        base_url=base_url,
        lasts=timedelta(days=link_days),
        wait=wait,
        watch=watch,
        poll=poll,
        enough=enough,
        bad_share=bad_share,
        again=again,
    )


def place_of(name: str | None, device: str | None, ring_condition: Iterable[str]) -> Place:
    """The place that `place_options` say; a flag goes before the environment and the file. Raises SettingsError."""
    name, device = _one_of(name, device)
    if bool(name) == bool(device):
        raise SettingsError("say where: --ring canary, or --device and its id, one of the two")
    return Device(device) if device else ring_of(name or "", _conditions(ring_condition))


@click.command(epilog=ENDS)
@click.argument("package", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@plan_options
@click.option(
    "--signature",
    default="",
    envvar="RIPELOOP_SIGNATURE",
    show_envvar=True,
    help="What `ripeloop package --key` printed; devices with a public key take no other package.",
)
@click.option(
    "--version-name",
    default="",
    envvar="RIPELOOP_VERSION_NAME",
    show_envvar=True,
    help="What the model is called, where not by its iteration's id.",
)
@models_options
@hub_options
@json_option
def release_command(
    package: Path,
    signature: str,
    version_name: str,
    cloud_blobs: str,
    models_container: str,
    api_version: str | None,
    hub: str,
    hub_ca: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Bring PACKAGE, a file of `ripeloop package`, to devices: to a ring first, on to another where it stays well.

    It waits until the devices report that the model answers, watches the first of them, and wants again what was wanted
    before where it fails, is rolled back or does worse. Killed, it goes on when it is run again; released already, it
    changes nothing.

    \b
    Example:
      ripeloop release model.zip --signature "$SIGNATURE" --ring canary --then all
      ripeloop release model.zip --device line-1 --watch 0
    """
    warnings: list[str] = []

    async def work() -> Released:
        plan = plan_of(version=version_name, **options)
        connection = Hub(hub, hub_ca)
        async with (
            Fleet.open(connection.connection_string, connection.ca_file) as fleet,
            _packages(cloud_blobs, models_container, api_version, warnings) as store,
        ):
            return await release(fleet, store, package, signature, plan, seen)

    with Console(stderr=True).status("releasing") as spinner:

        def seen(phase: str, board: Board) -> None:
            spinner.update(f"{phase}, {board.place}: {board.words}")

        released = told(work())
    if as_json:
        click.echo(json.dumps(released.to_json() | {"warning": " ".join(warnings)}, indent=2))
    else:
        show_released(released)
    if not released.ok:
        sys.exit(OFFLINE if released.outcome == WAITING else NOT_AS_WANTED)


@click.command(epilog=ENDS)
@place_options
@click.option(
    "--reason",
    default="by hand",
    envvar="RIPELOOP_ROLLBACK_REASON",
    show_envvar=True,
    help="Why; it is kept with the release.",
)
@click.option(
    "--further",
    is_flag=True,
    envvar="RIPELOOP_ROLLBACK_FURTHER",
    show_envvar=True,
    help="Where the newest release is undone already, undo the one before it, too.",
)
@models_options
@hub_options
@json_option
def rollback_command(
    ring: str | None,
    device: str | None,
    ring_condition: tuple[str, ...],
    reason: str,
    further: bool,
    cloud_blobs: str,
    models_container: str,
    api_version: str | None,
    hub: str,
    hub_ca: Path | None,
    as_json: bool,
) -> None:
    """Go back to the model before, in a ring or on one device. The one undone goes there again only with --again.

    Cut off, it is finished when it is run again. It goes back one release, and one more only with --further.

    \b
    Example:
      ripeloop rollback --ring canary --reason "takes unripe ones for ripe"
      ripeloop rollback --device line-1
    """

    async def work() -> RolledBack:
        place = place_of(ring, device, ring_condition)
        async with Fleet.open(hub, hub_ca) as fleet, opened(cloud_blobs, models_container, api_version) as store:
            if not await is_there(store):
                raise SettingsError(
                    f"{missing(cloud_blobs, models_container, CONTAINER)}; a release would have made it"
                )
            return await rollback(fleet, place, reason, store, further=further)

    with Console(stderr=True).status("rolling back"):
        done = told(work())
    if as_json:
        click.echo(json.dumps(done.to_json(), indent=2))
    else:
        now = f"{done.version} is wanted again" if done.version else "nothing is wanted in its place"
        click.echo(f"{done.place}: {done.was} is undone, {now}; `ripeloop status` shows what devices have")
        for why in done.kept:
            click.echo(f"it still answers in {plain(why)}")
    if done.kept:
        sys.exit(NOT_AS_WANTED)


@asynccontextmanager
async def _packages(address: str, container: str, api_version: str | None, warnings: list[str]) -> AsyncIterator[Blobs]:
    """The container of the packages, which the first release makes: that is said, for it may be a typing error."""
    async with opened(address, container, api_version) as found:
        if not await is_there(found):
            warnings.append(warned(f"{missing(address, container, CONTAINER)}; it is made now"))
    async with opened(address, container, api_version, make=True) as store:
        yield store


def _one_of(ring: str | None, device: str | None) -> tuple[str | None, str | None]:
    """Where both are set, the one that is a flag."""
    if ring and device and _is_flag("ring") != _is_flag("device"):
        return (ring, None) if _is_flag("ring") else (None, device)
    return ring, device


def _is_flag(name: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _conditions(given: Iterable[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    if bad := [name for name, sign, condition in pairs if not (name and sign and condition.strip())]:
        raise SettingsError(f"--ring-condition {bad[0]!r} is not NAME=CONDITION, as in north=tags.site='north'")
    return {name.strip(): condition for name, _, condition in pairs}
