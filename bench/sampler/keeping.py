"""How many images a second go from the spool into the index and a folder store, on how much CPU.

The whole way: taken, judged, stored, indexed, looked at again, and freed from the spool.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from bench.sampler.pictures import flagged_images
from ripeloop.blobs import FolderBlobs
from ripeloop.spool import Spool
from sampler.index.outbox import Outbox
from sampler.keeping.inbox import Inbox
from sampler.keeping.retention import Retention
from sampler.telling.steering import Steering

IMAGES = 2000
BYTES = 60_000


def measure(images: int = IMAGES, size: int = BYTES) -> dict[str, float]:
    """Images a second by the clock and by the CPU."""
    with tempfile.TemporaryDirectory(prefix="ripeloop-bench-") as folder:
        return asyncio.run(_measure(Path(folder), images, size))


async def _measure(folder: Path, images: int, size: int) -> dict[str, float]:
    spool, outbox, local = Spool(folder / "spool"), Outbox(folder / "outbox.db"), FolderBlobs(folder / "local")
    outbox.completed()
    for flagged, image in flagged_images(images, size):
        spool.put(flagged, image)
    inbox = Inbox(spool, outbox, local, device="line-1", steering=Steering, kept=lambda: None)
    retention = Retention(outbox, spool, local, steering=Steering, proven_after=timedelta(0))
    clock, cpu = time.perf_counter(), time.process_time()
    await inbox.empty()
    kept, kept_cpu = time.perf_counter() - clock, time.process_time() - cpu
    await retention.prove()
    await inbox.empty()
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    counters = outbox.counters()
    outbox.close()
    if counters.kept != images or spool.ids():
        raise AssertionError(f"{counters} of {images} images")
    return {
        "kept_per_second": images / kept,
        "kept_per_cpu_second": images / kept_cpu,
        "kept_and_freed_per_second": images / clock,
        "kept_and_freed_per_cpu_second": images / cpu,
    }
