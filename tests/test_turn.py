"""`ripeloop retrain`: the order of the steps, and whole turns against the trainer and the local edge runtime."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from azurite import Azurite
from edge import Edge
from retrain.__main__ import main
from retrain.devices.fleet import Fleet
from retrain.judging import curve
from retrain.judging.judge import FIRST, SAME, Rule
from retrain.release import Board, Device, Released, ring
from retrain.release import Plan as ReleasePlan
from retrain.release.releasing import WAITING
from retrain.settings import Hub
from retrain.turn import past
from retrain.turn.lease import only_here, only_one
from retrain.turn.outcome import (
    FAILED,
    GIVEN_UP,
    NOTHING,
    OVERTAKEN,
    PACKAGED,
    RELEASED,
    Done,
    exit_code,
)
from retrain.turn.releasing import find_active, late_words, release_package, wanted_of
from retrain.turn.retrain_command import retrain_command, settings_of
from retrain.turn.settings import Judging, Packing, Store, TurnSettings
from retrain.turn.state import State
from retrain.turn.tag.heldout import is_held_out
from retrain.turn.tag.use import Use
from retrain.turn.train.worth import TrainPolicy
from retrain.turn.turn import look_ahead, run_turn
from retrain.turn.work import Step, Work
from ripeloop.blobs import open_blobs
from ripeloop.errors import Offline, Refused, SettingsError
from ripeloop.package import read_provenance, sha256_of
from trainer.state.files import Files
from trainerservice import COMPACT, KEY, service, training_client
from turns import put_samples, taking_models, told

NOW = "2026-11-22T02:10:00Z"
PROJECT = str(uuid.UUID(int=7))


def stored(path: Path) -> list[dict[str, Any]]:
    with State.open(path, lambda: NOW) as state:
        return [turn.to_json() for turn in state.turns()]


# --- the order of things, with steps that do nothing ---


class Steps(dict[str, Step]):
    """Steps that note that they ran; `fail` raises in one of them."""

    def __init__(self, **ends: Done) -> None:
        self.ran: list[str] = []
        self.fail: dict[str, Exception] = {}
        for name in ("tag", "train", "release"):
            self[name] = self._step(name, ends.get(name, Done({"did": name}, name)))

    def _step(self, name: str, done: Done) -> Step:
        async def step(work: Work) -> Done:
            self.ran.append(name)
            if name in self.fail:
                raise self.fail.pop(name)
            return done

        return step


def nowhere(folder: Path, edge: Edge | None = None, **more: Any) -> TurnSettings:
    """Settings whose service is never asked, as the project is told by its id; the container is there."""
    (folder / "cloud" / "samples").mkdir(parents=True, exist_ok=True)
    return told("http://127.0.0.1:9", folder, PROJECT, edge, **more)


async def container_in(azurite: Azurite) -> Store:
    """A container of an account, as the first device that uploads makes it."""
    store = Store(azurite.connection_string, f"c{uuid.uuid4().hex}", api_version=azurite.api_version)
    async with open_blobs(store.address, store.samples, store.api_version) as blobs:
        assert [blob async for blob in blobs.list()] == []
    return store


async def test_a_run_goes_on_where_the_last_one_failed(tmp_path: Path) -> None:
    steps, lines = Steps(release=Done({"ok": True}, "out", RELEASED, "all well")), list[str]()
    steps.fail["train"] = Offline("the service is away")
    with pytest.raises(Offline):
        await run_turn(nowhere(tmp_path), lines.append, steps)
    turn = await run_turn(nowhere(tmp_path), lines.append, steps)
    assert steps.ran == ["tag", "train", "train", "release"]
    assert (turn.number, turn.outcome, turn.why) == (1, RELEASED, "all well")
    assert lines == ["turn 1 begins", "tag: tag", "turn 1 goes on; done already: tag", "train: train", "release: out"]
    assert (await run_turn(nowhere(tmp_path), steps=steps)).number == 2


async def test_where_there_is_nothing_to_do_no_turn_is_kept(tmp_path: Path) -> None:
    steps = Steps(train=Done({}, "few", NOTHING, "3 new labels, 20 wanted"))
    for _ in range(2):
        turn = await run_turn(nowhere(tmp_path), steps=steps)
        assert (turn.number, turn.outcome, turn.why) == (1, NOTHING, "3 new labels, 20 wanted")
    assert stored(tmp_path / "work" / "turns.db") == []


async def test_it_stops_where_it_is_told_to_and_does_no_more_when_that_is_done(tmp_path: Path) -> None:
    steps = Steps()
    for _ in range(2):
        turn = await run_turn(nowhere(tmp_path, only_until="train"), steps=steps)
    assert (turn.outcome, steps.ran) == ("", ["tag", "train"])
    with pytest.raises(SettingsError, match="--only-until names one of tag, train"):
        await run_turn(nowhere(tmp_path, only_until="dinner"), steps=steps)


async def test_a_turn_is_given_up_only_on_a_word(tmp_path: Path) -> None:
    steps = Steps()
    await run_turn(nowhere(tmp_path, only_until="tag"), steps=steps)
    turn = await run_turn(nowhere(tmp_path, only_until="tag", give_up=True), steps=steps)
    assert turn.number == 2
    assert [one["outcome"] for one in stored(tmp_path / "work" / "turns.db")] == ["", GIVEN_UP]


async def test_a_turn_of_another_project_is_not_gone_on_with(tmp_path: Path) -> None:
    steps = Steps(tag=Done({"project": "another"}, ""))
    await run_turn(nowhere(tmp_path, only_until="tag"), steps=steps)
    with pytest.raises(SettingsError, match="turn 1 is about project another"):
        await run_turn(nowhere(tmp_path), steps=steps)


async def test_what_ended_with_a_verdict_goes_on_with_the_word_for_it(tmp_path: Path) -> None:
    steps = Steps()
    steps["decide"] = steps._step("decide", Done({"on": ""}, "no", SAME, "the same"))
    steps["release"] = steps.pop("release")
    assert (await run_turn(nowhere(tmp_path), steps=steps)).outcome == SAME
    steps["decide"] = steps._step("decide", Done({"on": "a word"}, "yes"))
    settings = nowhere(tmp_path, judging=Judging(accept=frozenset({SAME})))
    turn = await run_turn(settings, steps=steps)
    assert (turn.number, turn.steps["decide"].result) == (1, {"on": "a word"})
    assert steps.ran == ["tag", "train", "decide", "decide", "release"]


@pytest.mark.parametrize("ended", [PACKAGED, OVERTAKEN])
async def test_what_was_packed_or_overtaken_is_judged_again_before_it_is_released(
    ended: str, tmp_path: Path, edge: Edge
) -> None:
    steps = Steps()
    for name in ("judge", "package"):
        steps[name] = steps._step(name, Done({"did": name}, name))
    release = steps.pop("release")
    steps["release"] = steps._step("release", Done({}, "no", ended, "why"))
    assert (await run_turn(nowhere(tmp_path), steps=steps)).outcome == ended
    steps["release"], steps.ran = release, []
    settings = told("http://127.0.0.1:9", tmp_path, PROJECT, edge, only_until="release")
    ahead = await look_ahead(settings)
    assert (ahead.turn, ahead.step) == (1, "judge")
    assert ((await run_turn(settings, steps=steps)).number, steps.ran) == (1, ["judge", "package", "release"])


async def test_what_was_overtaken_is_given_up_on_a_word(tmp_path: Path, edge: Edge) -> None:
    settings = nowhere(tmp_path, edge=edge, only_until="tag")
    steps = Steps(tag=Done({}, "", OVERTAKEN, "why"))
    await run_turn(settings, steps=steps)
    turn = await run_turn(replace(settings, give_up=True), steps=Steps())
    assert turn.number == 2
    assert [one["outcome"] for one in stored(tmp_path / "work" / "turns.db")] == ["", GIVEN_UP]


async def test_a_turn_of_nothing_leaves_no_files_and_its_number_to_the_next(tmp_path: Path) -> None:
    async def tag(work: Work) -> Done:
        work.folder.mkdir(parents=True)
        return Done({}, "", NOTHING, "")

    for _ in range(2):
        assert (await run_turn(nowhere(tmp_path), steps={"tag": tag})).number == 1
    assert list((tmp_path / "work" / "turns").iterdir()) == []


async def test_a_copy_of_the_work_folder_does_not_share_its_lease(tmp_path: Path, azurite_cloud: Azurite) -> None:
    work, copied = tmp_path / "work", tmp_path / "copy"
    work.mkdir()
    with State.open(work / "turns.db", lambda: NOW) as state:
        identity = state.identity()
    shutil.copytree(work, copied)
    container = f"c{uuid.uuid4().hex}"
    async with open_blobs(azurite_cloud.connection_string, container, azurite_cloud.api_version) as blobs:
        with State.open(work / "turns.db", lambda: NOW) as state, State.open(copied / "turns.db", lambda: NOW) as other:
            assert other.identity() == identity
            async with only_one(blobs, state):
                with pytest.raises(Refused, match="has the lease"):
                    async with only_one(blobs, other):
                        pytest.fail("both work")
                async with only_one(blobs, state):
                    pass  # as after a kill


@pytest.mark.parametrize("where", ["folder", "azurite"])
async def test_two_never_run_at_once(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waiting(work: Work) -> Done:
        begun.set()
        await go_on.wait()
        return Done({}, "", RELEASED, "")

    settings = nowhere(tmp_path)
    if where == "azurite":
        azurite: Azurite = request.getfixturevalue("azurite_cloud")
        settings = replace(settings, store=await container_in(azurite))
    first = asyncio.create_task(run_turn(settings, steps={"tag": waiting}))
    await begun.wait()
    with pytest.raises(Refused, match=r"work is in use: process \d+ has the lease since") as here:
        await run_turn(settings)
    with pytest.raises(Refused, match=rf"ripeloop retrain on .*process {os.getpid()} has the lease since") as elsewhere:
        await run_turn(replace(settings, work=tmp_path / "other"))
    assert (here.value.kind, elsewhere.value.kind) == ("leased", "leased")
    go_on.set()
    assert (await first).outcome == RELEASED


async def test_a_lost_lease_stops_the_turn_before_its_next_call_to_the_service(
    tmp_path: Path, azurite_cloud: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ripeloop.bloblease.RENEWED_AFTER", 0.005)
    called = list[str]()

    async def taken(work: Work) -> Done:
        """Another machine takes the lease, while a thread works on."""
        with State.open(tmp_path / "other.db", lambda: NOW) as other:
            opened = open_blobs(store.address, store.samples, store.api_version)
            async with opened as blobs, only_one(blobs, other, take=True):
                await asyncio.to_thread(thread, work)
        return Done()

    def thread(work: Work) -> None:
        """Tries again and again, as the service does not answer."""
        try:
            work.service.read("http://127.0.0.1:9/image")
        except Refused as error:
            called.append(error.kind)

    store = await container_in(azurite_cloud)
    with pytest.raises(Refused, match="the lease was lost"):
        await run_turn(nowhere(tmp_path, store=store), steps={"tag": taken})
    async with asyncio.timeout(30):
        while not called:  # noqa: ASYNC110 - a thread decides
            await asyncio.sleep(0.02)
    assert called == ["lease_lost"]


async def test_settings_that_would_stop_a_turn_half_way_stop_it_at_the_begin(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    steps = Steps()
    with pytest.raises(SettingsError, match="holds no private key"):
        await run_turn(nowhere(tmp_path, packing=Packing(key=tmp_path / "key.pem")), steps=steps)
    with pytest.raises(SettingsError, match="there is no image in"):
        await run_turn(nowhere(tmp_path, packing=Packing(golden=tmp_path)), steps=steps)
    with pytest.raises(SettingsError, match="say where the model goes first"):
        await run_turn(nowhere(tmp_path, hub=Hub("HostName=h")), steps=steps)
    somewhere = ReleasePlan(Device("laptop"))
    with pytest.raises(SettingsError, match="connection string lacks SharedAccessKeyName"):
        await run_turn(nowhere(tmp_path, hub=Hub("HostName=h"), release=somewhere), steps=steps)
    good = Hub("HostName=h;SharedAccessKeyName=n;SharedAccessKey=a2V5")
    sas = Store(
        "https://a.blob.core.windows.net/samples?sv=2023-11-03&sr=c&sp=rwl&se=2099-01-01T00%3A00%3A00Z&sig=c2ln"
    )
    for begin in (run_turn, look_ahead):
        with pytest.raises(SettingsError, match=r"devices could not fetch the model: .* account's key"):
            await begin(nowhere(tmp_path, hub=good, release=somewhere, store=sas))
    assert steps.ran == []


@pytest.mark.parametrize("flag", ["ring", "device", "then"])
def test_where_a_model_goes_and_no_hub_is_wrong_usage(flag: str, tmp_path: Path) -> None:
    variable = "RELEASE_DEVICE" if flag == "device" else flag.upper()
    environ = {"RIPELOOP_TRAINING_KEY": KEY, f"RIPELOOP_{variable}": "all", "RIPELOOP_HUB": ""}
    words = ("--endpoint", "http://127.0.0.1:9", "--project", "fruit", "--cloud-blobs", str(tmp_path))
    result = retrain(*words, "--work", str(tmp_path / "work"), **environ)
    assert (result.exit_code, f"--{flag} says where the model goes, and no hub is named" in result.stderr) == (2, True)
    assert not (tmp_path / "work").exists()


def test_the_variables_of_train_and_export_hold_for_the_turn(tmp_path: Path) -> None:
    words = ["--endpoint", "http://127.0.0.1:9", "--project", "fruit", "--cloud-blobs", str(tmp_path)]
    environ = {"RIPELOOP_KEEP_ITERATIONS": "i1 i2", "RIPELOOP_EXPORT_WAIT_MINUTES": "2", "RIPELOOP_LATE_DAYS": "0.5"}
    environ["RIPELOOP_RING_CONDITION"] = "north=tags.site = 'n';south=tags.site = 's'"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environ | {"RIPELOOP_TRAINING_KEY": KEY}).items():
            patch.setenv(name, value)
        given = retrain_command.make_context("retrain", words).params
    assert given["ring_condition"] == ("north=tags.site = 'n'", "south=tags.site = 's'")
    settings = settings_of({name: value for name, value in given.items() if name not in ("dry_run", "as_json")})
    assert (settings.keep_iterations, settings.exporting.seconds) == ({"i1", "i2"}, 120)
    assert settings.late_after == timedelta(hours=12)


def test_devices_that_are_switched_off_are_waited_for_some_days_and_no_longer(tmp_path: Path) -> None:
    hub = Hub("HostName=h;SharedAccessKeyName=n;SharedAccessKey=a2V5")
    settings = nowhere(tmp_path, hub=hub, release=ReleasePlan(ring("canary"), ring("all")))
    canary, wide = Board("ring canary", {"active": 1}, (), 1), Board("ring all", {"active": 8, "silent": 1}, (), 8)
    done = Released("v2", "ab", WAITING, places=(canary, wide))
    now = datetime.now(UTC)
    words = late_words(settings, done, now - timedelta(days=4))
    assert words.startswith("v2 answers on 8 of 9 devices of ring all; the others have not reported for 3 days")
    assert late_words(settings, done, now - timedelta(days=2)) == late_words(settings, done, None) == ""
    silent = replace(done, places=(canary, Board("ring all", {"silent": 9})))
    first = replace(done, places=(wide,))
    for other in (silent, first):
        assert late_words(settings, other, now - timedelta(days=4)) == ""


# --- whole turns, with real parts ---


@dataclass(frozen=True)
class Running:
    """A trainer that runs, and the folder it keeps everything in."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("trainer")
    with service(folder) as running:
        yield Running(running.url, folder)


