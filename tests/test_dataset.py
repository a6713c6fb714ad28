"""A data set as files: whatever the tags are called and whoever gave them, all of it comes back."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from retrain.data import folders
from retrain.data.dataset import MAX_PAIRS, MAX_VALUE, About, Item, Label, Record, Tag, packed, unpacked
from retrain.data.formats import NAMES, ImageFolder, found_in
from ripeloop.errors import SettingsError
from ripeloop.prediction import image_id

NAMES_OF_TAGS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30),
    st.sampled_from(
        ["..", ".", "untagged", "Untagged", "a/b", "ripe", "Ripe", "x" * 300, "\u65e5\u672c", "con:", " ", "%41"]
    ),
)
TIMES = st.sampled_from(["", "2026-11-22T08:30:00Z"])
WORDS = st.text(max_size=20)


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (number, 2 * number, 0)).save(file, "PNG")
    return file.getvalue()


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[About, list[Record]]:
    tags = draw(st.lists(NAMES_OF_TAGS, min_size=1, max_size=5, unique=True))
    many = draw(st.booleans())
    records = []
    for number in range(draw(st.integers(0, 5))):
        chosen = draw(st.lists(st.sampled_from(tags), max_size=3 if many else 1, unique=True))
        labels = tuple(Label(tag, draw(TIMES), draw(WORDS)) for tag in chosen)
        metadata = draw(st.dictionaries(st.text(min_size=1, max_size=10), WORDS, max_size=3))
        records.append(Record(image_id(picture(number)), labels, f"source {number}", draw(TIMES), metadata))
    kinds = st.sampled_from(["Regular", "Negative"])
    made = tuple(Tag(tag, f"id {nth}", draw(WORDS), draw(kinds)) for nth, tag in enumerate(tags))
    return About(draw(WORDS) or "a name", draw(WORDS), "project", "domain", many, made), records


def items(records: list[Record]) -> list[Item]:
    return [Item(record, lambda nth=nth: picture(nth)) for nth, record in enumerate(records)]  # type: ignore[misc]


def by_id(data_set: folders.DataSet) -> dict[str, Record]:
    return {record.id: record for record in data_set.records.values()}


@pytest.mark.parametrize("form", NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_is_written_is_read_back(form: str, data: st.DataObject) -> None:
    about, records = data.draw(data_sets())
    prefix = data.draw(st.sampled_from(["", "azureml://datastores/fruit/paths/"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folders.write(folder, about, items(records), form, lambda _: None, prefix)
        found = folders.read(folder)
        assert found.about.tags == about.tags
        assert (found.about.name, found.about.project, found.about.description) == (
            about.name,
            "project",
            about.description,
        )
        assert by_id(found) == {record.id: record for record in records}
        assert {item.record.id: item.read() for item in found.items()} == {
            record.id: picture(nth) for nth, record in enumerate(records)
        }
        outside = [path for path in Path(name).iterdir() if path != folder]
        assert outside == []


@settings(max_examples=150, deadline=None)
@given(data_sets())
def test_a_record_as_metadata_comes_back_as_far_as_it_fits(made: tuple[About, list[Record]]) -> None:
    for record in made[1]:
        metadata, whole = packed(record)
        assert len(metadata) <= MAX_PAIRS
        found = Record(
            labels=tuple(Label(tag, "when the service got it") for tag in record.tags), source="new", created="now"
        )
        back = unpacked(metadata, found)
        assert (back.id, back.source, back.metadata) == (record.id, record.source, record.metadata)
        assert whole
        for label, before in zip(back.labels, record.labels, strict=True):
            assert label == before or not (before.at or before.by)


def test_what_has_no_room_as_metadata_is_said_so_and_never_pushes_out_the_persons_own() -> None:
    own = {f"key {nth}": "value" for nth in range(9)}
    long = tuple(Label(f"tag {nth}", "2026-11-22T08:30:00Z", "somebody with a long name") for nth in range(6))
    metadata, whole = packed(Record("id", long, "source", "", own))
    assert not whole
    assert {name: metadata[name] for name in own} == own
    assert unpacked(metadata, Record(labels=long)).source == "source"
    assert all(len(value) <= MAX_VALUE for value in metadata.values())
    full = {f"key {nth}": "value" for nth in range(10)}
    assert packed(Record("id", (), "source", "", full)) == (full, False)
    older = full | {"one more": "value", "k" * 200: "v", "long": "v" * 300}  # what the service took before
    assert packed(Record("", (), "", "", older)) == (full, False)


@pytest.mark.parametrize("text", ["{", "[1]", '{"labels": 7, "id": 3}', '{"labels": [["a"], [1, 2, 3]]}'])
def test_metadata_that_somebody_spoilt_costs_only_itself(text: str) -> None:
    found = Record("id", (Label("ripe", "now"),), "source", "now")
    back = unpacked({"ripeloop": text, "line": "3"}, found)
    assert back.labels == found.labels
    assert back.metadata == {"line": "3"}


def plain(folder: Path) -> Path:
    """A folder as a person keeps it."""
    for tag, number in (("ripe", 1), ("ripe", 2), ("green", 3), ("untagged", 4)):
        (folder / tag).mkdir(exist_ok=True)
        (folder / tag / f"{number}.png").write_bytes(picture(number))
    (folder / "ripe" / "notes.txt").write_text("picked on Monday")
    return folder


def test_a_persons_folder_is_a_data_set(tmp_path: Path) -> None:
    found = folders.read(plain(tmp_path))
    assert {place: record.tags for place, record in found.records.items()} == {
        "ripe/1.png": ("ripe",), "ripe/2.png": ("ripe",), "green/3.png": ("green",), "untagged/4.png": (),
    }  # fmt: skip
    assert sorted(tag.name for tag in found.about.tags) == ["green", "ripe"]
    assert {item.record.id for item in found.items()} == {image_id(picture(number)) for number in (1, 2, 3, 4)}


def test_a_file_moved_into_another_tags_folder_has_that_tag(tmp_path: Path) -> None:
    about = About(name="fruit", tags=(Tag("ripe"), Tag("green")))
    records = [Record(image_id(picture(nth)), (Label("ripe", by="anna"),), f"s{nth}") for nth in range(2)]
    folders.write(tmp_path, about, items(records), "imagefolder", lambda _: None)
    moved = tmp_path / "ripe" / f"{records[0].id}.png"
    moved.rename(tmp_path / "green" / moved.name)
    found = by_id(folders.read(tmp_path))
    assert found[records[0].id].labels == (Label("green"),)
    assert found[records[0].id].source == "s0"
    assert found[records[1].id] == records[1]


def test_an_image_that_got_another_tag_at_the_source_moves_without_being_read(tmp_path: Path) -> None:
    about = About(name="fruit", tags=(Tag("ripe"), Tag("green")))
    ripe = Record(image_id(picture(0)), (Label("ripe"),), "s0")
    folders.write(tmp_path, about, items([ripe]), "imagefolder", lambda _: None)
    green = Record("", (Label("green"),), "s0")

    def read() -> bytes:
        raise AssertionError("it is there")

    assert folders.write(tmp_path, about, [Item(green, read)], "imagefolder", lambda _: None).already == 1
    assert [path.parent.name for path in tmp_path.rglob("*.png")] == ["green"]
    assert by_id(folders.read(tmp_path))[ripe.id].tags == ("green",)


def test_an_image_that_left_the_project_stays_in_the_folder_and_is_named(tmp_path: Path) -> None:
    about = About(name="fruit", tags=(Tag("ripe"),))
    records = [Record(image_id(picture(nth)), (Label("ripe"),), f"s{nth}") for nth in range(2)]
    folders.write(tmp_path, about, items(records), "coco", lambda _: None)
    written = folders.write(tmp_path, about, items(records)[:1], "coco", lambda _: None)
    assert written.left == (f"images/{records[1].id}.png",)
    assert (tmp_path / written.left[0]).is_file()
    assert len(folders.read(tmp_path).records) == 1


def test_what_others_read_is_what_they_expect(tmp_path: Path) -> None:
    about = About(name="fruit", multilabel=True, tags=(Tag("ripe"), Tag("green")))
    records = [Record(image_id(picture(0)), (Label("green"), Label("ripe")), "s0")]
    folders.write(tmp_path / "c", about, items(records), "coco", lambda _: None)
    coco = json.loads((tmp_path / "c" / "coco.json").read_text())
    place = f"images/{records[0].id}.png"
    assert coco["images"] == [{"id": 1, "file_name": place, "width": 6, "height": 4}]
    assert [one["name"] for one in coco["categories"]] == ["ripe", "green"]
    assert [(one["image_id"], one["category_id"]) for one in coco["annotations"]] == [(1, 2), (1, 1)]
    folders.write(tmp_path / "a", about, items(records), "azureml", lambda _: None, "azureml://x/paths/")
    (line,) = (tmp_path / "a" / "labels.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "image_url": f"azureml://x/paths/{place}",
        "image_details": {"format": "png", "width": "6px", "height": "4px"},
        "label": ["green", "ripe"],
    }
    assert [found_in(tmp_path / one) for one in "ca"] == ["coco", "azureml"]


@given(st.lists(NAMES_OF_TAGS, max_size=8, unique=True))
def test_every_tag_has_a_folder_of_its_own_on_every_file_system(tags: list[str]) -> None:
    names = list(ImageFolder.of(tags).folders.values())
    assert len({name.casefold() for name in [*names, "untagged"]}) == len(tags) + 1
    for name in names:
        assert len(name.encode()) <= 200
        assert name.strip(" .") == name != ""
        assert not set(name) & set('<>:"/\\|?*\0')


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("coco.json", "{", "cannot be read as JSON"),
        ("coco.json", "[]", "must be an object"),
        ("coco.json", '{"images": [{"id": 1}]}', "not COCO's form"),
        ("labels.jsonl", '{"image_url": 3}', "line 1"),
        ("labels.jsonl", '{"image_url": "../../x.jpg", "label": "ripe"}', "lies outside"),
        ("labels.jsonl", '{"image_url": "/etc/passwd", "label": "ripe"}', "lies outside"),
        ("dataset.jsonl", '{"dataset": 3}', "damaged"),
    ],
)
def test_a_folder_that_is_not_what_it_seems_is_refused_in_words(
    tmp_path: Path, file: str, text: str, words: str
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(SettingsError, match=words):
        folders.read(tmp_path)


def test_no_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no folder"):
        folders.read(tmp_path / "nowhere")


def test_an_image_in_two_tags_folders_is_one_image_with_both(tmp_path: Path) -> None:
    (plain(tmp_path) / "green" / "again.png").write_bytes(picture(1))
    (tmp_path / "untagged" / "again.png").write_bytes(picture(3))
    found = folders.read(tmp_path)
    assert {item.record.id: sorted(item.record.tags) for item in found.items()} == {
        image_id(picture(1)): ["green", "ripe"],
        image_id(picture(2)): ["ripe"],
        image_id(picture(3)): ["green"],
        image_id(picture(4)): [],
    }
    with pytest.raises(SettingsError, match=r"green/again\.png and ripe/1\.png are the same image"):
        found.items(one_tag=True)
    (tmp_path / "green" / "again.png").unlink()
    assert len(folders.read(tmp_path).items(one_tag=True)) == 4


def test_a_copy_of_an_exported_image_keeps_who_labelled_it(tmp_path: Path) -> None:
    about = About(name="fruit", tags=(Tag("ripe"), Tag("green")), multilabel=True)
    record = Record(image_id(picture(0)), (Label("ripe", "2026-11-22T08:30:00Z", "anna"),), "s0", "", {"line": "3"})
    folders.write(tmp_path, about, items([record]), "imagefolder", lambda _: None)
    # here the copy of that name has another image's bytes: the name alone does not make it the same
    (tmp_path / "green" / f"{record.id}.png").write_bytes(picture(2))
    assert {item.record.id: item.record.source for item in folders.read(tmp_path).items()} == {
        record.id: "s0",
        image_id(picture(2)): "",
    }
    (tmp_path / "green" / f"{record.id}.png").write_bytes(picture(0))
    (one,) = folders.read(tmp_path).items()
    assert set(one.record.labels) == {Label("green"), *record.labels}
    assert (one.record.source, one.record.metadata) == ("s0", {"line": "3"})


def test_what_is_no_file_is_no_image_and_a_missing_one_is_told_when_it_is_read(tmp_path: Path) -> None:
    (plain(tmp_path) / "ripe" / "folder.png").mkdir()
    os.mkfifo(tmp_path / "ripe" / "pipe.png")
    (tmp_path / "ripe" / "gone.png").symlink_to(tmp_path / "nowhere")
    found = folders.read(tmp_path)
    assert [place for place in found.records if place.startswith("ripe")] == [
        "ripe/1.png", "ripe/2.png", "ripe/gone.png",
    ]  # fmt: skip
    (gone,) = [item for item in found.items() if not item.record.id]
    with pytest.raises(SettingsError, match=r"ripe/gone\.png in .* cannot be read"):
        gone.read()


@pytest.mark.parametrize("name", ["images/\0.jpg", "images/\ud800.jpg", "images/" + "x" * 5000])
def test_a_name_that_no_file_has_is_one_missing_image_told_in_short(tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.jsonl").write_text(json.dumps({"image_url": name, "label": "ripe"}) + "\n")
    (item,) = folders.read(tmp_path).items()
    with pytest.raises(SettingsError, match="cannot be read") as caught:
        item.read()
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("first", "line"),
    [
        ({"name": 5}, {}),
        ({"tags": [{"name": "ripe", "description": 1}]}, {}),
        ({}, {"metadata": {"line": 5}}),
        ({}, {"metadata": ["line"]}),
        ({}, {"source": 7}),
        ({}, {"labels": [{"tag": "ripe", "by": None}]}),
    ],
)
def test_a_data_set_whose_texts_are_none_is_damaged(tmp_path: Path, first: object, line: dict[str, object]) -> None:
    lines = [{"dataset": first, "folders": {}}, {"place": "ripe/1.png", "labels": []} | line]
    (plain(tmp_path) / "dataset.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(SettingsError, match="damaged"):
        folders.read(tmp_path)


def test_a_data_set_brings_no_file_from_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    lines = [
        {"dataset": {}, "folders": {}},
        {"place": "../secret.png", "labels": []},
        {"place": "x" * 5000, "labels": []},
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dataset.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (folder / "labels.jsonl").write_text("")
    assert folders.read(folder).records == {}
