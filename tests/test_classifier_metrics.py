"""`/metrics` tells what happened, as docs/METRICS.md says, and `/readyz` whether one more image would be taken."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from classifier.models.model import Model, load
from classifier.numbers.drift import ENOUGH
from classifier.numbers.metrics import Metrics
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.rollout.live import Live
from classifier.serving.classify import Classifier
from classifier.serving.handoff import Handoff
from classifier.serving.messages import Predictions
from colours import TAGS, files, picture, unsure_picture
from ripeloop.package import Package, write
from ripeloop.prediction import Prediction
from ripeloop.spool import Limits, Spool
from ripeloop.uncertainty import Policy
from ripeloop.validation import measured
from serving import ITERATION, MAX_BODY, serving
from wire import Wire

DOCS = Path(__file__).parents[1] / "docs" / "METRICS.md"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "package.zip"
    write(path, Package(files(), validation=measured(TAGS, [[Prediction("red", 0.9)]])))
    return load(path)


def read(page: str) -> dict[tuple[str, str], float]:
    """The samples by name and labels."""
    return {
        (sample.name, ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def series(page: str) -> dict[str, set[str]]:
    """The label names of each metric; a histogram counts as one."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            name = family.name if family.type == "histogram" else sample.name
            found.setdefault(name, set()).update(sample.labels)
    return found


def documented() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `(\w+)` \| (.*?)\| .+ \|$", DOCS.read_text(), re.MULTILINE)
    ours = [(name, labels) for name, labels in rows if not name.startswith("sampler_")]
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in ours}


@pytest.fixture
def told(loaded: Model, tmp_path: Path):
    """A classifier with everything on, its numbers, its metrics and its handoff."""
    counts, spool = Counts(), Spool(tmp_path, Limits(bytes=10_000_000, images=3))
    hub = Wire()
    handoff = Handoff(spool, hub, counts)
    classifier = Classifier(Live(loaded), counts, Thresholds(Policy(audit_rate=0)), handoff, max_in_flight=2)
    metrics = Metrics(classifier, counts, Predictions(hub), spool)
    return classifier, metrics, handoff


async def test_the_page_tells_what_happened(told: tuple[Classifier, Metrics, Handoff]) -> None:
    classifier, metrics, handoff = told
    async with handoff.running(), serving(classifier, metrics=metrics) as client:

        async def post(path: str, image: bytes) -> None:
            async with client.post(path, data=image) as response:
                await response.read()

        for n in range(4):
            await post("/image", unsure_picture(n))
        await post("/image", unsure_picture(0))
        await post("/image/nostore", picture("blue"))
        await post("/image", b"no image")
        await post("/image", bytes(MAX_BODY + 1))
        await post("/nowhere/at/all", b"")
        async with client.get("/metrics") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            page = await response.text()
    numbers = read(page)
    requests = {labels: value for (name, labels), value in numbers.items() if name == "classifier_requests_total"}
    assert requests == {"status=200": 6, "status=400": 1, "status=413": 1}  # what is posted elsewhere is no image
    assert numbers["classifier_flagged_total", "reason=low_confidence"] == 5
    assert numbers["classifier_dropped_total", "reason=duplicate"] == 1
    assert numbers["classifier_dropped_total", "reason=spool_full"] == 1
    assert numbers["classifier_stored_total", ""] == numbers["classifier_spool_images", ""] == 3
    assert numbers["classifier_spool_limit_images", ""] == 3
    assert 0 < numbers["classifier_spool_bytes", ""] < numbers["classifier_spool_limit_bytes", ""] == 10_000_000
    assert numbers["classifier_in_flight", ""] == 0
    assert numbers["classifier_request_seconds_count", ""] == numbers["classifier_request_seconds_bucket", "le=+Inf"]
    assert numbers["classifier_request_seconds_count", ""] == 6
    assert numbers["classifier_request_seconds_sum", ""] > 0
    assert numbers["classifier_model_info", f"tags=3,version={ITERATION}"] == 1
    tags = {labels for name, labels in numbers if name == "classifier_images_total"}
    assert tags <= {f"tag={tag}" for tag in TAGS}
    assert sum(value for (name, _), value in numbers.items() if name == "classifier_images_total") == 6


