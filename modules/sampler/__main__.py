"""`python -m sampler`: keeps what the classifier flags and brings it to the cloud."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from ripeloop import process
from ripeloop.blobs import Blobs, open_blobs
from ripeloop.errors import SettingsError
from ripeloop.hub import Hub, Method, open_hub
from ripeloop.spool import Spool
from sampler.inbox import Inbox
from sampler.outbox import Outbox
from sampler.rebuild import rebuild
from sampler.retention import Retention
from sampler.settings import LOCAL_API_VERSION, Settings
from sampler.steering import MOST_MINUTES, Steering, Wheel
from sampler.summary import status, tell
from sampler.upload import Uploader

log = logging.getLogger("sampler")

INPUT = "uncertain"
MOST_SECONDS = 24 * 3600.0

Command = TypeVar("Command", bound=Callable[..., Any])


async def sample(settings: Settings) -> None:
    """Keep and upload until cancelled. Raises SettingsError, HubLost."""
    async with AsyncExitStack() as stack:
        spool = _spool(settings.spool)
        outbox = await asyncio.to_thread(Outbox, settings.state / "outbox.db")
        stack.callback(outbox.close)
        local, cloud = await stack.enter_async_context(_stores(settings))
        wheel = Wheel(settings.steering)
        uploader = Uploader(outbox, spool, local, cloud, steering=wheel.now)

        async def current() -> dict[str, Any]:
            return status(await asyncio.to_thread(outbox.counters), online=uploader.online)

        hub = await stack.enter_async_context(
            open_hub(
                os.environ,
                mailbox=settings.state / "mailbox.db",
                inputs=(INPUT,),
                methods=_methods(current, uploader),
            )
        )
        inbox = Inbox(spool, outbox, local, device=hub.device, steering=wheel.now, kept=uploader.wake)
        retention = Retention(outbox, spool, local, steering=wheel.now)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(_keep(outbox, local, inbox, settings.scan_seconds))
        tasks.create_task(uploader.run())
        tasks.create_task(retention.run(settings.scan_seconds))
        tasks.create_task(_wake(hub, inbox))
        tasks.create_task(wheel.follow(hub, uploader.wake))
        tasks.create_task(tell(hub, current, settings.summary_seconds))


async def _keep(outbox: Outbox, local: Blobs, inbox: Inbox, scan_seconds: float) -> None:
    await rebuild(outbox, local, scan_seconds)  # first, or an image it knows would be kept a second time
    await inbox.run(scan_seconds)


def _methods(current: Callable[[], Any], uploader: Uploader) -> dict[str, Method]:
    async def tell_status(_: Any) -> tuple[int, Any]:
        return 200, await current()

    async def flush(_: Any) -> tuple[int, Any]:
        uploader.flush()
        return 200, await current()

    return {"status": tell_status, "flush": flush}


async def _wake(hub: Hub, inbox: Inbox) -> None:
    async for _ in hub.messages(INPUT):
        inbox.wake()


@asynccontextmanager
async def _stores(settings: Settings) -> AsyncIterator[tuple[Blobs, Blobs | None]]:
    local = settings.local_blobs or str(settings.state / "blobs")
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(
            open_blobs(local, settings.local_container, settings.local_api_version or None)
        )
        if not settings.cloud_blobs:
            log.warning("without --cloud-blobs everything is kept here, to be uploaded when it is set")
            yield here, None
            return
        cloud = await stack.enter_async_context(
            open_blobs(settings.cloud_blobs, settings.cloud_container, settings.cloud_api_version or None)
        )
        yield here, cloud


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


_SECONDS = _Number(min=0, max=MOST_SECONDS, min_open=True)
_STORE = "a connection string, a container's SAS URL, or a folder"


def _option(name: str, default: Any, type_: Any, help_: str) -> Callable[[Command], Command]:
    return click.option(name, default=default, type=type_, show_default=True, show_envvar=True, help=help_)


@click.command()
@click.option(
    "--spool", required=True, type=_FOLDER, show_envvar=True, help="The folder the classifier puts uncertain images in."
)
@_option("--state", "state", _FOLDER, "The folder for the index and for messages that must outlive the process.")
@_option("--local-blobs", "", str, f"Where images are kept: {_STORE}. Without it a folder in --state.")
@_option("--local-container", "samples", str, "The container of the local store.")
@_option("--local-api-version", LOCAL_API_VERSION, str, "The blob API version the local store speaks.")
@_option("--cloud-blobs", "", str, f"Where images are uploaded to: {_STORE}. Without it they wait.")
@_option("--cloud-container", "samples", str, "The container of the cloud store; a SAS URL names its own.")
@_option("--cloud-api-version", "", str, "The blob API version of the cloud store. Without it the newest.")
@_option("--scan-seconds", 5.0, _SECONDS, "Seconds between looks into the spool without a message.")
@_option("--max-per-hour", 0, click.IntRange(0, 1_000_000), "Images kept in an hour at most; 0: no limit.")
@_option("--upload-concurrency", 4, click.IntRange(1, 64), "Images uploaded at once.")
@_option("--uploaded-minutes", 60.0, _Number(0, MOST_MINUTES), "Minutes an uploaded image stays in the local store.")
@_option("--summary-seconds", 60.0, _SECONDS, "Seconds between summaries to the cloud.")
@process.log_options
def main(log_level: str, log_json: bool, **options: Any) -> None:
    """Keep the images the classifier is unsure of, upload them when there is a network, lose none.

    Example: python -m sampler --spool spool --cloud-blobs /mnt/backup

    Limits hold until the module twin says otherwise.
    """
    steering = Steering(
        max_per_hour=options.pop("max_per_hour"),
        concurrency=options.pop("upload_concurrency"),
        uploaded_minutes=options.pop("uploaded_minutes"),
    )
    process.run(sample(Settings(**options, steering=steering)), log_level=log_level, log_json=log_json)


if __name__ == "__main__":
    main(auto_envvar_prefix="SAMPLER")
