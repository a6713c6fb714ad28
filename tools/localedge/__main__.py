"""`python -m localedge`: Azure IoT Edge on a laptop."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from localedge import control, deployment, listening
from localedge.daemon import certificates, environments, workload
from localedge.daemon.identities import Identities
from localedge.database import Database
from localedge.edgehub.broker import Broker
from localedge.edgehub.edgehub import EdgeHub
from localedge.faults import Faults
from localedge.iothub import service
from localedge.iothub.configurations import Configurations
from localedge.iothub.registry import Registry
from localedge.settings import MQTT_PORT, Settings
from manifests.variables import find_env_file, read_env_file
from ripeloop import process
from ripeloop.errors import SettingsError
from ripeloop.process import option

log = logging.getLogger(__name__)

EXPIRE_EVERY = 1.0


async def run(settings: Settings, environment: Mapping[str, str]) -> None:
    """Be the edge runtime until cancelled. Raises SettingsError."""
    file = deployment.load(settings.deployment, {**_values(settings), **environment})
    async with AsyncExitStack() as stack:
        stack.enter_context(_owned(settings.state))
        with _on_disk(settings.state):
            names = [settings.gateway, "localhost", "127.0.0.1"]
            files = certificates.ensure(settings.state / "certificates", names, datetime.now(UTC))
            database = stack.enter_context(closing(Database(settings.state / "edgehub.db")))
            identities = Identities(settings.state / "identities.json", settings.device)
            hub = EdgeHub(
                database,
                identities,
                (settings.hub_name, settings.gateway),
                online=not settings.offline,
                on_deployed=partial(environments.write, settings, identities, files.ca),
            )
            configurations = Configurations(database, hub)
            configurations.start(file)
        await _listen(stack, settings, hub, configurations, files)
        hub.delivery.wake()
        log.info("MQTT at %s:%d, IoT Hub at https://%s", settings.gateway, MQTT_PORT, settings.hub_host)
        log.info("start modules with %s", settings.state / "modules" / "NAME.env")
        click.echo("ready")
        while True:
            await asyncio.sleep(EXPIRE_EVERY)
            hub.expire()


def _values(settings: Settings) -> dict[str, str]:
    """Values for the deployment's variables: of the file that was named, else of the one beside the deployment."""
    file = settings.env_file or find_env_file(settings.deployment)
    if file is None:
        return {}
    if settings.env_file is None:
        log.info("values for the deployment's variables are from %s; --env-file names another file", file)
    return read_env_file(file)


async def _listen(
    stack: AsyncExitStack,
    settings: Settings,
    hub: EdgeHub,
    configurations: Configurations,
    files: certificates.Certificates,
) -> None:
    faults, tls = Faults(), files.tls()
    broker = Broker(hub, faults)
    registry = Registry(hub)
    hosts = [settings.hub_host, settings.gateway, settings.hub_name]
    rest = service.application(hub, configurations, registry, hosts)
    with listening.one_line(settings.hub_host, "choose another --hub-port or --gateway"):
        await stack.enter_async_context(listening.serve(rest, listening.tcp(settings.gateway, settings.hub_port, tls)))
    with listening.one_line(settings.workload_uri, "choose another --workload"):
        await stack.enter_async_context(
            listening.serve(
                workload.application(hub, faults, files.ca.read_text()), listening.workload(settings.workload_uri)
            )
        )
    with listening.one_line(str(settings.control_socket), "choose another --state"):
        await stack.enter_async_context(
            listening.serve(
                control.application(hub, broker, configurations, registry), listening.unix(str(settings.control_socket))
            )
        )
    with listening.one_line(
        f"{settings.gateway}:{MQTT_PORT}", "choose another address with --gateway, such as 127.0.0.2"
    ):
        await broker.start(settings.gateway, MQTT_PORT, tls)
    stack.push_async_callback(broker.stop)


@contextmanager
def _on_disk(state: Path) -> Iterator[None]:
    """Say in one line why the state cannot be read or written, a full disk for one. Raises SettingsError."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"cannot use the folder {state}: {error.strerror or error}; make room there, or name another with --state"
        ) from error


@contextmanager
def _owned(state: Path) -> Iterator[None]:
    """The state folder, for this process alone; the kernel ends the lock with the process."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"cannot use the folder {state}: {error.strerror}; name another with --state") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SettingsError(f"another localedge uses {state}; end it, or name another folder with --state") from None
    finally:
        os.close(lock)


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(context_settings={"show_default": True})
@option(
    "--deployment",
    type=_FILE,
    required=True,
    help="deployment.template.json, or the manifest rendered from one.",
)
@option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for identities, certificates, queues and twins; made where missing.",
)
@option(
    "--env-file",
    type=_FILE,
    help="Values for the deployment's $VARIABLES.  [default: .env beside the deployment, else .env.template]",
)
@option("--device", default="laptop", help="The IoT Edge device's id.")
@option(
    "--hub-name",
    default="local-hub.azure-devices.net",
    help="The IoT hub's host name that modules are told.",
)
@option(
    "--gateway",
    default="127.0.0.1",
    help=f"Address of edge hub; MQTT listens there on {MQTT_PORT}.",
)
@option(
    "--hub-port",
    type=click.IntRange(1, 65535),
    default=8484,
    help="Port of IoT Hub's service REST (HTTPS).",
)
@option(
    "--workload",
    help="URI of the workload API, unix:///path or http://host:port.  [default: a socket in the state folder]",
)
@option("--offline", is_flag=True, help="Start without a connection to IoT Hub.")
@process.log_options
def main(
    deployment: Path,
    state: Path,
    env_file: Path | None,
    device: str,
    hub_name: str,
    gateway: str,
    hub_port: int,
    workload: str | None,
    offline: bool,
    log_level: str,
    log_json: bool,
) -> None:
    """Run Azure IoT Edge on this computer, without Azure and without containers.

    Ready once it prints `ready`. It writes for each module of the deployment what the module needs to connect.

    \b
    Example:
      python -m localedge --deployment deployment.template.json --state /tmp/edge
      . /tmp/edge/modules/sampler.env; python -m sampler --spool /tmp/spool
    """
    settings = Settings(deployment, state, env_file, device, hub_name, gateway, hub_port, workload, offline)
    process.run(run(settings, os.environ), log_level=log_level, log_json=log_json)


if __name__ == "__main__":
    main(auto_envvar_prefix="LOCALEDGE")
