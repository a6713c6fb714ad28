"""The loop, closed: pictures, labels, a training, a verdict, a release, and the next pictures, answered better."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from demo.account import Account
from demo.camera import Shift, post_all, whole
from demo.labeller import label_all
from demo.material import Material, Stream
from demo.pictures import Picture
from demo.rounds import Example, Round, Undone
from demo.scene import CAMERA, LABELS, UNDO, Scene
from demo.system import CLASSIFIER, SAMPLER, System, Training, until
from demo.undoing import Bad, release_bad
from demo.view import View
from retrain.customvision import CustomVision, NewImage
from retrain.data.dataset import About, Tag
from retrain.devices.fleet import Fleet
from retrain.judging.judge import Rule
from retrain.release import Device
from retrain.release import Plan as ReleasePlan
from retrain.settings import Hub
from retrain.turn import past
from retrain.turn.settings import Judging, Packing, Service, Store, TurnSettings
from retrain.turn.state import Turn
from retrain.turn.tag.tagging import Plan as TagPlan
from retrain.turn.tag.use import Use
from retrain.turn.train.waiting import Pace
from retrain.turn.train.worth import TrainPolicy
from retrain.turn.turn import run_turn
from ripeloop.blobs import Blob, open_blobs
from ripeloop.errors import Offline, Refused, SettingsError
from ripeloop.prediction import format_time, image_id

DEVICE, CONTAINER, PROJECT = "laptop", "samples", "demo"
LOOK_SECONDS = 0.5
SETTLE_SECONDS = 60.0
SLOWEST_RATE = 2.0  # pictures a second, for how long to wait
HOLDOUT_SHARE = 0.4  # more than in the field: a few dozen images must do for a verdict
RULE = Rule(min_images=12, min_per_tag=1)
QUICK = Pace(0.2, 1.0, 600)
MOST_EXAMPLES = 8
SAMPLING = {"confidence_below": 0.8, "margin_below": 0.3, "audit_rate": 0.2}
"""The same for all models, so that their flagged shares compare; a fifth by lot, for the field's accuracy."""


@dataclass(frozen=True, slots=True)
class Told:
    """All that happened."""

    rounds: tuple[Round, ...]
    day: Shift
    account: Account
    undone: Undone | None


