"""Copied again: what changed at the source comes, what people gave or took away in the target stays as they left it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from retrain.__main__ import main
from retrain.customvision import CustomVision, Kept
from retrain.data import folders
from retrain.data.dataset import About, Copied, Item, Label, Record, Tag, copied_in, packed, unpacked
from retrain.data.formats import ending_of
from retrain.data.transfer import Counts, copy, items_of
from ripeloop.errors import Offline, Refused
from ripeloop.prediction import image_id
from trainerservice import KEY, Service, jpeg, service

TAGS = (Tag("green", description="not yet"), Tag("brown"))
ABOUT = About(name="market", project="a project elsewhere", tags=TAGS)


def item(nth: int, *tags: str, at: str = "", metadata: Mapping[str, str] | None = None) -> Item:
    """A picture, as a service tells of it that does not know its bytes."""
    labels = tuple(Label(tag, at) for tag in tags)
    return Item(Record("", labels, f"cloud-{nth}", "", metadata or {}), lambda: jpeg("green", nth, 60))


class Target:
    """A new project that is copied into, and that people label in."""

    def __init__(self, cloud: CustomVision, name: str, *, multilabel: bool = True) -> None:
        self.cloud, self.project = cloud, cloud.create(About(name=name, multilabel=multilabel))

    def copy(self, items: Sequence[Item], about: About = ABOUT) -> Counts:
        return copy(about, items, self.cloud, self.project, lambda _: None)

    def images(self) -> dict[str, Kept]:
        return {image_id(self.cloud.read(kept.address)): kept for kept in self.cloud.images(self.project)}

    def image(self, nth: int) -> Kept:
        return self.images()[image_id(jpeg("green", nth, 60))]

    def tags(self, *numbers: int) -> list[list[str]]:
        images = self.images()
        return [sorted(images[image_id(jpeg("green", nth, 60))].record.tags) for nth in numbers]

    def written(self) -> list[tuple[str, frozenset[str], Mapping[str, str]]]:
        """All but the addresses, which end with a time."""
        return [(kept.id, kept.tag_ids, kept.metadata) for kept in self.cloud.images(self.project)]

    def give(self, nth: int, tag: str) -> None:
        self.cloud.tag(self.project, [(self.image(nth).id, self.id_of(tag))])

    def take(self, nth: int, tag: str) -> None:
        self.cloud.untag(self.project, self.image(nth).id, [self.id_of(tag)])

    def id_of(self, tag: str) -> str:
        return next(one.id for one in self.cloud.about(self.project).tags if one.name == tag)


def test_what_people_gave_and_took_away_there_stays_and_what_the_source_lost_goes(cloud: CustomVision) -> None:
    target = Target(cloud, "people and source")
    target.copy([item(0, "green"), item(1, "green"), item(2), item(3, "brown")])
    target.give(0, "brown")
    target.give(2, "green")
    target.take(3, "brown")
    target.give(3, "green")
    changed = [item(0, "green"), item(1, "brown"), item(2), item(3, "brown"), item(4, "green")]
    counts = target.copy(changed)
    assert (counts.added, counts.already, counts.retagged, counts.other_tags, counts.refused) == (1, 4, 1, 3, 0)
    assert target.tags(0, 1, 2, 3, 4) == [["brown", "green"], ["brown"], ["green"], ["green"], ["green"]]
    before = target.written()
    assert (target.copy(changed).retagged, target.written()) == (0, before)


def test_a_tag_that_somebody_gave_as_well_is_not_the_copys_to_take(cloud: CustomVision) -> None:
    target = Target(cloud, "both gave it")
    target.copy([item(0)])
    target.give(0, "green")
    assert target.copy([item(0, "green")]).other_tags == 0
    assert target.copy([item(0)]).other_tags == 1
    assert target.tags(0) == [["green"]]


def test_by_hand_under_another_tag_an_image_has_both_however_often_it_is_copied(cloud: CustomVision) -> None:
    target = Target(cloud, "by hand")
    cloud.add(target.project, Record(), jpeg("green", 0, 60), [cloud.create_tag(target.project, Tag("brown"))])
    for _ in range(3):
        counts = target.copy([item(0, "green")])
        assert (counts.added, counts.already, counts.other_tags) == (0, 1, 1)
        assert target.tags(0) == [["brown", "green"]]


def test_where_an_image_has_one_tag_the_one_somebody_gave_there_stays(cloud: CustomVision) -> None:
    target = Target(cloud, "one tag", multilabel=False)
    target.copy([item(0, "green"), item(1, "green")])
    target.take(0, "green")
    target.give(0, "brown")
    counts = target.copy([item(0, "green"), item(1, "brown")])
    assert (counts.retagged, counts.other_tags, counts.refused) == (1, 1, 0)
    assert target.tags(0, 1) == [["brown"], ["brown"]]


def test_two_data_sets_copied_into_one_project_take_nothing_from_each_other(cloud: CustomVision) -> None:
    target, other = Target(cloud, "two sources"), replace(ABOUT, project="another")
    id_ = image_id(jpeg("green", 0, 60))
    target.copy([item(0, "green")])
    for about, tag in ((other, "brown"), (ABOUT, "green"), (other, "brown")):
        target.copy([Item(Record(id_, (Label(tag),)), item(0).read)], about)
        assert target.tags(0) == [["brown", "green"]]


@pytest.mark.parametrize("multilabel", [True, False])
def test_images_with_a_full_card_are_there_and_keep_their_tags(cloud: CustomVision, multilabel: bool) -> None:
    target, full = Target(cloud, f"full {multilabel}", multilabel=multilabel), {f"key {n}": "v" for n in range(10)}
    target.copy([item(0, "green", metadata=full), item(1, "green", metadata=full)])
    counts = target.copy([item(0, "brown", metadata=full), item(1, "green", metadata=full)])
    assert (counts.added, counts.already, counts.refused, counts.other_tags) == (0, 2, 0, 1)
    assert target.tags(0, 1) == [["brown", "green"] if multilabel else ["green"], ["green"]]


def test_new_words_and_the_time_of_a_label_come_and_other_words_stay_and_are_told(cloud: CustomVision) -> None:
    target = Target(cloud, "words")
    long = {"site": "x" * 200, "line": "3"}
    target.copy([item(0, "green", at="2026-11-20T08:00:00Z", metadata=long), item(1, "green", metadata=long)])
    other = {"site": "x" * 200, "line": "4", "checked": "yes"}
    later = [item(0, "green", at="2026-11-22T08:00:00Z", metadata=other), item(1, "green", metadata=long)]
    about = replace(ABOUT, tags=(Tag("green", description="changed"), Tag("brown")))
    for _ in range(2):
        counts = target.copy(later, about)
        assert (counts.already, counts.other_words, counts.other_descriptions) == (2, 1, 1)
        record = target.image(0).record
        assert record.labels == (Label("green", "2026-11-22T08:00:00Z"),)
        assert record.metadata == {"site": "x" * 200, "line": "3", "checked": "yes"}


def test_a_clone_says_what_it_left_as_it_was(running: Service, cloud: CustomVision, tmp_path: Path) -> None:
    source, target = Target(cloud, "told source"), Target(cloud, "told target")
    source.copy([item(0, "green"), item(1)])
    clone = ("trainer", "clone", "--from", running.url, "--project", source.project, "--to", running.url)
    runner = CliRunner(env={"RIPELOOP_TRAINING_KEY": KEY, "RIPELOOP_TRAINER_KEY": KEY})
    command = (*clone, "--to-project", target.project)
    assert runner.invoke(main, command).stderr == ""
    target.give(1, "green")
    ended = runner.invoke(main, command)
    assert (ended.exit_code, ended.stderr) == (
        0, "not as in the source, and left as it is there: 1 images, other tags\n",
    )  # fmt: skip


def test_a_folder_that_was_edited_is_followed_where_it_came_from(cloud: CustomVision, tmp_path: Path) -> None:
    target = Target(cloud, "edited", multilabel=False)
    target.copy([item(0, "green"), item(1, "green")])
    for times in range(2):  # exported, edited and imported, twice
        old, new = ("green", "brown") if times == 0 else ("brown", "green")
        folder = tmp_path / str(times)
        about = cloud.about(target.project)
        folders.write(folder, about, items_of(cloud, target.project), "imagefolder", lambda _: None)
        file = next(path for path in (folder / old).iterdir() if path.stem == image_id(jpeg("green", 0, 60)))
        file.rename(folder / new / file.name)
        found = folders.read(folder)
        assert target.copy(found.items(), found.about).retagged == 1
        assert target.tags(0, 1) == [[new], ["green"]]
        target.take(0, new)
        target.give(0, old)
        assert target.copy(found.items(), found.about).other_tags == 1
        assert target.tags(0, 1) == [[old], ["green"]]
        target.take(0, old)
        target.give(0, new)


@pytest.mark.parametrize("form", ["imagefolder", "coco"])
def test_a_tag_that_is_made_while_a_folder_is_written_is_told(tmp_path: Path, form: str) -> None:
    with pytest.raises(Refused, match="'new' is new since the copying began: do it again"):
        folders.write(tmp_path, ABOUT, [item(0, "green"), item(1, "new")], form, lambda _: None)


def test_a_tiff_is_an_image_in_a_folder(tmp_path: Path) -> None:
    assert [ending_of(one) for one in (b"II*\0...", b"MM\0*...", b"\xff\xd8...")] == [".tif", ".tif", ".jpg"]
    (tmp_path / "green").mkdir()
    for name in ("a.tif", "b.tiff", "c.TIFF"):
        (tmp_path / "green" / name).write_bytes(name.encode())
    found = folders.read(tmp_path)
    assert (len(found.records), found.left_out) == (3, ())


def test_what_a_longer_record_left_behind_spoils_none_of_a_shorter_one() -> None:
    many = tuple(Label(f"tag {nth}", "2026-11-22T08:30:00Z", "anna") for nth in range(20))
    long, _ = packed(Record("id", many, "source"), Copied("x", frozenset(label.tag for label in many)))
    short, _ = packed(Record("id", many[:1], "source"), Copied("x", frozenset({"tag 0"})))
    assert len(long) > len(short)
    both = long | short
    assert copied_in(both) == Copied("x", frozenset({"tag 0"}))
    assert unpacked(both, Record(labels=many[:1])).labels == many[:1]
    for spoilt in ({}, {"ripeloop": "{"}, {"ripeloop": '{"copied": [3]}'}, {"ripeloop": '{"copied": "x"}'}):
        assert copied_in(spoilt) == Copied("")


def test_a_service_that_says_when_to_come_again_is_not_away_but_not_for_ever(tmp_path: Path) -> None:
    def shorter(seconds: float) -> None:
        time.sleep(seconds / 20)

    one_a_second = service(tmp_path / "slow", "--calls-per-second", "1")
    with one_a_second as slow, closing(CustomVision(slow.url, KEY, shorter)) as cloud:
        assert [cloud.projects("x") for _ in range(2)] == [[], []]
    slept = list[float]()
    hardly_any = service(tmp_path / "stuck", "--calls-per-second", "0.001")
    with hardly_any as stuck, closing(CustomVision(stuck.url, KEY, slept.append)) as cloud:
        cloud.projects("x")
        with pytest.raises(Offline):
            cloud.projects("x")
    assert 300 < sum(slept) < 700