def project_at(trainer: Running) -> str:
    name = f"fruit-{uuid.uuid4()}"
    with training_client(trainer.url) as client:
        client.create_project(name, domain_id=COMPACT, classification_type="Multiclass")
    return name


def retrain(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["retrain", *words], env=environ, catch_exceptions=False)


@pytest.mark.slow
async def test_labels_become_a_model_on_the_device_and_more_labels_another(
    trainer: Running, edge: Edge, tmp_path: Path
) -> None:
    settings = told(trainer.url, tmp_path, project_at(trainer), edge)
    ids = await put_samples(tmp_path, 0, 70)
    async with taking_models(edge, tmp_path / "mail.db") as versions:
        first = await run_turn(settings)
        assert (first.outcome, (first.result("judge") or {})["verdict"]) == (RELEASED, FIRST)
        again = await run_turn(settings)
        assert (again.outcome, again.number) == (NOTHING, 2)
        await put_samples(tmp_path, 70, 20)
        second = await run_turn(replace(settings, judging=Judging(Rule(min_images=8, min_per_tag=1, chance=1e-9))))
        assert second.outcome == SAME  # by such a rule everything is chance
        accepted = replace(settings, judging=replace(settings.judging, accept=frozenset({SAME})))
        ahead = await look_ahead(accepted)
        assert (ahead.turn, ahead.step) == (2, "decide")
        third = await run_turn(accepted)
    assert (third.number, third.outcome) == (2, RELEASED)
    assert len(versions) == 2
    said = third.result("judge") or {}
    assert said["active"]["from"] == "turn 1"
    assert said["active"]["version"] == versions[0]
    assert said["candidate"] == versions[1]
    folder = past.folder_of(settings.work, 2)
    judged = json.loads((folder / past.JUDGED).read_text())
    audits = (third.result("holdout") or {})["audits"]
    assert said["field"] == judged["active"]["field_accuracy"]
    assert said["field"]["of"] == audits > 0
    assert "What changed" in (folder / past.REPORT).read_text()
    assert "The first model" in (past.folder_of(settings.work, 1) / past.REPORT).read_text()
    provenance = read_provenance(folder / past.MODEL)
    assert provenance["samples"]["count"] == (third.result("tag") or {})["labels"]
    assert not set(provenance["samples"]["ids"]) - {*ids, *(await put_samples(tmp_path, 70, 20))}
    assert provenance["iterationId"] == versions[1]
    assert provenance["judged"]["sha256"] == sha256_of(folder / past.JUDGED)
    assert [turn.version for turn in curve.read(settings.work / past.HISTORY)] == versions


