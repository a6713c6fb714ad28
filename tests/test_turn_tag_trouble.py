"""What goes wrong with one sample stops no other, is told by name, and is done when it can be."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from labelled import SHARE, answered, image, name_of, numbers, put
from retrain.customvision import CustomVision, NewImage, Taken
from retrain.data.dataset import About, Tag
from retrain.labels import JUNK, Answer, Labels
from retrain.turn.tag import marking
from retrain.turn.tag.sending import WHY
from retrain.turn.tag.tagging import Plan, tag
from retrain.turn.tag.use import Use
from ripeloop.blobs import FolderBlobs
from ripeloop.errors import Denied, Offline, Refused, SettingsError
from ripeloop.prediction import image_id
from trainerservice import KEY, Service

PLAN = Plan(SHARE)
IN, OUT = numbers(held=False), numbers(held=True)
TOO_LARGE = bytes(6 * 1024 * 1024 + 1)


@pytest.fixture
def cloud(running: Service) -> Iterator[Grumbling]:
    with closing(Grumbling(running.url, KEY)) as one:
        yield one


@pytest.fixture
def project(cloud: Grumbling) -> str:
    return cloud.create(About(name=uuid.uuid4().hex))


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "samples")


class Grumbling(CustomVision):
    """The real one, which may be told what to answer for some uploads, or to refuse batches of some size."""

    def __init__(self, endpoint: str, key: str) -> None:
        super().__init__(endpoint, key)
        self.says: dict[str, str] = {}
        self.most = 64
        self.batches: list[int] = []
        self.lost: set[str] = set()

    def add_all(
        self, project: str, images: Sequence[NewImage], metadata: Mapping[str, str] | None = None
    ) -> list[Taken]:
        self.batches.append(len(images))
        if len(images) > self.most:
            raise Refused("BadRequestImageBatch: what is this?")
        good = [one for one in images if one.name not in self.says]
        taken = iter(super().add_all(project, good, metadata) if good else ())
        return [Taken(self.says[one.name]) if one.name in self.says else next(taken) for one in images]

    def create_tag(self, project: str, tag: Tag) -> str:
        made = super().create_tag(project, tag)
        if tag.name in self.lost:
            raise Refused("BadRequestTagNameNotUnique: it was made with the call whose answer was lost")
        return made


def held_by(cloud: CustomVision, project: str) -> dict[str, tuple[str, ...]]:
    return {one.record.id: one.record.tags for one in cloud.images(project)}


def strip() -> bytes:
    """A picture far too long for its height."""
    file = io.BytesIO()
    Image.new("RGB", (400, 4)).save(file, "PNG")
    return file.getvalue()


async def test_a_bad_image_stops_no_other_and_is_named_each_time(
    blobs: FolderBlobs, cloud: Grumbling, project: str
) -> None:
    text = b"no image"
    await put(blobs, text, answered("ripe"))
    long = await put(blobs, strip(), answered("ripe"))
    await put(blobs, TOO_LARGE, answered("ripe"))
    other = image_id(image(IN[1]))
    name = name_of(image(IN[1]))
    about = {"id": other, "capturedat": "2026-11-22T02:10:00.000001Z", "reason": "audit"}
    await blobs.put(name, b"other bytes", Labels().with_answer(answered("ripe")).into(about))
    bad_tag = await put(blobs, image(IN[2]), answered("two\nlines"))
    good = await put(blobs, image(IN[0]), answered("ripe"))
    for _ in range(2):
        done = await tag(blobs, cloud, project, Plan(0))
        assert held_by(cloud, project) == {good: ("ripe",)}
        told = {it.id: it.status for it in done.refused}
        assert told == {
            image_id(text): "ErrorImageFormat",
            long: "ErrorImageDimensions",
            image_id(TOO_LARGE): "ErrorImageSize",
            other: "OtherBytes",
            bad_tag: "TagRefused",
        }
        assert all(it.why for it in done.refused)
    use = Use.of((await blobs.head(name_of(text))).metadata)
    assert use is not None
    assert use.refused == "ErrorImageFormat"


@pytest.mark.parametrize("status", [*WHY, "ErrorOfTomorrow"])
async def test_every_status_is_told_by_name_and_tried_again_where_that_may_help(
    blobs: FolderBlobs, cloud: Grumbling, project: str, status: str
) -> None:
    bad, good = [await put(blobs, image(nth), answered("ripe")) for nth in IN[:2]]
    cloud.says[bad] = status
    done = await tag(blobs, cloud, project, PLAN)
    assert held_by(cloud, project) == {good: ("ripe",)}
    (told,) = done.refused
    assert (told.id, told.status, bool(told.why)) == (bad, status, True)
    cloud.says.clear()
    never = status in ("ErrorImageFormat", "ErrorImageSize", "ErrorImageDimensions")
    again = await tag(blobs, cloud, project, PLAN)
    assert (again.added, [one.status for one in again.refused]) == ((0, [status]) if never else (1, []))


async def test_a_batch_that_is_refused_as_a_whole_goes_in_parts(
    blobs: FolderBlobs, cloud: Grumbling, project: str
) -> None:
    ids = [await put(blobs, image(nth), answered("ripe")) for nth in IN[:6]]
    cloud.most = 2
    assert (await tag(blobs, cloud, project, PLAN)).refused == ()
    assert set(held_by(cloud, project)) == set(ids)


async def test_a_tag_that_was_made_although_the_answer_was_lost_is_used(
    blobs: FolderBlobs, cloud: Grumbling, project: str
) -> None:
    id_ = await put(blobs, image(IN[0]), answered("ripe"))
    cloud.lost = {"ripe"}
    assert (await tag(blobs, cloud, project, PLAN)).refused == ()
    assert held_by(cloud, project) == {id_: ("ripe",)}


async def test_a_full_project_gets_no_more_batches(blobs: FolderBlobs, cloud: Grumbling, project: str) -> None:
    ids = [await put(blobs, image(nth), answered("ripe")) for nth in range(66)]
    cloud.says = dict.fromkeys(ids, "ErrorLimitExceed")
    done = await tag(blobs, cloud, project, Plan(0))
    assert cloud.batches == [64]
    assert sorted({one.status for one in done.refused}) == ["ErrorLimitExceed", "NotSent"]
    assert len(done.refused) == 66
    cloud.says.clear()
    assert (await tag(blobs, cloud, project, Plan(0))).added == 66


class Flaky(FolderBlobs):
    """Away at every second call."""

    calls = 0

    def away(self) -> None:
        self.calls += 1
        if self.calls % 2:
            raise Offline("the line is down")

    async def get(self, name: str) -> bytes:
        self.away()
        return await super().get(name)

    async def mark(self, name: str, metadata: Mapping[str, str], etag: str) -> str:
        self.away()
        return await super().mark(name, metadata, etag)


async def test_a_store_that_is_away_for_a_moment_ends_nothing(
    tmp_path: Path, cloud: Grumbling, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marking, "FIRST_WAIT", 0.0)
    blobs = Flaky(tmp_path / "samples")
    id_ = await put(blobs, image(IN[0]), answered("ripe"))
    assert (await tag(blobs, cloud, project, PLAN)).ids == (id_,)


async def test_a_blob_without_room_for_its_mark_is_told_and_not_sent(
    blobs: FolderBlobs, cloud: Grumbling, project: str
) -> None:
    await put(blobs, image(IN[0]), answered("ripe"))
    blob = await blobs.head(name_of(image(IN[0])))
    size = sum(len(key) + len(value) for key, value in blob.metadata.items())
    await blobs.mark(blob.name, {**blob.metadata, "note": "x" * (8192 - 4 - size)}, blob.etag)
    done = await tag(blobs, cloud, project, PLAN)
    assert ([one.status for one in done.refused], cloud.count(project)) == (["NotMarked"], 0)


class Relabelling(FolderBlobs):
    """Somebody labels an image anew just before its blob is marked, so many times; `late`: when it was sent."""

    change = answered("unripe")
    left = 1
    late = False

    async def mark(self, name: str, metadata: Mapping[str, str], etag: str) -> str:
        if self.left and bool(json.loads(metadata["use"]).get("image")) is self.late:
            self.left -= 1
            blob = await self.head(name)
            changed = Labels.of(blob.metadata).with_answer(self.change).into(blob.metadata)
            await super().mark(name, changed, blob.etag)
        return await super().mark(name, metadata, etag)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("change", [answered("unripe"), answered(kind=JUNK)])
async def test_a_label_that_changes_on_the_way_is_followed(
    tmp_path: Path, cloud: Grumbling, project: str, late: bool, change: Answer
) -> None:
    blobs = Relabelling(tmp_path / "samples")
    id_ = await put(blobs, image(IN[0]), answered("ripe"))
    blobs.late, blobs.change = late, change
    done = await tag(blobs, cloud, project, PLAN)
    assert blobs.left == 0
    assert held_by(cloud, project) == ({id_: ("unripe",)} if change.tags else {})
    assert done.refused == ()
    again = await tag(blobs, cloud, project, PLAN)
    assert (again.added, again.retagged, again.removed) == (0, 0, 0)


async def test_a_label_that_always_changes_waits_for_the_next_turn(
    tmp_path: Path, cloud: Grumbling, project: str
) -> None:
    blobs = Relabelling(tmp_path / "samples")
    await put(blobs, image(IN[0]), answered("ripe"))
    blobs.left, blobs.change = 1000, answered("ripe")
    done = await tag(blobs, cloud, project, PLAN)
    assert [it.status for it in done.refused] == ["NotMarked"]
    assert done.refused[0].again
    blobs.left = 0
    assert (await tag(blobs, cloud, project, PLAN)).added == 1


async def test_what_a_full_project_cannot_tell_of_a_sample_is_not_decided_yet(
    blobs: FolderBlobs, cloud: Grumbling, project: str
) -> None:
    cloud.add_all(project, [NewImage("by hand", image(OUT[0]), [cloud.create_tag(project, Tag("ripe"))])])
    id_ = await put(blobs, image(OUT[1]), answered("ripe"))
    cloud.says[id_] = "ErrorLimitExceed"
    done = await tag(blobs, cloud, project, PLAN)
    assert [(one.id, one.status, one.again) for one in done.refused] == [(id_, "ErrorLimitExceed", True)]
    assert Use.of((await blobs.head(name_of(image(OUT[1])))).metadata) is None
    cloud.says.clear()
    done = await tag(blobs, cloud, project, PLAN)
    assert (done.refused, done.holdout, cloud.count(project)) == ((), {"ripe": (id_,)}, 1)


async def test_a_wrong_key_ends_it(running: Service, blobs: FolderBlobs, project: str) -> None:
    with closing(CustomVision(running.url, "another key")) as stranger, pytest.raises(Denied, match="check the key"):
        await tag(blobs, stranger, project, PLAN)


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "fruit.cognitiveservices.azure.com", "http://", "https://{NAME}.cognitiveservices.azure.com", "http://[::1",
        "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://127.0.0.1:0", "http://a b", "http://u:secret@127.0.0.1",
        "http://127.0.0.1/?key=secret", "http://127.0.0.1:8088/#x", "http://127.0.0.1:80\n",
    ],
)  # fmt: skip
def test_an_endpoint_that_is_no_address_is_a_wrong_setting(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="is no address of a service") as told:
        CustomVision(endpoint, KEY)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "endpoint",
    ["https://fruit.cognitiveservices.azure.com/", "HTTP://127.0.0.1:8088", "http://[::1]:8088", "http://trainer/a-b/"],
)
def test_an_endpoint_may_have_a_port_and_a_path(endpoint: str) -> None:
    CustomVision(endpoint, KEY).close()
