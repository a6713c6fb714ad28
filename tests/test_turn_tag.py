"""The project holds what the labels say: sent, tagged anew, taken out, told, and none of the holdout."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from azurite import Azurite
from labelled import SHARE, answered, image, label, name_of, numbers, put
from retrain.__main__ import main
from retrain.customvision import CustomVision, NewImage
from retrain.data.dataset import About, Record, Tag
from retrain.labels import JUNK, NONE, REVIEW, UNSURE
from retrain.turn.tag.heldout import is_held_out
from retrain.turn.tag.tagged import Tagged
from retrain.turn.tag.tagging import Plan, tag
from retrain.turn.tag.use import HOLDOUT, TRAINING, Use
from ripeloop.blobs import Blobs, FolderBlobs, open_blobs
from ripeloop.prediction import image_id
from trainerservice import KEY, Service

PLAN = Plan(SHARE)
IN, OUT = numbers(held=False), numbers(held=True)


@pytest.fixture
def project(cloud: CustomVision) -> str:
    return cloud.create(About(name=uuid.uuid4().hex))


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "cloud" / "samples")


@pytest.fixture(params=["folder", "azurite"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    container, address, version = f"c{uuid.uuid4().hex}", str(tmp_path), None
    if request.param == "azurite":
        azurite: Azurite = request.getfixturevalue("azurite_cloud")
        address, version = azurite.connection_string, azurite.api_version
    async with open_blobs(address, container, version) as opened:
        yield opened


def holds(cloud: CustomVision, project: str) -> dict[str, tuple[str, ...]]:
    """The tags of each image of the project, by the samples' ids."""
    kept = list(cloud.images(project))
    assert len({one.record.id for one in kept}) == len(kept)
    return {one.record.id: tuple(sorted(one.record.tags)) for one in kept}


async def use_of(blobs: Blobs, data: bytes, device: str = "line-1") -> Use | None:
    return Use.of((await blobs.head(name_of(data, device))).metadata)


async def test_labelled_samples_come_into_the_project_and_their_blobs_say_so(
    stores: Blobs, cloud: CustomVision, project: str
) -> None:
    ripe = [await put(stores, image(nth), answered("ripe")) for nth in IN[:3]]
    odd = await put(stores, image(IN[3]), answered("brown / soft \u00fc"))
    none = await put(stores, image(IN[4]), answered(kind=NONE))
    held = await put(stores, image(OUT[0]), answered("ripe"), reason="audit")
    await put(stores, image(IN[5]))
    await put(stores, image(IN[6]), answered(kind=UNSURE))
    await put(stores, image(IN[7]), answered(kind=JUNK))
    await put(stores, image(IN[8]), answered("ripe"), answered("unripe", by="ola"))
    done = await tag(stores, cloud, project, PLAN)
    assert (done.added, done.held, done.tags_made, done.refused) == (5, 1, 3, ())
    assert (done.unlabelled, done.unsure, done.junk, done.disputed) == (1, 1, 1, 1)
    assert holds(cloud, project) == dict.fromkeys(ripe, ("ripe",)) | {
        odd: ("brown / soft \u00fc",),
        none: ("Negative",),
    }
    assert {one.name: one.kind for one in cloud.about(project).tags}["Negative"] == "Negative"
    assert done.training == {"ripe": tuple(sorted(ripe)), "brown / soft \u00fc": (odd,), "Negative": (none,)}
    assert (done.holdout, done.audits, done.ids) == ({"ripe": (held,)}, 1, tuple(sorted((*ripe, odd, none))))
    mark = await use_of(stores, image(IN[0]))
    kept = {one.record.id: one for one in cloud.images(project)}
    assert mark == Use(TRAINING, project, kept[ripe[0]].id, ("ripe",), mark.at if mark else "")
    about = {"device": "line-1", "captured": "2026-11-22T02:10:00.000001Z", "reason": "low_confidence"}
    assert kept[ripe[0]].record.metadata == about
    decided = await use_of(stores, image(OUT[0]))
    assert decided is not None
    assert decided.kind == HOLDOUT

    before = [(blob.name, blob.etag) async for blob in stores.list()]
    again = await tag(stores, cloud, project, PLAN)
    assert (again.added, again.retagged, again.removed, again.held, again.tags_made) == (0, 0, 0, 0, 0)
    assert (again.already, again.training, again.holdout) == (5, done.training, done.holdout)
    assert again.changes == done.changes
    assert again.new_since(done.changes[-1]) == 0
    assert again.new_since("2026") == 5
    assert [(blob.name, blob.etag) async for blob in stores.list()] == before


