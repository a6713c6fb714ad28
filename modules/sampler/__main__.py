"""`python -m sampler`: keeps what the classifier flags and brings it to the cloud."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import click

from ripeloop import process
from ripeloop.blobs import Blobs, open_blobs
from ripeloop.errors import SettingsError
from ripeloop.hub import Hub, open_hub
from ripeloop.spool import Spool
from sampler.index.outbox import Outbox
from sampler.index.rebuild import look_again
from sampler.keeping.inbox import Inbox
from sampler.keeping.retention import Retention
from sampler.settings import LOCAL_API_VERSION, Settings
from sampler.telling.methods import Methods
from sampler.telling.metrics import Metrics
from sampler.telling.pages import served
from sampler.telling.steering import KNOBS, Knob, Steering, Wheel
from sampler.telling.summary import status, tell
from sampler.telling.trouble import Troubles
from sampler.telling.why import Facts, why
from sampler.uploading.cloud import Cloud
from sampler.uploading.credential import Credentials
from sampler.uploading.pause import Pause
from sampler.uploading.unreadable import Unreadable
from sampler.uploading.upload import Uploader

log = logging.getLogger("sampler")

INPUT = "uncertain"
MOST_SECONDS = 24 * 3600.0

Command = TypeVar("Command", bound=Callable[..., Any])


async def sample(settings: Settings) -> None:
    """Keep and upload until cancelled. Raises SettingsError, HubLost."""
    async with AsyncExitStack() as stack:
        spool, troubles = _spool(settings.spool), Troubles()
        outbox = await asyncio.to_thread(Outbox, settings.state / "outbox.db", troubles)
        stack.callback(outbox.close)
        local = await stack.enter_async_context(_local(settings))
        cloud = Cloud()
        stack.push_async_callback(cloud.close)
        credentials = Credentials(settings.state / "credential.json", settings.credential, cloud)
        await credentials.begin()
        if not cloud.is_set:
            log.warning("without --cloud-blobs everything is kept here, to be uploaded when it is set")
        wheel, pause = Wheel(settings.steering), Pause(settings.state / "paused")
        unreadable = Unreadable(outbox, troubles)
        uploader = Uploader(outbox, spool, local, cloud, steering=wheel.now, pause=pause, unreadable=unreadable)

        async def current() -> dict[str, Any]:
            counters = await asyncio.to_thread(outbox.counters)
            return status(counters, uploader.standing(), troubles.now(), credentials.expires)

        async def reasons() -> dict[str, Any]:
            facts = await asyncio.to_thread(_facts, outbox, spool, uploader, wheel.now(), troubles)
            return {"why": why(facts)}

        methods = Methods(uploader, pause, credentials, outbox, status=current, why=reasons)
        metrics = Metrics(outbox, spool, uploader, troubles, lambda: credentials.expires)
        await stack.enter_async_context(served(settings.http_host, settings.http_port, metrics, troubles.now))
        hub = await stack.enter_async_context(
            open_hub(os.environ, mailbox=settings.state / "mailbox.db", inputs=(INPUT,), methods=methods.by_name())
        )
        inbox = Inbox(
            spool, outbox, local, device=hub.device, steering=wheel.now, kept=uploader.wake, troubles=troubles
        )
        retention = Retention(
            outbox, spool, local, steering=wheel.now, state=settings.state, troubles=troubles, unreadable=unreadable
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(inbox.run(settings.scan_seconds))
        tasks.create_task(look_again(outbox, local, troubles))
        tasks.create_task(uploader.run())
        tasks.create_task(retention.run(settings.scan_seconds))
        tasks.create_task(_wake(hub, inbox))
        tasks.create_task(wheel.follow(hub, uploader.wake))
        tasks.create_task(tell(hub, current, settings.summary_seconds))


def _facts(outbox: Outbox, spool: Spool, uploader: Uploader, steering: Steering, troubles: Troubles) -> Facts:
    standing = uploader.standing()
    return Facts(
        counters=outbox.counters(),
        rules=steering.rules,
        closed=standing.closed.words if standing.closed else "",
        failing=standing.trouble,
        uplink_budget=bool(steering.bytes_per_day),
        in_spool=spool.usage()[1],
        trouble=troubles.now(),
    )


async def _wake(hub: Hub, inbox: Inbox) -> None:
    async for _ in hub.messages(INPUT):
        inbox.wake()


def _local(settings: Settings) -> AbstractAsyncContextManager[Blobs]:
    address = settings.local_blobs or str(settings.state / "blobs")
    return open_blobs(address, settings.local_container, settings.local_api_version or None)


def _spool(folder: Path) -> Spool:
    try:
        return Spool(folder)
    except OSError as error:
        raise SettingsError(f"--spool {folder} cannot be used: {error.strerror or error}") from error


_FOLDER = click.Path(file_okay=False, path_type=Path)


class _Number(click.FloatRange):
    """A range that holds no nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class _Steered(click.ParamType):  # type: ignore[type-arg]
    """What one knob takes, judged as the twin's value is."""

    def __init__(self, knob: Knob, default: object) -> None:
        self.name = type(default).__name__
        self._knob = knob
        self._read = {bool: click.BOOL, int: click.INT, float: click.FLOAT}.get(type(default), click.STRING)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = self._read.convert(value, param, ctx)
        if reason := self._knob.check(found):
            self.fail(reason, param, ctx)
        return found


