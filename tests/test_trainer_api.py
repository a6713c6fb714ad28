"""The trainer's service, driven through Custom Vision's own SDK: it cannot tell."""

from __future__ import annotations

import http.server
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace as Fruit
from typing import Any

import pytest
import requests
from aiohttp.test_utils import unused_port
from azure.cognitiveservices.vision.customvision.prediction import CustomVisionPredictionClient
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient, models
from PIL import Image

import trainerservice
from contract import CONTRACTS, FILES, Contract
from trainerservice import COMPACT, KEY, Service, jpeg, prediction_client, trained, training_client, upload

Sdk = CustomVisionTrainingClient
RESOURCE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    pictures = f"127.0.0.1:{unused_port()}"
    with trainerservice.service(tmp_path_factory.mktemp("trainer"), "--url-hosts", pictures, "--url-private") as one:
        one.pictures = pictures  # type: ignore[attr-defined]
        yield one


@pytest.fixture(scope="module")
def sdk(running: Service) -> Iterator[Sdk]:
    with training_client(running.url) as client:
        yield client


@pytest.fixture(scope="module")
def predicting(running: Service) -> Iterator[CustomVisionPredictionClient]:
    with prediction_client(running.url) as client:
        yield client


def new_project(sdk: Sdk, name: str, kind: str = "Multiclass", domain: str = COMPACT) -> Any:
    return sdk.create_project(name, domain_id=domain, classification_type=kind)


@pytest.fixture(scope="module")
def fruit(sdk: Sdk) -> Fruit:
    """A trained project of two tags, and one image nobody tagged."""
    project = new_project(sdk, "fruit")
    green, brown = (sdk.create_tag(project.id, name) for name in ("green", "brown"))
    images = {tag.id: upload(sdk, project.id, tag.name, tag.id) for tag in (green, brown)}
    untagged = sdk.create_images_from_data(project.id, jpeg("yellow", 0)).images[0].image
    iteration = sdk.train_project(project.id)
    assert (iteration.status, iteration.name) == ("Training", "Iteration 1")
    iteration = trained(sdk, project.id, iteration.id)
    assert iteration.status == "Completed", iteration.training_error_details
    return Fruit(id=project.id, green=green, brown=brown, images=images, untagged=untagged, iteration=iteration)


@pytest.mark.skipif(not CONTRACTS.is_dir(), reason="the contracts of ../shared are not here")
def test_every_operation_of_both_apis_is_driven_through_the_sdk() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_trainer_api*.py"))
    for name in FILES.values():
        for operation in Contract(CONTRACTS / name).operations:
            method = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower()
            assert f".{method}(" in source, method


def test_domains_say_what_can_be_exported(sdk: Sdk) -> None:
    all_ = sdk.get_domains()
    compact = next(one for one in all_ if one.name == "General (compact)" and one.type == "Classification")
    assert (compact.id, compact.exportable, compact.enabled) == (COMPACT, True, True)
    assert compact.exportable_platforms == ["ONNX"]
    assert sdk.get_domain(COMPACT).name == "General (compact)"
    assert not any(one.enabled for one in all_ if one.type == "ObjectDetection")


def test_a_project_is_made_found_changed_and_deleted(sdk: Sdk) -> None:
    made = sdk.create_project("a & b/ü", description="of fruit", target_export_platforms=["ONNX", "DockerFile"])
    assert made.settings.classification_type == "Multilabel"
    assert made.settings.domain_id == "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
    assert made.id in [one.id for one in sdk.get_projects()]
    made.name, made.settings.domain_id = "c", COMPACT
    assert sdk.update_project(made.id, made).name == "c"
    found = sdk.get_project(made.id)
    assert (found.name, found.description, found.settings.domain_id) == ("c", "of fruit", COMPACT)
    assert found.last_modified > found.created
    sdk.delete_project(made.id)
    assert made.id not in [one.id for one in sdk.get_projects()]


