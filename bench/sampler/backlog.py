"""A long time offline: how fast the sampler decides with many rows, starts with a backlog, and how much memory it has.

The memory and the start are those of a real process, started on a folder another process left behind.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path

from bench.sampler.pictures import record
from sampler.index.outbox import Kept, Outbox
from sampler.keeping.judge import Judge
from sampler.keeping.keep import Rules
from sampler.sample import Sample

ROWS = 1_000_000
BACKLOG = 100_000
DECISIONS = 300
PAGE = 20_000
WAIT_SECONDS = 60.0


def measure(rows: int = ROWS, backlog: int = BACKLOG) -> dict[str, float]:
    """Milliseconds for a decision, with and without a full budget; seconds to start, and megabytes."""
    with tempfile.TemporaryDirectory(prefix="ripeloop-bench-") as folder:
        return deciding(Path(folder) / "outbox.db", rows) | starting(Path(folder) / "state", backlog)


def deciding(path: Path, rows: int = ROWS) -> dict[str, float]:
    """How long judging one image takes on an index of `rows` samples."""
    outbox = filled(path, rows, datetime.now(UTC))
    full = Rules(max_per_hour=1, max_per_day=100, max_per_tag=100, max_per_reason=100)
    day = Rules(max_per_day=100)
    figures = {
        "decide_ms": _decide(outbox, Rules()),
        "decide_over_budget_ms": _decide(outbox, full),
        "decide_over_a_days_budget_ms": _decide(outbox, day),
        "counters_ms": _milliseconds(outbox.counters),
        "rows": float(outbox.counters().kept),
    }
    outbox.close()
    return figures


def starting(state: Path, backlog: int = BACKLOG) -> dict[str, float]:
    """How long a sampler takes to start after a kill with `backlog` images to upload, and its memory."""
    outbox = filled(state / "outbox.db", backlog, datetime.now(UTC))
    outbox.completed()
    outbox.close()
    with _sampler(state):
        pass  # killed: what follows is a start after a kill
    begin = time.perf_counter()
    with _sampler(state) as process:
        seconds = time.perf_counter() - begin
        time.sleep(3)
        megabytes = _peak_megabytes(process.pid)
    return {"start_seconds": seconds, "peak_megabytes": megabytes, "backlog": float(backlog)}


def filled(path: Path, rows: int, now: datetime) -> Outbox:
    """An index of `rows` waiting samples, kept in the last weeks, one every two seconds."""
    outbox = Outbox(path)
    rng = random.Random(1)  # noqa: S311
    for first in range(0, rows, PAGE):
        page = range(first, min(first + PAGE, rows))
        outbox.settle([_kept(n, rng, now - timedelta(seconds=(rows - n) * 2)) for n in page], [])
    return outbox


def _kept(n: int, rng: random.Random, at: datetime) -> Kept:
    flagged = record(n, hashlib.sha256(str(n).encode()).hexdigest(), rng)
    return Kept(Sample.of(flagged, b"\xff\xd8\xff", device="line-1", now=at), rng.random())


def _decide(outbox: Outbox, rules: Rules) -> float:
    judge = Judge(outbox, device="line-1", rules=lambda: rules)
    rng = random.Random(2)  # noqa: S311
    # as new as the newest known, so that their looks are compared
    ids = (hashlib.sha256(f"new {n}".encode()).hexdigest() for n in count())
    n = int(outbox.counters().kept) - 1
    images = [(record(n, id_, rng), b"\xff\xd8\xff") for id_ in islice(ids, DECISIONS)]
    judge.judge(images[:1], (), datetime.now(UTC))
    begin = time.perf_counter()
    for first in range(0, DECISIONS, 10):
        judge.judge(images[first : first + 10], (), datetime.now(UTC))
    return (time.perf_counter() - begin) / DECISIONS * 1000


def _milliseconds(call: object) -> float:
    begin = time.perf_counter()
    for _ in range(20):
        call()  # type: ignore[operator]
    return (time.perf_counter() - begin) / 20 * 1000


@contextmanager
def _sampler(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sampler that has begun to look into its spool, killed at the end."""
    spool = state / "spool"
    spool.mkdir(exist_ok=True)
    seen = spool / f"{'0' * 64}.sample"  # damaged, so that it leaves a trace as soon as it is looked at
    seen.write_bytes(b"")
    environment = {**os.environ, "SAMPLER_SPOOL": str(spool), "SAMPLER_STATE": str(state)}
    process = subprocess.Popen([sys.executable, "-m", "sampler"], env=environment, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + WAIT_SECONDS
        while seen.exists():
            if time.monotonic() > ends or process.poll() is not None:
                raise RuntimeError("the sampler does not start: run `python -m sampler` to see why")
            time.sleep(0.01)
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _peak_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("this system does not tell a process's memory")
