"""`ripeloop label`: the labelling page."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

import click

from retrain.ending import ENDS
from retrain.label.serve import JOURNAL, serve
from retrain.label.settings import Settings, network
from retrain.settings import KEEP_KEYS, cloud_options
from retrain.store import missing, opened
from ripeloop import process
from ripeloop.blobs import FolderBlobs, is_there
from ripeloop.errors import SettingsError
from ripeloop.process import option

log = logging.getLogger(__name__)

SHARE = click.FloatRange(0, 1)


@click.command(epilog=ENDS)
@cloud_options
@option("--state", type=click.Path(file_okay=False, path_type=Path), default=Path("label-state"),
        metavar="DIR", help="The server's folder: answers on their way, the cache, images, the "
        "sessions' secret. Each server has its own.")  # fmt: skip
@option("--host", default="127.0.0.1",
        help="The address to listen on; one that other computers reach takes a token or a proxy.")  # fmt: skip
@option("--port", default=8765, type=click.IntRange(0, 65535),
        help="The port; 0: a free one.")  # fmt: skip
@option("--token", default="", show_default=False,
        help=f"What people say to sign in. {KEEP_KEYS}")  # fmt: skip
@option("--admin-token", default="", show_default=False,
        help=f"What admins say instead. {KEEP_KEYS}")  # fmt: skip
@option("--admin", "admins", multiple=True, envvar="RIPELOOP_LABEL_ADMIN", metavar="NAME",
        help="An admin: sees names, deletes, starts a retraining. May be given more than once.")  # fmt: skip
@option("--trusted-user-header", default="", show_default=False, metavar="HEADER",
        help="The header in which a proxy says who signed in, such as X-Forwarded-User.")  # fmt: skip
@option("--trusted-proxy", "proxies", multiple=True, envvar="RIPELOOP_LABEL_TRUSTED_PROXY",
        metavar="ADDRESS", help="The proxy's address, or a range of them; nobody else is believed.")  # fmt: skip
@option("--allowed-host", "allowed_hosts", multiple=True, envvar="RIPELOOP_LABEL_ALLOWED_HOST",
        metavar="NAME", help="A name this server is opened under, such as label.example.com.")  # fmt: skip
@option("--tag", "tags", multiple=True, envvar="RIPELOOP_LABEL_TAG", metavar="TAG",
        help="A tag, in the order of the keys; those the model or a label names come after these.")  # fmt: skip
@option("--negative-tag", default="Negative",
        help="What the project calls none of its tags; the key n answers it.")  # fmt: skip
@option("--endpoint", default="", show_default=False, envvar="RIPELOOP_ENDPOINT", metavar="URL",
        help="The Custom Vision service, or our own trainer, whose project's tags are offered.")  # fmt: skip
@option("--training-key", default="", show_default=False, envvar="RIPELOOP_TRAINING_KEY",
        metavar="KEY", help=f"The training key of the service. {KEEP_KEYS}")  # fmt: skip
@option("--project", default="", show_default=False, envvar="RIPELOOP_PROJECT",
        help="The project's id, or its name if it is the only one of that name.")  # fmt: skip
@option("--overlap", default=0.05, type=SHARE,
        help="The share of images that a second person is asked of.")  # fmt: skip
@option("--blind", default=0.2, type=SHARE,
        help="The share of images whose suggestion is hidden.")  # fmt: skip
@option("--known", default=0.02, type=SHARE,
        help="The share of images shown whose answer is known, to measure the labellers.")  # fmt: skip
@option("--scan-seconds", default=60.0, type=click.FloatRange(1),
        help="The pause between two listings of the container.")  # fmt: skip
@option("--image-cache-mb", default=2048, type=click.IntRange(10),
        help="How much disk the re-encoded images may take.")  # fmt: skip
@option("--training-needs", default=50, type=click.IntRange(1),
        help="How many labels a tag needs, for the page of progress.")  # fmt: skip
@option("--report", type=click.Path(path_type=Path), metavar="PATH",
        help="What `ripeloop judge --json` wrote last, or the work folder of `ripeloop retrain`.")  # fmt: skip
@option("--model", type=click.Path(exists=True, path_type=Path), metavar="FILE",
        help="A newer model: it is asked about all labelled images, to find likely mistakes.")  # fmt: skip
@option("--retrain", default="", show_default=False, metavar="COMMAND",
        help="What an admin's button runs, such as 'ripeloop retrain'; empty: no button.")  # fmt: skip
@process.log_options
def label(
    cloud_blobs: str, container: str, api_version: str | None, log_level: str, log_json: bool, **options: Any
) -> None:
    """Serve the page on which people label what the devices sent, until stopped.

    \b
    Example:
      export RIPELOOP_CLOUD_BLOBS="$STORAGE_CONNECTION_STRING"
      ripeloop label --tag ripe --tag unripe --admin Kari
    """

    async def program() -> None:
        settings = _settings(options)
        known = (settings.state / JOURNAL).is_file()  # a server that ran before waits for its store
        async with opened(cloud_blobs, container, api_version, away=known) as blobs:
            if isinstance(blobs, FolderBlobs) and not known and not await is_there(blobs):
                log.warning("%s", missing(cloud_blobs, container))  # of an account the listing says it
            await serve(settings, blobs)

    process.run(program(), log_level=log_level, log_json=log_json)


def _settings(options: dict[str, Any]) -> Settings:
    """Raises SettingsError."""
    proxies = tuple(network(text) for text in options.pop("proxies"))
    header = options.pop("trusted_user_header")
    try:
        command = tuple(shlex.split(options.pop("retrain")))
    except ValueError as error:
        raise SettingsError(f"--retrain is no command ({error}): write it as in a shell") from None
    return Settings(proxies=proxies, user_header=header, retrain=command, **options)
