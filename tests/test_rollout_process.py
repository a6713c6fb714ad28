"""Rollouts in real processes: killed at every step, and under the local edge runtime."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from classifier.models.model import load
from classifier.rollout.memory import NOT_AGAIN, TRIES
from classifier.rollout.shelf import Shelf
from classifier.rollout.start import Sources, begin
from colours import model, picture
from depot import Depot, first_model, packed, unsure_model
from killed import rolled_out

NOW = "2026-11-22T02:10:00.000000Z"
HERE = Path(__file__).parent
TWIN = "/twins/laptop/modules/classifier"

STEPS = [
    *("before tidy", "after tidy", "downloading", "verifying", "before put", "after put"),
    *("before write 1", "after write 1", "loading", "parity", "warming"),
    *("before write 2", "after write 2", "before swap", "after swap", "watching"),
    *("before write 3", "after write 3", "active"),
]


def rollout(folder: Path, first: Path, wanted: dict[str, str], step: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "killed.py"), str(folder), str(first), json.dumps(wanted), step]
    path = os.pathsep.join([str(HERE), str(HERE.parent / "modules"), str(HERE.parent / "tools")])
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_at_any_step_leaves_a_model_that_answers_and_a_rollout_that_ends(tmp_path: Path, step: str) -> None:
    first, folder = first_model(tmp_path), tmp_path / "models"
    wanted = packed(tmp_path / "v2.zip", "v2", padding=500_000) | {"path": str(tmp_path / "v2.zip")}
    killed = rollout(folder, first, wanted, step)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    loaded, memory = begin(Sources(Shelf(folder), first, partial(load, threads=1)), NOW)
    activated = STEPS.index(step) >= STEPS.index("after write 2")
    assert loaded.version == memory.active.version == ("v2" if activated else "first")
    assert loaded.predict(picture())[0].probability > 0.9
    status = asyncio.run(rolled_out(folder, first, wanted))
    assert (status["version"], status["previous"]) == ("v2", "first")
    assert {path.name for path in folder.iterdir()} == {"rollout.json", f"{wanted['sha256']}.zip"}


def test_a_model_whose_loading_ends_the_process_is_given_up(tmp_path: Path) -> None:
    first, folder = first_model(tmp_path), tmp_path / "models"
    wanted = packed(tmp_path / "v2.zip", "v2") | {"path": str(tmp_path / "v2.zip")}
    for _ in range(TRIES):
        assert rollout(folder, first, wanted, "loading").returncode == -signal.SIGKILL
    rollout(folder, first, wanted, "failed")
    memory = Shelf(folder).read()
    assert memory.active.sha256 == ""
    assert memory.outcome.reason == f"the process ended {TRIES} times while the model was loaded" + NOT_AGAIN


@pytest.mark.parametrize("step", ["before write 1", "failed"])
def test_what_was_missing_is_tried_again_after_a_kill_at_its_failure(tmp_path: Path, step: str) -> None:
    first, folder = first_model(tmp_path), tmp_path / "models"
    wanted = packed(tmp_path / "v2.zip", "v2") | {"path": str(tmp_path / "later.zip")}
    assert rollout(folder, first, wanted, step).returncode == -signal.SIGKILL
    (tmp_path / "v2.zip").rename(wanted["path"])
    assert asyncio.run(rolled_out(folder, first, wanted))["version"] == "v2"


def test_a_model_under_which_the_process_ends_again_and_again_is_undone_at_the_start(tmp_path: Path) -> None:
    first, folder = first_model(tmp_path), tmp_path / "models"
    wanted = packed(tmp_path / "v2.zip", "v2") | {"path": str(tmp_path / "v2.zip")}
    assert rollout(folder, first, wanted, "after swap").returncode == -signal.SIGKILL
    sources = Sources(Shelf(folder), first, partial(load, threads=1))
    assert [begin(sources, NOW)[0].version for _ in range(TRIES + 1)] == ["v2"] * TRIES + ["first"]
    memory = sources.shelf.read()
    assert (memory.outcome.state, memory.previous) == ("rolled_back", None)


async def told(edge: Any, state: str, version: str) -> dict[str, Any]:
    """What is reported of the model, once it says so."""
    async with asyncio.timeout(20):
        while True:
            reported = (await edge.service("GET", TWIN))[1]["properties"]["reported"].get("model") or {}
            if (reported.get("state"), reported.get("version")) == (state, version):
                return dict(reported)
            await asyncio.sleep(0.05)


async def want(edge: Any, section: dict[str, Any] | None) -> None:
    assert (await edge.service("PATCH", TWIN, {"properties": {"desired": {"model": section}}}))[0] == 200


async def call(edge: Any, name: str) -> tuple[int, Any]:
    answer = (await edge.service("POST", f"{TWIN}/methods", {"methodName": name, "responseTimeoutInSeconds": 10}))[1]
    return answer["status"], answer["payload"]


async def test_the_twin_swaps_the_model_and_the_method_takes_it_back_while_cameras_post(
    tmp_path: Path, edge: Any, depot: Depot, start: Any
) -> None:
    good = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    bad = packed(depot.folder / "v3.zip", "v3", onnx=unsure_model()) | {"url": depot.url("v3.zip")}
    arguments = ["--model", str(first_model(tmp_path)), "--models", str(tmp_path / "models")]
    arguments += ["--state", str(tmp_path / "state"), "--watch-seconds", "2"]
    classifier = start(*arguments, environ=edge.environ("classifier"))
    url = classifier.url()
    statuses: list[int] = []
    going = True

    async def camera(session: aiohttp.ClientSession, image: bytes) -> None:
        while going:
            async with session.post(f"{url}/image", data=image) as response:
                await response.read()
                statuses.append(response.status)
            await asyncio.sleep(0.005)

    async with aiohttp.ClientSession() as session:
        cameras = [asyncio.create_task(camera(session, picture(colour))) for colour in ("red", "blue")]
        await told(edge, "active", "first")
        await want(edge, good)
        assert (await told(edge, "active", "v2"))["previous"] == "first"
        await want(edge, bad | {"url": bad["url"]})
        undone = await told(edge, "rolled_back", "v2")
        assert "unsure of 100%" in undone["reason"]
        assert undone["wanted"] == "v3"
        status, payload = await call(edge, "status")
        assert (status, payload["model"]["version"], payload["model"]["state"]) == (200, "v2", "rolled_back")
        assert payload["model"]["tags"] == ["red", "green", "blue"]
        classifier.process.send_signal(signal.SIGKILL)
        going = False
        await asyncio.gather(*cameras, return_exceptions=True)
    assert set(statuses) == {200}
    assert classifier.wait() == -signal.SIGKILL

    again = start(*arguments, environ=edge.environ("classifier"))
    again.url()
    await edge.until(lambda state: "classifier" in state["connected"])
    assert (await told(edge, "rolled_back", "v2"))["wanted"] == "v3"
    assert await call(edge, "rollback") == (
        409,
        {"reason": "there is no model before this one: name another in the twin's model"},
    )
    again.end(signal.SIGKILL)
    assert "SECRET" not in classifier.log + again.log


async def test_a_shadow_that_was_killed_begins_again_and_a_candidate_that_disagrees_never_answers(
    tmp_path: Path, edge: Any, depot: Depot, start: Any
) -> None:
    shadow = {"share": 1, "images": 5, "agreement": 0.9}
    good = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip"), "shadow": shadow}
    other = model(full_range=True, bgr=True)  # unsure of everything, and red is blue to it
    bad = packed(depot.folder / "v3.zip", "v3", onnx=other) | {"url": depot.url("v3.zip"), "shadow": shadow}
    spool = tmp_path / "spool"
    arguments = ["--model", str(first_model(tmp_path)), "--models", str(tmp_path / "models"), "--spool", str(spool)]
    arguments += ["--state", str(tmp_path / "state"), "--watch-seconds", "0", "--audit-rate", "0"]
    classifier = start(*arguments, environ=edge.environ("classifier"))
    classifier.url()
    await want(edge, good)
    await told(edge, "shadowing", "first")
    classifier.end(signal.SIGKILL)

    again = start(*arguments, environ=edge.environ("classifier"))
    url = again.url()
    await edge.until(lambda state: "classifier" in state["connected"])
    posted, versions = 0, set()
    async with aiohttp.ClientSession() as session:

        async def post() -> None:
            nonlocal posted
            while True:
                for colour in ("red", "blue"):
                    async with session.post(f"{url}/image", data=picture(colour)) as response:
                        assert response.status == 200
                        versions.add((await response.json())["iteration"])
                    posted += 1
                    await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as tasks:
            camera = tasks.create_task(post())
            active = (await told(edge, "active", "v2"))["shadow"]
            assert (active["images"], active["agreement"], active["errors"]) == (5, 1, 0)
            await want(edge, bad)
            failed = await told(edge, "failed", "v2")
            assert "it agrees with the model that answers on" in failed["reason"]
            assert (failed["wanted"], failed["shadow"]["images"]) == ("v3", 5)
            camera.cancel()
        _, status = await call(edge, "status")
    assert status["answered"] - posted in (0, 1)  # the one that was not read any more
    assert versions == {"first", "v2"}
    assert not list(spool.glob("*.sample"))  # what a candidate is unsure of is nobody's business
    assert again.end() == 0
    assert "SECRET" not in classifier.log + again.log


def test_the_steps_are_all_different() -> None:
    assert all(a != b for a, b in itertools.combinations(STEPS, 2))