def test_tags_are_made_found_changed_and_deleted(sdk: Sdk) -> None:
    project = new_project(sdk, "tags")
    tag = sdk.create_tag(project.id, "ripe", description="yellow")
    negative = sdk.create_tag(project.id, "none of them", type="Negative")
    assert (negative.type, sdk.get_project(project.id).settings.use_negative_set) == ("Negative", True)
    upload(sdk, project.id, "yellow", tag.id, 2)
    assert [(one.name, one.image_count) for one in sdk.get_tags(project.id)] == [("none of them", 0), ("ripe", 2)]
    assert (
        sdk.update_tag(project.id, tag.id, models.Tag(name="eatable", description="", type="Regular")).name == "eatable"
    )
    assert sdk.get_tag(project.id, tag.id).image_count == 2
    sdk.delete_tag(project.id, tag.id)
    assert [one.id for one in sdk.get_tags(project.id)] == [negative.id]
    assert sdk.get_tagged_image_count(project.id) == 0
    assert sdk.get_image_count(project.id) == 2


def test_the_same_bytes_again_are_the_same_image_with_more_tags(sdk: Sdk) -> None:
    project = new_project(sdk, "twice", "Multilabel")
    one, two = (sdk.create_tag(project.id, name).id for name in ("one", "two"))
    first = sdk.create_images_from_data(project.id, jpeg("green", 0), tag_ids=[one])
    assert (first.is_batch_successful, first.images[0].status) == (True, "OK")
    again = sdk.create_images_from_data(project.id, jpeg("green", 0), tag_ids=[two])
    assert (again.is_batch_successful, again.images[0].status) == (False, "OKDuplicate")
    assert again.images[0].image.id == first.images[0].image.id
    assert {tag.tag_name for tag in again.images[0].image.tags} == {"one", "two"}


