"""What the trainer's service says no to, in Custom Vision's own codes and shapes."""

from __future__ import annotations

import base64
import io
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient, models
from msrest.exceptions import HttpOperationError
from PIL import Image

import trainerservice
from trainerservice import COMPACT, KEY, PREDICTION_KEY, Service, jpeg, prediction_client, training_client, upload

Sdk = CustomVisionTrainingClient
Refused = models.CustomVisionErrorException
NOBODY = str(uuid.UUID(int=7))
DETECTION = "da2e3a8a-40a5-4171-82f4-58522f70fbc1"
BASE = "/customvision/v3.4-preview/training"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with trainerservice.service(tmp_path_factory.mktemp("trainer")) as one:
        yield one


@pytest.fixture(scope="module")
def sdk(running: Service) -> Iterator[Sdk]:
    with training_client(running.url) as client:
        yield client


@pytest.fixture
def project(sdk: Sdk) -> Iterator[Any]:
    made = sdk.create_project(f"p {uuid.uuid4()}", domain_id=COMPACT, classification_type="Multiclass")
    yield made
    sdk.delete_project(made.id)


def refused(call: Callable[[], object]) -> tuple[int, str]:
    """The status and the code that a call is refused with."""
    with pytest.raises(Refused) as caught:
        call()
    assert len(caught.value.error.message) > 10
    return caught.value.response.status_code, caught.value.error.code


def statuses(summary: Any) -> list[str]:
    return [one.status for one in summary.images]


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("path", [f"{BASE}/projects", "/customvision/v3.0/prediction/x/classify/iterations/m/image"])
@pytest.mark.parametrize("key", ["", "wrong", KEY + "s"])
def test_a_wrong_key_is_refused_in_the_gateways_shape(running: Service, path: str, key: str) -> None:
    method = "GET" if path.endswith("projects") else "POST"
    headers = {"Training-Key": key, "Prediction-Key": key}
    answer = requests.request(method, running.url + path, headers=headers, timeout=20)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "401"
    assert answer.json()["error"]["message"].startswith("Access denied due to invalid subscription key")


def test_the_sdk_finds_no_code_in_a_gateways_answer(running: Service) -> None:
    with training_client(running.url, "wrong") as client, pytest.raises(Refused) as caught:
        client.get_projects()
    assert (caught.value.response.status_code, caught.value.error.code) == (401, None)


def test_the_key_of_one_api_does_not_open_the_other(running: Service) -> None:
    path = f"{running.url}{BASE}/projects"
    assert requests.get(path, headers={"Training-Key": PREDICTION_KEY}, timeout=20).status_code == 401


def test_what_is_not_there_is_not_found_by_its_kind(sdk: Sdk, project: Any) -> None:
    assert refused(lambda: sdk.get_project(NOBODY)) == (404, "NotFoundProject")
    assert refused(lambda: sdk.get_tag(project.id, NOBODY)) == (404, "NotFoundTag")
    assert refused(lambda: sdk.get_iteration(project.id, NOBODY)) == (404, "NotFoundIteration")
    assert refused(lambda: sdk.get_images(project.id, iteration_id=NOBODY)) == (404, "NotFoundIteration")
    assert refused(lambda: sdk.get_domain(NOBODY)) == (404, "NotFoundDomain")
    pair = models.ImageTagCreateEntry(image_id=NOBODY, tag_id=sdk.create_tag(project.id, "a").id)
    assert refused(lambda: sdk.create_image_tags(project.id, tags=[pair])) == (404, "NotFoundImage")
    assert refused(lambda: sdk.quick_test_image(project.id, png(9, 9))) == (404, "NotFoundProjectDefaultIteration")
    assert refused(lambda: sdk.get_project("a")) == (400, "BadRequestInvalidIds")


