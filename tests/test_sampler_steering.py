"""Steering and asking one sampler: the twin, the direct methods, the credential, the pages for Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from azurite import Azurite
from ripeloop.blobs import FolderBlobs, open_blobs
from ripeloop.errors import Offline
from ripeloop.hub import Message
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Spool
from ripeloop.twin import patched
from sampler.__main__ import main
from sampler.index.outbox import Counters, Outbox
from sampler.sample import Sample
from sampler.telling.methods import MOST_IDS, Methods
from sampler.telling.metrics import Metrics
from sampler.telling.pages import application
from sampler.telling.steering import KNOBS, Steering, Wheel, steer
from sampler.telling.summary import status, tell
from sampler.telling.trouble import KINDS, LOCAL_BLOB, LOCAL_STORE, SPOOL_FILE, Troubles
from sampler.uploading.cloud import Cloud
from sampler.uploading.credential import Credential, Credentials
from sampler.uploading.gate import Closed
from sampler.uploading.patience import Patience
from sampler.uploading.pause import Pause
from sampler.uploading.upload import Standing, Uploader
from sampling import MONDAY, running, until

DOCS = Path(__file__).parents[1] / "docs" / "METRICS.md"
QUIET = Standing(online=False, kind="", trouble="", since=None, closed=None, spent=0)


# -- the twin


def test_the_twin_steers_and_what_it_leaves_out_is_the_default() -> None:
    default = Steering(max_per_hour=5, concurrency=3)
    desired = {"keep": {"max_per_hour": 7}, "upload": {"on": False}, "camera": {"zoom": 3}}
    steering, refused = steer(desired, Steering(max_per_hour=1, concurrency=9), default)
    assert steering == Steering(max_per_hour=7, upload_on=False, concurrency=3)
    assert all(reason is None for section in refused.values() for reason in section.values())
    assert {(section, name) for section, names in refused.items() for name in names} == {
        (knob.section, knob.wire) for knob in KNOBS
    }


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("keep", "max_per_hour", -1),
        ("keep", "max_per_hour", 1.5),
        ("keep", "max_per_hour", True),
        ("upload", "on", 1),
        ("upload", "concurrency", 0),
        ("upload", "concurrency", 65),
        ("upload", "concurrency", "4"),
        ("upload", "bytes_per_second", -1),
        ("upload", "bytes_per_day", 1e6),
        ("upload", "window", "2-5"),
        ("upload", "window", None),
        ("retention", "uploaded_minutes", -0.1),
        ("retention", "uploaded_minutes", float("nan")),
        ("retention", "uploaded_minutes", [60]),
        ("retention", "uploaded_minutes", 2_000_000_000),
        ("retention", "uploaded_minutes", 1e308),
        ("retention", "uploaded_minutes", 10**400),
    ],
)
def test_a_bad_value_is_refused_and_the_old_one_stays(section: str, field: str, value: object) -> None:
    before = Steering(max_per_hour=1, upload_on=False, concurrency=9, uploaded_minutes=3, window="02:00-05:00")
    steering, refused = steer({section: {field: value}}, before, Steering())
    assert steering.to_reported()[section][field] == before.to_reported()[section][field]
    assert "must be" in str(refused[section][field])


@pytest.mark.parametrize("section", ["everything", 0, False, "", []])
def test_a_section_that_is_no_object_is_refused_however_empty_it_is(section: object) -> None:
    steering, refused = steer({"keep": section}, Steering(max_per_hour=1), Steering())
    assert steering.max_per_hour == 1
    assert set(refused["keep"].values()) == {f"keep must be an object, not {section!r}"}


def test_a_section_that_was_taken_back_is_the_default() -> None:
    steering, refused = steer({"keep": None}, Steering(max_per_hour=1), Steering(max_per_hour=5))
    assert steering.max_per_hour == 5
    assert set(refused["keep"].values()) == {None}


def test_each_thing_to_steer_is_a_flag_with_the_same_default_and_the_same_limits() -> None:
    flags = {option.name: option for option in main.params}
    for knob in KNOBS:
        option = flags[knob.flag[2:].replace("-", "_")]
        assert option.default == getattr(Steering(), knob.name)
        assert knob.check(option.default) is None
        assert (knob.check("?") is None) == (option.type.name == "str" and knob.check("?") is None)


# -- what it tells


class SmallHub:
    """The hub of one test: twin, messages and reports in memory."""

    device = "line-1"

    def __init__(self) -> None:
        self.wanted: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reported: list[Mapping[str, Any]] = []
        self.posted: list[bytes] = []

    async def send(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        self.posted.append(body)

    async def post(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        self.posted.append(body)

    async def messages(self, input_: str) -> AsyncIterator[Message]:
        while True:
            yield Message(b"")
            await asyncio.sleep(0.01)

    async def desired(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self.wanted.get()

    async def report(self, patch: Mapping[str, Any]) -> None:
        self.reported.append(patch)


async def test_the_wheel_turns_with_the_twin_and_reports_what_is_so() -> None:
    hub, wheel = SmallHub(), Wheel(Steering())
    turned: list[Steering] = []
    async with running(wheel.follow(hub, lambda: turned.append(wheel.now()))):
        await hub.wanted.put({"keep": {"max_per_hour": 3}})
        await hub.wanted.put({"keep": {"max_per_hour": "lots"}})
        await until(lambda: len(hub.reported) == 2)
    assert turned == [Steering(max_per_hour=3)] * 2
    assert hub.reported[0]["keep"]["max_per_hour"] == hub.reported[1]["keep"]["max_per_hour"] == 3
    assert set(hub.reported[0]["refused"]["keep"].values()) == {None}
    assert "whole number" in hub.reported[1]["refused"]["keep"]["max_per_hour"]


async def test_a_summary_is_told_when_something_changed_and_troubles_that_end_leave_the_twin() -> None:
    hub = SmallHub()
    current = status(Counters(kept=1, waiting=1), QUIET, {"spool": "is away"})

    async def now() -> dict[str, Any]:
        return current

    async with running(tell(hub, now, 0.01)):
        await asyncio.sleep(0.1)
        assert len(hub.posted) == 1
        closed = Closed("window", "later")
        standing = Standing(online=True, kind="", trouble="", since=None, closed=closed, spent=0)
        current = status(Counters(kept=1, uploaded=1, uploaded_bytes=9, dropped={"budget": 2}), standing, {}, "soon")
        await until(lambda: len(hub.posted) == 2)
    reported = hub.reported[-1]
    assert reported["counters"]["uploaded"] == 1
    assert known(reported["counters"]["dropped"]) == {"budget": 2}
    assert reported["uploading"] == {
        "online": True,
        "closed": "window",
        "trouble": "",
        "words": "later",
        "credential_expires": "soon",
    }
    assert known(reported["trouble"]) == {}
    assert known(hub.reported[0]["trouble"]) == {"spool": "is away"}
    assert json.loads(hub.posted[-1])["uploaded_bytes"] == 9
    assert len(json.dumps(reported)) < 2000


def known(section: Mapping[str, Any]) -> dict[str, Any]:
    """What the twin holds of it; null removes."""
    return patched({}, section)


async def test_what_an_earlier_life_told_leaves_the_twin_where_it_is_no_longer_so() -> None:
    hub = SmallHub()
    reasons = {"near_duplicate": 5, "quota_tag": 1}
    before = status(Counters(dropped=reasons, evicted={"disk": 2}), QUIET, dict.fromkeys(KINDS, "is away"))
    now = status(Counters(dropped={"budget": 1}), QUIET, {})
    twin: dict[str, Any] = {}
    for current in (before, now):

        async def told(current: dict[str, Any] = current) -> dict[str, Any]:
            return current

        async with running(tell(hub, told, 60)):
            await until(lambda: hub.reported)
        twin = patched(twin, hub.reported.pop())
    assert twin["counters"]["dropped"] == {"budget": 1}
    assert twin["counters"]["evicted"] == twin["trouble"] == {}


# -- the direct methods and the credential


@dataclass
class Module:
    """The parts that the methods stand on."""

    outbox: Outbox
    cloud: Cloud
    uploader: Uploader
    pause: Pause
    credentials: Credentials
    metrics: Metrics
    troubles: Troubles
    methods: Methods

    async def ask(self, name: str, payload: Any = None) -> tuple[int, Any]:
        answer = await self.methods.by_name()[name](payload)
        json.dumps(answer)
        return answer


@pytest.fixture
async def module(tmp_path: Path, azurite_cloud: Azurite) -> AsyncIterator[Module]:
    module = await make(tmp_path, Credential("", "samples", azurite_cloud.api_version))
    yield module
    await module.cloud.close()
    module.outbox.close()


async def make(folder: Path, start: Credential) -> Module:
    outbox, spool, cloud, troubles = Outbox(folder / "outbox.db"), Spool(folder / "spool"), Cloud(), Troubles()
    pause, credentials = Pause(folder / "paused"), Credentials(folder / "credential.json", start, cloud)
    await credentials.begin()
    uploader = Uploader(
        outbox, spool, FolderBlobs(folder / "local"), cloud, steering=Steering, pause=pause,
        patience=Patience(first=0.01, longest=0.05, jitter=0, tries=3, idle=0.02),
    )  # fmt: skip

    async def current() -> dict[str, Any]:
        return status(outbox.counters(), uploader.standing(), troubles.now(), credentials.expires)

    async def reasons() -> dict[str, Any]:
        return {"why": ["nothing was flagged"]}

    methods = Methods(uploader, pause, credentials, outbox, status=current, why=reasons)
    metrics = Metrics(outbox, spool, uploader, troubles, lambda: credentials.expires)
    return Module(outbox, cloud, uploader, pause, credentials, metrics, troubles, methods)


async def keep(module: Module, n: int, folder: Path) -> Sample:
    image = b"picture %d" % n
    record = Flagged(image_id(image), MONDAY, "audit", (Prediction("ripe", 0.5),))
    sample = Sample.of(record, image, device="line-1", now=datetime.now(UTC))
    await FolderBlobs(folder / "local").put(sample.blob, image, sample.metadata())
    module.outbox.add(sample)
    return sample


@pytest.fixture
async def container(azurite_cloud: Azurite) -> str:
    """A container that exists."""
    name = f"c{uuid.uuid4().hex}"
    async with open_blobs(azurite_cloud.connection_string, name, azurite_cloud.api_version) as owner:
        await owner.put("first", b"")
    return name


async def test_a_credential_by_method_begins_the_uploads_and_outlives_a_restart_in_a_file_of_its_own(
    module: Module, container: str, azurite_cloud: Azurite, tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level("DEBUG")
    one = await keep(module, 1, tmp_path)
    address = azurite_cloud.sas_url(container)
    async with running(module.uploader.run()):
        code, told = await module.ask("credential", {"address": address})
        assert (code, told["container"]) == (200, container)
        assert told["expires"].startswith("20")
        await until(lambda: module.outbox.counters().uploaded == 1)
    file = tmp_path / "credential.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = address.partition("sig=")[2].partition("&")[0]
    _, shown = await module.ask("status")
    assert shown["uploading"]["credential_expires"] == told["expires"]
    for text in (json.dumps(told), json.dumps(shown), repr(module.credentials)):
        assert secret not in text
        assert "sig=" not in text
    assert secret not in caplog.text
    again = await make(tmp_path, Credential("", "samples", azurite_cloud.api_version))
    assert again.cloud.is_set
    assert again.credentials.expires == told["expires"]
    await again.cloud.close()
    again.outbox.close()
    async with open_blobs(azurite_cloud.connection_string, container, azurite_cloud.api_version) as owner:
        assert [blob.name async for blob in owner.list("line-1")] == [one.blob]


async def test_settings_that_were_changed_since_are_newer_than_a_credential_that_was_sent(
    module: Module, container: str, azurite_cloud: Azurite, tmp_path: Path
) -> None:
    code, _ = await module.ask("credential", {"address": azurite_cloud.sas_url(container)})
    assert code == 200
    other = await make(tmp_path, Credential(str(tmp_path / "cloud"), "samples"))
    assert other.credentials.expires == ""
    async with other.cloud.store() as store:
        assert isinstance(store, FolderBlobs)
    await other.cloud.close()
    other.outbox.close()


async def test_a_bad_credential_is_refused_with_its_reason_and_the_old_one_is_kept(
    module: Module, container: str, azurite_cloud: Azurite, tmp_path: Path
) -> None:
    good = azurite_cloud.sas_url(container)
    assert (await module.ask("credential", {"address": good, "container": container}))[0] == 200
    before, file = module.credentials.expires, (tmp_path / "credential.json").read_bytes()
    broken = good.replace("sig=", "sig=A")
    bad: list[tuple[Any, int, str]] = [
        (None, 400, "send"),
        ("x", 400, "send"),
        ({"address": ""}, 400, "send"),
        ({"address": "/mnt/usb"}, 400, "folder"),
        ({"address": "https://account.blob.core.windows.net/samples"}, 400, "without a SAS"),
        ({"address": azurite_cloud.sas_url(container, lasts=-timedelta(hours=1))}, 403, "expired at"),
        ({"address": azurite_cloud.sas_url(container, "r")}, 403, "does not allow"),
        ({"address": azurite_cloud.sas_url("missing" + container[1:])}, 403, "does not exist"),
        ({"address": "https://account..blob.core.windows.net/samples?sig=A"}, 403, "address cannot be used"),
        ({"address": broken}, 403, "turns the credential away"),
        ({"address": good.replace(f":{azurite_cloud.port}", ":1")}, 503, "refuses connections"),
    ]
    for payload, wanted, words in bad:
        code, told = await module.ask("credential", payload)
        assert (code, words in told["error"]) == (wanted, True), (payload and list(payload), told)
        assert "sig=A" not in told["error"]
        assert "se=" not in told["error"]
        assert module.credentials.expires == before
        assert (tmp_path / "credential.json").read_bytes() == file


async def test_a_sas_that_ends_while_it_drains_pauses_and_a_new_one_goes_on_with_nothing_lost(
    module: Module, container: str, azurite_cloud: Azurite, tmp_path: Path
) -> None:
    samples = [await keep(module, n, tmp_path) for n in range(30)]
    short = azurite_cloud.sas_url(container, lasts=timedelta(seconds=2.5))
    async with running(module.uploader.run()):
        await module.ask("credential", {"address": short})
        await until(lambda: module.outbox.counters().uploaded == 30)
        await asyncio.sleep(max(0.0, 3.5))
        samples += [await keep(module, n, tmp_path) for n in range(30, 60)]
        await until(lambda: module.uploader.standing().kind == "expired")
        assert module.outbox.counters().uploaded == 30
        assert (await module.ask("status"))[1]["uploading"]["words"].startswith("the SAS has expired at")
        await module.ask("credential", {"address": azurite_cloud.sas_url(container)})
        await until(lambda: module.outbox.counters().uploaded == 60)
    assert module.outbox.counters().set_aside == 0
    async with open_blobs(azurite_cloud.connection_string, container, azurite_cloud.api_version) as owner:
        assert [blob.name async for blob in owner.list("line-1")] == sorted(one.blob for one in samples)


async def test_a_credential_file_that_is_damaged_is_said_and_the_settings_hold(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "credential.json").write_text("{")
    module = await make(tmp_path, Credential(str(tmp_path / "cloud"), "samples"))
    assert module.cloud.is_set
    assert "send the credential again" in caplog.text
    await module.cloud.close()
    module.outbox.close()


async def test_pause_and_resume_answer_with_how_it_stands(module: Module, tmp_path: Path) -> None:
    await module.cloud.become(Credential(str(tmp_path / "cloud"), "samples").open)
    assert (await module.ask("pause", {"reason": "moving"}))[1]["uploading"]["closed"] == "paused"
    code, told = await module.ask("flush")
    assert (code, told["kind"]) == (409, "paused")
    assert (await module.ask("resume"))[1]["uploading"]["closed"] == ""
    assert (await module.ask("flush"))[0] == 200
    assert not (tmp_path / "paused").exists()


async def test_flush_may_try_what_was_set_aside_again(module: Module, tmp_path: Path) -> None:
    await module.cloud.become(Credential(str(tmp_path / "cloud"), "samples").open)
    one = await keep(module, 1, tmp_path)
    module.outbox.refused(one.id, "poison", None)
    await module.ask("flush")
    assert module.outbox.counters().set_aside == 1
    module.pause.begin("")
    assert (await module.methods.flush({"set_aside": True}))[0] == 409
    assert module.outbox.counters().set_aside == 1  # refused is refused
    module.pause.end()
    await module.ask("flush", {"set_aside": True})
    assert module.outbox.counters().waiting == 1


async def test_samples_are_told_in_pages_or_by_id(module: Module, tmp_path: Path) -> None:
    samples = [await keep(module, n, tmp_path) for n in range(5)]
    module.outbox.uploaded(samples[0].id, datetime.now(UTC))
    ids = sorted(one.id for one in samples)
    seen: dict[str, list[str]] = {}
    after: str | None = ""
    while after is not None:
        code, page = await module.ask("samples", {"after": after, "limit": 2})
        assert code == 200
        after = page["next"]
        for state, some in page["states"].items():
            seen.setdefault(state, []).extend(some)
    assert seen["uploaded"] == [samples[0].id]
    assert sorted(seen["uploaded"] + seen["waiting"]) == ids
    _, some = await module.ask("samples", {"ids": [ids[0], "0" * 64]})
    assert sum(map(len, some["states"].values())) == 1
    for bad in (
        {"ids": "all"},
        {"ids": [1]},
        {"ids": ["x"] * (MOST_IDS + 1)},
        {"after": 1},
        {"limit": 0},
        {"limit": "9"},
    ):
        assert (await module.ask("samples", bad))[0] == 400
    assert MOST_IDS * 68 < 128 * 1024


# -- the pages


@asynccontextmanager
async def served(module: Module) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(application(module.metrics, module.troubles.now), host="127.0.0.1")) as client:
        yield client


def series(page: str) -> dict[str, set[str]]:
    """The names on a page, each with its labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            name = re.sub("_(bucket|count|sum)$", "", sample.name)
            found.setdefault(name, set()).update(sample.labels)
    return found


