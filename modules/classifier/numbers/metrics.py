"""The classifier's numbers for Prometheus; docs/METRICS.md says what each one means.

Nothing is labelled by what a client sends, so the number of series stays the same whatever is posted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from classifier.models.model import Model
from classifier.numbers.summary import Counts
from classifier.serving.classify import Classifier
from classifier.serving.messages import Predictions
from ripeloop.spool import Spool

BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)  # seconds
PREFIX = "classifier_"


class Metrics(Collector):
    """What is counted for Prometheus alone, and the page it reads. One for each application."""

    def __init__(
        self,
        classifier: Classifier,
        counts: Counts,
        predictions: Predictions | None = None,
        spool: Spool | None = None,
    ) -> None:
        self.statuses: Counter[int] = Counter()
        self.messages: Counter[int] = Counter()
        self._seconds = Histogram(
            f"{PREFIX}request_seconds",
            "From the head of a request to its answer, for images that were classified.",
            buckets=BUCKETS,
            registry=None,
        )
        self._classifier = classifier
        self._counts = counts
        self._predictions = predictions
        self._spool = spool
        self._usage = (0, 0)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def responded(self, status: int, seconds: float) -> None:
        """Count one answer to a posted image."""
        self.statuses[status] += 1
        if status == 200:
            self._seconds.observe(seconds)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The page for a reader with that Accept header, and its Content-Type."""
        if self._spool is not None:
            with suppress(OSError):  # the volume is away: the other numbers matter the more
                self._usage = await asyncio.to_thread(self._spool.usage)
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it names a version that is none
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks for when a page is made."""
        counts, model = self._counts, self._classifier.model
        yield _counter("requests", "Posted images by the status of the answer.", "status", self.statuses)
        for family in self._seconds.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
        yield _counter("messages", "Images that came as messages by the status of the answer.", "status", self.messages)
        yield _gauge("in_flight", "Requests held now.", self._classifier.in_flight)
        yield _counter("images", "Classified images by their likeliest tag.", "tag", counts.tags)
        yield _counter("flagged", "Images flagged as uncertain.", "reason", counts.flagged)
        yield _counter("dropped", "Flagged images that were not kept.", "reason", counts.dropped)
        yield CounterMetricFamily(f"{PREFIX}stored", "Flagged images put into the spool.", counts.stored)
        if self._predictions is not None:
            lost = self._predictions.lost
            yield CounterMetricFamily(f"{PREFIX}predictions_lost", "Predictions the hub did not take.", lost)
        if self._spool is not None:
            yield _gauge("spool_bytes", "Bytes waiting in the spool.", self._usage[0])
            yield _gauge("spool_images", "Images waiting in the spool.", self._usage[1])
            yield _gauge("spool_limit_bytes", "The most bytes the spool takes.", self._spool.limits.bytes)
            yield _gauge("spool_limit_images", "The most images the spool takes.", self._spool.limits.images)
        yield from self._drift(model)
        info = {"version": model.version, "tags": str(len(model.tags))}
        yield InfoMetricFamily(f"{PREFIX}model", "The model that answers.", info)

    def _drift(self, model: Model) -> Iterator[Metric]:
        if model.validation is None:
            return
        images = self._counts.window(model).images
        yield _gauge("drift_images", "Newest images that the drift is about.", images)
        if drift := self._counts.drift(model):
            family = GaugeMetricFamily(f"{PREFIX}drift", "Distance from the model's validation figures.", labels=["of"])
            family.add_metric(["confidence"], drift.confidence)
            family.add_metric(["tags"], drift.tags)
            yield family
            yield _gauge("drift_chance", "Drift that chance alone hardly exceeds.", drift.chance)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", help_, value)


def _counter(name: str, help_: str, label: str, counted: Counter[str] | Counter[int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", help_, labels=[label])
    for value, count in sorted(counted.items()):
        family.add_metric([str(value)], count)
    return family