@pytest.mark.slow
async def test_a_container_of_the_cloud_does_as_a_folder_does(
    trainer: Running, tmp_path: Path, azurite_cloud: Azurite
) -> None:
    store = Store(azurite_cloud.connection_string, f"c{uuid.uuid4().hex}", api_version=azurite_cloud.api_version)
    ids = await put_samples(tmp_path, 0, 12, store=store)
    settings = told(trainer.url, tmp_path, project_at(trainer), store=store, only_until="tag")
    turn = await run_turn(settings)
    found = turn.result("tag") or {}
    assert found["trainingSamples"] + found["holdoutSamples"] == 12
    async with open_blobs(store.address, store.samples, store.api_version) as blobs:
        uses = {blob.name[-68:-4]: Use.of(blob.metadata) async for blob in blobs.list()}
    assert set(uses) == set(ids)
    assert None not in uses.values()
    assert (await run_turn(replace(settings, work=tmp_path / "other"))).result("tag") == found | {
        "added": 0, "already": found["trainingSamples"], "tagsMade": 0, "newInHoldout": 0,
    }  # fmt: skip


@pytest.mark.slow
async def test_after_a_rollback_the_model_that_came_back_is_the_one_to_beat(edge: Edge, tmp_path: Path) -> None:
    settings = nowhere(tmp_path, edge=edge)
    files = {}
    with State.open(tmp_path / "turns.db", lambda: NOW) as state:
        for nth in (1, 2):
            number = state.begin().number
            files[nth] = past.folder_of(settings.work, number) / past.MODEL
            files[nth].parent.mkdir(parents=True)
            files[nth].write_bytes(f"package {nth}".encode())
            state.start(number, "package")
            state.done(number, "package", {"sha256": sha256_of(files[nth])}, RELEASED, "")
        turns = state.turns()
    first, second = (sha256_of(files[nth]) for nth in (1, 2))
    assert await wanted_of(settings) == await wanted_of(replace(settings, hub=None)) == ""
    assert await find_active(settings, turns, "") == past.Active(files[2], "turn 2")
    assert await find_active(settings, [], "") is None
    named = replace(settings, judging=Judging(active=files[1]))
    assert await find_active(named, [], "") == past.Active(files[1], "--active")
    async with Fleet.open(edge.connection_string, edge.ca_file) as fleet:
        await fleet.patch_twin("laptop", "classifier", {"model": {"version": "v1", "sha256": first}})
    assert await wanted_of(settings) == first
    assert await find_active(settings, turns, first) == past.Active(files[1], "turn 1")
    with pytest.raises(SettingsError, match="neither here nor in the storage: name its file with --active"):
        await find_active(settings, [], first)
    async with open_blobs(settings.store.address, "models") as models:
        await models.put("packages/v1-x.zip", b"package 1", {"sha256": first})
    found = await find_active(settings, [], first)
    assert found is not None
    assert (found.path.read_bytes(), found.source) == (b"package 1", "the devices' twins")
    done = await release_package(settings, files[2], {"sha256": second, "signature": ""}, "another", print)
    assert (done.outcome, "the next turn judges against that" in done.why) == (OVERTAKEN, True)