async def test_labels_that_change_are_followed(blobs: FolderBlobs, cloud: CustomVision, project: str) -> None:
    for nth in IN[:5]:
        await put(blobs, image(nth), answered("ripe"))
    await put(blobs, image(OUT[0]), answered("ripe"))
    first = await tag(blobs, cloud, project, PLAN)
    a, b, c, d, e = (image_id(image(nth)) for nth in IN[:5])
    await label(blobs, image(IN[0]), answered("unripe"))
    await label(blobs, image(IN[1]), answered(kind=NONE))
    await label(blobs, image(IN[2]), answered(kind=JUNK))
    await label(blobs, image(IN[3]), answered("unripe", by="ola"))
    await label(blobs, image(OUT[0]), answered("unripe"))
    done = await tag(blobs, cloud, project, PLAN)
    assert (done.retagged, done.removed, done.added, done.already) == (2, 2, 0, 1)
    assert holds(cloud, project) == {a: ("unripe",), b: ("Negative",), e: ("ripe",)}
    assert done.holdout == {"unripe": (image_id(image(OUT[0])),)}
    assert done.new_since(first.changes[-1]) == 2
    left = await use_of(blobs, image(IN[2]))
    assert left is not None
    assert (left.kind, left.image, left.tags) == (TRAINING, "", ())
    await label(blobs, image(IN[2]), answered("ripe"))
    await label(blobs, image(IN[3]), answered("ripe", by="eva", how=REVIEW))
    assert (await tag(blobs, cloud, project, PLAN)).added == 2
    assert holds(cloud, project) == {a: ("unripe",), b: ("Negative",), c: ("ripe",), d: ("ripe",), e: ("ripe",)}


async def test_images_deleted_or_tagged_by_hand_are_as_labelled_again(
    blobs: FolderBlobs, cloud: CustomVision, project: str
) -> None:
    ids = [await put(blobs, image(nth), answered("ripe")) for nth in IN[:4]]
    await tag(blobs, cloud, project, PLAN)
    kept = {one.record.id: one for one in cloud.images(project)}
    tags = {one.name: one.id for one in cloud.about(project).tags}
    cloud.delete(project, [kept[ids[0]].id])
    cloud.untag(project, kept[ids[1]].id, [tags["ripe"]])
    cloud.untag(project, kept[ids[2]].id, [tags["ripe"]])
    cloud.tag(project, [(kept[ids[2]].id, cloud.create_tag(project, Tag("by hand")))])
    done = await tag(blobs, cloud, project, PLAN)
    assert (done.added, done.retagged, done.already) == (1, 2, 1)
    assert holds(cloud, project) == dict.fromkeys(ids, ("ripe",))


@pytest.mark.parametrize("multilabel", [False, True])
async def test_an_image_the_project_had_under_other_tags_has_ours_alone(
    blobs: FolderBlobs, cloud: CustomVision, multilabel: bool
) -> None:
    made = cloud.create(About(name=uuid.uuid4().hex, multilabel=multilabel))
    negative = cloud.create_tag(made, Tag("none of these", kind="Negative"))
    other = cloud.create_tag(made, Tag("other"))
    first, second = image(IN[0]), image(IN[1])
    cloud.add_all(made, [NewImage("a", first, [other]), NewImage("b", second, [negative])])
    ids = [await put(blobs, one, answered("ripe")) for one in (first, second)]
    third = await put(blobs, image(IN[2]), answered(kind=NONE))
    done = await tag(blobs, cloud, made, PLAN)
    assert done.refused == ()
    assert holds(cloud, made) == {**dict.fromkeys(ids, ("ripe",)), third: ("none of these",)}
    assert (done.negative, done.others) == ("none of these", 0)


