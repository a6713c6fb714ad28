"""The local edge runtime as a fixture: a real process on a loopback address of its own."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import select
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote_plus

import aiohttp
import pytest

MQTT_PORT = 8883
READY_WITHIN = 60.0
STOP_WITHIN = 10.0

ROUTES: Mapping[str, Any] = {
    "uncertain": (
        'FROM /messages/modules/classifier/outputs/uncertain INTO BrokeredEndpoint("/modules/sampler/inputs/uncertain")'
    ),
    "classifierSummary": "FROM /messages/modules/classifier/outputs/summary INTO $upstream",
    "samplerSummary": "FROM /messages/modules/sampler/outputs/summary INTO $upstream",
}


def manifest(
    *,
    modules: Sequence[str] = ("classifier", "sampler"),
    routes: Mapping[str, Any] = ROUTES,
    desired: Mapping[str, Mapping[str, Any]] | None = None,
    time_to_live: int = 7200,
) -> dict[str, Any]:
    """A small deployment manifest."""
    return {
        "modulesContent": {
            "$edgeAgent": {
                "properties.desired": {
                    "schemaVersion": "1.1",
                    "runtime": {"type": "docker", "settings": {}},
                    "systemModules": {},
                    "modules": {
                        name: {"type": "docker", "settings": {"image": f"{name}:1", "createOptions": "{}"}}
                        for name in modules
                    },
                }
            },
            "$edgeHub": {
                "properties.desired": {
                    "schemaVersion": "1.2",
                    "routes": dict(routes),
                    "storeAndForwardConfiguration": {"timeToLiveSecs": time_to_live},
                }
            },
            **{name: {"properties.desired": section} for name, section in (desired or {}).items()},
        }
    }


class Edge:
    """One `python -m localedge` and the folder that holds all it must remember."""

    def __init__(self, state: Path, gateway: str, hub_port: int, deployment: Mapping[str, Any], flags: Sequence[str]):
        self.state = state
        self.gateway = gateway
        self.hub_url = f"https://{gateway}:{hub_port}"
        self.ca_file = state / "certificates" / "ca.pem"
        self._hub_port = hub_port
        self._flags = list(flags)
        self._process: subprocess.Popen[str] | None = None
        state.mkdir(parents=True)
        self.deploy(deployment)

    @property
    def connection_string(self) -> str:
        """The service's connection string."""
        return read_exports(self.state / "hub.env")["IOTHUB_CONNECTION_STRING"]

    @property
    def log(self) -> str:
        """What the runtime has logged, over all its lives."""
        return self._log_file.read_text()

    @property
    def pid(self) -> int:
        """The process id of the running runtime."""
        assert self._process is not None
        return self._process.pid

    def environ(self, module: str) -> dict[str, str]:
        """The IoT Edge environment of a module."""
        return read_exports(self.state / "modules" / f"{module}.env")

    def deploy(self, deployment: Mapping[str, Any]) -> None:
        """Write the deployment that the next start reads."""
        (self.state / "deployment.json").write_text(json.dumps(deployment))

    def start(self) -> None:
        """Start with the state as it is; returns when everything listens."""
        assert self._process is None, "it runs already"
        with self._log_file.open("a") as log:
            self._process = subprocess.Popen(self._command(), stdout=subprocess.PIPE, stderr=log, text=True)
        said = _first_line(self._process, READY_WITHIN)
        if said != "ready\n":
            self.kill()
            pytest.fail(f"localedge did not start, it said {said!r} and logged:\n{self.log}")

    def stop(self) -> int:
        """End it as a service manager would; returns its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the control API; returns the decoded JSON."""
        connector = aiohttp.UnixConnector(str(self.state / "control.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://control{path}", json=body) as response,
        ):
            answer = await response.json()
            assert response.status == 200, answer
            return answer

    async def service(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        raw: bytes | None = None,
    ) -> tuple[int, Any]:
        """Ask IoT Hub's service REST as its owner, with JSON or `raw` bytes: the status and the decoded JSON."""
        sent = {"Authorization": service_token(self.connection_string), **(headers or {})}
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        url = f"{self.hub_url}{path}?api-version=2021-04-12"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body, data=raw, headers=sent, ssl=tls) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def until(self, found: Callable[[dict[str, Any]], Any], seconds: float = 15.0) -> dict[str, Any]:
        """The first state of the runtime of which `found` is true."""
        async with asyncio.timeout(seconds):
            while True:
                state: dict[str, Any] = await self.control("GET", "/state")
                if found(state):
                    return state
                await asyncio.sleep(0.02)

    async def arrived(self, count: int, seconds: float = 15.0) -> list[dict[str, Any]]:
        """What reached upstream, once it is at least `count` messages."""
        async with asyncio.timeout(seconds):
            while True:
                messages: list[dict[str, Any]] = (await self.control("GET", "/messages"))["messages"]
                if len(messages) >= count:
                    return messages
                await asyncio.sleep(0.02)

    @property
    def _log_file(self) -> Path:
        return self.state.with_name("log")

    def _command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "localedge",
            "--deployment",
            str(self.state / "deployment.json"),
            "--state",
            str(self.state),
            "--gateway",
            self.gateway,
            "--hub-port",
            str(self._hub_port),
            *self._flags,
        ]

    def _end(self, signum: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(signum)
        try:
            return process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            _output(process).close()


EdgeFactory = Callable[..., Edge]


@pytest.fixture
def edge_factory() -> Iterator[EdgeFactory]:
    """Starts runtimes: `edge_factory(deployment=manifest(...), flags=["--offline"], start=True)`."""
    # a short path: the address of a unix socket has room for 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="edge-", dir="/tmp"))
    edges: list[Edge] = []

    def make(deployment: Mapping[str, Any] | None = None, flags: Sequence[str] = (), *, start: bool = True) -> Edge:
        gateway = free_gateway()
        edge = Edge(folder / str(len(edges)) / "state", gateway, free_port(gateway), deployment or manifest(), flags)
        edges.append(edge)
        if start:
            edge.start()
        return edge

    yield make
    for edge in edges:
        edge.kill()
    shutil.rmtree(folder)


@pytest.fixture
def edge(edge_factory: EdgeFactory) -> Edge:
    """A running edge runtime with a classifier, a sampler and their routes."""
    return edge_factory()


def service_token(connection_string: str, seconds: float = 60) -> str:
    """A token of the service's owner."""
    fields = dict(part.split("=", 1) for part in connection_string.split(";"))
    signed = f"{quote_plus(fields['HostName'])}\n{int(time.time() + seconds)}"
    digest = hmac.digest(base64.b64decode(fields["SharedAccessKey"]), signed.encode(), "sha256")
    resource, expires = signed.split("\n")
    signature = quote_plus(base64.b64encode(digest))
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expires}&skn={fields['SharedAccessKeyName']}"


def read_exports(path: Path) -> dict[str, str]:
    """The variables in a file of `export NAME='value'` lines."""
    lines = path.read_text().splitlines()
    return dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines)


def free_gateway() -> str:
    """A loopback address whose MQTT port nobody has, nor a test run beside this one will pick."""
    for _ in range(100):
        one, two, three = os.urandom(3)
        address = f"127.{one % 254 + 1}.{two}.{three % 254 + 1}"
        with socket.socket() as probe:
            try:
                probe.bind((address, MQTT_PORT))
            except OSError:
                continue
        return address
    pytest.skip("no loopback address beside 127.0.0.1 can be used here")


def free_port(address: str = "127.0.0.1") -> int:
    """A port nobody has at the address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port


def _first_line(process: subprocess.Popen[str], seconds: float) -> str:

    ready, _, _ = select.select([_output(process)], [], [], seconds)
    return _output(process).readline() if ready else ""


def _output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout
