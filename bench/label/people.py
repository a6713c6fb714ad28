"""Twenty people who label: each asks for images ahead, looks, and answers. A process of its own beside the server's."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import uuid
from collections import defaultdict
from typing import Any

import aiohttp

AHEAD = 6
THINKS = 0.7  # seconds from key to key; twenty people answer thirty images a second then


async def label(url: str, people: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each kind of request, once everybody has what they need."""
    took: defaultdict[str, list[float]] = defaultdict(list)
    async with asyncio.TaskGroup() as tasks:
        for nth in range(people):
            tasks.create_task(_person(url, f"person {nth}", seconds, took))
    return took


async def _person(url: str, name: str, seconds: float, took: dict[str, list[float]]) -> None:
    draw = random.Random(name)  # noqa: S311
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        csrf = (await _get(session, "/api/visit"))["csrf"]
        form = {"name": name, "csrf": csrf}
        async with session.post("/sign-in", data=form, allow_redirects=False) as answer:
            if answer.status != 303:
                raise RuntimeError(f"signing in failed: {await answer.text()}")
        session.headers["X-CSRF-Token"] = (await _get(session, "/api/visit"))["csrf"]
        ahead = await _more(session, [], defaultdict(list))
        end = time.monotonic() + seconds
        await asyncio.sleep(draw.random() * THINKS)
        while time.monotonic() < end and ahead:
            await asyncio.sleep(THINKS * (0.5 + draw.random()))
            await _answer(session, ahead.pop(0), took)
            ahead += await _more(session, ahead, took)


async def _more(
    session: aiohttp.ClientSession, ahead: list[dict[str, Any]], took: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """What the page asks for after each answer: the next sample, and its image."""
    have = ",".join(sample["key"] for sample in ahead)
    begin = time.perf_counter()
    told = await _get(session, f"/api/next?n={AHEAD - len(ahead)}&have={have}")
    took["next"].append((time.perf_counter() - begin) * 1000)
    for sample in told["samples"]:
        begin = time.perf_counter()
        async with session.get(f"{sample['image']}?w=1024") as answer:
            await answer.read()
            kind = "image" if answer.status == 200 else "image missing"
        took[kind].append((time.perf_counter() - begin) * 1000)
    samples: list[dict[str, Any]] = told["samples"]
    return samples


async def _answer(session: aiohttp.ClientSession, sample: dict[str, Any], took: dict[str, list[float]]) -> None:
    fields = {
        "id": uuid.uuid4().hex, "key": sample["key"], "kind": "tag", "tags": ["ripe"], "asked": sample["asked"],
    }  # fmt: skip
    begin = time.perf_counter()
    async with session.post("/api/answer", json=fields) as answer:
        await answer.read()
    took[f"answer {answer.status}"].append((time.perf_counter() - begin) * 1000)


async def _get(session: aiohttp.ClientSession, path: str) -> Any:
    async with session.get(path) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{path} failed: {await answer.text()}")
        return await answer.json()


if __name__ == "__main__":
    url_, people_, seconds_ = sys.argv[1:]
    sys.stdout.write(json.dumps(asyncio.run(label(url_, int(people_), float(seconds_)))))