@pytest.mark.slow
async def test_without_a_hub_the_model_packed_last_is_the_one_to_beat(trainer: Running, tmp_path: Path) -> None:
    settings = told(trainer.url, tmp_path, project_at(trainer))
    await put_samples(tmp_path, 0, 70)
    first = await run_turn(settings)
    assert (first.outcome, (first.result("judge") or {})["verdict"]) == (PACKAGED, FIRST)
    await put_samples(tmp_path, 70, 20)
    by_chance = replace(settings, judging=Judging(Rule(min_images=8, min_per_tag=1, chance=1e-9), first_accuracy=0.2))
    second = await run_turn(by_chance)
    said = second.result("judge") or {}
    assert (second.number, second.outcome, said["active"]["from"]) == (2, SAME, "turn 1")
    for path in settings.work.glob("turns.db*"):  # the memory is lost, the files are not
        path.unlink()
    await put_samples(tmp_path, 90, 20)
    package = past.folder_of(settings.work, 1) / past.MODEL
    third = await run_turn(replace(by_chance, judging=replace(by_chance.judging, active=package)))
    assert (third.number, third.outcome) == (3, SAME)
    assert package.is_file()


@pytest.mark.slow
async def test_another_file_where_the_export_goes_gives_way(trainer: Running, tmp_path: Path) -> None:
    settings = told(trainer.url, tmp_path, project_at(trainer))
    await put_samples(tmp_path, 0, 70)
    turn = await run_turn(replace(settings, only_until="train"))
    (past.folder_of(settings.work, turn.number) / past.EXPORT).write_bytes(b"a stranger's")
    assert (await run_turn(replace(settings, only_until="export"))).result("export") is not None


