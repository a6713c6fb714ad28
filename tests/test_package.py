"""The model package: the same bytes for the same content, golden images, the SHA-256 and the signature."""

from __future__ import annotations

import base64
import json
import re
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as some

from classifier.models.model import load
from colours import files, picture, zipped
from depot import answered_by, expected
from ripeloop.errors import BadModel, SettingsError
from ripeloop.package import (
    MAX_IMAGE_BYTES,
    GoldenSet,
    Package,
    check_file,
    check_signature,
    public_key,
    read_golden,
    read_provenance,
    read_thresholds,
    read_validation,
    sha256_of,
    sign,
    write,
)
from ripeloop.prediction import Prediction
from ripeloop.sampling import Sampling
from ripeloop.uncertainty import TagPolicy
from ripeloop.validation import EDGES, Validation, measured

SAID = [(Prediction(tag, 0.9), Prediction("blue", 0.1)) for tag in ("red", "red", "green")]
VALIDATION = measured(("red", "green", "blue"), SAID, ["red", "green", "green"])
THRESHOLDS = Sampling(confidence_below=0.7, tags={"red": TagPolicy(margin_below=0.25)})
GOLDEN = GoldenSet((expected(picture("red"), red=0.9, green=0.06, blue=0.04),), 0.05)


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    content = files()
    turned = dict(reversed(content.items()))
    one = write(tmp_path / "one.zip", Package(content, GOLDEN, {"b": 1, "a": 2}, VALIDATION, THRESHOLDS))
    two = write(tmp_path / "two.zip", Package(turned, GOLDEN, {"a": 2, "b": 1}, VALIDATION, THRESHOLDS))
    assert one == two == sha256_of(tmp_path / "one.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.zip", "two.zip"]


def test_a_package_gives_back_what_went_in_and_loads_as_a_model(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    write(path, Package(files(), GOLDEN, {"projectId": "p", "tagIds": {"red": "1"}}, VALIDATION, THRESHOLDS))
    assert read_golden(path) == GOLDEN
    assert read_validation(path) == load(path).validation == VALIDATION
    assert read_thresholds(path) == load(path).thresholds == THRESHOLDS
    assert read_provenance(path) == {"projectId": "p", "tagIds": {"red": "1"}}
    assert load(path).tags == ("red", "green", "blue")


def test_an_unpacked_package_is_a_model_with_all_it_carries(tmp_path: Path) -> None:
    write(tmp_path / "package.zip", Package(files(), GOLDEN, {}, VALIDATION, THRESHOLDS))
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        archive.extractall(tmp_path / "folder")
    for path in (tmp_path / "folder", tmp_path / "folder" / "model.onnx"):
        model = load(path)
        assert (model.validation, model.thresholds) == (VALIDATION, THRESHOLDS)


def test_a_plain_export_is_a_package_without_all_that(tmp_path: Path) -> None:
    path = zipped(tmp_path / "export.zip")
    assert read_validation(path) is load(path).validation is None
    assert read_thresholds(path) == load(path).thresholds == Sampling()
    assert read_golden(path) == GoldenSet()
    assert read_provenance(path) == {}


def test_figures_that_the_export_brings_stay_unless_others_are_given(tmp_path: Path) -> None:
    write(tmp_path / "first.zip", Package(files(), validation=VALIDATION, thresholds=THRESHOLDS))
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        brought = {name: archive.read(name) for name in archive.namelist()}
    write(tmp_path / "as-brought.zip", Package(brought))
    assert read_validation(tmp_path / "as-brought.zip") == VALIDATION
    assert read_thresholds(tmp_path / "as-brought.zip") == THRESHOLDS
    newer = measured(("red", "green", "blue"), SAID[:1])
    write(tmp_path / "given.zip", Package(brought, validation=newer, thresholds=Sampling(margin_below=0.5)))
    assert read_validation(tmp_path / "given.zip") == newer
    assert read_thresholds(tmp_path / "given.zip") == Sampling(margin_below=0.5)


@pytest.mark.parametrize("name", ["golden.json", "provenance.json"])
def test_an_export_may_not_hide_the_packages_own_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(name)):
        write(tmp_path / "package.zip", Package(files() | {name: b"{}"}))


NOTHING_KNOWN = {"edges": list(EDGES), "tags": [{"tag": "red", "images": 0, "confidence": 0, "histogram": [0] * 12}]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            (name, text)
            for name in ("validation.json", "thresholds.json")
            for text in (b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b"1" * 2_000_000)
        ),
        ("validation.json", b"{}"),
        ("validation.json", json.dumps(NOTHING_KNOWN).encode()),
        ("thresholds.json", b'{"confidence_below": 2}'),
        ("thresholds.json", b'{"confidence_below": NaN}'),
        ("thresholds.json", b'{"audit_rate": 0.5}'),
        ("thresholds.json", b'{"tags": {"red": {}}}'),
        ("thresholds.json", b'{"tags": [{"tag": "red", "audit_rate": 0.5}]}'),
    ],
)
def test_figures_and_thresholds_that_are_none_are_refused(tmp_path: Path, name: str, text: bytes) -> None:
    path = zipped(tmp_path / "package.zip", files() | {name: text})
    with pytest.raises(BadModel):
        load(path)
    with pytest.raises(BadModel, match=f"{name}.*cannot be used.*build the package again"):
        (read_validation if name == "validation.json" else read_thresholds)(path)


def test_figures_and_thresholds_of_another_models_tags_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    write(path, Package(files(), validation=measured(("red", "ripe"), SAID[:2])))
    with pytest.raises(BadModel, match=r"validation\.json is not of this model, which has no tag ripe"):
        load(path)
    write(path, Package(files(), thresholds=Sampling(tags={"ripe": TagPolicy(0.5)})))
    with pytest.raises(BadModel, match=r"thresholds\.json is not of this model, which has no tag ripe"):
        load(path)