async def test_many_tags_go_only_where_that_may_be(blobs: FolderBlobs, cloud: CustomVision, project: str) -> None:
    both = await put(blobs, image(IN[0]), answered("ripe", "soft"))
    one = await put(blobs, image(IN[1]), answered("ripe"))
    done = await tag(blobs, cloud, project, PLAN)
    assert holds(cloud, project) == {one: ("ripe",)}
    assert [(it.id, it.status) for it in done.refused] == [(both, "TooManyTags")]
    many = cloud.create(About(name=uuid.uuid4().hex, multilabel=True))
    done = await tag(blobs, cloud, many, PLAN)
    assert holds(cloud, many) == {both: ("ripe", "soft"), one: ("ripe",)}
    assert (done.counts, done.refused, len(done.changes)) == ({"ripe": 2, "soft": 1}, (), 2)
    await label(blobs, image(IN[0]), answered("ripe", "hard"))
    await tag(blobs, cloud, many, PLAN)
    assert holds(cloud, many)[both] == ("hard", "ripe")


async def test_more_than_one_batch(blobs: FolderBlobs, cloud: CustomVision, project: str) -> None:
    for nth in range(70):
        await put(blobs, image(nth), answered("ripe"))
    seen = list[tuple[str, int, int]]()
    done = await tag(blobs, cloud, project, Plan(0), lambda *one: seen.append(one))
    assert (done.added, cloud.count(project)) == (70, 70)
    assert [one for one in seen if one[0] == "sending"] == [("sending", 64, 70), ("sending", 70, 70)]


async def test_the_same_image_of_two_devices_is_one(blobs: FolderBlobs, cloud: CustomVision, project: str) -> None:
    same, differing = image(IN[0]), image(IN[1])
    await put(blobs, same, answered("ripe"))
    await put(blobs, same, answered("ripe", by="ola"), device="line-2")
    await put(blobs, differing, answered("ripe"))
    await put(blobs, differing, answered("unripe", by="ola"), device="line-2")
    done = await tag(blobs, cloud, project, PLAN)
    assert (done.added, done.disputed) == (1, 1)
    assert holds(cloud, project) == {image_id(same): ("ripe",)}
    for device in ("line-1", "line-2"):
        use = await use_of(blobs, same, device)
        assert use is not None
        assert use.image


async def test_what_was_decided_once_stays_whatever_the_share_and_the_project(
    blobs: FolderBlobs, cloud: CustomVision, project: str
) -> None:
    for nth in range(20):
        await put(blobs, image(nth), answered("ripe"))
    first = await tag(blobs, cloud, project, PLAN)
    assert 0 < len(first.holdout["ripe"]) < 20
    for share in (0.0, 1.0):
        assert (await tag(blobs, cloud, project, Plan(share))).holdout == first.holdout
    other = cloud.create(About(name=uuid.uuid4().hex))
    moved = await tag(blobs, cloud, other, Plan(1.0))
    assert (moved.training, moved.holdout) == (first.training, first.holdout)
    back = await tag(blobs, cloud, project, Plan(1.0))
    assert (back.added, back.training) == (0, first.training)


async def test_an_image_that_was_trained_on_before_is_never_held_out(
    blobs: FolderBlobs, cloud: CustomVision, project: str
) -> None:
    data = image(OUT[0])
    cloud.add(project, Record(id=image_id(data)), data, [cloud.create_tag(project, Tag("ripe"))])
    await put(blobs, data, answered("ripe"))
    assert (await tag(blobs, cloud, project, PLAN)).training == {"ripe": (image_id(data),)}
    await label(blobs, data, answered(kind=JUNK))
    assert (await tag(blobs, cloud, project, PLAN)).removed == 1


