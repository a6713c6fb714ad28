"""Killed at any call and run again: each image once, each tag as labelled, and the holdout untouched."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from labelled import SHARE, DyingBlobs, DyingService, Fuse, Killed, answered, image, label, name_of, numbers, put
from retrain.customvision import CustomVision, NewImage
from retrain.data.dataset import About, Tag
from retrain.labels import JUNK, NONE
from retrain.turn.tag.tagging import Plan, tag
from retrain.turn.tag.there import ASKED
from retrain.turn.tag.use import HOLDOUT, TRAINING, Use
from ripeloop.blobs import FolderBlobs
from ripeloop.prediction import image_id
from trainerservice import KEY, Service

IN, OUT = numbers(held=False), numbers(held=True)
MANY = 200


@dataclass(frozen=True, slots=True)
class World:
    """Samples of every kind, one after a turn in which their labels were others."""

    service: CustomVision
    blobs: FolderBlobs
    project: str
    junk: str
    """The id there of an image that is to leave."""

    @classmethod
    async def made(cls, service: CustomVision, folder: Path) -> World:
        blobs, project = FolderBlobs(folder), service.create(About(name=uuid.uuid4().hex))
        for nth in (*IN[:3], OUT[0]):
            await put(blobs, image(nth), answered("ripe"))
        await tag(blobs, service, project, Plan(SHARE))
        kept = {one.record.id: one.id for one in service.images(project)}
        self = cls(service, blobs, project, kept[image_id(image(IN[1]))])
        service.delete(project, [kept[image_id(image(IN[2]))]])
        service.add_all(
            self.project, [NewImage("by hand", image(IN[3]), [service.create_tag(self.project, Tag("other"))])]
        )
        await label(self.blobs, image(IN[0]), answered("unripe"))
        await label(self.blobs, image(IN[1]), answered(kind=JUNK))
        await label(self.blobs, image(OUT[0]), answered("unripe"))
        await put(self.blobs, image(IN[3]), answered("ripe"))
        await put(self.blobs, image(IN[4]), answered("ripe"))
        await put(self.blobs, image(IN[5]), answered(kind=NONE))
        await put(self.blobs, image(OUT[1]), answered("ripe"))
        return self

    async def turn_until(self, nth: int) -> bool:
        """A turn that is killed before its nth call; whether it came that far."""
        fuse = Fuse(nth)
        dying = DyingService(self.service._endpoint, KEY)
        dying.fuse = fuse
        with closing(dying), suppress(Killed):
            await tag(DyingBlobs(self.blobs, fuse), dying, self.project, Plan(SHARE))
        return fuse.burnt

    def holds(self) -> list[tuple[str, tuple[str, ...]]]:
        return sorted((one.record.id, one.record.tags) for one in self.service.images(self.project))

    async def uses(self) -> dict[str, Use]:
        return {blob.name: use async for blob in self.blobs.list() if (use := Use.of(blob.metadata)) is not None}


EXPECTED = sorted(
    [
        (image_id(image(IN[0])), ("unripe",)),
        (image_id(image(IN[2])), ("ripe",)),
        (image_id(image(IN[3])), ("ripe",)),
        (image_id(image(IN[4])), ("ripe",)),
        (image_id(image(IN[5])), ("Negative",)),
    ]
)
BY_HAND = image_id(image(IN[3]))
HELD = {name_of(image(OUT[0])), name_of(image(OUT[1]))}


@dataclass(frozen=True, slots=True)
class Worlds:
    """Makes them, and takes them away: a service holds a hundred projects."""

    service: CustomVision
    folder: Path

    @asynccontextmanager
    async def one(self) -> AsyncIterator[World]:
        world = await World.made(self.service, self.folder / "samples")
        yield world
        self.service._client.delete_project(world.project)
        shutil.rmtree(self.folder / "samples")


@pytest.fixture
def worlds(running: Service, tmp_path: Path) -> Iterator[Worlds]:
    with closing(CustomVision(running.url, KEY)) as cloud:
        yield Worlds(cloud, tmp_path)


async def test_killed_at_any_call_and_run_again_it_ends_the_same(worlds: Worlds) -> None:
    for nth in range(MANY):
        async with worlds.one() as world:
            died = await world.turn_until(nth)
            done = await tag(world.blobs, world.service, world.project, Plan(SHARE))
            assert done.refused == (), nth
            assert world.holds() == EXPECTED, nth
            assert done.ids == tuple(id_ for id_, _ in EXPECTED), nth
            uses = await world.uses()
            assert {name for name, use in uses.items() if use.kind == HOLDOUT} == HELD, nth
            kept = {one.record.id: one.id for one in world.service.images(world.project)}
            for id_, tags in EXPECTED:
                (use,) = [use for name, use in uses.items() if id_ in name]
                assert (use.kind, use.project, use.image, use.tags) == (TRAINING, world.project, kept[id_], tags), nth
        if not died:
            break
    assert 30 < nth < MANY - 1


async def test_another_share_after_a_kill_holds_out_nothing_that_was_sent(worlds: Worlds) -> None:
    for nth in range(20, MANY, 6):
        async with worlds.one() as world:
            died = await world.turn_until(nth)
            sent = {one.id for one in world.service.images(world.project) if ASKED not in one.record.metadata}
            before = {name: use.kind for name, use in (await world.uses()).items()}
            done = await tag(world.blobs, world.service, world.project, Plan(1.0))
            after = {name: use.kind for name, use in (await world.uses()).items()}
            assert {name: after[name] for name in before} == before, nth
            held = {id_ for ids in done.holdout.values() for id_ in ids}
            there = {one.record.id: one.id for one in world.service.images(world.project)}
            assert set(there) == set(done.ids), nth
            assert BY_HAND in done.ids, nth
            assert not held & set(done.ids), nth
            assert all(there.get(id_) is None for id_ in held), nth
            assert sent <= set(there.values()) | {world.junk}, nth
        if not died:
            break


async def test_an_image_that_was_sent_and_not_described_leaves_with_its_label(running: Service, tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    with closing(DiesDescribing(running.url, KEY)) as dying, closing(CustomVision(running.url, KEY)) as cloud:
        project = cloud.create(About(name=uuid.uuid4().hex))
        ids = [await put(blobs, image(nth), answered("ripe")) for nth in IN[:3]]
        with suppress(Killed):
            await tag(blobs, dying, project, Plan(SHARE))
        assert cloud.count(project) == 3
        await label(blobs, image(IN[0]), answered(kind=JUNK))
        await label(blobs, image(IN[1]), answered("unripe"))
        done = await tag(blobs, cloud, project, Plan(SHARE))
        assert (done.removed, done.others, done.refused) == (1, 0, ())
        assert {one.record.id: one.record.tags for one in cloud.images(project)} == {
            ids[1]: ("unripe",),
            ids[2]: ("ripe",),
        }
        use = Use.of((await blobs.head(name_of(image(IN[0])))).metadata)
        assert use is not None
        assert (use.kind, use.image, use.tags) == (TRAINING, "", ())


class DiesDescribing(CustomVision):
    """Its caller dies when the images are there, and nothing tells yet which they are."""

    def describe(self, *_: object, **__: object) -> bool:
        raise Killed
