"""The model behind one reference: requests keep theirs, the old one is freed, memory stays flat."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
import statistics
import time
import weakref
from pathlib import Path

from classifier.models.model import Model, load
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.rollout.live import Live
from classifier.rollout.watch import Figures
from classifier.serving.classify import Classifier
from colours import files, model, picture, unsure_picture, zipped
from ripeloop.uncertainty import Policy

POLICY = Policy(confidence_below=0.8, margin_below=0, entropy_above=0, audit_rate=1.0)


def made(folder: Path, version: str, onnx: bytes | None = None) -> Model:
    return load(zipped(folder / f"{version}.zip", files(onnx, IterationId=version)))


def resident() -> int:
    """The process's memory in KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


async def test_a_request_keeps_the_model_it_began_with(tmp_path: Path) -> None:
    live = Live(made(tmp_path, "one"))
    classifier = Classifier(live, Counts(), Thresholds(POLICY))
    large = picture(size=(5000, 5000))
    task = asyncio.create_task(classifier.classify(large))
    await asyncio.sleep(0.02)
    live.swap(made(tmp_path, "two"))
    after = await classifier.classify(picture())
    before = await task
    classifier.close()
    assert (before.model.version, after.model.version) == ("one", "two")


async def test_the_old_model_is_freed_after_its_last_request(tmp_path: Path) -> None:
    live = Live(made(tmp_path, "one"))
    old = weakref.ref(live.model)
    classifier = Classifier(live, Counts(), Thresholds(POLICY))
    task = asyncio.create_task(classifier.classify(picture(size=(5000, 5000))))
    await asyncio.sleep(0.02)
    live.swap(made(tmp_path, "two"))
    assert old() is not None
    await task
    del task
    await classifier.classify(picture())  # the worker thread forgets its last job with the next one
    classifier.close()
    gc.collect()
    assert old() is None


async def test_the_figures_are_of_one_model(tmp_path: Path) -> None:
    live = Live(made(tmp_path, "one"))
    classifier = Classifier(live, Counts(), Thresholds(POLICY))
    for n in range(4):
        await classifier.classify(unsure_picture(n))
    await classifier.classify(picture(), keep=False)
    figures = live.serving.figures
    assert (figures.answered, figures.failed, figures.judged, figures.flagged) == (
        5,
        0,
        5,
        4,
    )  # what the audit keeps counts for nobody
    assert 0 < figures.p50 < 1
    live.swap(made(tmp_path, "two"))
    assert live.serving.figures == Figures()
    live.serving.failed()
    assert live.serving.figures == Figures(failed=1)
    classifier.close()


async def test_fifty_swaps_under_load_fail_no_request_and_leave_memory_flat(tmp_path: Path) -> None:
    big = 1 << 20  # bytes of weights nobody uses, so that a leaked model shows
    packages = [
        zipped(tmp_path / f"{n}.zip", files(model(metadata={"n": str(n), "weight": "x" * 8 * big}), IterationId=str(n)))
        for n in range(2)
    ]
    live = Live(load(packages[0]))
    classifier = Classifier(live, Counts(), Thresholds(POLICY), workers=2)
    seconds: list[float] = []
    versions: set[str] = set()
    going = True

    async def camera(number: int) -> None:
        image = picture(("red", "green", "blue")[number % 3])
        while going:
            started = time.perf_counter()
            answer = await classifier.classify(image)
            seconds.append(time.perf_counter() - started)
            versions.add(answer.model.version)
            assert max(answer.predictions, key=lambda p: p.probability).tag == ("red", "green", "blue")[number % 3]

    cameras = [asyncio.create_task(camera(n)) for n in range(4)]
    after_ten = 0
    for n in range(1, 61):
        live.swap(await asyncio.to_thread(load, packages[n % 2]))
        await asyncio.sleep(0.02)
        if n == 10:
            after_ten = resident()
    grown = resident() - after_ten
    going = False
    await asyncio.gather(*cameras)
    classifier.close()
    assert versions == {"0", "1"}
    assert grown < 40_000, f"50 swaps of models of 8 MiB grew the memory by {grown} KiB"
    assert len(seconds) > 500
    typical = statistics.median(seconds)
    assert sorted(seconds)[int(len(seconds) * 0.99)] < 0.5, f"the median is {typical * 1000:.1f} ms"


def test_a_swap_waits_for_nothing(tmp_path: Path) -> None:
    live = Live(made(tmp_path, "one"))
    models = itertools.cycle([made(tmp_path, "two"), live.model])
    started = time.thread_time()
    for _ in range(1000):
        live.swap(next(models))
    assert time.thread_time() - started < 0.5