def documented() -> Iterator[tuple[str, set[str]]]:
    for name, labels in re.findall(r"^\| `(\w+)` \| ([^|]*)\|", DOCS.read_text(), re.MULTILINE):
        if name.startswith(("sampler_", "process_")):
            yield name, set(re.findall(r"`(\w+)`", labels))


async def test_every_metric_is_documented_and_every_documented_one_is_there(
    module: Module, container: str, azurite_cloud: Azurite, tmp_path: Path
) -> None:
    module.outbox.drop("0" * 64, "2026", "duplicate", MONDAY)
    gone, one = await keep(module, 2, tmp_path), await keep(module, 1, tmp_path)
    module.outbox.evict([gone.id], "quota")
    await module.ask("credential", {"address": azurite_cloud.sas_url(container)})
    await module.uploader.drain()
    module.pause.begin("")
    module.uploader._say(Offline("gone", kind="dns"))
    module.uploader.failures["dns"] += 1
    module.troubles.say(LOCAL_STORE, "is away")
    async with served(module) as client, client.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        page = await response.text()
    assert series(page) == dict(documented())
    numbers = {(s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(page) for s in f.samples}
    assert numbers["sampler_flagged_total",] == 3
    assert numbers["sampler_dropped_total", "duplicate"] == 1
    assert numbers["sampler_evicted_total", "quota"] == 1
    assert numbers["sampler_uploaded_total",] == 1
    assert numbers["sampler_uploaded_bytes_total",] == numbers["sampler_sent_bytes_total",] == one.size
    assert numbers["sampler_upload_seconds_count",] == 1
    assert numbers["sampler_upload_closed", "paused"] == 1
    assert numbers["sampler_credential_expires_seconds",] > datetime.now(UTC).timestamp()


async def test_ready_means_that_one_more_image_would_be_kept(module: Module) -> None:
    async with served(module) as client:

        async def asked(path: str) -> tuple[int, Any]:
            async with client.get(path) as response:
                return response.status, await response.json()

        assert await asked("/healthz") == (200, {"status": "ok"})
        assert await asked("/readyz") == (200, {"status": "ready"})
        module.troubles.say(LOCAL_STORE, "is away")
        assert await asked("/readyz") == (503, {"status": "in trouble", "trouble": {LOCAL_STORE: "is away"}})
        module.troubles.say(LOCAL_STORE, "")
        for one in (LOCAL_BLOB, SPOOL_FILE):
            module.troubles.say(one, "cannot be read")
        module.pause.begin("")
        assert (await asked("/readyz"))[0] == 200
