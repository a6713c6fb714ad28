"""A training that is worth it is begun once, followed by its id, and its failure is never somebody else's success."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient as Sdk
from click.testing import CliRunner

from between import Between
from retrain.__main__ import main
from retrain.customvision import CustomVision
from retrain.iteration import COMPLETED, FAILED, Iteration
from retrain.turn.train.training import facts_of, find_project, train
from retrain.turn.train.waiting import Pace
from retrain.turn.train.worth import Facts, Order, TrainPolicy, giving_way, worth_training
from ripeloop.errors import NotFound, Offline, Refused, SettingsError, TrainingFailed, Unfinished
from trainer.state.files import Files
from trainer.state.ledger import Ledger
from trainer.state.ledger import Order as Asked
from trainer.state.store import Store
from trainerservice import COMPACT, KEY, Service, jpeg, trained, upload

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
QUICK = Pace(0.1, 0.3, 60)


def iteration(hours_ago: float, **more: object) -> Iteration:
    created = NOW - timedelta(hours=hours_ago)
    one = Iteration(str(uuid.uuid4()), f"{hours_ago} hours ago", COMPLETED, created, created)
    return replace(one, **more)  # type: ignore[arg-type]


ENOUGH = Facts(20, {"green": 5, "brown": 5}, multilabel=False, iterations=(iteration(20),))


@pytest.mark.parametrize(
    ("facts", "order", "said"),
    [
        (ENOUGH, Order(), None),
        (replace(ENOUGH, iterations=()), Order(advanced=True, hours=24), None),
        (replace(ENOUGH, new_labels=12), Order(), "12 new labels, 20 wanted"),
        (replace(ENOUGH, new_labels=1), Order(), "1 new label, 20 wanted"),
        (replace(ENOUGH, tags={"green": 50}), Order(), "1 tag, 2 wanted"),
        (replace(ENOUGH, tags={"green": 50}, multilabel=True), Order(), None),
        (replace(ENOUGH, tags={"green": 4, "brown": 9, "new": 1}), Order(),
         "'new' has 1 image, 'green' has 4 images, 5 wanted of each tag: label more, or delete the tag"),
        (replace(ENOUGH, iterations=(iteration(40), iteration(3.5))), Order(),
         "the last training began 3.5 hours ago, 20 wanted between two"),
        (replace(ENOUGH, iterations=(iteration(40), iteration(1, status=FAILED))), Order(),
         "the last training began 1.0 hours ago and failed, 20 wanted between two"),
        (replace(ENOUGH, iterations=(iteration(40), iteration(23.7, status=FAILED))), Order(), None),
        (replace(ENOUGH, iterations=(iteration(40), iteration(1, status="Training"))), Order(), None),
        (replace(ENOUGH, iterations=[iteration(h, status=FAILED) for h in range(30, 45)]), Order(),
         "15 trainings in 30 days, at most 15 wanted"),
        (replace(ENOUGH, iterations=[iteration(h) for h in range(720, 735)]), Order(), None),
        (replace(ENOUGH, iterations=(iteration(30, advanced=True, hours=20),)), Order(advanced=True, hours=5),
         "20 hours of advanced training in 30 days and 5 more, at most 24 wanted"),
        (replace(ENOUGH, iterations=(iteration(30, advanced=True, hours=20),)), Order(advanced=True, hours=4), None),
    ],
)  # fmt: skip
def test_why_a_training_is_not_worth_it_is_said_with_numbers(facts: Facts, order: Order, said: str | None) -> None:
    assert worth_training(facts, TrainPolicy(), order, NOW) == said


def test_what_cannot_be_wanted_is_refused() -> None:
    for wrong in ({"min_new": -1}, {"min_tagged": 4}, {"most_trainings": 20}, {"most_trainings": 0}):
        with pytest.raises(SettingsError):
            TrainPolicy(**wrong)
    for advanced, hours in ((True, 0), (True, 97), (False, 1)):
        with pytest.raises(SettingsError, match="--budget-hours"):
            Order(advanced=advanced, hours=hours)


def test_the_oldest_iteration_gives_way_and_none_that_somebody_needs() -> None:
    failed = iteration(100, status=FAILED)
    needed = [iteration(200, published="live"), iteration(150), iteration(1), iteration(2, status="Queued")]
    free = [iteration(hours) for hours in range(10, 25)]
    everything = [*needed, failed, *free]
    for _ in range(5):
        random.shuffle(everything)
        assert giving_way(everything, {needed[1].id}) == [failed]
        assert giving_way(everything[1:], {needed[1].id}) == []
        assert giving_way(everything, {needed[1].id}, 18) == [failed, free[-1], free[-2]]
    with pytest.raises(Refused, match="unpublish and delete one"):
        giving_way(everything, {one.id for one in everything})


@pytest.fixture
def project(sdk: Sdk, request: pytest.FixtureRequest) -> str:
    return untrained(sdk, request.node.name[:60])


@pytest.fixture(scope="module")
def fruit(sdk: Sdk) -> tuple[str, str]:
    """A trained project's id and its iteration's."""
    made = untrained(sdk, "fruit")
    return made, trained(sdk, made, sdk.train_project(made).id).id


def untrained(sdk: Sdk, name: str) -> str:
    made: str = sdk.create_project(name, domain_id=COMPACT, classification_type="Multiclass").id
    for tag in ("green", "brown"):
        upload(sdk, made, tag, sdk.create_tag(made, tag).id)
    return made


def one_more(sdk: Sdk, project: str, nth: int) -> str:
    """A new image with a tag; its id."""
    (tag,) = [tag.id for tag in sdk.get_tags(project) if tag.name == "green"]
    image: str = sdk.create_images_from_data(project, jpeg("green", nth), tag_ids=[tag]).images[0].image.id
    return image


def ripeloop(url: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "retrain", words[0], "--endpoint", url, *words[1:]]


ENVIRON = {"RIPELOOP_TRAINING_KEY": KEY}


async def test_nothing_changed_is_the_iteration_that_is_there(
    cloud: CustomVision, fruit: tuple[str, str]
) -> None:  # fmt: skip
    project, known = fruit
    began = list[str]()
    found = await train(cloud, project, began=began.append, pace=QUICK)
    assert (found.iteration.id, found.already, began) == (known, True, [])
    assert [one.id for one in cloud.iterations(project)] == [known]


async def test_a_remembered_iteration_is_the_answer_though_images_came_since(
    cloud: CustomVision, sdk: Sdk, fruit: tuple[str, str]
) -> None:
    project, known = fruit
    assert (await facts_of(cloud, project)).new_labels == 0
    image = one_more(sdk, project, 70)
    facts = await facts_of(cloud, project)
    assert (facts.new_labels, facts.tags, facts.multilabel) == (1, {"green": 6, "brown": 5}, False)
    found = await train(cloud, project, ours=known, pace=QUICK)
    assert (found.iteration.id, found.already) == (known, True)
    sdk.delete_images(project, [image])


def test_the_command_says_what_is_wanted_before_it_trains(
    running: Service, cloud: CustomVision, fruit: tuple[str, str]
) -> None:
    command = ["train", "--endpoint", running.url, "--project", "fruit"]
    ended = CliRunner(env=ENVIRON).invoke(main, command)
    assert ended.exit_code == 4
    assert ended.stdout == (
        "not worth a training: 0 new labels, 20 wanted (--force trains all the same)\n"
        f"the newest model is Iteration 1; its id is {fruit[1]}\n"
    )
    ended = CliRunner(env=ENVIRON | {"RIPELOOP_MIN_NEW": "0"}).invoke(main, [*command, "--json"])
    assert ended.exit_code == 4
    told = json.loads(ended.stdout)
    assert told["reason"].startswith("the last training began 0.0 hours ago")
    assert (told["iteration"], told["name"]) == (fruit[1], "Iteration 1")
    ended = CliRunner(env=ENVIRON).invoke(main, [*command, "--min-new", "0", "--min-hours", "0"])
    assert (ended.exit_code, f"was trained already; its id is {fruit[1]}" in ended.stdout) == (0, True)
    ended = CliRunner(env=ENVIRON).invoke(main, [*command, "--advanced"])
    assert (ended.exit_code, "set --budget-hours" in ended.stderr) == (2, True)
    assert len(cloud.iterations(fruit[0])) == 1


def test_a_project_is_found_by_its_name_or_its_id(
    cloud: CustomVision, sdk: Sdk, fruit: tuple[str, str]
) -> None:  # fmt: skip
    assert find_project(cloud, "fruit") == find_project(cloud, fruit[0].upper()) == fruit[0]
    with pytest.raises(NotFound, match="no project called 'vegetables'"):
        find_project(cloud, "vegetables")


async def test_two_who_train_at_once_get_one_iteration(cloud: CustomVision, project: str) -> None:
    both = await asyncio.gather(*(train(cloud, project, Order(force=True), pace=QUICK) for _ in range(2)))
    (made,) = cloud.iterations(project)
    assert [one.iteration.id for one in both] == [made.id, made.id]
    assert sorted(one.already for one in both) == [False, True]


def training_of(service: int) -> int:
    """The process that trains, as soon as it is a program of its own: a service stands still with one that is not."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for child in Path(f"/proc/{service}/task/{service}/children").read_text().split():
            with suppress(OSError):
                if b"trainer.runs.job" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.02)
    raise AssertionError("nothing is trained")


