"""An export is asked for once, fetched in pieces, and is a file only when it is whole and right."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient as Sdk
from click.testing import CliRunner

from between import Between
from classifier.models.model import load
from retrain.__main__ import main
from retrain.customvision import CustomVision
from retrain.turn.train.exporting import EXPORT_FAILED, TRIES, fetch_export
from retrain.turn.train.waiting import Pace
from ripeloop.errors import BadModel, NotFound, Offline, Refused, SettingsError, Unfinished
from trainer.state.exports import Exports
from trainer.state.files import Files
from trainer.state.store import Store
from trainerservice import COMPACT, INT8, KEY, Service, trained, upload

GENERAL = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
QUICK = Pace(0.05, 0.3, 60)
ENVIRON = {"RIPELOOP_TRAINING_KEY": KEY}
Fruit = tuple[str, str]


@pytest.fixture(scope="module")
def fruit(sdk: Sdk) -> Fruit:
    """A trained project's id and its iteration's."""
    return taught(sdk, "fruit", COMPACT)


def taught(sdk: Sdk, name: str, domain: str) -> Fruit:
    project: str = sdk.create_project(name, domain_id=domain, classification_type="Multiclass").id
    for tag in ("green", "brown"):
        upload(sdk, project, tag, sdk.create_tag(project, tag).id)
    iteration: str = trained(sdk, project, sdk.train_project(project).id).id
    return project, iteration


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_download(request: web.Request) -> bool:
    return request.path.startswith("/files/")


async def test_two_exports_are_one_and_its_link_is_in_no_log(
    running: Service, cloud: CustomVision, fruit: Fruit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    project, iteration = fruit
    async with Between.running(running.url) as between:
        with closing(CustomVision(between.url, KEY)) as far:
            first = await fetch_export(far, project, iteration, tmp_path / "a.zip", pace=QUICK)
            again = await fetch_export(far, project, iteration, tmp_path / "a.zip", pace=QUICK)
            other = await fetch_export(far, project, iteration, tmp_path / "b.zip", pace=QUICK)
        assert between.times("POST", "/export") == 1
        assert sum(path.startswith("/files/") for _, path, _ in between.seen) == 2
    assert (first.already, again.already, other.already) == (False, True, False)
    assert (first.iteration, first.flavour) == (iteration, "")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert load(tmp_path / "a.zip").iteration == iteration
    assert names(tmp_path) == ["a.zip", "b.zip"]
    plain = [one for one in cloud.exports(project, iteration) if not one.flavour]
    assert [(one.platform, one.status) for one in plain] == [("ONNX", "Done")]
    assert "sig=" not in caplog.text
    assert "sig=" not in repr(cloud.exports(project, iteration))


async def test_a_cut_line_costs_only_what_had_not_arrived(running: Service, fruit: Fruit, tmp_path: Path) -> None:
    cuts = [1_500_000] * 10  # more often than it may fail in vain
    async with Between.running(running.url) as between:
        between.spoil = lambda request, body: body[: cuts.pop()] if is_download(request) and cuts else body
        with closing(CustomVision(between.url, KEY)) as far:
            await fetch_export(far, *fruit, tmp_path / "a.zip", pace=QUICK)
        ranges = [asked for _, path, asked in between.seen if path.startswith("/files/")]
    assert ranges[0] == ""
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in ranges[1:]]
    assert starts == sorted(set(starts))
    assert len(starts) >= 8
    assert load(tmp_path / "a.zip").iteration == fruit[1]
    assert names(tmp_path) == ["a.zip"]


async def test_a_killed_command_goes_on_with_the_same_export(running: Service, fruit: Fruit, tmp_path: Path) -> None:
    async with Between.running(running.url) as between:
        command = [
            *(sys.executable, "-m", "retrain", "export", "--endpoint", between.url, "--project", fruit[0]),
            *("--iteration", fruit[1], "--out", str(tmp_path / "a.zip"), "--json"),
        ]
        between.spoil = lambda request, body: body[:400_000] if is_download(request) else body
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | ENVIRON, stderr=subprocess.DEVNULL)
        partial = tmp_path / f".a.zip.{fruit[1]}.partial"
        end = time.monotonic() + 30
        while not (partial.exists() and partial.stat().st_size) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert not (tmp_path / "a.zip").exists()
        there = partial.stat().st_size
        between.spoil, between.seen = lambda _, body: body, []
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        told = json.loads((await process.communicate())[0])
        assert between.times("POST", "/export") == 0
        assert [asked for _, path, asked in between.seen if path.startswith("/files/")] == [f"bytes={there}-"]
    assert (process.returncode, told["iteration"], told["flavour"], told["already"]) == (0, fruit[1], None, False)
    assert load(tmp_path / "a.zip").iteration == fruit[1]
    assert names(tmp_path) == ["a.zip"]


def flipped(body: bytes) -> bytes:
    """With one bit of the model changed."""
    place = len(body) // 2
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


async def test_a_damaged_export_is_fetched_once_more_and_never_kept(
    running: Service, fruit: Fruit, tmp_path: Path
) -> None:
    async with Between.running(running.url) as between:
        with closing(CustomVision(between.url, KEY)) as far:
            between.spoil = lambda request, body: flipped(body) if is_download(request) else body
            with pytest.raises(BadModel, match="again"):
                await fetch_export(far, *fruit, tmp_path / "a.zip", pace=QUICK)
            assert names(tmp_path) == []
            once = [True]
            between.spoil = lambda request, body: (
                flipped(body) if is_download(request) and once and once.pop() else body
            )
            await fetch_export(far, *fruit, tmp_path / "a.zip", pace=QUICK)
    assert load(tmp_path / "a.zip").iteration == fruit[1]


async def test_a_line_that_stays_cut_is_offline_and_what_came_stays(
    running: Service, fruit: Fruit, tmp_path: Path
) -> None:
    let = [1_000_000]
    async with Between.running(running.url) as between:
        between.spoil = lambda request, body: body[: let.pop() if let else 0] if is_download(request) else body
        with closing(CustomVision(between.url, KEY)) as far, pytest.raises(Offline) as caught:
            await fetch_export(far, *fruit, tmp_path / "a.zip", pace=Pace(0.01, 0.01, 60))
        downloads = sum(path.startswith("/files/") for _, path, _ in between.seen)
    assert "sig=" not in str(caught.value)
    assert downloads == 1 + TRIES
    assert (tmp_path / f".a.zip.{fruit[1]}.partial").stat().st_size > 500_000


async def test_another_file_in_its_place_is_not_touched(cloud: CustomVision, fruit: Fruit, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"somebody's")
    with pytest.raises(SettingsError, match="move it, or write elsewhere"):
        await fetch_export(cloud, *fruit, tmp_path / "a.zip", pace=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == b"somebody's"
    with pytest.raises(SettingsError, match="there is no folder"):
        await fetch_export(cloud, *fruit, tmp_path / "no" / "a.zip", pace=QUICK)


async def test_what_has_no_model_to_give_is_refused_in_words(cloud: CustomVision, sdk: Sdk, tmp_path: Path) -> None:
    project, first = taught(sdk, "in the cloud", GENERAL)
    with pytest.raises(Refused, match=r"stay in the cloud: set the project's domain to General \(compact\)"):
        await fetch_export(cloud, project, first, tmp_path / "a.zip", pace=QUICK)
    second = sdk.train_project(project, force_train=True).id
    with pytest.raises(Refused, match="is in training: only a trained iteration"):
        await fetch_export(cloud, project, second, tmp_path / "a.zip", pace=QUICK)
    with pytest.raises(NotFound, match="NotFoundIteration"):
        await fetch_export(cloud, project, project, tmp_path / "a.zip", pace=QUICK)
    assert names(tmp_path) == []


def test_the_command_exports_and_says_where_it_is(running: Service, fruit: Fruit, tmp_path: Path) -> None:
    command = ["export", "--endpoint", running.url, "--project", "fruit", "--out", str(tmp_path / "a.zip")]
    for said in ("is there", "was there already"):
        ended = CliRunner(env=ENVIRON).invoke(main, [*command, "--iteration", fruit[1]])
        assert (ended.exit_code, ended.stdout) == (0, f"{tmp_path / 'a.zip'} {said}: iteration {fruit[1]}\n"), (
            ended.stderr
        )
    assert CliRunner(env=ENVIRON).invoke(main, [*command, "--iteration", "newest"]).exit_code == 2
    ended = CliRunner(env=ENVIRON).invoke(main, [*command, "--iteration", fruit[0]])
    assert (ended.exit_code, "move it, or write elsewhere" in ended.stderr) == (2, True)


def fail(fruit: Fruit, folder: Path) -> None:
    """An export in 8 bits that was asked for and could not be made."""
    with closing(Store(folder / "trainer.db")) as store:
        exports = Exports(store, Files(folder))
        exports.make(*fruit, "ONNX", INT8)
        exports.failed(fruit[1], INT8, "of a test")


async def test_a_failed_export_is_an_error_until_it_is_asked_for_again(
    cloud: CustomVision, fruit: Fruit, trainer_data: Path, tmp_path: Path
) -> None:
    await asyncio.to_thread(fail, fruit, trainer_data)
    out = tmp_path / "8.zip"
    for _ in range(2):
        with pytest.raises(Refused, match=r"could not make .*--again") as caught:
            await fetch_export(cloud, *fruit, out, int8=True, pace=QUICK)
        assert caught.value.kind == EXPORT_FAILED
    with pytest.raises(Unfinished, match="do the same again"):
        await fetch_export(cloud, *fruit, out, int8=True, again=True, pace=Pace(0.05, 0.1, 0.3))
    found = await fetch_export(cloud, *fruit, out, int8=True, pace=QUICK)
    assert (found.flavour, found.already, load(out).iteration) == (INT8, False, fruit[1])
    assert [one.status for one in cloud.exports(*fruit) if one.flavour == INT8] == ["Done"]
    with pytest.raises(SettingsError, match="in 8 bits"):
        await fetch_export(cloud, *fruit, out, pace=QUICK)
