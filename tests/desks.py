"""The labelling page over a folder of drawn bananas, and a real Chromium to look at it."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from demo import bananas
from retrain.label.container.samples import key_of
from retrain.label.serve import running
from retrain.label.settings import Settings
from retrain.labels import TAG, Answer, Labels
from ripeloop.blobs import Blob, FolderBlobs
from ripeloop.prediction import Flagged, Prediction, format_time, image_id
from sampler.sample import Sample

CONTAINER = "samples"
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
STARTS_WITHIN = 30.0
GLANCE = 0.15  # seconds; the page takes no answer to a picture that was there for less than that
SHOTS = Path(".cache/screenshots")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
# started as root in a container, and with no network but this machine's
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def predicted(ripeness: float) -> tuple[Prediction, ...]:
    """What a model that is nearly sure says of fruit this ripe."""
    weights = {"unripe": 1 - 2.2 * ripeness, "ripe": 1 - 2.4 * abs(ripeness - 0.5), "overripe": 2 * ripeness - 1}
    kept = {tag: max(weight, 0.01) for tag, weight in weights.items()}
    shares = [Prediction(tag, round(weight / sum(kept.values()), 4)) for tag, weight in kept.items()]
    return tuple(sorted(shares, key=lambda one: -one.probability))


@cache
def drawn(nth: int, size: int = 160) -> bananas.Drawn:
    return bananas.random_picture(7, nth, size)


async def fill(folder: Path, pictures: int, *, size: int = 160, start: int = 0, device: str = "") -> None:
    """That many samples, as devices send them, in the container of `folder`."""
    blobs = FolderBlobs(folder / CONTAINER)
    for nth in range(start, start + pictures):
        picture = drawn(nth, size)
        record = Flagged(
            id=image_id(picture.jpeg),
            captured_at=NOW - timedelta(minutes=nth),
            reason="audit" if nth % 7 == 6 else "low_confidence",
            predictions=predicted(picture.ripeness),
            model="v1",
        )
        sample = Sample.of(record, picture.jpeg, device=device or f"line-{1 + nth % 3}", now=NOW)
        await blobs.put(sample.blob, picture.jpeg, sample.metadata(), sample.content_type)


class Server:
    """The labelling server over a folder; it can go away and come back in the same place."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.blobs = FolderBlobs(folder / CONTAINER)
        plain = {"tags": ("unripe", "ripe", "overripe"), "admins": ("Kari",), "overlap": 0.0, "known": 0.0}
        self._settings = Settings(folder / "state", port=free_port(), scan_seconds=0.5, **plain | settings)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._settings.port}"

    async def start(self) -> Server:
        """Listening, with the container listed."""
        self._stop.clear()
        listens = asyncio.Event()
        self._task = asyncio.create_task(self._run(listens))
        async with asyncio.timeout(STARTS_WITHIN):
            await listens.wait()
        return self

    async def stop(self) -> None:
        if self._task is not None:
            self._stop.set()
            await self._task
            self._task = None

    async def labels(self) -> list[Labels]:
        """What has been answered, of those images that have an answer."""
        found = [Labels.of(blob.metadata) async for blob in self.blobs.list()]
        return [labels for labels in found if labels.answers]

    async def labels_of(self, key: str) -> Labels:
        return Labels.of((await self.blob_of(key)).metadata)

    async def blob_of(self, key: str) -> Blob:
        """The blob behind the image of that key."""
        found = {key_of(blob.name): blob async for blob in self.blobs.list()}
        return found[key]

    async def answer_as(self, name: str, key: str, tag: str) -> None:
        """What somebody at another server says, straight into the container."""
        blob = await self.blob_of(key)
        answer = Answer(TAG, (tag,), name, format_time(datetime.now(UTC)), "blind")
        await self.blobs.mark(blob.name, Labels.of(blob.metadata).with_answer(answer).into(blob.metadata), blob.etag)

    async def _run(self, listens: asyncio.Event) -> None:
        async with running(self._settings, self.blobs) as (parts, _):
            while not parts.scan.progress.at:  # noqa: ASYNC110 - the scan tells nobody when it is through
                await asyncio.sleep(0.01)
            listens.set()
            await self._stop.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Desk:
    """One person's page, and what its console said."""

    page: Page
    server: Server
    said: list[str]

    async def open(self, path: str = "/label") -> Desk:
        await self.page.goto(self.server.url + path)
        await self.ready()
        return self

    async def ready(self) -> None:
        await self.page.wait_for_selector(".frame.shown, .tile, #calm:not([hidden])")
        await self.page.wait_for_selector(".tag")

    async def shows_image(self) -> str:
        """The key of the image on the screen, decoded."""
        await self.page.wait_for_function(SHOWN, polling=10)
        await self.page.evaluate(DECODED)
        return str(await self.page.evaluate(KEY))

    async def sees_tiles(self) -> None:
        """Tiles are on the screen, those that are picked have their pictures."""
        await self.page.wait_for_function(SEEN)

    async def picks_all_tiles(self) -> None:
        """Also those that do not look like the first, after a look at each, below the fold too."""
        await self.page.keyboard.press("a")
        await self.page.evaluate(LOOK)

    async def next_after(self, key: str) -> str:
        """The image that has come instead of that one."""
        await self.page.wait_for_function(f"() => ({SHOWN})() && ({KEY})() !== '{key}'", polling=10)
        return await self.shows_image()

    async def press(self, key: str) -> str:
        """Press a key once the image is there; the image that was answered."""
        key_of_image = await self.shows_image()
        await asyncio.sleep(GLANCE)
        await self.page.keyboard.press(key)
        return key_of_image

    async def sent(self) -> None:
        """Nothing waits in the browser any more."""
        await self.page.wait_for_function("() => document.getElementById('unsent').textContent === '0'")

    async def shot(self, name: str) -> None:
        """Keep what it looks like now."""
        await asyncio.to_thread(SHOTS.mkdir, parents=True, exist_ok=True)
        await self.page.screenshot(path=SHOTS / f"{name}.png")


