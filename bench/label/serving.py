"""The labelling server over a full cache: its start, its first page, and what twenty people feel."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from bench.label.filled import fill, stock
from retrain.label.app import application
from retrain.label.serve import opened
from retrain.label.settings import Settings
from ripeloop.blobs import FolderBlobs

ROWS = 1_000_000
PEOPLE = 20
SECONDS = 60.0
STOCKED = 3000
NOWHERE = "DefaultEndpointsProtocol=http;BlobEndpoint=http://127.0.0.1:1/a;AccountName=a;AccountKey=a2V5"
START_SECONDS = 60


def measure(rows: int, people: int, seconds: float, folder: Path | None = None) -> dict[str, float]:
    """The figures, over a cache of `rows` samples; one that was filled before, where `folder` has it."""
    if folder is not None:
        return asyncio.run(_measured(folder, rows, people, seconds))
    with tempfile.TemporaryDirectory(prefix="ripeloop-bench-") as made:
        return asyncio.run(_measured(Path(made), rows, people, seconds))


async def _measured(state: Path, rows: int, people: int, seconds: float) -> dict[str, float]:
    settings = Settings(state, port=0)
    if not (state / "cache.db").exists():
        await fill(state / "cache.db", rows, settings.overlap)
    figures = await _started(state)
    blobs = FolderBlobs(state / "container")
    await stock(state / "cache.db", blobs, rows, STOCKED)
    async with _serving(settings, blobs) as url:
        took = await asyncio.to_thread(_people, url, people, seconds)
    for kind in ("next", "image"):
        figures |= {f"{kind}_p50_ms": _quantile(took[kind], 0.5), f"{kind}_p99_ms": _quantile(took[kind], 0.99)}
    answers = took.get("answer 200", [0.0])
    figures |= {"answer_p50_ms": _quantile(answers, 0.5), "answer_p99_ms": _quantile(answers, 0.99)}
    figures |= {"answers_per_second": len(answers) / seconds}
    figures |= {f"other_{kind}": float(len(found)) for kind, found in took.items()
                if kind not in ("next", "image", "answer 200")}  # fmt: skip
    return figures


async def _started(state: Path) -> dict[str, float]:
    """A real process on the warm cache, whose container cannot be reached: how soon it listens, and its first page."""
    command = [sys.executable, "-m", "retrain", "label", "--state", str(state), "--port", "0", "--cloud-blobs", NOWHERE]
    begin = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    assert process.stderr is not None  # noqa: S101
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (found := re.search(rb"listening on (http://[\w.:]+)", await process.stderr.readline())):
                pass
        listens = time.perf_counter() - begin
        begin = time.perf_counter()
        await _first_page(found[1].decode())
        return {"listens_seconds": listens, "first_page_seconds": time.perf_counter() - begin}
    finally:
        process.terminate()
        await process.communicate()


async def _first_page(url: str) -> None:
    """Sign in, the page, what it asks first: all that somebody waits for."""
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.get("/api/visit") as answer:
            csrf = (await answer.json())["csrf"]
        async with session.post("/sign-in", data={"name": "Kari", "csrf": csrf}) as answer:
            await answer.read()
        for path in ("/label", "/api/start", "/api/next?n=6"):
            async with session.get(path) as answer:
                await answer.read()


def _people(url: str, people: int, seconds: float) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "bench.label.people", url, str(people), str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


@asynccontextmanager
async def _serving(settings: Settings, blobs: FolderBlobs) -> AsyncIterator[str]:
    """The server without its scan, which would find the container smaller than the cache."""
    async with opened(settings, blobs) as parts:
        writing = asyncio.create_task(parts.answers.run())
        runner = web.AppRunner(application(parts), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
