"""What is undone stays undone: cut off, run again, gone on with, and with a journal that is damaged."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edge import Edge, EdgeFactory, manifest
from retrain.devices.fleet import Fleet
from retrain.release import Board, Device, release, rollback
from retrain.release.journal import UNDONE, Attempt, Journal
from ripeloop.blobs import FolderBlobs
from ripeloop.errors import Offline, Refused
from simulated import CANARY, EVERYBODY, LINES, QUICK, brought, package, simulated, versions


@pytest.fixture
def edge(edge_factory: EdgeFactory) -> Edge:
    """A hub; the one device that runs here has no classifier."""
    return edge_factory(manifest(modules=["sampler"]))


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "models")


async def told_to_roll_back(edge: Edge) -> set[str]:
    called = (await edge.control("GET", "/called"))["called"]
    return {name.split("/")[0] for name in called if name.endswith("/rollback")}


class _Cut(Fleet):
    """The answer to each removal of a configuration is lost."""

    async def remove_configuration(self, id_: str, etag: str = "*") -> None:
        await super().remove_configuration(id_, etag)
        raise Offline("the answer was lost")


async def test_a_release_that_some_failed_in_goes_on_when_it_is_run_again(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    def one_bad(device: str, _: str) -> tuple[str, str]:
        return ("failed", "no room") if device == "line-0009" else ("active", "")

    async with simulated(edge, 30, 2, verdict=one_bad, away={"line-0020"}) as devices:
        assert (await brought(devices, store, tmp_path, "v1", wait=1.0)).outcome == "waiting"
        devices.away.clear()
        again = await brought(devices, store, tmp_path, "v1")
        assert (again.outcome, again.places[1].counts) == ("released", {"active": 29, "failed": 1})


async def test_a_canary_that_rolls_back_while_nobody_watches_is_undone_by_the_next_run(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(phase: str, _: Board) -> None:
        if phase == "watching":
            raise Killed

    async with simulated(edge, 4, 2) as devices:
        await brought(devices, store, tmp_path, "v1")
        plan = replace(QUICK, watch=5.0)
        with pytest.raises(Killed):
            await release(devices.fleet, store, package(tmp_path, "v2"), "", plan, kill)
        devices.running["line-0001"] = {"version": "v1", "sha256": ""}
        await devices.say(["line-0001"], {"state": "rolled_back", "wanted": "v2", "reason": "worse"})
        undone = await release(devices.fleet, store, package(tmp_path, "v2"), "", plan)
        assert (undone.outcome, undone.reason) == ("undone", "line-0001 rolled_back: worse")
        assert await versions(devices) == {"v1": 4}


async def test_a_rollback_that_is_cut_off_is_finished_and_takes_nothing_else(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 6, 2) as devices:
        for version in ("v1", "v2"):
            await brought(devices, store, tmp_path, version)
        async with _Cut.open(edge.connection_string, edge.ca_file) as cut:
            with pytest.raises(Offline):
                await rollback(cut, EVERYBODY, "bad", store)
            with pytest.raises(Offline):
                await rollback(cut, EVERYBODY, "bad", store)
        with pytest.raises(Refused, match=r"v2 is undone there already \(bad\), and v1 is wanted") as caught:
            await rollback(devices.fleet, EVERYBODY, "bad", store)
        assert caught.value.kind == "undone"
        assert await versions(devices) == {"v1": 6}
        assert await told_to_roll_back(edge) == set()


async def test_a_rollback_cut_off_after_the_canaries_goes_on_with_the_rest(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 6, 2) as devices:
        for version in ("v1", "v2"):
            await brought(devices, store, tmp_path, version)
        async with _Cut.open(edge.connection_string, edge.ca_file) as cut:
            with pytest.raises(Offline):
                await rollback(cut, EVERYBODY, "bad", store)
        assert (await rollback(devices.fleet, EVERYBODY, "bad", store)).was == "v2"
        assert await versions(devices) == {"v1": 6}


async def test_no_device_goes_back_to_a_model_that_was_undone(edge: Edge, store: FolderBlobs, tmp_path: Path) -> None:
    async with simulated(edge, 4, 1) as devices:
        for version in ("v1", "v2"):
            await brought(devices, store, tmp_path, version, first=EVERYBODY, then=None)
        await rollback(devices.fleet, EVERYBODY, "bad", store)
        async with asyncio.timeout(20):
            while {one["version"] for one in devices.running.values()} != {"v1"}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        about = {"state": "active", "wanted": "v1", "reason": None}
        await devices.say(["line-0000", "line-0001", "line-0002"], about | {"previous": "v2"})
        await devices.say(["line-0003"], about | {"previous": "first"})
        with pytest.raises(Refused, match="--further"):
            await rollback(devices.fleet, EVERYBODY, "bad", store)
        done = await rollback(devices.fleet, EVERYBODY, "bad, too", store, further=True)
        assert (done.was, done.version) == ("v1", "")
        assert await told_to_roll_back(edge) == {"line-0003"}
        assert len(done.kept) == 3
        assert "v2, which was undone" in done.kept[0]


async def test_an_automatic_undo_is_not_undone_once_more(edge: Edge, store: FolderBlobs, tmp_path: Path) -> None:
    async with simulated(edge, 3, 3) as devices:
        await brought(devices, store, tmp_path, "v1", then=None)
        devices.verdict = lambda *_: ("rolled_back", "worse")
        assert (await brought(devices, store, tmp_path, "v2", then=None)).outcome == "undone"
        with pytest.raises(Refused, match=r"v2 is undone there already .*worse"):
            await rollback(devices.fleet, CANARY, "panic", store)
        assert await versions(devices) == {"v1": 3}


async def test_what_is_rolled_back_of_all_goes_to_no_canary_again(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 6, 2) as devices:
        for version in ("v1", "v2"):
            await brought(devices, store, tmp_path, version)
        await rollback(devices.fleet, EVERYBODY, "bad in the field", store)
        with pytest.raises(Refused, match=r"ring canary before and undone .*bad in the field"):
            await brought(devices, store, tmp_path, "v2")
        assert await versions(devices) == {"v1": 6}
        released = await brought(devices, store, tmp_path, "v2", again=True)
        assert (released.outcome, await versions(devices)) == ("released", {"v2": 6})
        twins = await devices.fleet.modules_where("moduleId = 'classifier'")
        assert {twin.desired["model"]["attempt"] for twin in twins} == {5}  # one for all rings
        assert (await rollback(devices.fleet, EVERYBODY, "no, bad", store)).version == "v1"


async def test_what_is_released_again_goes_on_without_the_word_and_is_undone_for_good(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 6, 2) as devices:
        for version in ("v1", "v2"):
            await brought(devices, store, tmp_path, version, then=LINES)
        await rollback(devices.fleet, LINES, "bad in the field", store)
        await brought(devices, store, tmp_path, "v3", then=None)  # what the canaries had is no longer under way
        assert (await brought(devices, store, tmp_path, "v2", then=None, again=True)).outcome == "released"
        assert (await brought(devices, store, tmp_path, "v2", then=LINES)).outcome == "released"
        assert await versions(devices) == {"v2": 6}
        await rollback(devices.fleet, LINES, "bad all the same", store)
        with pytest.raises(Refused, match="bad all the same"):
            await brought(devices, store, tmp_path, "v2", then=LINES)
        assert "v2" not in await versions(devices)


async def test_what_is_undone_in_the_second_ring_does_not_stay_with_the_canaries(
    edge: Edge, store: FolderBlobs, tmp_path: Path
) -> None:
    async with simulated(edge, 6, 2) as devices:
        for version in ("v1", "v2"):
            await brought(devices, store, tmp_path, version, then=LINES)
        await rollback(devices.fleet, LINES, "bad in the field", store)
        with pytest.raises(Refused, match="bad in the field") as caught:
            await brought(devices, store, tmp_path, "v2", then=LINES)
        assert caught.value.kind == "undone"
        assert await versions(devices) == {"v1": 6}


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"at": 5}', b'{"at": "2026-11-22T03:00:00"}'])
async def test_a_damaged_note_begins_the_watch_anew(
    edge: Edge, store: FolderBlobs, tmp_path: Path, damage: bytes
) -> None:
    async with simulated(edge, 2, 2) as devices:
        await brought(devices, store, tmp_path, "v1", then=None)
        (answers,) = (tmp_path / "models").rglob("answers.json")
        next((tmp_path / "models").rglob("done.json")).unlink()
        answers.write_bytes(damage)
        assert (await brought(devices, store, tmp_path, "v1", then=None)).outcome == "released"
        assert b'+00:00"' in answers.read_bytes()


async def test_devices_with_long_names_have_notes_of_their_own(store: FolderBlobs) -> None:
    journal, sha256 = Journal(store), "a" * 64
    one, other = (Attempt.of(1, Device("line-" + "x" * 122 + last), sha256) for last in "12")
    await journal.note(one, UNDONE, {"reason": "bad"})
    assert await journal.told(other, UNDONE) is None
    assert await journal.facts() == [(one, UNDONE)]
