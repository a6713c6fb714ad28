"""Files to start modules and tools with: lines of `export NAME='value'`, readable by their owner only."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from localedge.daemon.identities import Identities, Identity
from localedge.deployment import Deployment
from localedge.iothub.service import POLICY
from localedge.settings import Settings
from ripeloop.disk import write_whole


def module(settings: Settings, identity: Identity) -> dict[str, str]:
    """What the IoT Edge runtime gives every module."""
    return {
        "IOTEDGE_IOTHUBHOSTNAME": settings.hub_name,
        "IOTEDGE_DEVICEID": identity.device,
        "IOTEDGE_MODULEID": identity.module,
        "IOTEDGE_GATEWAYHOSTNAME": settings.gateway,
        "IOTEDGE_MODULEGENERATIONID": identity.generation,
        "IOTEDGE_WORKLOADURI": settings.workload_uri,
        "IOTEDGE_APIVERSION": "2018-06-28",
        "IOTEDGE_AUTHSCHEME": "sasToken",
    }


def service(settings: Settings, owner_key: str, ca: Path) -> dict[str, str]:
    """What a tool needs to reach the service REST."""
    connection = f"HostName={settings.hub_host};SharedAccessKeyName={POLICY};SharedAccessKey={owner_key}"
    return {"IOTHUB_CONNECTION_STRING": connection, "IOTHUB_CA_FILE": str(ca.resolve())}


def write(settings: Settings, identities: Identities, ca: Path, deployment: Deployment) -> None:
    """Write `hub.env`, and for each module of the deployment `modules/NAME.env` and `modules/NAME.settings.env`.

    The second holds what the deployment's `env` says, which speaks of paths inside containers; take it by choice.
    """
    folder = settings.state / "modules"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    for identity in identities:
        _write(folder / f"{identity.module}.env", module(settings, identity))
        _write(folder / f"{identity.module}.settings.env", deployment.environment.get(identity.module, {}))
    _write(settings.state / "hub.env", service(settings, identities.owner_key, ca))


def _write(path: Path, values: Mapping[str, str]) -> None:
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    write_whole(path, lines.encode(), 0o600)
