"""A thousand devices, which are their twins and nothing more: rings, status, a bad canary, a kill in the middle."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import Edge, EdgeFactory, manifest
from retrain.devices.fleet import Fleet
from retrain.release import Board, release, rollback
from retrain.release.board import ACTIVE
from retrain.release.status import fleet_rows
from ripeloop.blobs import FolderBlobs
from ripeloop.errors import Changed, NotFound, Refused
from simulated import CANARY, EVERYBODY, LINES, QUICK, Simulated, brought, package, simulated, versions


@pytest.fixture
def edge(edge_factory: EdgeFactory) -> Edge:
    """A hub; the one device that runs here has no classifier."""
    return edge_factory(manifest(modules=["sampler"]))


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "models")


async def configurations(devices: Simulated) -> list[str]:
    return [one["labels"]["version"] for one in await devices.fleet.configurations()]


async def test_a_thousand_devices_take_a_model_by_rings_and_their_status_takes_seconds(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    def one_bad(device: str, _: str) -> tuple[str, str]:
        return ("failed", "the disk is full") if device == "line-0500" else ("active", "")

    async with simulated(edge, 1000, 10, verdict=one_bad) as devices:
        seen: list[tuple[str, str, int]] = []
        started = time.monotonic()
        released = await release(
            devices.fleet, store, package(tmp_path, "v2"), "", QUICK,
            lambda phase, board: seen.append((phase, board.place, board.counts.get(ACTIVE, 0))),
        )  # fmt: skip
        took = time.monotonic() - started
        assert (released.outcome, released.unchanged) == ("released", False)
        canary, everybody = released.places
        assert (canary.devices, canary.counts) == (10, {"active": 10})
        assert everybody.counts == {"active": 999, "failed": 1}
        assert everybody.troubles[0].reason == "the disk is full"
        assert max(active for _, place, active in seen if place == "ring canary") == 10
        began = next(n for n, (_, place, _) in enumerate(seen) if place == "ring all")
        assert seen[began - 1][2] == 10  # nobody else before all canaries
        assert took < 30

        started = time.monotonic()
        rows = await fleet_rows(devices.fleet, EVERYBODY)
        assert time.monotonic() - started < 5
        assert len(rows) == 1000
        [bad] = [row for row in rows if row.state != ACTIVE]
        assert (bad.device, bad.state, bad.wanted, bad.reported, bad.why) == (
            "line-0500", "failed", "v2", "first", "the disk is full",
        )  # fmt: skip

        again = await brought(devices, store, tmp_path, "v2")
        assert (again.outcome, again.unchanged) == ("released", True)
        metrics = (await devices.fleet.configurations())[-1]
        assert metrics["systemMetrics"]["results"] == {"targetedCount": 1000, "appliedCount": 1000}
        assert metrics["metrics"]["results"] == {"answers": 999, "failed": 1, "rolled_back": 0}


async def test_a_canary_that_rolls_back_stops_the_release_and_what_was_wanted_before_is_wanted_again(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    def worse(device: str, version: str) -> tuple[str, str]:
        bad = (device, version) == ("line-0003", "v3")
        return ("rolled_back", "it is unsure of 90% of the images") if bad else ("active", "")

    async with simulated(edge, 30, 5, verdict=worse) as devices:
        await brought(devices, store, tmp_path, "v2")
        released = await brought(devices, store, tmp_path, "v3")
        assert released.outcome == "undone"
        assert released.reason == "line-0003 rolled_back: it is unsure of 90% of the images"
        assert [board.place for board in released.places] == ["ring canary"]
        assert await configurations(devices) == ["v2", "v2"]
        assert await versions(devices) == {"v2": 30}
        notes = [one["labels"].get("undone", "") for one in await devices.fleet.configurations()]
        assert any("v3" in note and "unsure of 90%" in note for note in notes)
        with pytest.raises(Refused, match="unsure of 90%") as caught:
            await brought(devices, store, tmp_path, "v3")
        assert caught.value.kind == "undone"
        once_more = await brought(devices, store, tmp_path, "v3", again=True)
        assert once_more.outcome == "undone"
        assert (await brought(devices, store, tmp_path, "v2")).unchanged


async def test_a_first_model_that_is_undone_is_rolled_back_by_the_devices_method(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    def one_fails(device: str, _: str) -> tuple[str, str]:
        return ("failed" if device == "line-0000" else "active", "")

    async with simulated(edge, 3, 3, verdict=one_fails) as devices:
        released = await brought(devices, store, tmp_path, "v2", then=None)
        assert released.outcome == "undone"
        assert await versions(devices) == {"": 3}
        assert await configurations(devices) == []
        called = (await edge.control("GET", "/called"))["called"]
        rolled_back = {name for name in called if name.endswith("/rollback")}
        assert rolled_back == {f"line-000{n}/classifier/rollback" for n in (1, 2)}  # in the other it never answered


async def test_many_that_fail_in_the_second_ring_undo_both(edge: Edge, store: FolderBlobs, tmp_path: Path) -> None:
    def worse(device: str, version: str) -> tuple[str, str]:
        return ("failed", "no room") if version == "v3" and device > "line-0015" else ("active", "")

    async with simulated(edge, 20, 2, verdict=worse) as devices:
        await brought(devices, store, tmp_path, "v2")
        released = await brought(devices, store, tmp_path, "v3", then=LINES)
        assert (released.outcome, released.places[0].counts) == ("undone", {"active": 2})
        assert "failed: no room (and " in released.reason
        assert await versions(devices) == {"v2": 20}
        with pytest.raises(Refused, match="undone"):
            await brought(devices, store, tmp_path, "v3")


@pytest.mark.parametrize("moment", ["at once", "watching", "ring all", "undoing"])
async def test_a_release_that_is_killed_goes_on_where_it_was(
    edge: Edge, store: FolderBlobs, tmp_path: Path, moment: str
) -> None:
    def worse(device: str, version: str) -> tuple[str, str]:
        return ("failed", "no room") if (device, version, moment) == ("line-0001", "v3", "undoing") else ("active", "")

    class Killed(BaseException):
        pass

    def kill(phase: str, board: Board) -> None:
        if moment in ("at once", phase, board.place):
            raise Killed

    async with simulated(edge, 20, 4, verdict=worse) as devices:
        await brought(devices, store, tmp_path, "v2")
        plan = replace(QUICK, watch=1.0)
        with pytest.raises(Killed):
            await release(devices.fleet, store, package(tmp_path, "v3"), "", plan, kill)
        under_way = sorted(await configurations(devices))
        released = await release(devices.fleet, store, package(tmp_path, "v3"), "", plan)
        if moment == "undoing":
            assert (released.outcome, await versions(devices)) == ("undone", {"v2": 20})
            return
        assert (released.outcome, await versions(devices)) == ("released", {"v3": 20})
        assert under_way.count("v3") == (2 if moment == "ring all" else 1)
        assert sorted(await configurations(devices)) == ["v2", "v2", "v3", "v3"]


async def test_a_watch_that_was_begun_is_not_begun_anew(edge: Edge, store: FolderBlobs, tmp_path: Path) -> None:
    async with simulated(edge, 2, 2) as devices:
        impatient = await brought(devices, store, tmp_path, "v2", then=None, wait=1, watch=0.5)
        assert impatient.outcome == "released"
        waiting = asyncio.create_task(brought(devices, store, tmp_path, "v3", then=None, watch=3.0))
        async with asyncio.timeout(20):
            while not list((tmp_path / "models" / "releases").glob("000002-*/answers.json")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.sleep(2.5)
        started = time.monotonic()
        assert (await brought(devices, store, tmp_path, "v3", then=None, watch=3.0)).outcome == "released"
        assert time.monotonic() - started < 2.5


async def test_some_that_are_switched_off_are_waited_for_and_then_named(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 4, 4, away={"line-0002"}) as devices:
        released = await brought(devices, store, tmp_path, "v2", then=None, wait=0.5)
        assert (released.outcome, released.ok) == ("waiting", False)
        assert released.places[0].counts == {"active": 3, "silent": 1}
        assert await configurations(devices) == ["v2"]
        most = await brought(devices, store, tmp_path, "v2", then=None, enough=0.75)
        assert most.outcome == "released"
        [silent] = [row for row in await fleet_rows(devices.fleet, EVERYBODY) if row.state == "silent"]
        assert (silent.device, silent.connected, silent.why[:25]) == ("line-0002", False, "offline, last heard of 20")


async def test_two_that_release_at_once_do_not_overwrite_each_other(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 3, 3) as devices:
        devices.verdict = lambda _, version: ("downloading" if version == "v2" else "active", "")
        older = asyncio.create_task(brought(devices, store, tmp_path, "v2", then=None))
        async with asyncio.timeout(10):
            while await configurations(devices) != ["v2"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        newer = await brought(devices, store, tmp_path, "v3", then=None)
        with pytest.raises(Changed, match="somebody released v3 to ring canary meanwhile"):
            await older
        assert newer.outcome == "released"
        assert await versions(devices) == {"v3": 3}


async def test_a_rollback_goes_back_one_release_at_a_time_and_says_why(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 12, 3) as devices:
        for version in ("v1", "v2"):
            await brought(devices, store, tmp_path, version)
        await brought(devices, store, tmp_path, "v3", then=None)
        assert await versions(devices) == {"v2": 9, "v3": 3}
        done = await rollback(devices.fleet, CANARY, "takes unripe for ripe", store)
        assert (done.was, done.version) == ("v3", "v2")
        assert await versions(devices) == {"v2": 12}
        with pytest.raises(Refused, match="a newer release to ring all holds"):
            await rollback(devices.fleet, CANARY, "wrong")
        done = await rollback(devices.fleet, EVERYBODY, "all wrong", store)
        assert (done.was, done.version) == ("v2", "v1")
        assert await versions(devices) == {"v1": 12}
        with pytest.raises(Refused, match="takes unripe for ripe"):
            await brought(devices, store, tmp_path, "v3")


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (
            {"flagged": {"low_confidence": 200}, "refused": 100},
            "unsure of 75% of the images",
        ),  # what is refused is no why
        ({"refused": 50, "failed": 50}, "failed on 150 of 750 images"),
    ],
)
async def test_a_canary_that_does_worse_by_its_own_counters_is_undone(
    edge: Edge, store: FolderBlobs, tmp_path: Path, later: dict[str, Any], why: str
) -> None:
    async with simulated(edge, 3, 3) as devices:
        policy = {"confidence_below": 0.8}
        devices.counters = {"answered": 1000, "refused": 0, "flagged": {"low_confidence": 50}, "sampling": policy}
        await devices.say(list(devices.running), {"state": "active", "wanted": None, "reason": None, "since": None})
        watching = asyncio.Event()

        def seen(phase: str, _: Board) -> None:
            if phase == "watching":
                watching.set()

        work = asyncio.create_task(
            release(devices.fleet, store, package(tmp_path, "v2"), "", replace(QUICK, watch=1.5), seen)
        )
        await asyncio.wait_for(watching.wait(), 20)
        await asyncio.sleep(0.5)
        devices.counters |= {"answered": 1200} | later
        await devices.say(list(devices.running), {"state": "active", "wanted": "v2", "reason": None, "since": None})
        released = await work
        assert released.outcome == "undone"
        assert why in released.reason


async def test_a_watch_that_had_nothing_to_compare_says_so(edge: Edge, store: FolderBlobs, tmp_path: Path) -> None:
    async with simulated(edge, 3, 1) as devices:
        devices.counters = {"answered": 10, "failed": 0, "flagged": {}, "sampling": {}}
        released = await release(devices.fleet, store, package(tmp_path, "v2"), "", replace(QUICK, watch=0.2))
        assert released.outcome == "released"
        assert released.reason == (
            "ring canary: watched over 0 images only: too few to judge its latency and what it flags"
        )


async def test_a_canary_that_fell_back_later_does_not_go_on_to_the_others(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 6, 2) as devices:
        await brought(devices, store, tmp_path, "v2")
        assert (await brought(devices, store, tmp_path, "v3", then=None)).outcome == "released"
        devices.running["line-0001"] = {"version": "v2", "sha256": ""}
        await devices.say(["line-0001"], {"state": "rolled_back", "wanted": "v3", "reason": "by the method rollback"})
        released = await brought(devices, store, tmp_path, "v3")
        assert (released.outcome, len(released.places)) == ("undone", 1)
        assert await versions(devices) == {"v2": 6}


async def test_a_ring_without_devices_gets_nothing(edge: Edge, store: FolderBlobs, tmp_path: Path) -> None:
    async with simulated(edge, 1, 0) as devices:
        with pytest.raises(NotFound, match="no device is in ring canary"):
            await brought(devices, store, tmp_path, "v2")
        assert await configurations(devices) == []


class _Killed(BaseException):
    pass


class _Short(Fleet):
    """Its program ends with the first configuration it takes away."""

    async def remove_configuration(self, id_: str, etag: str = "*") -> None:
        await super().remove_configuration(id_, etag)
        raise _Killed


async def test_a_release_that_is_killed_while_it_undoes_the_second_ring_undoes_the_first_when_it_runs_again(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    def worse(device: str, version: str) -> tuple[str, str]:
        return ("failed", "no room") if version == "v3" and device > "line-0002" else ("active", "")

    plan = replace(QUICK, then=LINES)
    async with simulated(edge, 6, 2, verdict=worse) as devices:
        await brought(devices, store, tmp_path, "v2", then=LINES)
        with pytest.raises(_Killed):
            async with _Short.open(edge.connection_string, edge.ca_file) as short:
                await release(short, store, package(tmp_path, "v3"), "", plan)
        assert await versions(devices) == {"v2": 4, "v3": 2}
        released = await release(devices.fleet, store, package(tmp_path, "v3"), "", plan)
        assert (released.outcome, await versions(devices)) == ("undone", {"v2": 6})


async def test_a_release_ends_where_a_newer_one_to_all_holds_for_its_ring(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 4, 2) as devices:
        devices.verdict = lambda _, version: ("downloading" if version == "v2" else "active", "")
        older = asyncio.create_task(brought(devices, store, tmp_path, "v2", then=None))
        async with asyncio.timeout(10):
            while await configurations(devices) != ["v2"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await brought(devices, store, tmp_path, "v3", first=EVERYBODY, then=None)
        with pytest.raises(Changed, match="something else to ring canary meanwhile"):
            await older
        assert await versions(devices) == {"v3": 4}
