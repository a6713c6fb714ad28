"""Loading Custom Vision exports in every form, and refusing what would answer wrongly."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from classifier.models.export import labels_of
from classifier.models.model import Model, input_spec, load
from classifier.pixels.imaging import OLD_CONTAINER
from colours import METADATA, TAGS, files, model, picture, zipped
from ripeloop.errors import BadImage, BadModel

SHARED = Path(__file__).parents[2] / "shared"
MODELS = SHARED / "models"
COLOURS = {"red": "#ff0000", "green": "#00ff00", "blue": "#0000ff"}
ANSWERING = ["s1-multiclass", "s1-multiclass-fp16", "s1-multilabel", "compact-multiclass-align32", "bgr-0-255"]


def answers_by_colour(loaded: Model) -> bool:
    for alone in (True, False):
        for tag, colour in COLOURS.items():
            predictions = loaded.predict(picture(colour), alone=alone)
            if tuple(p.tag for p in predictions) != TAGS or max(predictions, key=lambda p: p.probability).tag != tag:
                return False
            if max(p.probability for p in predictions) < 0.9:
                return False
    return True


def shared(name: str) -> Path:
    if not (MODELS / name).exists():
        pytest.skip("needs ../shared/models")
    return MODELS / name


@pytest.mark.parametrize("name", [*ANSWERING, "legacy-zipmap-bgr"])
def test_every_export_form_answers_by_colour(name: str) -> None:
    assert answers_by_colour(load(shared(f"{name}.zip"), 2))


@pytest.mark.parametrize(("name", "tags"), [("1184d18", ("Negative", "cat", "dog")), ("2f22c2f", ("cat", "dog"))])
def test_a_real_export_of_2018_runs_without_its_labels(name: str, tags: tuple[str, ...]) -> None:
    loaded = load(shared(f"cat-or-dog.{name}.onnx"))
    assert loaded.tags == tags
    assert (loaded.spec.crop, loaded.spec.bgr, loaded.spec.full_range) == (OLD_CONTAINER, True, True)
    assert sum(p.probability for p in loaded.predict(picture())) == pytest.approx(1, abs=1e-3)
    assert len(loaded.version) == 12


@pytest.mark.parametrize(("name", "words"), [("od-s1.zip", "detector"), ("cat-or-dog.24027d6.onnx", r"ONNX 1\.0")])
def test_what_cannot_answer_is_refused_in_words(name: str, words: str) -> None:
    with pytest.raises(BadModel, match=words):
        load(shared(name))


def test_a_zip_a_folder_and_a_lone_file_are_the_same_model(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name, data in files().items():
        (folder / name).write_bytes(data)
    forms = [zipped(tmp_path / "export.zip"), folder, folder / "model.onnx"]
    for loaded in map(load, forms):
        assert answers_by_colour(loaded)
        assert loaded.version == "11111111-2222-3333-4444-555555555555"


def test_an_export_in_a_sub_folder_of_the_zip_is_found(tmp_path: Path) -> None:
    inside = {f"Fruit.ONNX/{name}": data for name, data in files().items()}
    assert answers_by_colour(load(zipped(tmp_path / "e.zip", inside)))


def test_without_a_manifest_the_version_is_the_files_own(tmp_path: Path) -> None:
    export = {name: data for name, data in files().items() if name != "cvexport.manifest"}
    first, again = load(zipped(tmp_path / "a.zip", export)), load(zipped(tmp_path / "b.zip", export))
    assert first.version == again.version
    assert len(first.version) == 12
    assert set(first.version) <= set("0123456789abcdef")


def test_metadata_inside_the_onnx_file_counts_where_there_is_no_file_of_it(tmp_path: Path) -> None:
    onnx = model(bgr=True, full_range=True, metadata=bgr_metadata())
    export = files(onnx, MetadataPropsFileName=None)
    del export["metadata_properties.json"]
    assert answers_by_colour(load(zipped(tmp_path / "e.zip", export)))


def bgr_metadata() -> dict[str, str]:
    return {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}


def test_a_model_of_the_2018_form_gets_0_to_255_and_the_old_crop(tmp_path: Path) -> None:
    onnx = model(
        side=227, batch="None", bgr=True, full_range=True, zipmap=TAGS, metadata={"Image.BitmapPixelFormat": "Bgr8"}
    )
    export = files(onnx, MetadataPropsFileName=None)
    del export["metadata_properties.json"]
    loaded = load(zipped(tmp_path / "e.zip", export))
    assert loaded.spec.crop == OLD_CONTAINER
    assert answers_by_colour(loaded)  # in the order of labels.txt, not of the map


def test_half_floats_become_floats_a_client_can_read(tmp_path: Path) -> None:
    loaded = load(zipped(tmp_path / "e.zip", files(model(half=True))))
    assert answers_by_colour(loaded)
    assert all(type(p.probability) is float for p in loaded.predict(picture()))


def test_a_multilabel_model_gives_each_tag_its_own_probability(tmp_path: Path) -> None:
    loaded = load(zipped(tmp_path / "e.zip", files(model(last="Sigmoid"))))
    assert all(p.probability > 0.99 for p in loaded.predict(picture("white")))


def test_sides_left_open_by_the_graph_come_from_the_metadata(tmp_path: Path) -> None:
    loaded = load(zipped(tmp_path / "e.zip", files(model(side="side", batch="N"))))
    assert loaded.spec.shape == (1, 3, 32, 32)
    assert answers_by_colour(loaded)


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbfred\r\ngreen\r\nblue\r\n", b"red\ngreen\nblue\n\n", b"red\rgreen\rblue"]
)
def test_labels_lose_their_mark_returns_and_last_empty_lines_and_keep_their_order(text: bytes) -> None:
    assert labels_of(text) == TAGS


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"labels.txt": b"red\ngreen\n"}, "labels.txt has 2 tags, the model has 3"),
        ({"labels.txt": b"red\nred\nblue\n"}, "twice"),
        ({"labels.txt": b"red\n\nblue\n"}, "line 2 of labels.txt is empty"),
        ({"labels.txt": b"red\ngr\0een\nblue\n"}, "line 2 of labels.txt is no text"),
        ({"labels.txt": b"red\ngreen\n" + b"b" * 1025}, "line 3 of labels.txt has 1025 characters, a tag at most 1024"),
        ({"labels.txt": b"red\ngreen\n\x1b[31mblue\n"}, "line 3 of labels.txt is no text"),
        ({"cvexport.manifest": b"[" * 100_000}, "not JSON"),
        ({"labels.txt": b"\xff\xfe\n"}, "UTF-8"),
        ({"labels.txt": b""}, "does not know its tags"),
        ({"model.onnx": model(last="Sigmoid")}, "SHA-1"),
        ({"cvexport.manifest": b"{]"}, "not JSON"),
        ({"cvexport.manifest": b"[]"}, "not a JSON object"),
        ({"metadata_properties.json": json.dumps(METADATA | {"Image.BitmapPixelFormat": "Gray8"}).encode()}, "Gray8"),
    ],
)
def test_an_export_that_contradicts_itself_is_refused(tmp_path: Path, changed: dict[str, bytes], words: str) -> None:
    with pytest.raises(BadModel, match=words):
        load(zipped(tmp_path / "e.zip", files() | changed))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"DomainType": "ObjectDetection"}, "detector"),
        ({"ModelFileName": "model.tflite", "Platform": "TensorFlow"}, "export the iteration again as ONNX"),
        ({"ModelFileName": "other.onnx"}, "lacks other.onnx"),
        ({"ModelFileName": "../../etc/passwd.onnx"}, "lacks"),
        ({"ModelFileSHA1": "0" * 40}, "SHA-1"),
        ({"IterationId": "\ud800"}, "IterationId"),
        ({"IterationId": "a\nb"}, "IterationId"),
        ({"IterationId": "1" * 1000}, "IterationId"),
    ],
)
def test_a_manifest_of_something_else_is_refused(tmp_path: Path, manifest: dict[str, str], words: str) -> None:
    with pytest.raises(BadModel, match=words):
        load(zipped(tmp_path / "e.zip", files(**manifest)))


@pytest.mark.parametrize(
    ("onnx", "words"),
    [
        (b"", "cannot load"),
        (b"not a graph", "cannot load"),
        (model(last="Identity"), "no probabilities"),
        (model(columns=5), "has 5"),
        (model(batch=4), r"\[4, 3, 32, 32\]"),
        (model(side=64), "64x64 px, its metadata prepares 32x32"),
        (model(output="detected_scores"), "detector"),
        (model(zipmap=("red", "green", "yellow")), "differ"),
    ],
)
def test_a_graph_that_is_no_classifier_of_these_tags_is_refused(tmp_path: Path, onnx: bytes, words: str) -> None:
    with pytest.raises(BadModel, match=words):
        load(zipped(tmp_path / "e.zip", files(onnx)))


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/model.onnx", "a/../../b.onnx", "..\\model.onnx", "C:/m.onnx"])
def test_a_zip_that_wants_to_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadModel, match="outside its folder"):
        load(zipped(tmp_path / "slip.zip", files() | {name: b"x"}))


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model.onnx", "w") as member:
        for _ in range(600):
            member.write(bytes(1024 * 1024))
    assert bomb.stat().st_size < 2_000_000
    with pytest.raises(BadModel, match="unpacks to"):
        load(bomb)
    with pytest.raises(BadModel, match="an export holds a dozen"):
        load(zipped(tmp_path / "many.zip", {str(n): b"" for n in range(2000)}))


def test_what_is_no_model_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "cut.zip").write_bytes(zipped(tmp_path / "whole.zip").read_bytes()[:-30])
    cases = {
        "cut.zip": "is a damaged zip, or one cut short; download the export again",
        "missing.zip": "there is no model at",
        "empty": "holds no .onnx file",
        "text.zip": "is no zip, no folder and no .onnx file",
        str(zipped(tmp_path / "tf.zip", {"model.pb": b"x", "labels.txt": b"a"})): "another platform",
        str(zipped(tmp_path / "two.zip", {"a.onnx": b"x", "b.onnx": b"x"})): r"several models \(a.onnx, b.onnx\)",
    }
    for name, words in cases.items():
        with pytest.raises(BadModel, match=words):
            load(tmp_path / name)


def test_a_folder_without_a_name_is_called_by_the_one_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bananas").mkdir()
    monkeypatch.chdir(tmp_path / "bananas")
    with pytest.raises(BadModel, match=r"^bananas holds no \.onnx file"):
        load(Path())


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile itself warns when writing one
def test_a_zip_of_two_minds_or_locked_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(zipped(tmp_path / "twice.zip"), "a") as archive:
        archive.writestr("labels.txt", "blue\ngreen\nred\n")
    with pytest.raises(BadModel, match=r"holds labels.txt twice"):
        load(tmp_path / "twice.zip")
    two = {f"{folder}/{name}": data for folder in ("a", "b") for name, data in files().items()}
    with pytest.raises(BadModel, match="several exports"):
        load(zipped(tmp_path / "two.zip", two))
    locked = bytearray(zipped(tmp_path / "locked.zip").read_bytes())
    entry = locked.index(b"PK\x01\x02")
    locked[entry + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(BadModel, match="password"):
        load(tmp_path / "locked.zip")


def test_a_zip_damaged_anywhere_is_refused_or_right(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "e.zip").read_bytes()
    chance = random.Random(3)
    damaged = tmp_path / "damaged.zip"
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(4):
            data[chance.randrange(len(data))] = chance.randrange(256)
        damaged.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        try:
            loaded = load(damaged)
        except BadModel:
            continue
        assert len(loaded.tags) == 3  # a tag's name may have changed: labels.txt is not signed


@pytest.mark.parametrize(
    ("metadata", "bgr", "full_range"),
    [
        ({}, False, False),
        ({"Image.BitmapPixelFormat": "Bgr8"}, True, True),
        ({"Image.BitmapPixelFormat": "Rgb8"}, False, False),
        ({"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "Normalized_0_1"}, True, False),
        ({"Image.NominalPixelRange": "NominalRange_0_255"}, False, True),
    ],
)
def test_colour_order_and_range_follow_the_metadata(metadata: dict[str, str], bgr: bool, full_range: bool) -> None:
    spec = input_spec(metadata, height=224, width=224)
    assert (spec.bgr, spec.full_range) == (bgr, full_range)


@pytest.mark.parametrize(
    "metadata",
    [
        {"Image.NominalPixelRange": "Normalized_1_1"},
        {"CustomVision.Preprocess.NormalizeMean": "[0.5, 0.5, 0.5]"},
        {"CustomVision.Preprocess.NormalizeStd": "x"},
        {"CustomVision.Preprocess.NormalizeMean": "[" * 100_000},
        {"CustomVision.Preprocess.TargetWidth": "wide"},
        {"CustomVision.Preprocess.CropMethod": "CutCenter"},
        {"CustomVision.Preprocess.TargetWidth": "100", "CustomVision.Preprocess.TargetHeight": "100"},
    ],
)
def test_metadata_we_would_guess_wrong_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(BadModel):
        input_spec(metadata, height=224, width=224)


def test_many_threads_get_their_own_answers(tmp_path: Path) -> None:
    loaded = load(zipped(tmp_path / "e.zip"), 2)
    wanted = [list(COLOURS)[n % 3] for n in range(120)]

    def best(tag: str) -> str:
        return max(loaded.predict(picture(COLOURS[tag]), alone=tag == "red"), key=lambda p: p.probability).tag

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(best, wanted)) == wanted


def test_a_bad_image_is_not_the_models_fault(tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        load(zipped(tmp_path / "e.zip")).predict(b"no image")


def test_a_model_that_answers_nonsense_says_so_instead_of_sending_it(tmp_path: Path) -> None:
    loaded = load(zipped(tmp_path / "e.zip", files(model(last="Reciprocal"))))
    with pytest.raises(BadModel, match="not a number"):
        loaded.predict(picture("black"))


def test_the_runtime_keeps_no_file_and_reports_to_nobody(tmp_path: Path) -> None:
    """Onnxruntime would write into the home folder and call its makers unless told not to before its import."""
    zipped(tmp_path / "model.zip")
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import sys; from pathlib import Path; from classifier.models.model import load; load(Path(sys.argv[1]));"
        "import os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    )
    environ = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "model.zip")], env=environ | {"HOME": str(home)}, check=True
    )
    assert list(home.rglob("*")) == []
