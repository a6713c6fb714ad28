"""A labelling server on a free port of 127.0.0.1, the samples it serves, and people with a browser's habits."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from retrain.label.container.rows import key_of
from retrain.label.parts import Parts
from retrain.label.serve import running
from retrain.label.settings import Settings
from retrain.labels import Labels
from ripeloop.blobs import Blobs
from ripeloop.prediction import Flagged, Prediction, image_id
from sampler.sample import Sample

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def picture(nth: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A small JPEG, another one for each number."""
    file = io.BytesIO()
    Image.new("RGB", size, (nth * 37 % 256, nth * 11 % 256, nth % 256)).save(file, "JPEG")
    return file.getvalue() + nth.to_bytes(4, "big")


def sample_of(
    nth: int,
    *,
    image: bytes | None = None,
    device: str = "line-1",
    reason: str = "low_confidence",
    predictions: Sequence[tuple[str, float]] = (("ripe", 0.6), ("unripe", 0.4)),
    at: datetime | None = None,
    dhash: str = "",
) -> tuple[Sample, bytes]:
    """The sample a device would have sent, a minute after the one before."""
    image = picture(nth) if image is None else image
    flagged = Flagged(
        id=image_id(image),
        captured_at=at or NOON + timedelta(minutes=nth),
        reason=reason,
        predictions=tuple(Prediction(tag, probability) for tag, probability in predictions),
        model="m1",
        dhash=dhash,
    )
    return Sample.of(flagged, image, device=device, now=NOON), image


async def put(blobs: Blobs, nth: int, **about: Any) -> str:
    """Put one sample into the container; its key."""
    sample, image = sample_of(nth, **about)
    await blobs.put(sample.blob, image, sample.metadata(), sample.content_type)
    return key_of(sample.blob)


async def labels_in(blobs: Blobs) -> dict[str, Labels]:
    """What the container says of every sample, by key: the truth, whatever a server thinks."""
    return {key_of(blob.name): Labels.of(blob.metadata) async for blob in blobs.list()}


@asynccontextmanager
async def labelling(blobs: Blobs, state: Path, **options: Any) -> AsyncIterator[tuple[Parts, str]]:
    """A server over `blobs` that has listed them once; nothing is left to chance unless the options say so."""
    quiet: dict[str, Any] = {"overlap": 0.0, "blind": 0.0, "known": 0.0, "port": 0, "scan_seconds": 3600.0}
    async with running(Settings(state, **(quiet | options)), blobs) as (parts, url):
        await until(lambda: bool(parts.scan.progress.at or parts.scan.progress.why))
        await until(lambda: not parts.answers.away or bool(parts.scan.progress.why))
        yield parts, url


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so, twenty seconds at most."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it waits for knows nothing of tests
            await asyncio.sleep(0.01)


class Browser:
    """One person's browser: cookies, the CSRF token and the headers that browsers send."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.csrf = ""

    async def sign_in(self, name: str, token: str = "") -> int:
        """The status of signing in."""
        self.csrf = (await self.get("/api/visit"))[1]["csrf"]
        form = {"name": name, "token": token, "csrf": self.csrf, "next": "/label"}
        async with self.session.post(
            f"{self.url}/sign-in", data=form, headers={"Origin": self.url}, allow_redirects=False
        ) as answer:
            status = answer.status
        if status == 303:
            self.csrf = (await self.get("/api/visit"))[1]["csrf"]
        return status

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """The status and the JSON, or the text."""
        async with self.session.get(self.url + path, headers=headers, allow_redirects=False) as answer:
            return answer.status, await _body(answer)

    async def post(self, path: str, fields: Any, **headers: str) -> tuple[int, Any]:
        """The same, of something that changes."""
        own = {"Origin": self.url, "Sec-Fetch-Site": "same-origin", "X-CSRF-Token": self.csrf}
        async with self.session.post(
            self.url + path, json=fields, headers=own | headers, allow_redirects=False
        ) as answer:
            return answer.status, await _body(answer)

    async def nothing_waits(self) -> None:
        """Wait until every answer is in its blob."""
        async with asyncio.timeout(20):
            while (await self.get("/api/standing"))[1]["waiting"]:  # noqa: ASYNC110 - a server cannot tell us
                await asyncio.sleep(0.05)

    async def next(self, n: int = 1, query: str = "") -> list[dict[str, Any]]:
        """The next samples."""
        status, told = await self.get(f"/api/next?n={n}{query}")
        assert status == 200, told
        samples: list[dict[str, Any]] = told["samples"]
        return samples

    async def answer(
        self, sample: dict[str, Any], tag: str = "", kind: str = "tag", mode: str = "label", id_: str = ""
    ) -> tuple[int, Any]:
        """Press a key."""
        fields = {
            "id": id_ or uuid.uuid4().hex, "key": sample["key"], "kind": kind if not tag else "tag",
            "tags": [tag] if tag else [], "asked": sample.get("asked", ""), "seen": sample.get("seen", 0), "mode": mode,
        }  # fmt: skip
        return await self.post("/api/answer", fields)

    async def close(self) -> None:
        await self.session.close()


@asynccontextmanager
async def person(url: str, name: str, token: str = "") -> AsyncIterator[Browser]:
    """Somebody who has signed in."""
    browser = Browser(url)
    try:
        assert await browser.sign_in(name, token) == 303
        yield browser
    finally:
        await browser.close()


async def _body(answer: aiohttp.ClientResponse) -> Any:
    return await answer.json() if answer.content_type == "application/json" else await answer.text()