class Loop:
    """One demo with a running system: `run` it once."""

    def __init__(self, system: System, fleet: Fleet, material: Material, view: View, work: Path, rate: float) -> None:
        self._system, self._fleet, self._material, self._view = system, fleet, material, view
        self._work, self._rate = work, rate
        self._scene = Scene(turns=material.turns)
        self._shifts: list[Shift] = []
        self._rounds: list[Round] = []
        self._reasons: dict[str, str] = {}
        self._checked: dict[str, tuple[str, str, int]] = {}
        self._names: dict[str, str] = {}
        self._flagged = 0

    async def run(self) -> Told:
        """All streams, a turn after each but the last, and the bad model at the end. Raises Offline, Refused."""
        undone = None
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look_on())
            await self._told_how_to_sample()
            posting = self._post(tasks, self._material.streams[0])
            for nth, stream in enumerate(self._material.streams, start=1):
                await self._until_settled(posting)
                if nth > self._material.turns:
                    self._rounds.append(await self._round(nth, stream))
                    break
                posting = await self._turn(tasks, nth, stream)
            if self._material.bad is not None and self._has_holdout():
                undone = await self._bad_model(self._material.bad)
            looking.cancel()
        self._checked.clear()  # the last look is at every byte again
        self._scene.account = await self._last_account()
        return Told(tuple(self._rounds), whole(self._shifts), self._scene.account, undone)

    async def _told_how_to_sample(self) -> None:
        await self._fleet.patch_twin(DEVICE, CLASSIFIER, {"sampling": SAMPLING})

        async def heard() -> bool:
            reported = (await self._fleet.twin(DEVICE, CLASSIFIER)).reported.get("sampling") or {}
            return bool(reported.get("audit_rate") == SAMPLING["audit_rate"])

        await until("the classifier took how to sample from its twin", heard, SETTLE_SECONDS, 0.2)

    def _post(self, tasks: asyncio.TaskGroup, stream: Stream) -> asyncio.Task[None]:
        """Begin to post a stream."""
        shift = Shift(len(stream.pictures))
        self._shifts.append(shift)
        self._scene.shift = shift
        if not self._scene.stage or self._scene.stage == CAMERA:
            self._scene.at(CAMERA)
        return tasks.create_task(post_all(self._system.classifier_url, stream.pictures, shift, self._rate))

    async def _until_settled(self, posting: asyncio.Task[None]) -> None:
        """Until all was answered and every flagged image has found its place."""
        self._scene.at(CAMERA)
        seconds = SETTLE_SECONDS + self._shifts[-1].total / (self._rate or SLOWEST_RATE)

        async def settled() -> bool:
            return posting.done() and self._scene.account.settled(whole(self._shifts))

        try:
            await until("every flagged image has found its place", settled, seconds, 0.1)
        except Offline as error:
            self._view.complain(str(error))
        await posting

    async def _turn(self, tasks: asyncio.TaskGroup, nth: int, stream: Stream) -> asyncio.Task[None]:
        """Label, train, judge and release; the next stream, which begins as soon as the device has swapped."""
        ended = await self._round(nth, stream)
        self._scene.at(LABELS)
        async with open_blobs(self._system.plan.cloud, CONTAINER) as blobs:
            labelled = await label_all(blobs, self._truth(), _now)
        before = self._shifts[-1].model
        running = tasks.create_task(run_turn(self._settings(), self._heard))
        swapped = tasks.create_task(self._swapped(before))
        await asyncio.wait({running, swapped}, return_when=asyncio.FIRST_COMPLETED)
        posting = self._post(tasks, self._material.streams[nth]) if swapped.done() else None
        turn = await running
        swapped.cancel()
        ended = replace(ended, labelled=labelled, turn=turn, report=self._report(turn), examples=await self._examples())
        self._names[ended.new_version] = f"model {nth}"
        self._rounds.append(ended)
        self._scene.rounds = tuple(self._rounds)
        self._view.ended(ended)
        self._scene.number = nth + 1
        return posting or self._post(tasks, self._material.streams[nth])

    async def _round(self, nth: int, stream: Stream) -> Round:
        """The stream that was posted last, as far as it goes without a turn."""
        shift, flagged = self._shifts[-1], sum(self._scene.account.flagged.values())
        self._flagged, before = flagged, self._flagged
        name = str(nth) if nth <= self._material.turns else "after"
        model = self._names.setdefault(shift.model, "starter")
        return Round(name, stream.light, shift, flagged - before, model)

    async def _bad_model(self, export: Path) -> Undone:
        self._scene.rounds = tuple(self._rounds)
        self._scene.at(UNDO)
        pictures = self._material.streams[-1].pictures
        shift = Shift(0)
        self._shifts.append(shift)
        self._scene.shift = shift
        bad = Bad(export, past.holdout_of(self._work), self._key, self._work / "bad", self._system.plan.cloud)
        undone = await release_bad(
            bad, self._fleet, DEVICE, self._system.classifier_url, pictures, shift, self._rate
        )  # fmt: skip

        async def quiet() -> bool:
            return self._scene.account.settled(whole(self._shifts))

        try:
            await until("every flagged image has found its place", quiet, SETTLE_SECONDS, 0.1)
        except Offline as error:
            self._view.complain(str(error))
        self._view.undone(undone)
        return undone

    async def _swapped(self, before: str) -> None:
        """Returns once another version is reported than the one that answered before."""
        while True:
            with contextlib.suppress(Offline):
                model = (await self._fleet.twin(DEVICE, CLASSIFIER)).reported.get("model") or {}
                self._scene.reported(str(model.get("state", "")))
                if model.get("version") not in (None, "", before):
                    return
            await asyncio.sleep(LOOK_SECONDS)

    def _heard(self, line: str) -> None:
        self._scene.heard(line)
        self._view.heard(line)

    async def _look_on(self) -> None:
        """Show how things stand, for as long as the demo runs. Raises Refused where a process has ended."""
        while True:
            self._system.check()
            with contextlib.suppress(Offline):  # a module that was just started is not at the hub yet
                self._scene.account = await self._account()
            self._scene.reasons = self._reasons
            self._view.show(self._scene)
            await asyncio.sleep(LOOK_SECONDS)

    async def _last_account(self) -> Account:
        """The account at the end; a module that is not at the hub now is waited for. Raises Offline, Refused."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            self._system.check()
            try:
                return await self._account()
            except Offline:
                if time.monotonic() >= end:
                    raise
            await asyncio.sleep(LOOK_SECONDS)

    async def _account(self) -> Account:
        classifier = await self._fleet.invoke(DEVICE, CLASSIFIER, "status")
        sampler = await self._fleet.invoke(DEVICE, SAMPLER, "status")
        found = []
        async with open_blobs(self._system.plan.cloud, CONTAINER) as blobs:
            async for blob in blobs.list():
                name = _id_in(blob)
                if blob.name not in self._checked:
                    self._reasons[name] = blob.metadata.get("reason", "")
                    self._checked[blob.name] = name, image_id(await blobs.get(blob.name)), blob.size
                found.append(self._checked[blob.name])
        return Account.of(classifier, sampler, found)

    def _truth(self) -> dict[str, str]:
        """The tags of all pictures that were answered, by their ids."""
        answers = whole(self._shifts).answers
        return {answer.id: answer.picture.tag for answer in answers if answer.picture.tag is not None}

    async def _examples(self) -> tuple[Example, ...]:
        """Some flagged pictures of the stream that the turn was about: wrong answers first."""
        shift = self._shifts[len(self._rounds)]
        answers = {answer.id: answer for answer in shift.answered}
        found = []
        async with open_blobs(self._system.plan.cloud, CONTAINER) as blobs:
            async for blob in blobs.list():
                use, answer = Use.of(blob.metadata), answers.get(_id_in(blob))
                if answer is not None:
                    found.append(Example(answer, blob.metadata.get("reason", ""), use.kind if use else ""))
        return _mixed(found)

    def _has_holdout(self) -> bool:
        """Whether there are pictures to pack a model with; own ones may be too few for any turn to come that far."""
        return any(past.holdout_of(self._work).glob("*/*"))

    def _report(self, turn: Turn) -> Path | None:
        path = past.folder_of(self._work, turn.number) / past.REPORT
        return path if path.is_file() else None

    def _settings(self) -> TurnSettings:
        training, hub = self._training, self._system.settings_of("hub")
        return TurnSettings(
            Service(training.url, training.key, PROJECT),
            Store(self._system.plan.cloud),
            self._work,
            hub=Hub(hub["IOTHUB_CONNECTION_STRING"], Path(hub["IOTHUB_CA_FILE"])),
            tagging=TagPlan(HOLDOUT_SHARE),
            policy=TrainPolicy(min_new=5, min_hours=0),
            training=QUICK,
            exporting=QUICK,
            judging=Judging(RULE, active=self._material.model),
            packing=Packing(key=self._key),
            release=ReleasePlan(Device(DEVICE), watch=0, poll=0.3, wait=180, pace=0),
            keep=self._material.turns,
        )

    @property
    def _training(self) -> Training:
        if self._system.plan.training is None:
            raise SettingsError("a turn needs a trainer: give the plan one")
        return self._system.plan.training

    @property
    def _key(self) -> Path:
        return self._system.state / "signing.pem"


@asynccontextmanager
async def opened(system: System) -> AsyncIterator[Fleet]:
    """The hub's service side."""
    hub = system.settings_of("hub")
    async with Fleet.open(hub["IOTHUB_CONNECTION_STRING"], Path(hub["IOTHUB_CA_FILE"])) as fleet:
        yield fleet


def make_project(training: Training, known: Mapping[str, Sequence[Path]]) -> None:
    """The project that the turns train, with the images that are known already. Raises Offline, Refused."""
    with contextlib.closing(CustomVision(training.url, training.key)) as service:
        project = service.create(About(name=PROJECT))
        for tag, paths in known.items():
            tag_id = service.create_tag(project, Tag(tag))
            for path in paths:
                with contextlib.suppress(Refused):  # one that is too large for the service: the next model does without
                    service.add_all(project, [NewImage(Picture(path, tag).name, path.read_bytes(), [tag_id])])


def _mixed(found: Sequence[Example]) -> tuple[Example, ...]:
    """Some of each sort, the wrong answers first, always the same for the same pictures."""
    ordered = sorted(found, key=lambda one: one.answer.id)
    wrong = [one for one in ordered if one.answer.right is False]
    right = [one for one in ordered if one.answer.right]
    half = MOST_EXAMPLES // 2
    first = wrong[: max(half, MOST_EXAMPLES - len(right))]
    return (*first, *right[: MOST_EXAMPLES - len(first)])


def _id_in(blob: Blob) -> str:
    return PurePosixPath(blob.name).stem


def _now() -> str:
    return format_time(datetime.now(UTC))