@pytest.mark.slow
async def test_an_iteration_that_was_deleted_before_its_export_ends_the_turn(trainer: Running, tmp_path: Path) -> None:
    settings = told(trainer.url, tmp_path, project_at(trainer))
    await put_samples(tmp_path, 0, 70)
    turn = await run_turn(replace(settings, only_until="train"))
    with training_client(trainer.url) as client:
        (project,) = [one.id for one in client.get_projects() if one.name == settings.service.project]
        client.delete_iteration(project, (turn.result("train") or {})["iteration"])
    turn = await run_turn(settings)
    assert (turn.number, turn.outcome) == (1, FAILED)
    assert "was deleted in the project" in turn.why
    turn = await run_turn(replace(settings, only_until="export"))
    assert (turn.number, turn.result("export") is not None) == (2, True)


@pytest.mark.slow
async def test_a_ring_without_devices_and_a_model_that_is_not_to_be_had_are_found_before_a_training(
    trainer: Running, edge: Edge, tmp_path: Path
) -> None:
    settings = told(trainer.url, tmp_path, project_at(trainer), edge)
    plan = ReleasePlan(ring("canary"), ring("all"))
    await put_samples(tmp_path, 0, 70)
    with pytest.raises(SettingsError, match="no device is in ring canary"):
        await run_turn(replace(settings, release=plan))
    async with Fleet.open(edge.connection_string, edge.ca_file) as fleet:
        await fleet.patch_twin("laptop", "classifier", {"model": {"version": "v1", "sha256": "ab" * 32}})
    with pytest.raises(SettingsError, match="neither here nor in the storage"):
        await run_turn(settings)
    with training_client(trainer.url) as client:
        (project,) = [one.id for one in client.get_projects() if one.name == settings.service.project]
        assert client.get_iterations(project) == []


