"""The official prediction client works against the classifier unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.cognitiveservices.vision.customvision.prediction import CustomVisionPredictionClient, models
from msrest.authentication import ApiKeyCredentials

from classifier.models.export import read
from classifier.models.model import Model, load
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.rollout.live import Live
from classifier.serving.classify import Classifier
from classifier.serving.handoff import Handoff
from classifier.serving.url import Hosts, fetching
from colours import TAGS, files, picture, unsure_picture, zipped
from ripeloop.errors import BadModel
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from ripeloop.uncertainty import Policy
from serving import ITERATION, MAX_BODY, PROJECT, TAG_IDS, serving
from wire import Wire

ASKED = "64b822c5-8082-4b36-a426-27225f4aa18c"
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose package knows where it was trained."""
    provenance = {"projectId": PROJECT, "tagIds": TAG_IDS, "unknown": [1]}
    content = files() | {"provenance.json": json.dumps(provenance).encode()}
    return load(zipped(tmp_path_factory.mktemp("model") / "e.zip", content))


@pytest.fixture
def classifier(loaded: Model) -> Classifier:
    return Classifier(Live(loaded), Counts(), Thresholds(Policy()))


@asynccontextmanager
async def asking(classifier: Classifier, key: str = KEY, **options: Any) -> AsyncIterator[Callable[..., Any]]:
    """Calls one method of the official client, which is synchronous, in a thread."""
    async with serving(classifier, **options) as server:
        credentials = ApiKeyCredentials(in_headers={"Prediction-key": key})
        with CustomVisionPredictionClient(str(server.make_url("/")), credentials) as client:

            async def ask(method: str, *arguments: Any, **more: Any) -> Any:
                return await asyncio.to_thread(getattr(client, method), ASKED, "Model 1", *arguments, **more)

            yield ask


@pytest.mark.parametrize("method", ["classify_image", "classify_image_with_no_store"])
async def test_the_official_client_gets_its_image_classified(classifier: Classifier, method: str) -> None:
    async with asking(classifier) as ask:
        answer = await ask(method, picture("blue"), application="line 3")
    assert isinstance(answer, models.ImagePrediction)
    assert (answer.project, answer.iteration) == (PROJECT, ITERATION)
    assert answer.id.replace("-", "") == image_id(picture("blue"))[:32]
    assert answer.created.tzinfo is not None
    assert abs((datetime.now(UTC) - answer.created).total_seconds()) < 10
    assert answer.predictions[0].tag_name == "blue"
    assert {p.tag_name: p.tag_id for p in answer.predictions} == {**TAG_IDS, "green": ""}
    likeliest_first = [p.probability for p in answer.predictions]
    assert likeliest_first == sorted(likeliest_first, reverse=True)
    assert likeliest_first[0] > 0.99
    assert all(p.bounding_box is None for p in answer.predictions)


@pytest.mark.parametrize("method", ["classify_image_url", "classify_image_url_with_no_store"])
async def test_the_official_client_gets_an_image_classified_by_url(
    classifier: Classifier, method: str, web_server: Any
) -> None:
    web_server.add("/lime.png", body=picture("lime"))
    hosts = Hosts.parse(web_server.host, private=True)
    async with fetching(hosts, max_bytes=MAX_BODY) as fetch, asking(classifier, fetch=fetch) as ask:
        answer = await ask(method, f"http://{web_server.host}/lime.png")
    assert answer.predictions[0].tag_name == "green"


async def test_a_url_is_refused_in_words_the_client_understands(classifier: Classifier) -> None:
    async with asking(classifier) as ask:
        with pytest.raises(models.CustomVisionErrorException) as refused:
            await ask("classify_image_url", "http://127.0.0.1/a.png")
    assert refused.value.response.status_code == 404
    assert "post the image itself" in refused.value.error.message


async def test_a_refusal_reaches_the_clients_own_exception(classifier: Classifier) -> None:
    async with asking(classifier) as ask:
        for body, status, code in [
            (b"no image", 400, "BadRequestImageFormat"),
            (bytes(MAX_BODY + 1), 413, "BadRequestImageSizeBytes"),
        ]:
            with pytest.raises(models.CustomVisionErrorException) as refused:
                await ask("classify_image", body)
            assert refused.value.response.status_code == status
            assert refused.value.error.code == code


async def test_only_who_knows_the_key_is_answered(classifier: Classifier) -> None:
    async with asking(classifier, prediction_key=KEY) as ask:
        assert (await ask("classify_image", picture())).predictions[0].tag_name == "red"
    async with asking(classifier, "another", prediction_key=KEY) as ask:
        with pytest.raises(models.CustomVisionErrorException) as refused:
            await ask("classify_image", picture())
        assert refused.value.response.status_code == 401
        assert refused.value.response.json()["error"]["code"] == "401"


@pytest.mark.parametrize("given", [None, "", KEY[:-1], f"{KEY}0", KEY.upper(), "schlüssel"])
async def test_a_wrong_key_opens_no_route_and_the_others_stay_open(classifier: Classifier, given: str | None) -> None:
    headers = {} if given is None else {"Prediction-Key": given}
    async with serving(classifier, prediction_key=KEY) as client:
        for route in ("/image", "/p/image", "/url", f"/customvision/v3.0/prediction/{ASKED}/classify/iterations/M/url"):
            async with client.post(route, data=picture(), headers=headers) as response:
                assert response.status == 401
        for route in ("/", "/healthz", "/readyz", "/metrics"):
            async with client.get(route, headers=headers) as response:
                assert response.status == 200


@pytest.mark.parametrize("api", ["v3.0", "v3.1"])
async def test_both_versions_of_the_api_are_served_and_no_other(classifier: Classifier, api: str) -> None:
    async with serving(classifier) as client:
        route = "/customvision/{}/prediction/p/classify/iterations/m/image"
        async with client.post(route.format(api), data=picture()) as response:
            assert response.status == 200
            assert (await response.json())["created"].endswith("Z")
        for path in (route.format("v3x0"), route.format("v2.0"), route.format(api).replace("classify", "detect")):
            async with client.post(path, data=picture()) as response:
                assert response.status == 404


async def test_what_the_package_does_not_know_stays_empty(tmp_path: Path) -> None:
    content = files()
    del content["cvexport.manifest"]
    model = load(zipped(tmp_path / "e.zip", content))
    async with asking(Classifier(Live(model), Counts(), Thresholds(Policy()))) as ask:
        answer = await ask("classify_image", picture())
    assert (answer.project, answer.iteration) == (ASKED, "")
    assert {p.tag_name: p.tag_id for p in answer.predictions} == dict.fromkeys(TAGS, "")


async def test_nostore_never_flags_and_the_other_does(loaded: Model, tmp_path: Path) -> None:
    counts, spool = Counts(), Spool(tmp_path)
    handoff = Handoff(spool, Wire(), counts)
    classifier = Classifier(Live(loaded), counts, Thresholds(Policy()), handoff)
    async with handoff.running(), asking(classifier) as ask:
        await ask("classify_image", unsure_picture(1))
        await ask("classify_image_with_no_store", unsure_picture(2))
    assert spool.ids() == [image_id(unsure_picture(1))]


def test_a_provenance_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"provenance\.json is not"):
        read(zipped(tmp_path / "e.zip", files() | {"provenance.json": b"["}))
    odd = files() | {"provenance.json": b'{"projectId": null, "tagIds": [1]}'}
    assert read(zipped(tmp_path / "f.zip", odd)).tag_ids == {}
