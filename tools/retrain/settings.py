"""What the `ripeloop` command is told, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

NOT_AS_WANTED = 1
USAGE = 2
OFFLINE = 3
NOT_WORTH_IT = 4
STOPPED = 130  # as shells say it of Ctrl-C

KEEP_KEYS = "It holds a key: say it in the environment, for everybody on the computer can see a command's flags."

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Hub:
    """Which IoT Hub to ask."""

    connection_string: str
    ca_file: Path | None = None


def hub_options(command: Command) -> Command:
    """Add `--hub` and `--hub-ca`."""
    return _hub_options(command, required=True)


def hub_options_if_any(command: Command) -> Command:
    """Add `--hub` and `--hub-ca`, for a command that does something without a hub, too."""
    return _hub_options(command, required=False)


def _hub_options(command: Command, *, required: bool) -> Command:
    hub = click.option(
        "--hub",
        envvar=["RIPELOOP_HUB", "IOTHUB_CONNECTION_STRING"],
        show_envvar=True,
        required=required,
        metavar="CONNECTION",
        help="Connection string of the IoT Hub, with the rights service connect and registry write. "
        f"localedge writes its own to DIR/hub.env. {KEEP_KEYS}",
    )
    authority = click.option(
        "--hub-ca",
        envvar=["RIPELOOP_HUB_CA", "IOTHUB_CA_FILE"],
        show_envvar=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Certificates (PEM) that vouch for the hub, where the system's do not: localedge's.",
    )
    return hub(authority(command))


def json_option(command: Command) -> Command:
    """Add `--json`, to the parameter `as_json`."""
    option = click.option(
        "--json", "as_json", is_flag=True, envvar="RIPELOOP_JSON", show_envvar=True, help="Print JSON for a program."
    )
    return option(command)


def device_option(command: Command) -> Command:
    """Add `--device`."""
    option = click.option(
        "--device", required=True, envvar="RIPELOOP_DEVICE", show_envvar=True, help="The IoT Edge device's id."
    )
    return option(command)


def cloud_options(command: Command) -> Command:
    """Add `--cloud-blobs`, `--container` and `--api-version`."""
    address = click.option(
        "--cloud-blobs",
        required=True,
        envvar=["RIPELOOP_CLOUD_BLOBS", "SAMPLER_CLOUD_BLOBS"],
        show_envvar=True,
        metavar="ADDRESS",
        help="Where the devices upload to: a connection string, a container's SAS URL (rights: list, read; to tag, "
        f"write as well) or a folder. {KEEP_KEYS}",
    )
    container = click.option(
        "--container",
        default="samples",
        envvar=["RIPELOOP_CONTAINER", "SAMPLER_CLOUD_CONTAINER"],
        show_envvar=True,
        help="The container, or the folder in the folder.",
    )
    version = click.option(
        "--api-version",
        envvar=["RIPELOOP_API_VERSION", "SAMPLER_CLOUD_API_VERSION"],
        show_envvar=True,
        help="The blob API version of the store, where it is not the newest.",
    )
    return address(container(version(command)))


def endpoint_options(command: Command) -> Command:
    """Add `--endpoint` and `--training-key`."""
    key = click.option(
        "--training-key", required=True, envvar="RIPELOOP_TRAINING_KEY", show_envvar=True, metavar="KEY",
        help=f"The training key of the service. {KEEP_KEYS}",
    )  # fmt: skip
    endpoint = click.option(
        "--endpoint", required=True, envvar="RIPELOOP_ENDPOINT", show_envvar=True, metavar="URL",
        help="The Custom Vision service, https://NAME.cognitiveservices.azure.com, or our own trainer.",
    )  # fmt: skip
    return endpoint(key(command))


def project_option(command: Command) -> Command:
    """Add `--project`."""
    option = click.option(
        "--project",
        required=True,
        envvar="RIPELOOP_PROJECT",
        show_envvar=True,
        help="The project's id, or its name if it is the only one of that name.",
    )
    return option(command)
