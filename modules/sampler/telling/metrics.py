"""The sampler's numbers for Prometheus; docs/METRICS.md says what each one means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ripeloop.errors import Offline
from ripeloop.prediction import parse_time
from ripeloop.spool import Spool
from sampler.index.outbox import Counters, Outbox
from sampler.telling.trouble import Troubles
from sampler.uploading.upload import Uploader

BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0)  # seconds
PREFIX = "sampler_"


class Metrics(Collector):
    """The page for Prometheus. What the index counts goes on over restarts; the rest is of one module life."""

    def __init__(
        self, outbox: Outbox, spool: Spool, uploader: Uploader, troubles: Troubles, expires: Callable[[], str]
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._uploader = uploader
        self._troubles = troubles
        self._expires = expires
        self._counters = Counters()
        self._usage = (0, 0)
        self._seconds = Histogram(
            f"{PREFIX}upload_seconds", "Uploads that arrived.", buckets=BUCKETS, registry=None
        )  # fmt: skip
        uploader.observe = self._seconds.observe
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The page for a reader with that Accept header, and its Content-Type."""
        with suppress(Offline):  # the index is away: the other numbers matter the more
            self._counters = await asyncio.to_thread(self._outbox.counters)
        with suppress(OSError):
            self._usage = await asyncio.to_thread(self._spool.usage)
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks for when a page is made."""
        counters, standing = self._counters, self._uploader.standing()
        yield _total("flagged", "Flagged images that came in.", counters.flagged)
        yield _total("kept", "Flagged images kept.", counters.kept)
        yield _totals("dropped", "Flagged images not kept.", "reason", counters.dropped)
        yield _totals("evicted", "Kept images given up before they were uploaded.", "reason", counters.evicted)
        yield _total("uploaded", "Images in the cloud.", counters.uploaded)
        yield _total("uploaded_bytes", "Bytes of the images in the cloud.", counters.uploaded_bytes)
        yield _gauge("waiting", "Images that wait for their upload.", counters.waiting)
        yield _gauge("waiting_bytes", "Bytes that wait for their upload.", counters.waiting_bytes)
        yield _gauge("oldest_waiting_seconds", "Age of the oldest that waits.", _age(counters.oldest_waiting))
        yield _gauge("set_aside", "Images set aside after failing too often.", counters.set_aside)
        yield _gauge("local_bytes", "Bytes in the local store.", counters.local_bytes)
        yield _gauge("spool_bytes", "Bytes waiting in the spool.", self._usage[0])
        yield _gauge("spool_images", "Images waiting in the spool.", self._usage[1])
        yield _gauge("online", "1 where the last upload arrived.", standing.online)
        yield _flags(
            "upload_closed", "Why no upload may begin.", "reason", [standing.closed.kind] if standing.closed else []
        )
        yield _flags("upload_trouble", "Why uploads do not arrive.", "kind", [standing.kind] if standing.kind else [])
        yield _totals("upload_failures", "Uploads that failed.", "kind", self._uploader.failures)
        for family in self._seconds.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
        yield _total("sent_bytes", "Bytes sent to the cloud, failed uploads included.", self._uploader.sent_bytes)
        yield _gauge("sent_today_bytes", "Bytes sent on this local day.", standing.spent)
        yield _flags("trouble", "What is wrong on the device.", "kind", self._troubles.now())
        yield _totals("troubles", "How often each trouble began.", "kind", self._troubles.counts())
        if expires := self._expires():
            moment = parse_time(expires).timestamp()
            yield _gauge("credential_expires_seconds", "When the cloud's credential ends, in Unix time.", moment)


def _age(captured_at: str) -> float:
    return max(0.0, (datetime.now(UTC) - parse_time(captured_at)).total_seconds()) if captured_at else 0.0


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", help_, value)


def _total(name: str, help_: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}{name}", help_, value)


def _totals(name: str, help_: str, label: str, counted: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", help_, labels=[label])
    for value, count in sorted(counted.items()):
        family.add_metric([value], count)
    return family


def _flags(name: str, help_: str, label: str, values: Iterable[str]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{name}", help_, labels=[label])
    for value in sorted(values):
        family.add_metric([value], 1)
    return family