def test_images_come_from_urls_and_each_that_does_not_is_told_so(sdk: Sdk, running: Service) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/green.jpg" else 404)
            self.end_headers()
            self.wfile.write(jpeg("green", 0))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    host, port = running.pictures.split(":")  # type: ignore[attr-defined]
    project = new_project(sdk, "by url")
    with http.server.HTTPServer((host, int(port)), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            urls = [f"http://{host}:{port}/{name}" for name in ("green.jpg", "missing.jpg")]
            urls.append("http://169.254.169.254/latest/meta-data")
            entries = [models.ImageUrlCreateEntry(url=url) for url in urls]
            batch = models.ImageUrlCreateBatch(images=entries, metadata={"by": "url"})
            summary = sdk.create_images_from_urls(project.id, batch)
        finally:
            server.shutdown()
            thread.join()
    assert [one.status for one in summary.images] == ["OK", "ErrorSource", "ErrorSource"]
    assert [one.source_url for one in summary.images] == urls
    assert summary.images[0].image.metadata == {"by": "url"}


def test_images_are_listed_counted_and_filtered(sdk: Sdk) -> None:
    project = new_project(sdk, "lists", "Multilabel")
    one, two = (sdk.create_tag(project.id, name).id for name in ("one", "two"))
    first, second = upload(sdk, project.id, "green", one, 2)
    (third,) = upload(sdk, project.id, "brown", two, 1)
    fourth = sdk.create_images_from_data(project.id, jpeg("yellow", 1)).images[0].image.id
    assert [image.id for image in sdk.get_images(project.id)] == [fourth, third, second, first]
    assert [image.id for image in sdk.get_images(project.id, order_by="Oldest", take=2, skip=1)] == [second, third]
    assert [image.id for image in sdk.get_tagged_images(project.id, tag_ids=[two])] == [third]
    assert len(sdk.get_images(project.id, tag_ids=[one, two], tagging_status="Tagged")) == 3
    assert [image.id for image in sdk.get_untagged_images(project.id)] == [fourth]
    counts = (sdk.get_image_count(project.id), sdk.get_tagged_image_count(project.id, tag_ids=[one]))
    assert (*counts, sdk.get_untagged_image_count(project.id)) == (4, 2, 1)
    assert {image.id for image in sdk.get_images_by_ids(project.id, image_ids=[first, fourth])} == {first, fourth}
    summary = sdk.update_image_metadata(project.id, [first, second], {"device": "cam'1", "line": "3"})
    assert (summary.is_batch_successful, summary.images[0].status) == (True, "OK")
    sdk.update_image_metadata(project.id, [second], {"line": "4"})
    asked = "metadata=device eq 'cam''1' and line ne '4'"
    assert [image.id for image in sdk.get_images(project.id, filter=asked)] == [first]
    assert sdk.get_image_count(project.id, filter="metadata=line eq '4' or line eq '3'") == 2
    unknown = sdk.update_image_metadata(project.id, [project.id], {"a": "b"})
    assert (unknown.is_batch_successful, unknown.images[0].status) == (False, "ErrorImageNotFound")


def test_tags_are_given_and_taken(sdk: Sdk) -> None:
    project = new_project(sdk, "given")
    one, two = (sdk.create_tag(project.id, name).id for name in ("one", "two"))
    image = sdk.create_images_from_data(project.id, jpeg("green", 3)).images[0].image.id

    def give(tag: str) -> Any:
        entry = models.ImageTagCreateEntry(image_id=image, tag_id=tag)
        return sdk.create_image_tags(project.id, tags=[entry])

    assert [entry.tag_id for entry in give(one).created] == [one]
    assert [entry.tag_id for entry in give(one).duplicated] == [one]
    assert [entry.tag_id for entry in give(two).exceeded] == [two]  # of several classes an image has one
    sdk.delete_image_tags(project.id, [image], [one])
    assert give(two).created
    assert [tag.tag_name for tag in sdk.get_images_by_ids(project.id, [image])[0].tags] == ["two"]


def test_deleted_images_are_gone_from_the_workspace(sdk: Sdk) -> None:
    project = new_project(sdk, "deleted")
    tag = sdk.create_tag(project.id, "green").id
    first, *_ = upload(sdk, project.id, "green", tag, 3)
    sdk.delete_images(project.id, image_ids=[first])
    assert sdk.get_image_count(project.id) == 2
    assert sdk.get_tag(project.id, tag).image_count == 2
    sdk.delete_images(project.id, all_images=True, all_iterations=True)
    assert sdk.get_images(project.id) == []
    assert sdk.create_images_from_data(project.id, jpeg("green", 0)).images[0].status == "OK"


def test_a_training_gives_figures_for_every_threshold_from_cross_validation(sdk: Sdk, fruit: Fruit) -> None:
    iteration = fruit.iteration
    assert (iteration.exportable, iteration.exportable_to, iteration.training_type) == (True, ["ONNX"], "Regular")
    assert isinstance(iteration.trained_at, datetime)
    figures = sdk.get_iteration_performance(fruit.id, iteration.id, threshold=0.5, overlap_threshold=0.3)
    assert {one.name for one in figures.per_tag_performance} == {"green", "brown"}
    assert figures.precision == figures.recall == figures.average_precision == 1.0
    assert sdk.get_iteration_performance(fruit.id, iteration.id, threshold=1.0).recall == 0.0
    images = sdk.get_image_performances(fruit.id, iteration.id, tag_ids=[fruit.green.id], take=3)
    assert len(images) == 3
    assert [one.predictions[0].tag_name for one in images] == ["green"] * 3
    assert sum(one.probability for one in images[0].predictions) == pytest.approx(1, abs=1e-3)
    assert sdk.get_image_performance_count(fruit.id, iteration.id) == 10


def test_an_iteration_remembers_the_images_it_was_trained_on(sdk: Sdk, fruit: Fruit) -> None:
    seen = sdk.get_images(fruit.id, iteration_id=fruit.iteration.id, take=256)
    assert {image.id for image in seen} == {id_ for ids in fruit.images.values() for id_ in ids}
    assert {tag.name: tag.image_count for tag in sdk.get_tags(fruit.id, iteration_id=fruit.iteration.id)} == {
        "green": 5, "brown": 5,
    }  # fmt: skip
    assert sdk.get_untagged_image_count(fruit.id) >= 1
    assert sdk.get_untagged_image_count(fruit.id, iteration_id=fruit.iteration.id) == 0


def test_an_export_is_a_zip_that_a_device_fetches_without_a_key(sdk: Sdk, fruit: Fruit) -> None:
    assert sdk.get_exports(fruit.id, fruit.iteration.id) == []
    asked = sdk.export_iteration(fruit.id, fruit.iteration.id, "ONNX")
    assert (asked.platform, asked.status, asked.flavor) == ("ONNX", "Exporting", None)
    (export,) = sdk.get_exports(fruit.id, fruit.iteration.id)
    assert (export.status, export.flavor, export.newer_version_available) == ("Done", None, False)
    got = requests.get(export.download_uri, timeout=20)
    with zipfile.ZipFile(io.BytesIO(got.content)) as archive:
        assert archive.read("labels.txt").decode().split() == ["brown", "green"]
        assert json.loads(archive.read("cvexport.manifest"))["IterationId"] == fruit.iteration.id
    piece = requests.get(export.download_uri, headers={"Range": "bytes=100-199"}, timeout=20)
    assert (piece.status_code, piece.content) == (206, got.content[100:200])
    for wrong in (export.download_uri.replace("sig=", "sig=0"), export.download_uri.partition("?")[0]):
        assert requests.get(wrong, timeout=20).status_code == 403


def test_a_published_iteration_answers_by_its_name(
    sdk: Sdk, predicting: CustomVisionPredictionClient, fruit: Fruit
) -> None:
    assert sdk.publish_iteration(fruit.id, fruit.iteration.id, "Model 1", RESOURCE) is True
    found = sdk.get_iteration(fruit.id, fruit.iteration.id)
    assert (found.publish_name, found.original_publish_resource_id) == ("Model 1", RESOURCE)
    answer = predicting.classify_image(fruit.id, "Model 1", jpeg("green", 50), application="line 3")
    assert (answer.project, answer.iteration) == (fruit.id, fruit.iteration.id)
    assert (answer.predictions[0].tag_name, answer.predictions[0].tag_id) == ("green", fruit.green.id)
    unkept = predicting.classify_image_with_no_store(fruit.id, "Model 1", jpeg("brown", 51))
    assert unkept.predictions[0].tag_name == "brown"
    stored = sdk.query_predictions(fruit.id, models.PredictionQueryToken(application="line 3")).results
    assert [one.id for one in stored] == [answer.id]
    assert requests.get(stored[0].original_image_uri, timeout=20).content == jpeg("green", 50)
    elsewhere = "http://127.0.0.1:1/a.jpg"
    for call in (
        lambda: predicting.classify_image_url(fruit.id, "Model 1", url=elsewhere),
        lambda: predicting.classify_image_url_with_no_store(fruit.id, "Model 1", url=elsewhere),
    ):
        with pytest.raises(Exception, match="not listed") as refused:
            call()
        assert refused.value.error.code == "BadRequestImageUrl"
    sdk.unpublish_iteration(fruit.id, fruit.iteration.id)
    with pytest.raises(Exception, match="no iteration is published"):
        predicting.classify_image(fruit.id, "Model 1", jpeg("green", 50))


def test_stored_predictions_are_queried_page_by_page_learnt_from_and_deleted(sdk: Sdk, fruit: Fruit) -> None:
    for nth in range(60, 63):
        sdk.quick_test_image(fruit.id, jpeg("brown", nth), iteration_id=fruit.iteration.id)
    sdk.quick_test_image(fruit.id, jpeg("green", 60), store=False)
    brown = [models.PredictionQueryTag(id=fruit.brown.id, min_threshold=0.5, max_threshold=1.0)]
    token = models.PredictionQueryToken(
        order_by="Oldest", tags=brown, max_count=2, iteration_id=fruit.iteration.id, start_time=datetime(2026, 1, 1)
    )
    page = sdk.query_predictions(fruit.id, token)
    assert len(page.results) == 2
    rest = sdk.query_predictions(fruit.id, page.token)
    assert (len(rest.results), rest.token.continuation) == (1, "")
    ids = [one.id for one in (*page.results, *rest.results)]
    assert len(set(ids)) == 3
    batch = models.ImageIdCreateBatch(images=[models.ImageIdCreateEntry(id=ids[0])], tag_ids=[fruit.brown.id])
    added = sdk.create_images_from_predictions(fruit.id, batch)
    assert added.images[0].status == "OK"
    sdk.delete_images(fruit.id, image_ids=[added.images[0].image.id])
    sdk.delete_prediction(fruit.id, ids)
    assert sdk.query_predictions(fruit.id, models.PredictionQueryToken(tags=brown)).results == []
    with pytest.raises(Exception, match="not listed"):
        sdk.quick_test_image_url(fruit.id, url="http://127.0.0.1:1/a.jpg")


def test_doubtful_untagged_images_are_suggested(sdk: Sdk, fruit: Fruit) -> None:
    (made,) = sdk.suggest_tags_and_regions(fruit.id, fruit.iteration.id, [fruit.untagged.id])
    assert 0 < made.prediction_uncertainty <= 1
    token = models.SuggestedTagAndRegionQueryToken(
        tag_ids=[fruit.green.id, fruit.brown.id], threshold=0.1, sort_by="UncertaintyDescending", max_count=10
    )
    found = sdk.query_suggested_images(fruit.id, fruit.iteration.id, token)
    assert [one.id for one in found.results] == [fruit.untagged.id]
    likely = made.predictions[0].tag_id
    counts = sdk.query_suggested_image_count(fruit.id, fruit.iteration.id, tag_ids=[likely], threshold=0.2)
    assert counts == {likely: 1}


def test_a_project_goes_into_another_with_its_images_and_tags(sdk: Sdk, fruit: Fruit) -> None:
    exported = sdk.export_project(fruit.id)
    assert (exported.image_count, exported.tag_count) == (sdk.get_image_count(fruit.id), 2)
    copy = sdk.import_project(exported.token, name="the copy")
    assert (copy.name, copy.status) == ("the copy", "Succeeded")
    assert {tag.name: tag.image_count for tag in sdk.get_tags(copy.id)} == {"green": 5, "brown": 5}
    image = sdk.get_tagged_images(copy.id, take=1)[0]
    assert requests.get(image.original_image_uri, timeout=20).status_code == 200
    sdk.delete_project(copy.id)
    assert requests.get(sdk.get_images(fruit.id, take=1)[0].original_image_uri, timeout=20).status_code == 200


def test_images_are_seen_in_three_sizes_through_links_and_artifacts(sdk: Sdk) -> None:
    project = new_project(sdk, "sizes")
    buffer = io.BytesIO()
    Image.new("RGB", (1600, 800), "red").save(buffer, "PNG")
    image = sdk.create_images_from_data(project.id, buffer.getvalue()).images[0].image
    assert (image.width, image.height) == (1600, 800)
    sizes = {}
    for name in ("original_image_uri", "resized_image_uri", "thumbnail_uri"):
        got = requests.get(getattr(image, name), timeout=20)
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        sizes[name] = Image.open(io.BytesIO(got.content)).size
    assert sizes == {
        "original_image_uri": (1600, 800), "resized_image_uri": (1024, 512), "thumbnail_uri": (256, 128),
    }  # fmt: skip
    content = b"".join(sdk.get_artifact(project.id, f"images/{image.id}/original"))
    assert content == buffer.getvalue()


def test_iterations_are_renamed_and_deleted_and_multilabel_trains(sdk: Sdk) -> None:
    project = new_project(sdk, "several at once", "Multilabel")
    for name in ("green", "brown"):
        upload(sdk, project.id, name, sdk.create_tag(project.id, name).id)
    nothing = sdk.create_tag(project.id, "nothing", type="Negative")
    upload(sdk, project.id, "yellow", nothing.id)
    iteration = trained(sdk, project.id, sdk.train_project(project.id, notification_email_address="a@b.c").id)
    assert iteration.status == "Completed", iteration.training_error_details
    assert iteration.classification_type == "Multilabel"
    figures = sdk.get_iteration_performance(project.id, iteration.id, threshold=0.5)
    assert {one.name for one in figures.per_tag_performance} == {"green", "brown"}
    assert sdk.update_iteration(project.id, iteration.id, "the best").name == "the best"
    assert [one.name for one in sdk.get_iterations(project.id)] == ["the best"]
    sdk.delete_iteration(project.id, iteration.id)
    assert sdk.get_iterations(project.id) == []


def test_the_page_shows_trainings_to_who_has_the_key(running: Service, fruit: Fruit) -> None:
    assert requests.get(running.url, timeout=20).status_code == 401
    seen = requests.get(running.url, auth=("", KEY), timeout=20)
    assert "Iteration 1" in seen.text
    assert "Completed" in seen.text
    assert "script-src" not in seen.headers["Content-Security-Policy"]
    assert fruit.id not in seen.text