def test_projects_with_wrong_words_are_refused(sdk: Sdk, project: Any) -> None:
    def create(name: str = "new", **words: Any) -> tuple[int, str]:
        return refused(lambda: sdk.create_project(name, **words))

    assert create(project.name) == (400, "BadRequestProjectNameNotUnique")
    assert create("x" * 300) == (400, "BadRequestProjectName")
    assert create(domain_id=NOBODY) == (400, "BadRequestProjectUnknownDomain")
    assert create(domain_id=DETECTION) == (400, "BadRequestUnsupportedDomain")
    other = f"{sdk.config.endpoint}{BASE}/projects?name=x"
    for words, code in (
        ("classificationType=Any", "BadRequestProjectUnknownClassification"),
        ("targetExportPlatforms=ONNX,Abacus", "BadRequestProjectUnsupportedExportPlatform"),
    ):
        answer = requests.post(f"{other}&{words}", headers={"Training-Key": KEY}, timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_tags_with_wrong_words_are_refused(sdk: Sdk, project: Any) -> None:
    def create(*words: Any, **more: Any) -> tuple[int, str]:
        return refused(lambda: sdk.create_tag(project.id, *words, **more))

    first = sdk.create_tag(project.id, "first")
    sdk.create_tag(project.id, "none", type="Negative")
    assert create("first") == (400, "BadRequestTagNameNotUnique")
    assert create("another", type="Negative") == (400, "BadRequestMultipleNegativeTag")
    assert create("product", type="GeneralProduct") == (400, "BadRequestTagType")
    for name in ("two\nlines", "half\tripe", "bell\x07", "\x9b"):
        assert create(name) == (400, "BadRequestTagName")
    changed = models.Tag(name="first", description="", type="Negative")
    assert refused(lambda: sdk.update_tag(project.id, first.id, changed)) == (400, "BadRequestMultipleNegativeTag")


def test_every_image_of_a_batch_is_judged_by_itself(sdk: Sdk, project: Any) -> None:
    tag, other = sdk.create_tag(project.id, "green").id, sdk.create_tag(project.id, "brown").id
    contents = [
        (jpeg("green", 0), [tag], "OK"),
        (b"not an image", [tag], "ErrorImageFormat"),
        (jpeg("green", 1)[:500], [tag], "ErrorImageFormat"),
        (b"", [tag], "ErrorImageFormat"),
        (bytes(6 * 1024 * 1024 + 1), [tag], "ErrorImageSize"),
        (png(2600, 100), [tag], "ErrorImageDimensions"),
        (png(10_241, 2000), [tag], "ErrorImageDimensions"),
        (jpeg("green", 2), [NOBODY], "ErrorInvalidTag"),
        (jpeg("green", 3), [tag, other], "ErrorTagLimitExceed"),
        (jpeg("green", 0), [tag], "OKDuplicate"),
        (jpeg("green", 0), [other], "ErrorTagLimitExceed"),
    ]
    entries = [
        models.ImageFileCreateEntry(name=f"{nth}.jpg", contents=data, tag_ids=tags)
        for nth, (data, tags, _) in enumerate(contents)
    ]
    summary = sdk.create_images_from_files(project.id, models.ImageFileCreateBatch(images=entries))
    assert statuses(summary) == [status for *_, status in contents]
    assert summary.is_batch_successful is False
    assert [one.source_url for one in summary.images][:2] == ['"0.jpg"', '"1.jpg"']
    assert sdk.get_image_count(project.id) == 1


def test_version_3_3_has_its_own_words_for_statuses(sdk: Sdk, running: Service, project: Any) -> None:
    url = f"{running.url}/customvision/v3.3/training/projects/{project.id}/images/files"
    image = {"name": "a", "contents": base64.b64encode(png(2600, 100)).decode()}
    answer = requests.post(url, json={"images": [image]}, headers={"Training-Key": KEY}, timeout=20)
    assert (answer.status_code, answer.json()["images"][0]["status"]) == (207, "ErrorImageSize")


def test_the_negative_tag_stands_alone(sdk: Sdk) -> None:
    project = sdk.create_project("negative", classification_type="Multilabel")
    tag, none = sdk.create_tag(project.id, "a").id, sdk.create_tag(project.id, "none", type="Negative").id
    both = sdk.create_images_from_data(project.id, jpeg("green", 0), tag_ids=[tag, none])
    assert statuses(both) == ["ErrorNegativeAndRegularTagOnSameImage"]
    image = sdk.create_images_from_data(project.id, jpeg("green", 0), tag_ids=[tag]).images[0].image.id
    pair = models.ImageTagCreateEntry(image_id=image, tag_id=none)
    code = "BadRequestNegativeAndRegularTagOnSameImage"
    assert refused(lambda: sdk.create_image_tags(project.id, tags=[pair])) == (400, code)


def test_batches_that_are_too_large_or_empty_are_refused(sdk: Sdk, project: Any) -> None:
    entries = [models.ImageFileCreateEntry(name="a", contents=png(9, 9))] * 65
    for images, code in ((entries, "BadRequestExceededBatchSize"), ([], "BadRequestImageBatch")):
        batch = models.ImageFileCreateBatch(images=images)
        assert refused(lambda batch=batch: sdk.create_images_from_files(project.id, batch)) == (400, code)
    tags = [str(uuid.uuid4()) for _ in range(21)]
    batch = models.ImageFileCreateBatch(images=entries[:1], tag_ids=tags)
    assert refused(lambda: sdk.create_images_from_files(project.id, batch)) == (400, "BadRequestExceededBatchSize")
    pairs = [models.ImageTagCreateEntry(image_id=NOBODY, tag_id=NOBODY)] * 129
    assert refused(lambda: sdk.create_image_tags(project.id, tags=pairs)) == (400, "BadRequestExceededBatchSize")
    url = f"{sdk.config.endpoint}{BASE}/projects/{project.id}/images?take=257"
    assert requests.get(url, headers={"Training-Key": KEY}, timeout=20).json()["code"] == "BadRequestExceededBatchSize"


def test_64_images_in_one_form_are_taken_and_65_are_not(running: Service, sdk: Sdk, project: Any) -> None:
    url = f"{running.url}{BASE}/projects/{project.id}/images"
    files = [("imageData", (f"{nth}.png", png(10 + nth, 10))) for nth in range(65)]
    headers = {"Training-Key": KEY}
    taken = requests.post(url, files=files[:64], headers=headers, timeout=60)
    assert taken.status_code == 200
    assert taken.json()["images"][63]["sourceUrl"] == '"63.png"'
    told = requests.post(url, files=files, headers=headers, timeout=60)
    assert (told.status_code, told.json()["code"]) == (400, "BadRequestExceededBatchSize")
    assert sdk.get_image_count(project.id) == 64


def test_metadata_has_its_limits(sdk: Sdk, project: Any) -> None:
    image = sdk.create_images_from_data(project.id, png(9, 9)).images[0].image.id

    def describe(metadata: dict[str, str]) -> Any:
        return sdk.update_image_metadata(project.id, [image], metadata)

    assert refused(lambda: describe({"k": "v" * 257})) == (400, "BadRequestImageMetadataValue")
    assert refused(lambda: describe({"k" * 129: "v"})) == (400, "BadRequestImageMetadataKey")
    assert statuses(describe({str(n): "" for n in range(10)})) == ["OK"]
    assert statuses(describe({"11": ""})) == ["ErrorLimitExceed"]
    entry = models.ImageFileCreateEntry(name="again", contents=png(9, 9))
    again = lambda metadata: sdk.create_images_from_files(  # noqa: E731
        project.id, models.ImageFileCreateBatch(images=[entry], metadata=metadata)
    )
    assert statuses(again({"12": ""})) == ["ErrorLimitExceed"]
    assert statuses(again({"1": "other"})) == ["OKDuplicate"]
    assert len(sdk.get_images_by_ids(project.id, image_ids=[image])[0].metadata) == 10
    assert refused(lambda: sdk.get_images(project.id, filter="name eq 'a'")) == (400, "BadRequestInvalid")


def test_objects_are_not_detected_here(sdk: Sdk, running: Service, project: Any) -> None:
    region = models.ImageRegionCreateEntry(image_id=NOBODY, tag_id=NOBODY, left=0, top=0, width=1, height=1)
    for call in (
        lambda: sdk.create_image_regions(project.id, regions=[region]),
        lambda: sdk.delete_image_regions(project.id, [NOBODY]),
        lambda: sdk.get_image_region_proposals(project.id, NOBODY),
    ):
        assert refused(call) == (400, "BadRequestImageRegions")
    with prediction_client(running.url) as client:
        for detect in (
            lambda: client.detect_image(project.id, "m", png(9, 9)),
            lambda: client.detect_image_with_no_store(project.id, "m", png(9, 9)),
            lambda: client.detect_image_url(project.id, "m", url="http://a/b"),
            lambda: client.detect_image_url_with_no_store(project.id, "m", url="http://a/b"),
        ):
            with pytest.raises(Exception, match="detects no objects") as caught:
                detect()
            assert caught.value.error.code == "BadRequestNotSupported"


def test_a_training_needs_enough_and_something_new(sdk: Sdk, project: Any) -> None:
    code = "BadRequestMultiClassClassificationTrainingValidationFailed"
    assert refused(lambda: sdk.train_project(project.id)) == (400, code)
    green, brown = (sdk.create_tag(project.id, name).id for name in ("green", "brown"))
    upload(sdk, project.id, "green", green)
    upload(sdk, project.id, "brown", brown, 4)
    with pytest.raises(Refused, match="'brown' has 4") as caught:
        sdk.train_project(project.id)
    assert caught.value.error.code == code
    budget = "BadRequestReservedBudgetInHoursNotEnoughForAdvancedTraining"
    hours = f"{sdk.config.endpoint}{BASE}/projects/{project.id}/train?trainingType=Advanced&reservedBudgetInHours="
    for many in ("97", "1000000", "-1", "x"):
        answer = requests.post(hours + many, headers={"Training-Key": KEY}, timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (400, budget)
    assert refused(lambda: sdk.train_project(project.id, training_type="Advanced")) == (400, budget)
    upload(sdk, project.id, "brown", brown, 5)
    first = sdk.train_project(project.id)
    assert refused(lambda: sdk.train_project(project.id)) == (400, "BadRequestTrainingAlreadyInProgress")
    assert refused(lambda: sdk.export_iteration(project.id, first.id, "ONNX")) == (400, "BadRequestExportWhileTraining")
    publish = lambda: sdk.publish_iteration(project.id, first.id, "m", "r")  # noqa: E731
    assert refused(publish) == (400, "BadRequestIterationIsNotTrained")
    assert refused(lambda: sdk.get_iteration_performance(project.id, first.id)) == (404, "NotFoundIterationPerformance")
    assert trainerservice.trained(sdk, project.id, first.id).status == "Completed"
    assert refused(lambda: sdk.train_project(project.id)) == (400, "BadRequestTrainingNotNeeded")
    assert publish() is True
    assert refused(publish) == (400, "BadRequestIterationIsPublished")
    assert refused(lambda: sdk.delete_iteration(project.id, first.id)) == (400, "BadRequestIterationIsPublished")
    again = sdk.train_project(project.id, force_train=True)
    assert trainerservice.trained(sdk, project.id, again.id).name == "Iteration 2"
    taken = lambda **more: sdk.publish_iteration(project.id, again.id, "m", "r", **more)  # noqa: E731
    assert refused(taken) == (400, "BadRequestInvalidPublishName")
    for name in (".", ".."):
        publish = lambda name=name: sdk.publish_iteration(project.id, again.id, name, "r")  # noqa: E731
        assert refused(publish) == (400, "BadRequestInvalidPublishName")
    assert taken(overwrite=True) is True
    assert sdk.get_iteration(project.id, first.id).publish_name is None
    assert refused(lambda: sdk.unpublish_iteration(project.id, first.id)) == (400, "BadRequestIterationNotPublished")
    name = "BadRequestIterationNameNotUnique"
    assert refused(lambda: sdk.update_iteration(project.id, again.id, first.name)) == (400, name)
    assert refused(lambda: sdk.export_iteration(project.id, first.id, "CoreML")) == (
        400, "BadRequestProjectUnsupportedExportPlatform",
    )  # fmt: skip
    sdk.export_iteration(project.id, first.id, "ONNX")
    assert refused(lambda: sdk.export_iteration(project.id, first.id, "ONNX")) == (
        400, "BadRequestExportAlreadyInProgress",
    )  # fmt: skip
    assert refused(lambda: sdk.export_iteration(project.id, first.id, "ONNX", flavor="ONNX10")) == (
        400, "BadRequestExportValidationFailed",
    )  # fmt: skip
    assert refused(lambda: sdk.delete_project(project.id)) == (400, "BadRequestIterationIsPublished")
    sdk.unpublish_iteration(project.id, again.id)


def test_a_domain_that_is_not_compact_is_not_exported(sdk: Sdk) -> None:
    project = sdk.create_project("general", classification_type="Multiclass")
    for name in ("green", "brown"):
        upload(sdk, project.id, name, sdk.create_tag(project.id, name).id)
    sdk.create_tag(project.id, "rare")
    selected = [tag.id for tag in sdk.get_tags(project.id) if tag.name != "rare"]
    iteration = sdk.train_project(project.id, selected_tags=selected)
    iteration = trainerservice.trained(sdk, project.id, iteration.id)
    assert (iteration.status, iteration.exportable, iteration.exportable_to) == ("Completed", False, [])
    export = lambda: sdk.export_iteration(project.id, iteration.id, "ONNX")  # noqa: E731
    assert refused(export) == (400, "BadRequestExportValidationFailed")


def test_a_training_nobody_wants_any_more_is_ended(sdk: Sdk, running: Service, project: Any) -> None:
    for name in ("green", "brown"):
        upload(sdk, project.id, name, sdk.create_tag(project.id, name).id)
    for _ in range(3):
        sdk.delete_iteration(project.id, sdk.train_project(project.id).id)
    assert sdk.get_iterations(project.id) == []
    last = trainerservice.trained(sdk, project.id, sdk.train_project(project.id).id)
    assert (last.name, last.status) == ("Iteration 4", "Completed")


def test_an_import_token_is_not_guessed(sdk: Sdk, project: Any) -> None:
    for token in ("", "x", base64.urlsafe_b64encode(f"{project.id} 99999999999 00".encode()).decode()):
        code = "BadRequestInvalidImportToken" if token else "BadRequestRequiredParamIsNull"
        assert refused(lambda token=token: sdk.import_project(token)) == (400, code)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"images": 1}', b'{"images": [1]}', b'{"images": [{"regions": [{}]}]}']
)
def test_a_body_that_is_not_understood_is_a_bad_request(running: Service, project: Any, body: bytes) -> None:
    url = f"{running.url}{BASE}/projects/{project.id}/images/files"
    answer = requests.post(url, data=body, headers={"Training-Key": KEY}, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["code"].startswith("BadRequest")


def test_an_unknown_address_is_refused_in_the_gateways_shape(running: Service) -> None:
    answer = requests.get(
        f"{running.url}/customvision/v2.0/training/projects", headers={"Training-Key": KEY}, timeout=20
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "404")


def test_stored_images_of_others_are_not_reached_by_artifacts(sdk: Sdk, project: Any) -> None:
    for path in ("../../../trainer.db", "images/../x/original", f"images/{NOBODY}/huge"):
        with pytest.raises(HttpOperationError) as caught:
            sdk.get_artifact(project.id, path)
        assert caught.value.response.status_code == 400


def test_without_a_description_it_is_empty_as_the_cloud_says_it(sdk: Sdk, project: Any) -> None:
    assert sdk.get_project(project.id).description == ""
    assert sdk.create_tag(project.id, "green").description == ""


@pytest.mark.parametrize("host", ["a:99999999", "a:b"])
def test_a_host_that_is_none_is_a_bad_request(running: Service, host: str) -> None:
    answer = requests.get(f"{running.url}{BASE}/projects", headers={"Training-Key": KEY, "Host": host}, timeout=20)
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequestInvalid")
