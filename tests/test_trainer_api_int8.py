"""An export in 8 bits: made when it is asked for, from the images the iteration was trained on."""

from __future__ import annotations

import io
import json
import sqlite3
import time
import zipfile
from pathlib import Path

import pytest
import requests
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient as Sdk
from azure.cognitiveservices.vision.customvision.training.models import CustomVisionErrorException

from classifier.models.model import Model, load
from demo.bananas import picture
from trainer.learning.cache import FILE
from trainer.learning.int8 import FILE as BACKBONE
from trainerservice import COMPACT, INT8, exported, trained, upload


def fruit(sdk: Sdk, name: str) -> tuple[str, str, list[str]]:
    """A trained project: its id, its iteration's, and its images'."""
    project = sdk.create_project(name, domain_id=COMPACT, classification_type="Multiclass").id
    ids = [one for tag in ("green", "brown") for one in upload(sdk, project, tag, sdk.create_tag(project, tag).id, 6)]
    return project, trained(sdk, project, sdk.train_project(project).id).id, ids


def refusal(sdk: Sdk, project: str, iteration: str, flavor: str = INT8) -> tuple[str, str]:
    with pytest.raises(CustomVisionErrorException) as caught:
        sdk.export_iteration(project, iteration, "ONNX", flavor=flavor)
    assert caught.value.response.status_code == 400
    return caught.value.error.code, caught.value.error.message


def fetched(link: str, path: Path) -> Model:
    """What a device does: a plain GET, and the classifier."""
    path.write_bytes(requests.get(link, timeout=20).content)
    return load(path)


def test_it_is_under_way_until_a_device_can_fetch_it(sdk: Sdk, trainer_data: Path, tmp_path: Path) -> None:
    project, iteration, _ = fruit(sdk, "whole")
    assert not (trainer_data / "projects" / project / "features" / BACKBONE).exists(), (
        "a regular training does not pay for it"
    )
    asked = sdk.export_iteration(project, iteration, "ONNX", flavor=INT8)
    assert (asked.platform, asked.status, asked.flavor) == ("ONNX", "Exporting", INT8)
    assert refusal(sdk, project, iteration)[0] == "BadRequestExportAlreadyInProgress"
    sdk.export_iteration(project, iteration, "ONNX")
    done = exported(sdk, project, iteration)
    assert (done.status, done.newer_version_available) == ("Done", False)
    plain = next(one for one in sdk.get_exports(project, iteration) if one.flavor is None)
    small, large = fetched(done.download_uri, tmp_path / "8.zip"), fetched(plain.download_uri, tmp_path / "32.zip")
    assert small.tags == large.tags == ("brown", "green")
    with zipfile.ZipFile(io.BytesIO((tmp_path / "8.zip").read_bytes())) as archive:
        manifest = json.loads(archive.read("cvexport.manifest"))
        assert (manifest["Flavor"], manifest["IterationId"]) == (INT8, iteration)
    assert (tmp_path / "8.zip").stat().st_size < (tmp_path / "32.zip").stat().st_size / 3
    for nth, ripeness in enumerate((0.02, 0.1, 0.9, 0.98)):
        image = picture(77, nth, ripeness).jpeg
        answers = [{one.tag: one.probability for one in model.predict(image)} for model in (small, large)]
        assert max(answers[0], key=answers[0].__getitem__) == ("green" if ripeness < 0.5 else "brown")
        assert abs(answers[0]["green"] - answers[1]["green"]) < 0.2
    assert refusal(sdk, project, iteration)[0] == "BadRequestExportAlreadyInProgress"
    assert exported(sdk, project, iteration).status == "Done"


def test_later_ones_keep_the_backbone_and_look_at_no_image_twice(sdk: Sdk, trainer_data: Path) -> None:
    project, first, _ = fruit(sdk, "again")
    features = trainer_data / "projects" / project / "features"
    sdk.export_iteration(project, first, "ONNX", flavor=INT8)
    assert exported(sdk, project, first).status == "Done"
    made, rows = (features / BACKBONE).stat().st_mtime_ns, kept(features)
    second = trained(sdk, project, sdk.train_project(project, force_train=True).id).id
    sdk.export_iteration(project, second, "ONNX", flavor=INT8)
    assert exported(sdk, project, second).status == "Done"
    assert ((features / BACKBONE).stat().st_mtime_ns, kept(features)) == (made, rows)


def test_it_is_learnt_from_deleted_images_that_the_iteration_keeps_and_refused_without_the_others(
    sdk: Sdk, trainer_data: Path
) -> None:
    project, iteration, images = fruit(sdk, "gone")
    second = trained(sdk, project, sdk.train_project(project, force_train=True).id).id
    features = trainer_data / "projects" / project / "features"
    sdk.delete_images(project, images[:2])
    sdk.export_iteration(project, iteration, "ONNX", flavor=INT8)
    assert exported(sdk, project, iteration).status == "Done"
    assert len({image for image, _ in kept(features)}) == 12

    sdk.delete_images(project, images[2:4], all_iterations=True)
    code, message = refusal(sdk, project, second)
    assert code == "BadRequestExportValidationFailed"
    assert "2 of the 12 images the iteration was trained on were deleted" in message
    end = time.monotonic() + 20
    while len({image for image, _ in kept(features)}) != 10:
        assert time.monotonic() < end, "features of deleted images stay"
        time.sleep(0.05)


def kept(features: Path) -> list[tuple[str, str]]:
    """Which image's features are kept, of which backbone."""
    db = sqlite3.connect(features / FILE)
    try:
        return sorted(db.execute("SELECT image, backbone FROM features"))
    finally:
        db.close()