def test_a_killed_command_finds_its_training_again(running: Service, cloud: CustomVision, project: str) -> None:
    command = ripeloop(running.url, "train", "--project", project, "--min-new", "10", "--json")
    with subprocess.Popen(command, env=os.environ | ENVIRON, stderr=subprocess.DEVNULL) as process:
        training = training_of(running.process.pid)
        os.kill(training, signal.SIGSTOP)
        process.send_signal(signal.SIGKILL)
    (begun,) = cloud.iterations(project)
    assert begun.running
    command.append("--force")  # not even that trains twice
    with subprocess.Popen(
        command, env=os.environ | ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert any(f"({begun.id}) is in training already" in line for line in process.stderr)
        os.kill(training, signal.SIGCONT)
        told = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, told["iteration"], told["already"]) == (0, begun.id, True)
    assert [one.id for one in cloud.iterations(project)] == [begun.id]


async def test_an_answer_that_was_lost_trains_nothing_twice(
    running: Service, cloud: CustomVision, project: str
) -> None:  # fmt: skip
    began = list[str]()
    async with Between.running(running.url) as between:
        between.spoil = lambda request, body: None if request.path.endswith("/train") else body
        with closing(CustomVision(between.url, KEY)) as far:
            found = await train(far, project, Order(force=True), began=began.append, pace=QUICK)
        assert between.times("POST", "/train") == 1
    assert (found.iteration.id, found.already) == (began[0], False)
    assert [one.id for one in cloud.iterations(project)] == began


