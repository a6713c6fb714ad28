"""From the twin's wish to the model that answers, watched, and back again where it is worse."""

from __future__ import annotations

import asyncio
import itertools
import logging
from pathlib import Path

import pytest

from classifier.rollout.memory import NOT_AGAIN
from colours import picture
from depot import Depot, packed, unsure_model
from rollouts import site
from sampling import until


async def test_a_wanted_model_answers_after_every_step(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        assert (await here.until("active"))["version"] == "first"
        here.want(wanted)
        watched = await here.until("watching")
        assert here.rollout.states == ["downloading", "verifying", "loading", "parity", "warming", "watching"]
        assert watched | {"since": ""} == {
            "version": "v2",
            "sha256": wanted["sha256"],
            "state": "watching",
            "reason": None,
            "since": "",
            "wanted": "v2",
            "previous": "first",
            "shadow": None,
            "tags": 3,
        }
        await here.ask(1)
        assert (await here.classifier.classify(picture())).model.version == "v2"
        done = await here.until("active")
        assert "2 images only" in done["reason"]
        assert here.files() == {"rollout.json", f"{wanted['sha256']}.zip"}


async def test_the_twin_told_again_changes_nothing(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        for _ in range(3):
            here.want(wanted)
        await here.until("watching")
        here.want(wanted)
        await here.ask(1)
        await here.until("active")
        here.want(wanted)
        await asyncio.sleep(0.1)
        assert here.rollout.states.count("loading") == len(depot.requests) == 1


async def test_a_restart_has_the_new_model_without_the_network(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.want(wanted)
        await here.until("watching")
        await here.ask(1)
        await here.until("active")
    depot.statuses = [500] * 100
    first.unlink()
    async with site(tmp_path, first) as here:
        assert (await here.until("active"))["version"] == "v2"
        here.want(wanted)
        await here.ask(1)
        assert here.rollout.status()["state"] == "active"
    assert len(depot.requests) == 1


async def test_two_versions_are_kept_and_files_of_others_are_left_alone(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    versions = [packed(depot.folder / f"v{n}.zip", f"v{n}") | {"url": depot.url(f"v{n}.zip")} for n in range(2, 5)]
    async with site(tmp_path, first) as here:
        here.shelf.folder.mkdir()
        (here.shelf.folder / "model.zip").write_bytes(b"the user's own")
        (here.shelf.folder / f"{'ab' * 32}.sig.7.tmp").write_bytes(b"what a kill has left")
        for wanted in versions:
            here.want(wanted)
            await here.until("watching")
            await here.ask(1)
            reported = await here.until("active")
        assert (reported["version"], reported["previous"]) == ("v4", "v3")
        kept = {f"{wanted['sha256']}.zip" for wanted in versions[1:]}
        assert here.files() == {"rollout.json", "model.zip"} | kept


async def test_a_damaged_rest_of_an_earlier_try_is_thrown_away(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2", padding=100_000) | {"url": depot.url("v2.zip")}
    content = (depot.folder / "v2.zip").read_bytes()
    depot.etag = '"it"'
    async with site(tmp_path, first) as here:
        here.shelf.folder.mkdir()
        here.shelf.partial(wanted["sha256"]).write_bytes(bytes(50_000))  # as a power cut leaves it
        here.shelf.partial(wanted["sha256"]).with_suffix(".etag").write_text('"it"')
        here.want(wanted)
        await here.until("watching")
        assert here.shelf.package(wanted["sha256"]).read_bytes() == content
    assert ["Range" in request for request in depot.requests] == [True, False]


async def test_a_package_that_answers_is_asked_for_as_another_version_and_goes_by_that_name(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first, watch=0.5) as here:
        here.want(wanted)
        await here.until("watching")
        here.want(wanted | {"version": "v3"})
        renamed = await here.until("watching")
        assert (renamed["version"], renamed["wanted"], renamed["sha256"]) == ("v3", "v3", wanted["sha256"])
        await here.ask(1)
        assert (await here.until("active"))["version"] == "v3"  # its trial went on
        here.want(wanted | {"version": "v4"})
        assert (await here.until("active"))["version"] == "v4"
        assert (await here.classifier.classify(picture())).model.version == "v4"
        assert here.rollout.states.count("loading") == 1
    async with site(tmp_path, first) as here:
        assert (await here.until("active"))["version"] == "v4"


async def test_an_undone_package_is_refused_as_another_version_and_whoever_waits_for_that_is_told(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.want(wanted)
        await here.until("watching")
        await here.rollout.rollback()
        here.want(wanted | {"version": "v3"})
        async with asyncio.timeout(10):
            while (told := await here.until("rolled_back"))["wanted"] != "v3":
                pass
        assert (told["version"], told["reason"]) == ("first", "by the method rollback" + NOT_AGAIN)
        assert here.rollout.states.count("loading") == 1


async def test_an_undone_package_is_tried_again_where_a_higher_attempt_says_so(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.want(wanted)
        await here.until("watching")
        await here.rollout.rollback()
        await here.until("rolled_back")
    async with site(tmp_path, first) as here:  # a restart does not forget
        here.want(wanted | {"attempt": 3})
        assert (await here.until("watching"))["version"] == "v2"
        await here.rollout.rollback()
        assert (await here.until("rolled_back"))["version"] == "first"
    async with site(tmp_path, first) as here:
        here.want(wanted | {"attempt": 3})
        assert (await here.until("rolled_back"))["version"] == "first"


async def test_a_broken_network_is_tried_again_until_it_works(
    tmp_path: Path, first: Path, depot: Depot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wanted = packed(depot.folder / "v2.zip", "v2", padding=200_000) | {"url": depot.url("v2.zip")}
    depot.statuses, depot.cuts = [503, 429], [60_000, 60_000]
    async with site(tmp_path, first) as here:
        here.want(wanted)
        assert (await here.until("watching"))["version"] == "v2"
    assert len(depot.requests) == 5
    ours = [record.getMessage() for record in caplog.records if record.name != "aiohttp.access"]  # the depot's
    assert "SECRET" not in "\n".join(ours)
    assert "SECRET" not in str(here.hub.reported)


async def test_a_new_wish_stops_the_one_on_its_way(tmp_path: Path, first: Path, depot: Depot) -> None:
    slow = packed(depot.folder / "v2.zip", "v2", padding=500_000) | {"url": depot.url("v2.zip")}
    quick = packed(depot.folder / "v3.zip", "v3") | {"path": str(depot.folder / "v3.zip")}
    depot.pause, depot.piece = 0.2, 1000
    async with site(tmp_path, first) as here:
        here.want(slow)
        await here.until("downloading")
        await until(here.shelf.partial(slow["sha256"]).exists)
        here.want(quick)
        assert (await here.until("watching"))["version"] == "v3"
        await until(lambda: here.files() == {"rollout.json", f"{quick['sha256']}.zip"})


def grey(number: int) -> bytes:
    return picture((100 + number % 50,) * 3)


async def test_a_model_that_is_worse_undoes_itself_and_is_not_tried_again(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2", onnx=unsure_model()) | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first, watch=30) as here:
        await here.ask(60)
        here.want(wanted)
        await here.until("watching")
        await here.ask(60)
        undone = await here.until("rolled_back")
        assert (undone["version"], undone["wanted"], undone["previous"]) == ("first", "v2", None)
        assert undone["reason"] == "it is unsure of 100% of the images, the model before it was of 0%" + NOT_AGAIN
        assert (await here.classifier.classify(picture())).model.version == "first"
        await until(lambda: here.files() == {"rollout.json"})
    async with site(tmp_path, first) as here:
        assert (await here.until("rolled_back"))["wanted"] == "v2"
        here.want(wanted | {"url": wanted["url"] + "&renewed=1"})
        await asyncio.sleep(0.2)
        assert here.rollout.status()["state"] == "rolled_back"
        good = packed(depot.folder / "v3.zip", "v3") | {"url": depot.url("v3.zip")}
        here.want(good)
        assert (await here.until("watching"))["version"] == "v3"


async def test_the_watch_goes_on_after_a_restart_with_the_old_models_figures(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2", onnx=unsure_model()) | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first, watch=30) as here:
        await here.ask(60)
        here.want(wanted)
        await here.until("watching")
    async with site(tmp_path, first, watch=30) as here:
        assert (await here.until("watching"))["version"] == "v2"
        await here.ask(60)
        assert (await here.until("rolled_back"))["version"] == "first"


async def test_rollback_by_hand_stops_what_is_on_its_way_and_then_goes_back(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    good = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    slow = packed(depot.folder / "v3.zip", "v3", padding=500_000) | {"url": depot.url("v3.zip")}
    async with site(tmp_path, first) as here:
        assert (await here.rollout.rollback())[0] == 409
        here.want(good)
        await here.until("watching")
        depot.pause, depot.piece = 0.2, 1000
        here.want(slow)
        await here.until("downloading")
        status, answer = await here.rollout.rollback()
        assert (status, answer["version"], answer["wanted"], answer["state"]) == (200, "v2", "v3", "rolled_back")
        here.want(slow)
        await asyncio.sleep(0.1)
        assert here.rollout.status()["state"] == "rolled_back"
        status, answer = await here.rollout.rollback()
        assert (status, answer["version"], answer["wanted"]) == (200, "first", "v2")
        assert (await here.rollout.rollback())[0] == 409


async def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.shelf.folder.write_text("a file")
        here.want(wanted)
        assert "the folder of --models" in (await here.until("failed"))["reason"]
        await here.ask(1)


async def test_a_package_the_disk_has_damaged_is_replaced_by_the_one_before_and_fetched_anew(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.want(wanted)
        await here.until("watching")
        await here.ask(1)
        await here.until("active")
    with here.shelf.package(wanted["sha256"]).open("r+b") as file:
        file.seek(200)
        file.write(b"rot")
    async with site(tmp_path, first) as here:
        reported = await here.until("rolled_back")
        assert reported["version"] == "first"
        assert "could not be loaded at the start" in reported["reason"]
        here.want(wanted)
        assert (await here.until("watching"))["version"] == "v2"


async def test_fifty_rollouts_under_load_fail_no_request(tmp_path: Path, first: Path, depot: Depot) -> None:
    versions = [packed(depot.folder / f"{n}.zip", f"n{n}") | {"url": depot.url(f"{n}.zip")} for n in range(2)]
    answered: list[str] = []
    going = True

    async def camera() -> None:
        while going:
            answered.append((await here.classifier.classify(picture())).model.version)

    async with site(tmp_path, first, watch=0) as here:
        cameras = [asyncio.create_task(camera()) for _ in range(3)]
        for _, wanted in zip(range(50), itertools.cycle(versions), strict=False):
            here.want(wanted)
            async with asyncio.timeout(10):
                while (await here.until("active"))["version"] != wanted["version"]:
                    pass
        going = False
        await asyncio.gather(*cameras)
    assert set(answered) == {"first", "n0", "n1"}
    assert here.rollout.states.count("loading") == 50