async def test_every_metric_is_documented_and_every_documented_one_is_there(
    told: tuple[Classifier, Metrics, Handoff],
) -> None:
    classifier, metrics, handoff = told
    metrics.messages[200] += 1
    async with handoff.running(), serving(classifier, metrics=metrics) as client:
        for n in range(ENOUGH):
            async with client.post("/image", data=unsure_picture(n)) as response:
                assert response.status == 200
        async with client.get("/metrics") as response:
            live = series(await response.text())
    assert live == documented()


async def test_what_is_posted_adds_no_series(told: tuple[Classifier, Metrics, Handoff]) -> None:
    classifier, metrics, handoff = told
    async with handoff.running(), serving(classifier, metrics=metrics) as client:

        async def seen() -> set[tuple[str, str]]:
            for n in range(30):
                async with client.post(f"/project{n}/classify/iterations/{n}/image", data=picture()) as response:
                    assert response.status == 200
                async with client.post(f"/no/{n}", data=b"") as response:
                    assert response.status == 404
            async with client.get("/metrics") as response:
                return set(read(await response.text()))

        assert await seen() == await seen()


async def test_a_reader_that_asks_for_openmetrics_gets_it(told: tuple[Classifier, Metrics, Handoff]) -> None:
    classifier, metrics, _ = told
    async with serving(classifier, metrics=metrics) as client:
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with client.get("/metrics", headers=headers) as response:
            assert response.headers["Content-Type"].startswith("application/openmetrics-text")
            families = list(openmetrics.text_string_to_metric_families(await response.text()))
    assert {"classifier_requests", "classifier_model"} <= {family.name for family in families}


async def test_without_a_spool_its_numbers_are_absent(loaded: Model) -> None:
    async with (
        serving(Classifier(Live(loaded), Counts(), Thresholds(Policy()))) as client,
        client.get("/metrics") as page,
    ):
        assert "classifier_spool" not in await page.text()


async def test_ready_means_that_one_more_image_would_be_taken(told: tuple[Classifier, Metrics, Handoff]) -> None:
    classifier, metrics, _ = told
    async with serving(classifier, metrics=metrics) as client:

        async def ready() -> tuple[int, str]:
            async with client.get("/readyz") as response:
                return response.status, (await response.json())["status"]

        assert await ready() == (200, "ready")
        with classifier.place(), classifier.place():
            assert await ready() == (503, "busy")
            async with client.get("/healthz") as response:
                assert response.status == 200
        assert await ready() == (200, "ready")


async def test_a_module_that_stops_is_no_longer_ready(loaded: Model) -> None:
    async with serving(Classifier(Live(loaded), Counts(), Thresholds(Policy()))) as client:
        await client.server.app.shutdown()
        async with client.get("/readyz") as response:
            assert (response.status, (await response.json())["status"]) == (503, "stopping")


@pytest.mark.parametrize("version", ["abc", "1.0.0; version=x", "", "1e9", "0.0.1", "-1"])
async def test_whatever_format_is_asked_for_the_page_comes(
    told: tuple[Classifier, Metrics, Handoff], version: str
) -> None:
    classifier, metrics, _ = told
    async with serving(classifier, metrics=metrics) as client:
        accept = f"application/openmetrics-text; version={version}"
        async with client.get("/metrics", headers={"Accept": accept}) as response:
            assert response.status == 200
            assert "classifier_in_flight" in await response.text()


def test_the_docs_say_each_thing_once() -> None:
    lines = [line for line in DOCS.read_text().splitlines() if len(line) > 40 and not line.startswith("|")]
    assert sorted(line for line, times in Counter(lines).items() if times > 1) == []
