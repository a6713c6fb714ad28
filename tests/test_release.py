"""A release, piece by piece and to one device: where a package goes, how devices stand, and what is undone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result

from azurite import CLOUD_API, Azurite
from classifier.rollout.watch import worse
from colours import picture
from depot import first_model, packed, unsure_model
from edge import Edge
from retrain.__main__ import main
from retrain.devices.fleet import Fleet, Twin
from retrain.devices.standing import AS_WANTED, settings
from retrain.release import Device, Plan, Ring, release, ring, rollback
from retrain.release.board import ACTIVE, NONE, SILENT, UNTOLD, Board, row
from retrain.release.figures import compared
from retrain.release.storing import name_of, offer, runs_out
from retrain.release.wishes import replacing
from ripeloop.blobs import FolderBlobs, open_blobs
from ripeloop.errors import BadModel, Changed, Refused, SettingsError
from ripeloop.package import sha256_of
from simulated import Simulated, simulated

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
QUICK = Plan(Ring("canary"), wait=30, watch=0.2, poll=0.05, pace=0)
LINE = Device("line-0000")
SHA, OLD = "a" * 64, "b" * 64


def package(folder: Path, version: str, **more: Any) -> Path:
    packed(folder / f"{version}.zip", version, **more)
    return folder / f"{version}.zip"


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "models")


# where a package goes


async def test_a_package_in_a_container_is_fetched_with_a_link_to_it_alone(
    tmp_path: Path, azurite_cloud: Azurite
) -> None:
    path = package(tmp_path, "v2", padding=70_000)
    plan = replace(QUICK, version="v 2/?")
    async with open_blobs(azurite_cloud.connection_string, "models", CLOUD_API) as blobs:
        offered = await offer(blobs, path, "c2ln", plan, datetime.now(UTC))
        again = await offer(blobs, path, "c2ln", plan, datetime.now(UTC))
        assert (again.version, again.sha256) == (offered.version, offered.sha256)
        assert offered.section["signature"] == "c2ln"
        assert [blob.name async for blob in blobs.list()] == [f"packages/v-2---{offered.sha256[:12]}.zip"]
    url = offered.section["url"]
    assert "sig=" in url
    assert "sig=" not in offered.place + repr(offered)
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert (response.status, await response.read()) == (200, path.read_bytes())
        for method, where in (("PUT", url), ("DELETE", url), ("GET", url.replace("v-2", "v-3"))):
            async with session.request(method, where, headers={"x-ms-blob-type": "BlockBlob"}) as response:
                assert response.status == 403, method
    assert not runs_out(offered.section, plan, datetime.now(UTC))
    assert runs_out(offered.section, plan, datetime.now(UTC) + timedelta(days=25))


async def test_a_container_whose_key_is_not_known_needs_another_way_to_fetch(
    tmp_path: Path, azurite_cloud: Azurite
) -> None:
    path = package(tmp_path, "v2")
    async with open_blobs(azurite_cloud.connection_string, "models", CLOUD_API) as blobs:
        await blobs.put("makes/the/container", b"")
    async with open_blobs(azurite_cloud.sas_url("models", "rcl"), "models", CLOUD_API) as blobs:
        with pytest.raises(SettingsError, match="account's key"):
            await offer(blobs, path, "", QUICK, NOW)
        plan = replace(QUICK, base_url="https://cdn.example/m/")
        offered = [await offer(blobs, path, "", plan, NOW) for _ in range(2)][1]
    assert offered.section["url"] == f"https://cdn.example/m/{name_of('v2', offered.sha256)}"


async def test_a_package_in_a_folder_is_found_by_its_path(tmp_path: Path, store: FolderBlobs) -> None:
    path = package(tmp_path, "v2")
    offered = await offer(store, path, "", QUICK, NOW)
    assert Path(offered.section["path"]).read_bytes() == path.read_bytes()
    elsewhere = await offer(store, path, "", replace(QUICK, base_url="/mnt/models"), NOW)
    assert elsewhere.section["path"] == f"/mnt/models/{name_of('v2', offered.sha256)}"
    assert "url" not in elsewhere.section


async def test_what_no_device_would_take_is_not_released(tmp_path: Path, store: FolderBlobs) -> None:
    path = package(tmp_path, "v2")
    for plan in (
        replace(QUICK, version="ü"),
        replace(QUICK, base_url="ftp://somewhere"),
        replace(QUICK, shadow={"share": 7}),
    ):
        with pytest.raises((SettingsError, Refused)):
            await offer(store, path, "", plan, NOW)
    for base_url in ("https://a.blob.core.windows.net/models?sv=1&sig=abc", "https://me:word@somewhere/models"):
        with pytest.raises(SettingsError, match="an address alone") as caught:
            replace(QUICK, base_url=base_url)
        assert not any(secret in str(caught.value) for secret in ("abc", "word@"))
    (tmp_path / "none.zip").write_bytes(b"PK no zip")
    with pytest.raises(BadModel):
        await offer(store, tmp_path / "none.zip", "", QUICK, NOW)


# how devices stand


def stands(desired: Any, reported: Any, sha256: str | None = SHA, **more: Any) -> tuple[str, str]:
    twin = Twin(
        "line", "classifier", **{"connected": True} | more, desired={"model": desired}, reported={"model": reported}
    )
    found = row(twin, sha256)
    return found.state, found.why


WANTED = {"version": "v2", "sha256": SHA}


@pytest.mark.parametrize(
    ("reported", "state"),
    [
        ({"version": "v2", "sha256": SHA, "state": "active", "wanted": "v2"}, ACTIVE),
        ({"version": "v1", "sha256": OLD, "state": "active", "wanted": "v1"}, SILENT),
        ({"version": "v1", "sha256": OLD, "state": "active", "wanted": "v2"}, SILENT),  # by another package's name
        ({"version": "v1", "sha256": OLD, "state": "downloading", "wanted": "v2"}, "downloading"),
        ({"version": "v1", "sha256": OLD, "state": "shadowing", "wanted": "v2"}, "shadowing"),
        ({"version": "v1", "sha256": OLD, "state": "failed", "wanted": "v0", "reason": "old news"}, SILENT),
        ({"version": "v1", "sha256": OLD, "state": "failed", "wanted": None, "reason": "old news"}, SILENT),
        ({}, SILENT),
        (None, SILENT),
        ("nonsense", SILENT),
    ],
)
def test_what_a_device_says_counts_for_the_version_it_is_about(reported: Any, state: str) -> None:
    assert stands(WANTED, reported) == (state, "")


def test_what_an_active_device_remarks_is_told() -> None:
    remark = "too few images to compare"
    active = {"version": "v2", "sha256": SHA, "state": "active", "wanted": "v2", "reason": remark}
    assert stands(WANTED, active) == (ACTIVE, remark)


def test_a_failure_has_its_reason_and_a_silent_device_its_last_word() -> None:
    failed = {"version": "v1", "sha256": OLD, "state": "failed", "wanted": "v2", "reason": "404"}
    assert stands(WANTED, failed) == ("failed", "404")
    assert stands({"version": "v1", "sha256": OLD}, failed) == (UNTOLD, "")
    assert stands({}, {}, None) == (NONE, "")
    assert stands(WANTED, {}, connected=False, active="2026-11-01T00:00:00Z") == (
        SILENT, "offline, last heard of 2026-11-01T00:00:00Z",
    )  # fmt: skip
    assert stands(WANTED, {}, connected=False) == (SILENT, "was never connected")


def test_a_board_counts_and_names_what_went_wrong() -> None:
    about = {"version": "v1", "sha256": OLD, "wanted": "v2"}
    rows = [
        row(
            Twin("c", "m", desired={"model": WANTED}, reported={"model": about | {"state": "failed", "reason": "404"}})
        ),
        row(Twin("b", "m", desired={"model": WANTED}, reported={"model": about | {"state": "rolled_back"}})),
        row(
            Twin("a", "m", desired={"model": WANTED}, reported={"model": about | {"sha256": SHA, "state": "watching"}})
        ),
    ]
    board = Board.of("ring canary", rows)
    assert (board.devices, board.answering, board.words) == (3, 1, "1 watching, 1 failed, 1 rolled_back")
    assert board.why == "c failed: 404 (and 1 more)"
    assert Board.of("x", []).words == "no devices"


def counted(answered: int, failed: int, flagged: int, policy: float = 0.8) -> dict[str, Any]:
    return {"answered": answered, "failed": failed, "flagged": flagged, "policy": policy}


@pytest.mark.parametrize(
    ("before", "since", "now", "said"),
    [
        (counted(1000, 0, 50), counted(1000, 0, 50), counted(1200, 0, 60), ""),
        (counted(1000, 0, 50), counted(1000, 0, 50), counted(1200, 0, 200), "unsure of 75%"),
        (counted(1000, 0, 50), counted(1000, 0, 50), counted(1200, 0, 200, 0.95), ""),  # another policy
        (counted(1000, 0, 50), counted(1000, 0, 50), counted(1150, 50, 60), "failed on 50 of 200"),
        (counted(1000, 100, 50), counted(1000, 100, 50), counted(100, 10, 5), ""),  # it was started again
        (counted(1000, 0, 50), counted(1000, 0, 50), counted(100, 0, 75), "unsure of 75%"),  # and it is worse
        (counted(10, 0, 0), counted(10, 0, 0), counted(20, 0, 10), ""),  # too few to tell
    ],
)
def test_the_first_devices_counters_tell_a_worse_model(before: Any, since: Any, now: Any, said: str) -> None:
    found = worse(*compared({"a": before, "gone": before}, {"a": since, "gone": since}, {"a": now, "new": now}))
    assert found is not None if said else found is None
    assert said in (found or "")


def test_a_ring_is_a_tag_or_what_it_is_said_to_be() -> None:
    assert ring("canary").where("classifier") == "moduleId = 'classifier' AND (tags.ring = 'canary')"
    assert ring("all").where("classifier") == "moduleId = 'classifier'"
    assert ring("north", {"north": "tags.site = 'n' OR tags.site = 'm'"}).where("c") == (
        "moduleId = 'c' AND (tags.site = 'n' OR tags.site = 'm')"
    )
    for name in ("", "Canary", "a' OR true", "x" * 33):
        with pytest.raises(SettingsError):
            ring(name)
    with pytest.raises(SettingsError, match="another ring"):
        Plan(ring("all"), ring("all"))
    with pytest.raises(SettingsError, match="stays there"):
        Plan(LINE, ring("all"))


def test_a_section_that_is_replaced_keeps_nothing_of_the_old_one() -> None:
    old = {"url": "u", "shadow": {"share": 1, "images": 5}, "version": "1"}
    assert replacing(old, {"path": "p", "shadow": {"share": 2}, "version": "1"}) == {
        "url": None, "path": "p", "shadow": {"share": 2, "images": None}, "version": "1",
    }  # fmt: skip


# to one device


@pytest.fixture
async def line(edge: Edge) -> AsyncIterator[Simulated]:
    async with simulated(edge, 1, 0) as devices:
        yield devices


async def model_of(devices: Simulated) -> dict[str, Any]:
    twin = await devices.fleet.twin(LINE.id, "classifier")
    return dict(twin.desired.get("model", {}))


async def brought(devices: Simulated, store: FolderBlobs, folder: Path, version: str, **plan: Any) -> Any:
    path = folder / f"{version}.zip"
    if not path.exists():
        package(folder, version)
    return await release(devices.fleet, store, path, "", replace(QUICK, first=LINE, **plan))


async def test_one_device_takes_a_model_and_goes_back_to_the_one_before(
    line: Simulated, store: FolderBlobs, tmp_path: Path
) -> None:
    line.verdict = lambda _, version: ("failed", "no room") if version == "v3" else ("active", "")
    by_hand = packed(tmp_path / "v1.zip", "v1") | {"path": str(tmp_path / "v1.zip"), "shadow": {"share": 1}}
    await line.fleet.patch_twin(LINE.id, "classifier", {"model": by_hand})
    released = await brought(line, store, tmp_path, "v2")
    assert (released.outcome, released.places[0].counts) == ("released", {"active": 1})
    assert "shadow" not in await model_of(line)
    assert (await brought(line, store, tmp_path, "v2")).unchanged
    undone = await brought(line, store, tmp_path, "v3")
    assert (undone.outcome, undone.reason) == ("undone", "line-0000 failed: no room")
    assert (await model_of(line))["version"] == "v2"
    tags = (await line.fleet.twin(LINE.id, "classifier")).tags["ripeloop"]
    assert tags["undone"]["reason"] == "line-0000 failed: no room"
    await brought(line, store, tmp_path, "v4")
    done = await rollback(line.fleet, LINE, "by hand", store)
    assert (done.was, done.version) == ("v4", "v2")
    assert (await model_of(line))["version"] == "v2"
    with pytest.raises(Refused, match="nothing that was released"):
        await rollback(line.fleet, LINE, "by hand", store)


async def test_the_first_wish_of_a_device_that_is_undone_leaves_none(
    line: Simulated, store: FolderBlobs, tmp_path: Path
) -> None:
    await brought(line, store, tmp_path, "v2")
    done = await rollback(line.fleet, LINE, "by hand", store)
    assert (done.was, done.version) == ("v2", "")
    assert await model_of(line) == {}
    with pytest.raises(Refused, match="by hand"):
        await brought(line, store, tmp_path, "v2")
    assert (await brought(line, store, tmp_path, "v2", again=True)).outcome == "released"


async def test_a_device_of_a_ring_is_left_to_its_ring(line: Simulated, store: FolderBlobs, tmp_path: Path) -> None:
    everybody = ring("lines", {"lines": f"deviceId = '{LINE.id}'"})
    await release(line.fleet, store, package(tmp_path, "v2"), "", replace(QUICK, first=everybody))
    with pytest.raises(Refused, match="wanted by the configuration ripeloop-classifier-000001"):
        await brought(line, store, tmp_path, "v3")


async def test_a_version_names_one_package(line: Simulated, store: FolderBlobs, tmp_path: Path) -> None:
    await brought(line, store, tmp_path, "v2")
    with pytest.raises(SettingsError, match="another package goes by the version v2"):
        await release(line.fleet, store, package(tmp_path, "v3"), "", replace(QUICK, first=LINE, version="v2"))


async def test_somebody_who_patches_the_twin_meanwhile_is_not_overwritten(
    line: Simulated, store: FolderBlobs, tmp_path: Path
) -> None:
    line.verdict = lambda *_: ("downloading", "")
    work = asyncio.create_task(brought(line, store, tmp_path, "v2"))
    async with asyncio.timeout(20):
        while not await model_of(line):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    other = packed(tmp_path / "v3.zip", "v3") | {"path": str(tmp_path / "v3.zip")}
    await line.fleet.patch_twin(LINE.id, "classifier", {"model": other})
    with pytest.raises(Changed, match="somebody released v3"):
        await work
    assert (await model_of(line))["version"] == "v3"


# the commands


def ripeloop(edge: Edge, *arguments: str) -> Result:
    """The command, told by nothing but its arguments and where the hub is."""
    told = {name: None for name in os.environ if name.startswith(("RIPELOOP_", "SAMPLER_"))}
    hub = {"IOTHUB_CONNECTION_STRING": edge.connection_string, "IOTHUB_CA_FILE": str(edge.ca_file)}
    return CliRunner().invoke(main, arguments, env=told | hub, auto_envvar_prefix="RIPELOOP")


async def test_the_commands_release_roll_back_and_tell_the_status(edge: Edge, tmp_path: Path) -> None:
    path, blobs = package(tmp_path, "v2"), ["--cloud-blobs", str(tmp_path / "cloud")]
    quick = ["--watch", "0", "--poll", "0.05"]
    (tmp_path / "cloud" / "models").mkdir(parents=True)

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(ripeloop, edge, *arguments)

    async with simulated(edge, 3, 1, verdict=lambda *_: ("active", "")) as devices:
        lines = ["--ring-condition", "lines=deviceId != 'laptop'"]
        done = await run("release", str(path), "--ring", "canary", "--then", "lines", *lines, *blobs, *quick)
        assert (done.exit_code, done.stderr) == (0, "")
        assert "v2 (" in done.stdout
        assert "is released" in done.stdout
        assert "ring lines: 3 active" in done.stdout
        again = await run("release", str(path), "--ring", "canary", *blobs, "--json")
        assert json.loads(again.stdout)["unchanged"]

        status = await run("status", "--ring", "lines", *lines)
        assert status.exit_code == 0, status.stderr
        assert "3 devices in ring lines: 3 active" in status.stdout
        devices.away.add("line-0002")
        devices.verdict = lambda *_: ("rolled_back", "it is [bold]unsure")
        bad = await run("release", str(package(tmp_path, "v3")), "--ring", "canary", *blobs, *quick)
        assert bad.exit_code == 1
        assert "line-0000 rolled_back: it is [bold]unsure" in bad.stdout
        back = await run("rollback", "--ring", "lines", *lines, *blobs, "--reason", "a test")
        assert back.exit_code == 0, back.stderr
        assert "v2 is undone" in back.stdout
        told = json.loads((await run("status", "--json")).stdout)
        assert {one["device"]: one["state"] for one in told["devices"]}["line-0001"] == "none"
        typo = await run("status", "--ring", "canaray")
        assert (typo.exit_code, typo.stderr) == (
            1, "error: no device is in ring canaray: the tags of its module's twin say who is\n"
        )  # fmt: skip
        for wrong in (["--ring", "canary", "--device", "x"], [], ["--ring", "Oops"], ["--ring-condition", "x"]):
            assert (await run("release", str(path), *wrong, *blobs)).exit_code == 2


async def test_a_flag_says_where_whatever_the_config_says(edge: Edge, tmp_path: Path) -> None:
    config = tmp_path / "ripeloop.toml"
    config.write_text(f"""ring = "canary"\nthen = "all"\ncloud-blobs = '{tmp_path / "cloud"}'\n""")
    path = package(tmp_path, "v2")
    (tmp_path / "cloud").mkdir()

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(ripeloop, edge, "--config", str(config), *arguments)

    async with simulated(edge, 2, 1):
        done = await run("release", str(path), "--device", LINE.id, "--watch", "0", "--poll", "0.05", "--json")
        document = json.loads(done.stdout)
        assert "the container 'models' does not exist yet" in document["warning"]  # which is made, and may be mistyped
        assert (done.exit_code, done.stderr) == (0, f"warning: {document['warning']}\n")
        assert [place["place"] for place in document["places"]] == [f"device {LINE.id}"]
        back = await run("rollback", "--device", LINE.id)
        assert (back.exit_code, "device line-0000: v2 is undone" in back.stdout) == (0, True), back.stderr
        assert (await run("rollback", "--device", LINE.id, "--ring", "canary")).exit_code == 2


# one real device


async def test_a_real_device_takes_a_good_model_and_undoes_a_worse_one(
    tmp_path: Path, edge: Edge, azurite_cloud: Azurite, start: Any
) -> None:
    arguments = ["--model", str(first_model(tmp_path)), "--models", str(tmp_path / "device")]
    classifier = start(
        *arguments, "--state", str(tmp_path / "state"), "--watch-seconds", "2", environ=edge.environ("classifier")
    )
    url, plan = classifier.url(), Plan(Device("laptop"), watch=0.5, wait=40, poll=0.1)
    answers = set[str]()

    async def camera() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                for colour in ("red", "blue"):
                    async with session.post(f"{url}/image", data=picture(colour)) as response:
                        answers.add((await response.json())["iteration"])
                    await asyncio.sleep(0.005)

    async with (
        asyncio.TaskGroup() as tasks,
        Fleet.open(edge.connection_string, edge.ca_file) as fleet,
        open_blobs(azurite_cloud.connection_string, "real", CLOUD_API) as store,
    ):
        posting = tasks.create_task(camera())
        await edge.until(lambda state: "classifier" in state["connected"])
        good = await release(fleet, store, package(tmp_path, "v2"), "", plan)
        assert (good.outcome, good.places[0].counts) == ("released", {"active": 1})
        bad = await release(fleet, store, package(tmp_path, "v3", onnx=unsure_model()), "", plan)
        assert bad.outcome == "undone"
        assert bad.reason.startswith("laptop rolled_back: it is unsure of ")
        twin = await fleet.twin("laptop", "classifier")
        assert (twin.desired["model"]["version"], twin.desired["model"]["sha256"]) == (
            "v2",
            sha256_of(tmp_path / "v2.zip"),
        )
        async with asyncio.timeout(20):
            while twin.reported["model"]["state"] != "active":
                await asyncio.sleep(0.1)
                twin = await fleet.twin("laptop", "classifier")
        assert twin.reported["model"]["version"] == "v2"
        posting.cancel()
    assert answers == {"first", "v2", "v3"}
    assert classifier.end() == 0
    assert "sig=" not in classifier.log


# a device's settings


def test_a_model_is_one_setting_and_its_link_is_not_shown() -> None:
    desired = {"sampling": {"audit_rate": 0.1}, "model": WANTED | {"url": "https://a/b.zip?sig=SECRET"}}
    reported = {"sampling": {"audit_rate": 0.1}, "model": {"version": "v1", "sha256": OLD, "wanted": "v2"}}
    for state, words in (("failed", "failed: 404"), ("downloading", "downloading: 404")):
        reported["model"] |= {"state": state, "reason": "404"}
        found = settings(desired, reported)
        assert [(one.name, one.wanted, one.reported, one.verdict) for one in found] == [
            ("model", "v2", "v1", words), ("sampling.audit_rate", 0.1, 0.1, AS_WANTED),
        ]  # fmt: skip
    assert "SECRET" not in repr(found)
    reported["model"] = {"version": "v2", "sha256": SHA, "wanted": "v2", "state": "active"}
    assert {one.verdict for one in settings(desired, reported)} == {AS_WANTED}