SHOWN = """() => {
  const shown = document.querySelector('.frame.shown');
  return shown && shown.complete && shown.naturalWidth > 0 && document.getElementById('calm').hidden;
}"""
DECODED = "() => document.querySelector('.frame.shown')?.decode().catch(() => {})"  # the page's own call came first
SEEN = """() => {
  const tiles = [...document.querySelectorAll('.tile[aria-selected="true"]')];
  return tiles.length && tiles.every((one) => one.seen && one.querySelector("img").complete);
}"""
LOOK = """async () => {
  for (const tile of document.querySelectorAll(".tile")) {
    tile.scrollIntoView();
    while (!tile.seen || !tile.querySelector("img").complete) await new Promise(requestAnimationFrame);
  }
}"""
KEY = "() => new URL(document.querySelector('.frame.shown').src).pathname.split('/').at(-1)"


class Browsers:
    """Signed-in pages, each person in a browser of their own."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.contexts: list[BrowserContext] = []
        self.desks: list[Desk] = []

    async def desk(self, server: Server, name: str = "Ola", path: str = "/label", **context: Any) -> Desk:
        """Signed in as that person, with the page open."""
        desk = await self.stranger(server, **context)
        await desk.page.goto(f"{server.url}/sign-in?next={path}")
        await desk.page.fill("#name", name)
        await desk.page.click("main button.main")
        await desk.ready()
        return desk

    async def stranger(self, server: Server, **context: Any) -> Desk:
        """A page of somebody who has not signed in."""
        settings = {"viewport": {"width": 1366, "height": 768}, "locale": "en-GB"} | context
        opened = await self._browser.new_context(**settings)
        opened.set_default_timeout(15000)
        self.contexts.append(opened)
        page = await opened.new_page()
        desk = Desk(page, server, [])
        page.on("console", lambda message: desk.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: desk.said.append(f"error: {error}"))
        self.desks.append(desk)
        return desk

    async def close(self) -> None:
        for context in self.contexts:
            await context.close()


def complaints(desk: Desk) -> list[str]:
    """What the console said that no lost network explains; a browser's notes to itself are none."""
    return [line for line in desk.said if "Failed to load resource" not in line and not line.startswith("info:")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    if not CHROMIUM:
        pytest.skip("no Chromium here: `apt-get install chromium` brings it")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def browsers(chromium: Browser) -> AsyncIterator[Browsers]:
    """People's browsers; a page whose scripts fail, or that breaks its own policy, fails the test."""
    opened = Browsers(chromium)
    try:
        yield opened
    finally:
        await opened.close()
    assert [line for desk in opened.desks for line in complaints(desk)] == []


@pytest_asyncio.fixture(loop_scope="module")
async def label_server(tmp_path: Path) -> AsyncIterator[Any]:
    """Starts a labelling server over so many pictures, with these settings."""
    started: list[Server] = []

    async def start(pictures: int = 30, size: int = 160, **settings: Any) -> Server:
        await fill(tmp_path, pictures, size=size)
        started.append(Server(tmp_path, **settings))
        return await started[-1].start()

    yield start
    for server in started:
        await server.stop()


@asynccontextmanager
async def away(server: Server) -> AsyncIterator[None]:
    """While the server is not there."""
    await server.stop()
    yield
    await server.start()


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait until it does."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def finals(found: Sequence[Labels]) -> Counter[tuple[str, ...]]:
    """How many images are what."""
    return Counter((labels.final.kind, *labels.final.tags) for labels in found if labels.final)


async def text(desk: Desk, selector: str) -> str:
    """What stands there."""
    return (await desk.page.inner_text(selector)).strip()