async def test_waiting_has_an_end_and_goes_on_with_the_same_iteration(cloud: CustomVision, project: str) -> None:
    began = list[str]()
    with pytest.raises(Unfinished, match=r"not done after 0\.5 s.*do the same again"):
        await train(cloud, project, began=began.append, pace=Pace(0.1, 0.1, 0.5))
    heard = list[tuple[str, str]]()
    found = await train(
        cloud, project, ours=began[0], told=lambda one, _: heard.append((one.id, one.status)), pace=QUICK
    )
    assert (found.iteration.id, found.already) == (began[0], False)
    assert heard[0] == (began[0], "Training")
    assert heard[-1] == (began[0], "Completed")


async def test_a_failed_training_is_an_error_and_never_the_last_success(
    cloud: CustomVision, sdk: Sdk, project: str, trainer_data: Path
) -> None:
    known = (await train(cloud, project, pace=QUICK)).iteration.id
    image = one_more(sdk, project, 71)
    Files(trainer_data).image(project, image).write_bytes(b"the disk lost it")
    began = list[str]()
    with pytest.raises(TrainingFailed, match=r"has failed: .*image") as caught:
        await train(cloud, project, began=began.append, pace=QUICK)
    assert began[0] in str(caught.value)
    with pytest.raises(TrainingFailed, match=r"has failed: .*image"):
        await train(cloud, project, ours=began[0], pace=QUICK)
    sdk.delete_images(project, [image])
    found = await train(cloud, project, pace=QUICK)
    assert (found.iteration.id, found.already) == (known, True), "without the image it is as it was before"
    other = sdk.get_tagged_images(project)[0]
    (tag,) = (one.tag_id for one in other.tags)
    cloud.untag(project, other.id, [tag])
    cloud.tag(project, [(other.id, tag)])
    with pytest.raises(TrainingFailed, match="nothing changed since"):
        await train(cloud, project, pace=QUICK)


def fill(project: str, folder: Path) -> None:
    """All the iterations a project can have, and all but the last of them failed."""
    store = Store(folder / "trainer.db")
    with closing(store):
        ledger = Ledger(store, Files(folder))
        for nth in range(20):
            begun = ledger.begin(project, Asked(force=True)).id
            if nth < 19:
                ledger.failed(begun, "of a test")
            else:
                ledger.completed(begun, [], 1.0)
            time.sleep(0.002)  # so that one began after the other


async def test_the_oldest_iteration_makes_room_for_the_twenty_first(
    cloud: CustomVision, sdk: Sdk, project: str, trainer_data: Path
) -> None:
    await asyncio.to_thread(fill, project, trainer_data)
    oldest, second, *rest = (found.id for found in sorted(cloud.iterations(project), key=lambda one: one.created))
    with pytest.raises(Refused, match="20 of 20 iterations"):
        await train(cloud, project, Order(force=True), keep={oldest, second, *rest}, pace=QUICK)
    assert len(cloud.iterations(project)) == 20
    one_more(sdk, project, 72)
    made = await train(cloud, project, keep={oldest}, pace=QUICK)
    assert {found.id for found in cloud.iterations(project)} == {oldest, *rest, made.iteration.id}


async def test_a_service_that_is_not_there_is_offline() -> None:
    with closing(CustomVision("http://127.0.0.1:1", KEY, lambda _: None)) as nobody, pytest.raises(Offline):
        await train(nobody, str(uuid.uuid4()), pace=QUICK)
