"""`ripeloop package`: what goes in comes from the holdout, and the whole passes what a device asks of it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from classifier.models import parity
from classifier.models.model import load
from classifier.rollout.wanted import from_desired
from colours import files, model, picture, unsure_picture, zipped
from holdouts import TAGS, coloured, holdout, seeing, swapping
from retrain.__main__ import main
from retrain.judging.answers import Answered
from retrain.judging.figures import likeliest
from retrain.judging.holdout import Case
from retrain.package import lineage
from retrain.package.golden import choose, steady
from ripeloop.package import TOLERANCE, check_signature, read_golden, read_provenance, read_thresholds, sha256_of
from ripeloop.prediction import Prediction, image_id
from ripeloop.uncertainty import margin


def key_file(
    path: Path, key: Any = None, locked: KeySerializationEncryption = NoEncryption(), mode: int = 0o600
) -> Path:
    key = key or Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    path.chmod(mode)
    return path


def packed(export: Path, images: Path, out: Path, *more: str) -> Result:
    asked = ["package", str(export), "--holdout", str(images), "--out", str(out), *more]
    return CliRunner().invoke(main, asked, catch_exceptions=False)


def test_a_device_takes_the_package_and_the_twin_takes_the_words(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    keyed = str(key_file(tmp_path / "key.pem", key))
    out = tmp_path / "made" / "model.zip"
    result = packed(seeing(tmp_path / "e.zip"), holdout(tmp_path / "h"), out, "--key", keyed, "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["sha256"] == sha256_of(out)
    check_signature(said["sha256"], said["signature"], key.public_key())
    wanted = {name: said[name] for name in ("version", "sha256", "signature")}
    assert from_desired(wanted | {"url": "https://example.org/model.zip"}) is not None
    assert [path.name for path in out.parent.iterdir()] == ["model.zip"]
    loaded, golden = load(out, fast=True), read_golden(out)
    parity.check(loaded, golden)
    assert len(golden.images) == said["golden"] == 32
    assert loaded.validation is not None
    assert loaded.validation.images == 60
    assert [one.accuracy for one in loaded.validation.tags] == [1.0, 1.0, 1.0]
    assert loaded.thresholds.confidence_below == said["threshold"]["confidence_below"] == 0.5
    assert loaded.version == "seeing"


def test_golden_images_hold_sure_and_nearly_unsure_answers_of_every_tag(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h")
    packed(seeing(tmp_path / "e.zip"), images, tmp_path / "p.zip", "--golden-images", "9")
    answered = {image_id(path.read_bytes()): path.parent.name for path in images.glob("*/*.png")}
    golden = read_golden(tmp_path / "p.zip")
    tags = [answered[image_id(one.image)] for one in golden.images]
    assert {tag: tags.count(tag) for tag in TAGS} == {"red": 3, "green": 3, "blue": 3}
    loaded = load(tmp_path / "e.zip")
    for tag in TAGS:
        margins = [margin(loaded.predict(path.read_bytes())) for path in (images / tag).iterdir()]
        chosen = [margin(one.predictions) for one in golden.images if answered[image_id(one.image)] == tag]
        assert (min(chosen), max(chosen)) == (pytest.approx(min(margins)), pytest.approx(max(margins)))


@given(some.lists(some.floats(0.5, 1), max_size=40), some.integers(1, 20))
def test_no_golden_image_is_so_near_the_border_that_rounding_tips_it(confidences: list[float], count: int) -> None:
    answered = [
        Answered(Case(str(n), "a", Path()), f"{n:064x}", ((Prediction("a", p), Prediction("b", 1 - p)),))
        for n, p in enumerate(confidences)
    ]
    chosen = choose(answered, count, TOLERANCE)
    assert all(steady(one.answers[0], TOLERANCE) for one in chosen)
    steadies = sum(steady(one.answers[0], TOLERANCE) for one in answered)
    assert len(chosen) == len({one.id for one in chosen}) == min(count, steadies)
    assert [one.id for one in chosen] == sorted(one.id for one in chosen)


def test_images_of_ones_own_are_golden_in_any_case(tmp_path: Path) -> None:
    own = tmp_path / "cameras"
    own.mkdir()
    (own / "1.png").write_bytes(picture("lime", (90, 90)))
    export, images = seeing(tmp_path / "e.zip"), holdout(tmp_path / "h")
    assert packed(export, images, tmp_path / "p.zip", "--golden", str(own), "--golden-images", "5").exit_code == 0
    golden = [one.image for one in read_golden(tmp_path / "p.zip").images]
    assert len(golden) == 5
    assert golden[0] == picture("lime", (90, 90))
    (own / "2.png").write_bytes(unsure_picture(3))
    result = packed(export, images, tmp_path / "q.zip", "--golden", str(own))
    assert result.exit_code == 2
    assert "2.png cannot be a golden image: two tags are nearly as likely" in result.stderr
    assert not (tmp_path / "q.zip").exists()


def test_more_golden_images_than_a_device_reads_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "cameras"
    own.mkdir()
    for number in range(201):
        (own / f"{number}.png").write_bytes(picture("lime", (number + 1, 9)))
    result = packed(seeing(tmp_path / "e.zip"), holdout(tmp_path / "h"), tmp_path / "p.zip", "--golden", str(own))
    assert result.exit_code == 2
    assert "a package takes 200 golden images" in result.stderr


def dotted(number: int) -> bytes:
    """A large blue JPEG with red where the exact preparation looks, and nowhere else."""
    pixels = np.zeros((640, 640, 3), np.uint8)
    pixels[:, :, 2] = 255
    looked_at = np.isin(np.arange(640) % 20, (9, 10))
    pixels[np.ix_(looked_at, looked_at)] = (255 - 9 * number, 0, 0)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=100, subsampling=0)
    return out.getvalue()


def test_where_devices_will_decode_exactly_the_figures_are_of_exact_answers(tmp_path: Path) -> None:
    export, images = seeing(tmp_path / "e.zip"), tmp_path / "h"
    (images / "red").mkdir(parents=True)
    for number in range(5):
        (images / "red" / f"{number}.jpg").write_bytes(dotted(number))
    (images / "red" / "damaged.jpg").write_bytes(b"")
    assert [likeliest(load(export, fast=fast).predict(dotted(0))).tag for fast in (False, True)] == ["red", "blue"]
    said = json.loads(packed(export, images, tmp_path / "p.zip", "--json").stdout)
    validation = load(tmp_path / "p.zip").validation
    assert validation is not None
    assert [(one.tag, one.images) for one in validation.tags] == [("red", 5), ("green", 0), ("blue", 0)]
    assert not load(tmp_path / "p.zip", fast=True).fast
    assert [one["image"] for one in said["left_out"]] == ["red/damaged.jpg"]


def test_the_threshold_follows_from_the_mistakes_that_may_stay_unseen(tmp_path: Path) -> None:
    export, images = swapping(tmp_path / "e.zip"), holdout(tmp_path / "h")  # sure of its mistakes, as of all else
    said = json.loads(packed(export, images, tmp_path / "p.zip", "--json").stdout)["threshold"]
    assert said["confidence_below"] == read_thresholds(tmp_path / "p.zip").confidence_below > 0.8
    assert said["wrong_unflagged"] / said["images"] < 0.02
    packed(export, images, tmp_path / "q.zip", "--wrong-unflagged", "0.5")
    assert read_thresholds(tmp_path / "q.zip").confidence_below < said["confidence_below"]
    few = holdout(tmp_path / "few", each=3)
    result = packed(export, few, tmp_path / "r.zip")
    assert read_thresholds(tmp_path / "r.zip").confidence_below is None
    assert "9 images of the holdout are too few; 49 are needed" in result.stdout


def test_the_package_tells_where_its_model_came_from(tmp_path: Path) -> None:
    export, images = seeing(tmp_path / "e.zip"), holdout(tmp_path / "h", audits=2)
    learned = [f"{number:064x}" for number in range(5)]
    told = {"projectId": "p", "tagIds": {"red": "1"}, "samples": learned, "operator": "shift 2"}
    (tmp_path / "lineage.json").write_text(json.dumps(told))
    judge = ["judge", "--active", str(swapping(tmp_path / "a.zip")), "--candidate", str(export)]
    report = CliRunner().invoke(main, [*judge, "--holdout", str(images), "--json"]).stdout
    (tmp_path / "judged.json").write_text(report)
    more = ["--lineage", str(tmp_path / "lineage.json"), "--judged", str(tmp_path / "judged.json")]
    assert packed(export, images, tmp_path / "p.zip", *more).exit_code == 0
    found = read_provenance(tmp_path / "p.zip")
    assert (found["projectId"], found["operator"], found["iterationId"]) == ("p", "shift 2", "seeing")
    assert load(tmp_path / "p.zip").tag_ids == {"red": "1"}
    assert found["samples"]["ids"] == learned
    assert (found["holdout"]["count"], found["holdout"]["audits"], "ids" in found["holdout"]) == (60, 6, False)
    assert found["judged"]["verdict"] == "better"
    assert found["judged"]["sha256"] == hashlib.sha256(report.encode()).hexdigest()
    again = packed(swapping(tmp_path / "o.zip"), images, tmp_path / "q.zip", *more)
    assert again.exit_code == 2
    assert "about another model" in again.stderr


def test_a_holdout_the_model_was_trained_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lineage.json").write_text(json.dumps({"samples": [image_id(coloured("red", 2))]}))
    more = ("--lineage", str(tmp_path / "lineage.json"))
    result = packed(seeing(tmp_path / "e.zip"), holdout(tmp_path / "h"), tmp_path / "p.zip", *more)
    assert result.exit_code == 2
    assert "trained on 1 images of this holdout (red/002.png" in result.stderr


def test_many_samples_are_told_by_their_number_and_hash_and_still_fit(tmp_path: Path) -> None:
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(lineage.MOST_IDS + 1)]
    assert set(lineage.samples(ids)) == {"count", "sha256"}
    assert lineage.samples(ids)["sha256"] == lineage.samples(reversed(ids))["sha256"]
    (tmp_path / "lineage.json").write_text(json.dumps({"samples": ids[1:]}))
    more = ("--lineage", str(tmp_path / "lineage.json"))
    assert packed(seeing(tmp_path / "e.zip"), holdout(tmp_path / "h"), tmp_path / "p.zip", *more).exit_code == 0
    assert lineage.trained_on(read_provenance(tmp_path / "p.zip")) == frozenset(ids[1:])


def test_the_same_package_is_the_same_bytes_and_can_be_packed_again(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h")
    packed(seeing(tmp_path / "e.zip"), images, tmp_path / "1.zip")
    packed(seeing(tmp_path / "e.zip"), images, tmp_path / "2.zip")
    packed(tmp_path / "1.zip", images, tmp_path / "3.zip")
    assert sha256_of(tmp_path / "1.zip") == sha256_of(tmp_path / "2.zip") == sha256_of(tmp_path / "3.zip")


def test_an_export_in_a_folder_of_its_zip_is_packed_at_the_top(tmp_path: Path) -> None:
    inside = {f"export/{name}": data for name, data in files().items()} | {"readme.txt": b"no part of it"}
    images = holdout(tmp_path / "h")
    assert packed(zipped(tmp_path / "e.zip", inside), images, tmp_path / "p.zip").exit_code == 0
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert {"model.onnx", "labels.txt", "provenance.json"} <= set(archive.namelist())
    assert load(tmp_path / "p.zip").thresholds.confidence_below == 0.5


def test_a_key_that_others_can_read_is_warned_of_and_never_shown(tmp_path: Path) -> None:
    key = key_file(tmp_path / "key.pem", mode=0o644)
    result = packed(seeing(tmp_path / "e.zip"), holdout(tmp_path / "h"), tmp_path / "p.zip", "--key", str(key))
    assert result.exit_code == 0
    assert "others can read the key" in result.stderr
    secret = key.read_text().splitlines()[1]
    assert secret not in result.output
    assert secret.encode() not in (tmp_path / "p.zip").read_bytes()
    key.chmod(0o600)
    again = packed(tmp_path / "e.zip", tmp_path / "h", tmp_path / "p.zip", "--key", str(key))
    assert "others can read" not in again.stderr


@pytest.mark.parametrize("kind", ["none", "public", "rsa", "locked"])
def test_a_key_that_cannot_sign_is_told_before_the_work(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key.pem"
    if kind == "none":
        path.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    elif kind == "public":
        path.write_text("MCowBQYDK2VwAyEA")
    elif kind == "rsa":
        key_file(path, generate_private_key(65537, 2048))
    else:
        key_file(path, locked=BestAvailableEncryption(b"word"))
    result = packed(seeing(tmp_path / "e.zip"), holdout(tmp_path / "h"), tmp_path / "p.zip", "--key", str(path))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "c2VjcmV0" not in line
    assert not (tmp_path / "p.zip").exists()


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("--lineage", "{", "cannot be read"),
        ("--lineage", "[]", "not a JSON object"),
        ("--lineage", '{"samples": ["x"]}', "image ids"),
        ("--lineage", '{"tagIds": []}', "tagIds"),
        ("--judged", '{"candidate": 7}', "another model"),
        ("--judged", "no", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_writes_nothing(tmp_path: Path, file: str, text: str, why: str) -> None:
    (tmp_path / "file.json").write_text(text)
    more = (file, str(tmp_path / "file.json"))
    result = packed(seeing(tmp_path / "e.zip"), holdout(tmp_path / "h"), tmp_path / "p.zip", *more)
    assert result.exit_code == 2
    assert why in result.stderr
    assert not list(tmp_path.glob("p.zip*"))


def test_an_export_devices_would_refuse_is_refused_and_the_old_package_stays(tmp_path: Path) -> None:
    images, out = holdout(tmp_path / "h", each=3), tmp_path / "p.zip"
    assert packed(seeing(tmp_path / "e.zip"), images, out).exit_code == 0
    before = out.read_bytes()
    for broken, why in (
        (zipped(tmp_path / "sums.zip", files(model(last="Sigmoid"))), "multilabel"),
        (zipped(tmp_path / "sha.zip", files(ModelFileSHA1="0" * 40)), "SHA-1 differs"),
    ):
        result = packed(broken, images, out)
        assert result.exit_code == 2
        assert why in result.stderr
        assert out.read_bytes() == before


def test_a_version_no_twin_takes_is_refused_before_the_work(tmp_path: Path) -> None:
    export, images = seeing(tmp_path / "e.zip"), holdout(tmp_path / "h", each=3)
    for name in ("", "reif ü", "x" * 129, "a\nb"):
        result = packed(export, images, tmp_path / "p.zip", "--version-name", name)
        assert result.exit_code == 2
    said = json.loads(packed(export, images, tmp_path / "p.zip", "--version-name", "7b", "--json").stdout)
    assert said["version"] == "7b"


def test_what_is_left_out_of_the_holdout_is_told(tmp_path: Path) -> None:
    images = holdout(tmp_path / "h", each=3)
    (images / "red" / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    said = packed(seeing(tmp_path / "e.zip"), images, tmp_path / "p.zip").stdout
    assert "1 left out" in said
    assert "red/damaged.jpg" in said
    assert "not signed" not in said
    assert "no: devices with a --model-key refuse it" in said