@pytest.mark.parametrize(
    "package",
    [
        Package(files(), validation=Validation(())),
        Package(files(), thresholds=Sampling(confidence_below=7)),
        Package(files(), thresholds=Sampling(audit_rate=0.5)),
    ],
)
def test_no_package_is_written_that_would_be_refused(tmp_path: Path, package: Package) -> None:
    with pytest.raises(ValueError, match="cannot be used"):
        write(tmp_path / "package.zip", package)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "listed",
    [
        b"{",
        b"[]",
        b'{"images": [{"file": "golden/none", "predictions": []}]}',
        b'{"images": [{"predictions": []}]}',
        b'{"images": 7}',
        b'{"tolerance": 2, "images": []}',
        b'{"tolerance": "NaN", "images": []}',
        b'{"images": [{"file": "model.onnx", "predictions": [{"tag": "a"}]}]}',
        json.dumps({"images": [{}] * 1000}).encode(),
        b"[" * 100_000,
        b'{"tolerance": 1' + b"0" * 400 + b', "images": []}',
        b'{"images": [{"file": "model.onnx", "predictions": [{"tag": "a", "probability": 1' + b"0" * 400 + b"}]}]}",
    ],
)
def test_golden_images_that_cannot_be_used_are_refused(tmp_path: Path, listed: bytes) -> None:
    path = zipped(tmp_path / "package.zip", files() | {"golden.json": listed})
    with pytest.raises(BadModel, match="build the package again"):
        read_golden(path)


def test_damaged_bytes_of_any_packing_are_refused(tmp_path: Path) -> None:
    for packing in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        path = tmp_path / f"{packing}.zip"
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr("golden.json", b'{"images": []}' + b" " * 4000)
        whole = path.read_bytes()
        begin = whole.find(b"golden.json") + len(b"golden.json")
        for damaged in (slice(begin, begin + 4), slice(begin + 4, begin + 20), slice(begin + 9, begin + 30)):
            content = bytearray(whole)
            content[damaged] = b"\xff" * (damaged.stop - damaged.start)
            path.write_bytes(content)
            with pytest.raises(BadModel, match=r"cannot be used|cannot read"):
                read_golden(path)


def test_golden_images_together_take_no_more_than_their_room(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    listed = {"images": [{"file": "x", "predictions": [{"tag": "a", "probability": 1}]}] * 200}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("golden.json", json.dumps(listed))
        archive.writestr("x", bytes(MAX_IMAGE_BYTES))
    with pytest.raises(BadModel, match="together, at most"):
        read_golden(path)
    golden = expected(bytes(MAX_IMAGE_BYTES), a=1)
    for images in ((golden,) * 17, (expected(bytes(MAX_IMAGE_BYTES + 1), a=1),), (expected(b"x", a=1),) * 201):
        with pytest.raises(ValueError, match="at most"):
            write(path, Package(files(), GoldenSet(images)))


def test_a_golden_image_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    listed = {"images": [{"file": "golden/bomb", "predictions": [{"tag": "a", "probability": 1}]}]}
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("golden.json", json.dumps(listed))
        archive.writestr("golden/bomb", bytes(50_000_000))
    with pytest.raises(BadModel, match="at most"):
        read_golden(path)


@given(some.binary(max_size=300))
def test_bytes_that_are_no_package_are_refused_by_name(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.zip"
    path.write_bytes(data)
    with pytest.raises(BadModel):
        read_golden(path)


def test_another_file_is_told_by_its_sha256(tmp_path: Path) -> None:
    sha256 = write(tmp_path / "package.zip", Package(files()))
    check_file(tmp_path / "package.zip", sha256)
    with (tmp_path / "package.zip").open("r+b") as file:
        file.seek(100)
        file.write(b"x")
    with pytest.raises(BadModel, match="its SHA-256 is"):
        check_file(tmp_path / "package.zip", sha256)
    with pytest.raises(BadModel, match="No such file"):
        check_file(tmp_path / "none.zip", sha256)


def test_a_signature_is_of_one_key_and_one_package() -> None:
    mine, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    sha256 = "ab" * 32
    signature = sign(sha256, mine)
    check_signature(sha256, signature, mine.public_key())
    cases = [
        ("cd" * 32, signature, mine),
        (sha256, signature, other),
        (sha256, "", mine),
        (sha256, "%%%", mine),
        (sha256, "AAAA", mine),
    ]
    for sha, text, key in cases:
        with pytest.raises(BadModel, match="sign it"):
            check_signature(sha, text, key.public_key())


def test_a_public_key_is_pem_or_base64() -> None:
    key = Ed25519PrivateKey.generate().public_key()
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (base64.b64encode(raw).decode(), pem, pem.replace("\n", "\\n")):
        assert public_key(text).public_bytes(Encoding.Raw, PublicFormat.Raw) == raw


def test_a_public_key_of_another_kind_is_refused() -> None:
    rsa = generate_private_key(65537, 2048).public_key()
    pem = rsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (pem, "AAAA", "not base64!", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(SettingsError, match="public key"):
            public_key(text)


def test_golden_answers_come_back_to_eight_digits(tmp_path: Path) -> None:
    golden = answered_by(zipped(tmp_path / "export.zip"))
    write(tmp_path / "package.zip", Package(files(), golden))
    for before, after in zip(golden.images, read_golden(tmp_path / "package.zip").images, strict=True):
        assert before.image == after.image
        for p, q in zip(before.predictions, after.predictions, strict=True):
            assert p.tag == q.tag
            assert p.probability == pytest.approx(q.probability, abs=1e-8)