_SECONDS = _Number(min=0, max=MOST_SECONDS, min_open=True)
_STORE = "a connection string, a container's SAS URL, or a folder"


def _option(name: str, default: Any, type_: Any, help_: str) -> Callable[[Command], Command]:
    return process.option(name, default=default, type=type_, show_default=True, help=help_)


def _steering_options(command: Command) -> Command:
    """Add a flag for each thing the twin steers, in the order of their table."""
    for knob in reversed(KNOBS):
        default = getattr(Steering(), knob.name)
        command = _option(knob.flag, default, _Steered(knob, default), knob.help)(command)
    return command


@click.command()
@process.option(
    "--spool",
    required=True,
    type=_FOLDER,
    help="The folder the classifier puts uncertain images in.",
)
@_option("--state", "state", _FOLDER, "The folder for the index and for messages that must outlive the process.")
@_option("--local-blobs", "", str, f"Where images are kept: {_STORE}. Without it a folder in --state.")
@_option("--local-container", "samples", str, "The container of the local store.")
@_option("--local-api-version", LOCAL_API_VERSION, str, "The blob API version the local store speaks.")
@_option("--cloud-blobs", "", str, f"Where images are uploaded to: {_STORE}. Without it they wait for a credential.")
@_option("--cloud-container", "samples", str, "The container of the cloud store; a SAS URL names its own.")
@_option("--cloud-api-version", "", str, "The blob API version of the cloud store. Without it the newest.")
@_option("--scan-seconds", 5.0, _SECONDS, "Seconds between looks into the spool without a message.")
@_steering_options
@_option("--summary-seconds", 60.0, _SECONDS, "Seconds between summaries to the cloud.")
@_option("--http-host", "0.0.0.0", str, "The address to answer /metrics, /healthz and /readyz on.")  # noqa: S104
@_option("--http-port", 0, click.IntRange(0, 65535), "The port to answer them on; 0: none.")
@process.log_options
def main(log_level: str, log_json: bool, **options: Any) -> None:
    """Keep the images the classifier is unsure of, upload them when there is a network, lose none.

    Example: python -m sampler --spool spool --cloud-blobs /mnt/backup

    Limits hold until the module twin says otherwise.
    """
    steering = {knob.name: options.pop(knob.flag[2:].replace("-", "_")) for knob in KNOBS}
    settings = Settings(**options, steering=Steering(**steering))
    process.run(sample(settings), log_level=log_level, log_json=log_json)


if __name__ == "__main__":
    main(auto_envvar_prefix="SAMPLER")