@pytest.mark.slow
async def test_a_training_that_fails_ends_the_turn_with_the_services_reason(trainer: Running, tmp_path: Path) -> None:
    settings = told(trainer.url, tmp_path, project_at(trainer))
    await put_samples(tmp_path, 0, 70)
    await run_turn(replace(settings, only_until="tag"))
    with training_client(trainer.url) as client:
        (project,) = [one.id for one in client.get_projects() if one.name == settings.service.project]
        image = client.get_images(project)[0].id
    Files(trainer.folder).image(project, image).write_bytes(b"the disk lost it")
    turn = await run_turn(settings)
    assert (turn.number, turn.outcome, exit_code(turn.outcome)) == (1, FAILED, 1)
    assert "has failed: " in turn.why
    assert (await run_turn(replace(settings, only_until="tag"))).number == 2


@pytest.mark.slow
async def test_what_would_be_done_is_told_and_nothing_is_done(trainer: Running, tmp_path: Path) -> None:
    settings = told(trainer.url, tmp_path, project_at(trainer))
    await put_samples(tmp_path, 0, 70)
    ahead = await look_ahead(settings)
    assert (ahead.turn, ahead.step, ahead.new_samples, ahead.why_not) == (None, "tag", 70, "")
    assert "labels, 500 wanted" in (await look_ahead(replace(settings, policy=TrainPolicy(min_new=500)))).why_not
    assert not settings.work.exists()
    await run_turn(replace(settings, only_until="tag"))
    ahead = await look_ahead(settings)
    assert (ahead.turn, ahead.step, ahead.new_samples) == (1, "train", 0)
    assert (await look_ahead(replace(settings, give_up=True))).turn is None


