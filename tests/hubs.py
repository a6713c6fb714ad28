"""What the tests of ripeloop.hub share: quick limits, and IoT Hub's side of a twin and of direct methods."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge import Edge
from ripeloop.hub import Hub, HubLimits, Message, open_hub

LIMITS = HubLimits(
    create=5, connect=10, request=5, close=3, settle=0.2, healthy=0.5, retry=0.05, retry_most=0.2, keep_alive=5
)
"""Quick to see that something is wrong, and quick to try again."""

IMPATIENT = replace(LIMITS, keep_alive=2, request=0.5)


# paho, below azure-iot-device, leaves sockets to the garbage collector: the pair to wake itself, failed handshakes
OF_THE_SDK = [
    pytest.mark.filterwarnings(r"ignore:unclosed <\S+ fd=\d+, .*laddr=.'127.0.0.1':ResourceWarning"),
    # and lets its thread die of an SSLEOFError where the hub dies while it writes
    pytest.mark.filterwarnings(
        r"ignore:Exception in thread .*_thread_main:pytest.PytestUnhandledThreadExceptionWarning"
    ),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture
def collected():
    """Collects the garbage of a test while the filter above still holds."""
    yield
    gc.collect()


@pytest.fixture
def opened(edge: Edge, tmp_path: Path):
    """Opens the hub of a module: `opened("sampler", inputs=["uncertain"])`."""

    def open_(module="classifier", **options):
        return open_hub(edge.environ(module), mailbox=tmp_path / f"{module}.db", **{"limits": LIMITS} | options)

    return open_


async def first(stream: AsyncIterator[Any], seconds: float = 10) -> Any:
    """The next thing from `stream`."""
    return await asyncio.wait_for(anext(stream), seconds)


async def bodies(hub: Hub, input_: str, count: int) -> list[str]:
    """The bodies of the next messages."""
    stream = hub.messages(input_)
    found: list[Message] = [await first(stream) for _ in range(count)]
    return [message.body.decode() for message in found]


async def online(edge: Edge, *modules: str) -> None:
    """Wait until the modules are connected and have subscribed to everything."""
    await edge.until(lambda state: all(len(state["subscriptions"].get(name, [])) == 4 for name in modules))


async def service(edge: Edge, method: str, path: str, body: Any = None) -> Any:
    """Ask IoT Hub's service REST."""
    fields = dict(field.split("=", 1) for field in edge.connection_string.split(";"))
    resource = urllib.parse.quote(fields["HostName"], safe="")
    expiry = int(time.time()) + 600
    digest = hmac.new(base64.b64decode(fields["SharedAccessKey"]), f"{resource}\n{expiry}".encode(), hashlib.sha256)
    signature = urllib.parse.quote(base64.b64encode(digest.digest()), safe="")
    token = f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={fields['SharedAccessKeyName']}"
    async with (
        aiohttp.ClientSession(edge.hub_url, headers={"Authorization": token}) as session,
        session.request(
            method,
            f"{path}?api-version=2021-04-12",
            json=body,
            ssl=ssl.create_default_context(cafile=edge.ca_file),
        ) as response,
    ):
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def desire(edge: Edge, module: str, section: Any) -> None:
    """Change desired properties, as the cloud does."""
    await service(edge, "PATCH", f"/twins/laptop/modules/{module}", {"properties": {"desired": section}})


async def reported(edge: Edge, module: str) -> dict[str, Any]:
    """The reported properties, as the cloud sees them."""
    twin = await service(edge, "GET", f"/twins/laptop/modules/{module}")
    return {key: value for key, value in twin["properties"]["reported"].items() if not key.startswith("$")}


async def until_logged(caplog: pytest.LogCaptureFixture, text: str, seconds: float = 10) -> None:
    """Wait until something with `text` in it was logged."""
    async with asyncio.timeout(seconds):
        while True:
            if text in caplog.text:
                return
            await asyncio.sleep(0.02)


async def until_reported(edge: Edge, module: str, section: Any) -> None:
    """Wait until the reported properties are `section`."""
    async with asyncio.timeout(10):
        while True:
            if await reported(edge, module) == section:
                return
            await asyncio.sleep(0.05)


async def call(edge: Edge, module: str, name: str, payload: Any = None) -> tuple[int, Any]:
    """Call a direct method, as the cloud does; its status and payload."""
    wanted = {"methodName": name, "payload": payload, "responseTimeoutInSeconds": 20, "connectTimeoutInSeconds": 5}
    answer = await service(edge, "POST", f"/twins/laptop/modules/{module}/methods", wanted)
    return answer["status"], answer["payload"]