async def test_an_image_that_was_put_there_by_hand_is_never_held_out(
    blobs: FolderBlobs, cloud: CustomVision, project: str
) -> None:
    ripe = cloud.create_tag(project, Tag("ripe"))
    cloud.add_all(project, [NewImage("by hand", image(OUT[0]), [ripe]), NewImage("too", image(OUT[1]), [ripe])])
    learned = await put(blobs, image(OUT[0]), answered("ripe"))
    other = await put(blobs, image(OUT[1]), answered("unripe"))
    held = await put(blobs, image(OUT[2]), answered("ripe"))
    for _ in range(2):
        done = await tag(blobs, cloud, project, PLAN)
        assert done.training == {"ripe": (learned,), "unripe": (other,)}
        assert (done.holdout, done.refused, done.others) == ({"ripe": (held,)}, (), 0)
        assert holds(cloud, project) == {learned: ("ripe",), other: ("unripe",)}


async def test_images_of_others_stay(blobs: FolderBlobs, cloud: CustomVision, project: str) -> None:
    data, unknown = image(IN[0]), image(IN[1])
    ripe = cloud.create_tag(project, Tag("ripe"))
    for one in (data, unknown):
        cloud.add(project, Record(id=image_id(one)), one, [ripe])
    await put(blobs, data)
    done = await tag(blobs, cloud, project, PLAN)
    assert (done.removed, done.others, done.unlabelled, cloud.count(project)) == (0, 2, 1, 2)


async def test_a_held_out_image_that_somebody_sent_leaves_the_project(
    blobs: FolderBlobs, cloud: CustomVision, project: str
) -> None:
    data = image(OUT[0])
    await put(blobs, data, answered("ripe"))
    first = await tag(blobs, cloud, project, PLAN)
    cloud.add(project, Record(id=image_id(data)), data, [cloud.create_tag(project, Tag("ripe"))])
    done = await tag(blobs, cloud, project, PLAN)
    assert (done.removed, cloud.count(project), done.holdout) == (1, 0, first.holdout)


def test_the_command_makes_a_project_and_tells_what_it_did(running: Service, tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "cloud" / "samples")

    async def fill() -> None:
        for nth in range(12):
            await put(blobs, image(nth), answered("ripe" if nth % 2 else "[b]raw[/b]"))

    asyncio.run(fill())
    words = ("tag", "--cloud-blobs", str(tmp_path / "cloud"), "--endpoint", running.url, "--project", tmp_path.name)
    runner = CliRunner(env={"RIPELOOP_TRAINING_KEY": KEY})
    ended = runner.invoke(main, words)
    assert (ended.exit_code, "--create" in ended.stderr) == (2, True)
    ended = runner.invoke(
        main, (*words, "--create", "--holdout-share", str(SHARE), "--fetch-holdout", str(tmp_path / "h"))
    )
    assert ended.exit_code == 0, ended.output
    held = sum(is_held_out(image_id(image(nth)), SHARE) for nth in range(12))
    assert f"{held} images of the holdout" in ended.stdout
    assert "[b]raw[/b]" in ended.stdout
    ended = runner.invoke(main, (*words, "--json"))
    assert ended.exit_code == 0
    told = json.loads(ended.stdout)
    assert (told["already"], told["trainingSamples"], told["holdoutSamples"]) == (12 - held, 12 - held, held)
    asyncio.run(put(blobs, b"no image", answered("ripe")))
    ended = runner.invoke(main, (*words, "--json", "--holdout-share", "0"))
    assert ended.exit_code == 1
    assert json.loads(ended.stdout)["refused"][0]["status"] == "ErrorImageFormat"
    ended = runner.invoke(
        main, (*words[:3], "--endpoint", "http://127.0.0.1:1", "--project", tmp_path.name, "--holdout-share", "2")
    )
    assert ended.exit_code == 2


def test_the_counts_stand_most_first() -> None:
    tagged = Tagged("p", training={"a": ("1",), "b": ("2", "3")}, changes=("2026-01-01", "2026-01-02", "2026-01-03"))
    assert list(tagged.counts.items()) == [("b", 2), ("a", 1)]
    assert (tagged.new_since("2026-01-02"), tagged.ids) == (1, ("1", "2", "3"))
