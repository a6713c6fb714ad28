"""The sampler as a process: killed at any moment, it loses nothing and sends nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from azurite import Azurite
from edge import Edge
from ripeloop.blobs import open_blobs
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Spool
from sampler.index.outbox import Counters, Outbox
from tallies import told

KILLS = 5
SECRET = "AccountKey="


@dataclass
class Device:
    """What one device has, and where its images go."""

    folder: Path
    local: str
    cloud: str
    container: str
    cloud_version: str = ""

    @property
    def spool(self) -> Spool:
        return Spool(self.folder / "spool")

    async def start(self, **more: str) -> asyncio.subprocess.Process:
        """A sampler; its log is appended to `sampler.log`."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("IOTEDGE_", "SAMPLER_"))}
        environ |= {
            "SAMPLER_SPOOL": str(self.folder / "spool"),
            "SAMPLER_STATE": str(self.folder / "state"),
            "SAMPLER_LOCAL_BLOBS": self.local,
            "SAMPLER_LOCAL_CONTAINER": self.container,
            "SAMPLER_CLOUD_BLOBS": self.cloud,
            "SAMPLER_CLOUD_CONTAINER": self.container,
            "SAMPLER_CLOUD_API_VERSION": self.cloud_version,
            "SAMPLER_SCAN_SECONDS": "0.05",
            **more,
        }
        with (self.folder / "sampler.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(sys.executable, "-m", "sampler", env=environ, stderr=log)

    @asynccontextmanager
    async def running(self, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A sampler that is asked to end with the block, and must do so by itself."""
        process = await self.start(**more)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), 15)
        assert code == 0, self.log
        assert "Traceback" not in self.log

    @property
    def log(self) -> str:
        return (self.folder / "sampler.log").read_text()

    async def in_cloud(self) -> dict[str, bytes]:
        """The bytes of each image in the cloud by its id."""
        async with open_blobs(self.cloud, self.container, self.cloud_version or None) as blobs:
            names = [blob.name async for blob in blobs.list()]
            images = await asyncio.gather(*(blobs.get(name) for name in names))
        found = {Path(name).stem: image for name, image in zip(names, images, strict=True)}
        assert len(found) == len(names), "an image is in the cloud twice"
        return found

    def told(self) -> dict[str, Any]:
        outbox = Outbox(self.folder / "state" / "outbox.db")
        try:
            return told(outbox)
        finally:
            outbox.close()

    def counters(self) -> Counters:
        outbox = Outbox(self.folder / "state" / "outbox.db")
        try:
            return outbox.counters()
        finally:
            outbox.close()


@pytest.fixture
def on_folders(tmp_path: Path) -> Device:
    return Device(tmp_path, str(tmp_path / "local"), str(tmp_path / "cloud"), "samples")


@pytest.fixture
def on_azurite(tmp_path: Path, azurite_device: Azurite, azurite_cloud: Azurite) -> Device:
    return Device(
        tmp_path,
        azurite_device.connection_string,
        azurite_cloud.connection_string,
        f"c{uuid.uuid4().hex}",
        azurite_cloud.api_version,
    )


class Camera:
    """Flags a new image every few milliseconds; each tenth was flagged before."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.flagged: dict[str, bytes] = {}
        self.again = 0
        self.going = True

    async def work(self) -> None:
        start = datetime.now(UTC)
        for n in range(100_000):
            if not self.going:
                return
            image = b"\xff\xd8\xff" + f"{n if n % 10 else n // 2}".encode() * 200
            record = Flagged(
                image_id(image), start + timedelta(milliseconds=n), "narrow_margin", (Prediction("ripe", 0.5),)
            )
            put = await asyncio.to_thread(self.spool.put, record, image)
            self.again += put and record.id in self.flagged
            self.flagged[record.id] = image
            await asyncio.sleep(0.03)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    busy_machines = 3
    async with asyncio.timeout(seconds * busy_machines):
        while not await condition():  # noqa: ASYNC110 - what it waits for happens in another process
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["folders", "azurite"])
async def test_a_sampler_killed_at_any_moment_loses_nothing_and_sends_nothing_twice(
    kind: str, request: pytest.FixtureRequest
) -> None:
    device: Device = request.getfixturevalue(f"on_{kind}")
    dice = random.Random(20261122)
    camera = Camera(device.spool)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(camera.work())
        for n in range(KILLS):
            process = await device.start()

            async def works(started: int = n + 1) -> bool:
                return device.log.count("this module runs alone") == started

            await until(works, 20)
            await asyncio.sleep(dice.uniform(0, 0.8))
            process.kill()
            await process.wait()
        camera.going = False

    async def spool_is_empty() -> bool:
        return not device.spool.ids()

    async with device.running():
        await until(spool_is_empty, 60)
    counters = device.counters()
    assert await device.in_cloud() == camera.flagged
    assert len(camera.flagged) > 100
    assert counters.kept == counters.uploaded == len(camera.flagged)
    assert counters.waiting == counters.set_aside == 0
    assert counters.dropped == Counter({"duplicate": camera.again} if camera.again else {})
    assert SECRET not in device.log


async def test_without_a_cloud_it_says_so_once_and_uploads_all_when_there_is_one(on_folders: Device) -> None:
    cloud, on_folders.cloud = on_folders.cloud, ""
    camera = Camera(on_folders.spool)
    for n in range(5):
        record = Flagged(image_id(bytes([n])), datetime.now(UTC), "audit", ())
        camera.spool.put(record, bytes([n]))
        camera.flagged[record.id] = bytes([n])

    async def kept() -> bool:
        return "runs alone" in on_folders.log and on_folders.counters().kept == 5

    async with on_folders.running():
        await until(kept, 20)
    assert on_folders.told() == {"flagged": 5, "kept": 5, "waiting": 5}
    assert on_folders.log.count("without --cloud-blobs") == 1
    on_folders.cloud = cloud

    async def uploaded() -> bool:
        return on_folders.counters().uploaded == 5

    async with on_folders.running():
        await until(uploaded, 20)
    assert await on_folders.in_cloud() == camera.flagged


async def test_in_iot_edge_it_is_woken_asked_steered_and_tells(on_folders: Device, edge: Edge) -> None:
    device = on_folders

    async def method(name: str) -> dict[str, Any]:
        body = {"methodName": name, "payload": None, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 5}
        status, answer = await edge.service("POST", "/twins/laptop/modules/sampler/methods", body)
        assert (status, answer["status"]) == (200, 200), answer
        return dict(answer["payload"])

    async def reported(key: str) -> Any:
        _, twin = await edge.service("GET", "/twins/laptop/modules/sampler")
        return twin["properties"]["reported"].get(key)

    async def steer(**desired: Any) -> None:
        status, answer = await edge.service(
            "PATCH", "/twins/laptop/modules/sampler", {"properties": {"desired": desired}}, {"If-Match": "*"}
        )
        assert status == 200, answer

    async def wake() -> None:
        await edge.control("POST", "/input", {"module": "sampler", "input": "uncertain", "body": "{}"})

    async with device.running(SAMPLER_SCAN_SECONDS="3600", SAMPLER_SUMMARY_SECONDS="0.2", **edge.environ("sampler")):
        await edge.until(lambda state: "sampler" in state["connected"])

        async def steered(on: bool = False) -> bool:
            return (await reported("upload") or {}).get("on") is on

        ages = {"uploaded_minutes": 2_000_000_000}
        await steer(upload={"on": False}, keep={"max_per_hour": 2, "camera": "?"}, retention=ages)
        await until(steered, 10)
        assert (await reported("keep"))["max_per_hour"] == 2
        assert (await reported("retention"))["uploaded_minutes"] == 60.0
        refused = await reported("refused")
        assert "must be a number of minutes" in refused["retention"]["uploaded_minutes"]

        images = [b"\x89PNG\r\n\x1a\n%d" % n for n in range(3)]
        for n, image in enumerate(images):
            moment = datetime(2026, 11, 22, 8, n, tzinfo=UTC)
            device.spool.put(Flagged(image_id(image), moment, "low_confidence", ()), image)
        await wake()

        async def kept() -> bool:
            return (await method("status"))["kept"] == 2

        await until(kept, 10)
        told = await method("status")
        assert (told["flagged"], told["dropped"], told["waiting"], told["uploaded"]) == (3, {"budget": 1}, 2, 0)
        assert told["uploading"]["closed"] == "off"
        assert told["trouble"] == {}

        await steer(upload=None, retention=None)
        await until(lambda: steered(True), 10)
        await method("flush")

        async def uploaded() -> bool:
            return (await method("status"))["uploaded"] == 2

        await until(uploaded, 10)

        async def told_all() -> bool:
            return (await reported("counters") or {}).get("uploaded") == 2

        await until(told_all, 10)
        assert (await reported("uploading"))["online"] is True
        assert await reported("refused") == {"keep": {}, "upload": {}, "retention": {}}
        summaries = [json.loads(message["body"]) for message in await edge.arrived(2)]
        assert summaries[-1]["dropped"] == {"budget": 1}
    async with open_blobs(device.cloud, device.container) as blobs:
        names = [blob.name async for blob in blobs.list()]
    assert {Path(name).stem for name in names} < {image_id(image) for image in images}
    assert all(name.startswith("laptop/2026/11/22/") for name in names)
    assert len(names) == 2


async def test_a_damaged_or_a_lost_index_costs_no_image(on_folders: Device) -> None:
    device, cloud = on_folders, on_folders.cloud
    device.cloud = ""
    flagged: dict[str, bytes] = {}
    for n in range(30):
        image = b"\xff\xd8\xff%d" % n
        flagged[image_id(image)] = image
        device.spool.put(Flagged(image_id(image), datetime.now(UTC), "audit", (Prediction("ripe", 0.5),)), image)

    async def kept() -> bool:
        return "runs alone" in device.log and device.counters().kept == 30

    async with device.running():
        await until(kept, 20)
    for id_ in device.spool.ids():  # as some seconds later, when they were seen in the local store again
        device.spool.remove(id_)
    index = device.folder / "state" / "outbox.db"
    index.write_bytes(os.urandom(20_000))

    async def complete() -> bool:
        return device.log.count("it learned 30 images") == 1 and device.counters().waiting == 30

    async with device.running():
        await until(complete, 20)
    assert device.log.count("the index is damaged") == 1
    assert len(list(index.parent.glob("outbox.db.damaged-*"))) == 1
    index.unlink()
    device.cloud = cloud

    async def uploaded() -> bool:
        return device.log.count("it learned 30 images") == 2 and device.counters().uploaded == 30

    async with device.running():
        await until(uploaded, 20)
    assert await device.in_cloud() == flagged


async def test_odd_things_in_the_spool_stop_neither_the_sampler_nor_the_rest(on_folders: Device) -> None:
    device = on_folders
    folder = device.spool.folder
    flagged: dict[str, bytes] = {}

    def put(n: int, line: bytes | None = None) -> None:
        image = b"\xff\xd8\xff%d" % n
        device.spool.put(Flagged(image_id(image), datetime.now(UTC), "audit", ()), image)
        if line is None:
            flagged[image_id(image)] = image
        else:
            (folder / f"{image_id(image)}.sample").write_bytes(line.replace(b"ID", image_id(image).encode()) + image)

    record = b'{"id":"ID","capturedAt":"%s","reason":"audit","predictions":[{"tag":"%s","probability":%s}]}\n'
    put(0)
    put(1, b"[" * 200_000 + b"\n")
    put(2, record % (b"0900-01-01T00:00:00Z", b"a", b"1"))
    put(3, record % (b"0001-01-01T00:00:00+14:00", b"a", b"1"))
    put(4, record % (b"2026-01-01T00:00:00Z", b"\\ud800", b"1"))
    put(5, record % (b"2026-01-01T00:00:00Z", b"a", b"1" + b"0" * 400))
    put(6, record % (b"2026-01-01T00:00:00Z", b"a", b"NaN"))
    for name in (b"\xff.sample", b"abc.sample"):
        (folder / os.fsdecode(name)).write_bytes(b"odd")
    (folder / f"{'a' * 64}.sample").mkdir()
    os.mkfifo(folder / f"{'b' * 64}.sample")
    put(7)

    async def done() -> bool:
        return "runs alone" in device.log and device.told() == {
            "flagged": 8, "kept": 2, "uploaded": 2, "dropped": {"damaged": 6},
        }  # fmt: skip

    async with device.running(SAMPLER_LOG_JSON="1"):
        await until(done, 20)
    assert await device.in_cloud() == flagged
    assert device.log.count("4 names in the spool") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Missing option '--spool' (env var: 'SAMPLER_SPOOL')"),
        ({"SAMPLER_SPOOL": "/dev/null/spool"}, "--spool /dev/null/spool cannot be used"),
        ({"SAMPLER_SPOOL": "spool", "SAMPLER_CLOUD_BLOBS": "$CLOUD_BLOBS"}, "a blob address is missing"),
        ({"SAMPLER_SPOOL": "spool", "SAMPLER_CLOUD_BLOBS": "Account=a;Key=c2VjcmV0"}, "neither a connection string"),
        ({"SAMPLER_SPOOL": "spool", "SAMPLER_STATE": "/dev/null/state"}, "let this user write there"),
        ({"SAMPLER_SPOOL": "spool", "SAMPLER_UPLOADED_MINUTES": "9999999999"}, "minutes from 0 to 5256000"),
        ({"SAMPLER_SPOOL": "spool", "SAMPLER_UPLOADED_MINUTES": "nan"}, "must be a number of minutes"),
        ({"SAMPLER_SPOOL": "spool", "SAMPLER_UPLOAD_WINDOW": "2-5"}, "such as 02:00-05:00"),
        ({"SAMPLER_SPOOL": "spool", "SAMPLER_SCAN_SECONDS": "inf"}, "0<x<=86400"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_nothing_starts(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("IOTEDGE_", "SAMPLER_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sampler", env=environ | settings, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert message in said.decode()
    assert "Traceback" not in said.decode()
    assert "c2VjcmV0" not in said.decode()