@pytest.mark.slow
def test_the_command_tells_people_and_programs_how_it_ended(trainer: Running, tmp_path: Path) -> None:
    asyncio.run(put_samples(tmp_path, 0, 60))
    config = tmp_path / "ripeloop.toml"
    config.write_text(
        f'endpoint = "{trainer.url}"\nproject = "{project_at(trainer)}"\ncloud-blobs = "{tmp_path / "cloud"}"\n'
        f'[retrain]\nwork = "{tmp_path / "work"}"\nmin-new = 500\n'
    )
    environ = {"RIPELOOP_CONFIG": str(config), "RIPELOOP_TRAINING_KEY": KEY}
    result, fresh = retrain("--dry-run", **environ), len(training(tmp_path))
    told_more = retrain("--dry-run", "--min-new", "5", **environ)
    assert f"no training: the holdout has {60 - fresh} labelled images, 50 wanted" in told_more.stdout
    assert (result.exit_code, result.stdout) == (
        0,
        f"a turn would begin; 60 samples are newly labelled; no training: {fresh} new labels, 500 wanted\n",
    )
    result = retrain("--json", **environ)
    document = json.loads(result.stdout)
    assert (result.exit_code, document["outcome"], document["exit"]) == (0, NOTHING, 0)
    assert "turn 1 begins" in result.stderr
    assert document["steps"]["tag"]["holdoutSamples"] + document["steps"]["tag"]["trainingSamples"] == 60
    result = retrain("--min-new", "5", **environ)  # and too few to judge
    assert (result.exit_code, result.stdout) == (
        0,
        f"turn 1: nothing to do\nthe holdout has {60 - fresh} labelled images, 50 wanted: label more\n",
    )
    assert retrain("--hub", "HostName=h", **environ).exit_code == 2
    accepted = retrain("--dry-run", "--min-new", "5", RIPELOOP_ACCEPT="not-enough-data same", **environ)
    assert accepted.stdout.endswith("it would train\n")
    held = tmp_path / "work"
    with only_here(held):
        result = retrain(**environ)
    assert (result.exit_code, "work is in use" in result.stderr) == (3, True)


def training(folder: Path) -> list[str]:
    """The ids of all samples that will be trained on."""
    names = [path.stem for path in (folder / "cloud").rglob("*.jpg")]
    return [name for name in names if not is_held_out(name, 0.15)]
