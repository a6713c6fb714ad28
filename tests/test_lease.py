"""One holder at a time: a folder, Azurite as the device's store and as the cloud's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from azurite import Azurite
from ripeloop import bloblease
from ripeloop.bloblease import kept
from ripeloop.blobs import AzureBlobs, Blobs, open_blobs
from ripeloop.errors import Offline, Refused

ME = "8e2f1a10-6a35-4b0e-9a38-0f2b8a3b9e11"
HOLD = """
import asyncio, sys
from ripeloop.blobs import open_blobs
async def main():
    async with open_blobs(*sys.argv[1:3], sys.argv[3] or None) as blobs, blobs.lease("turn", "the first", sys.argv[4]):
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture(params=["folder", "device", "cloud"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, str | None]:
    container = f"c{uuid.uuid4().hex}"
    if request.param == "folder":
        return str(tmp_path / "blobs"), container, None
    azurite: Azurite = request.getfixturevalue(f"azurite_{request.param}")
    return azurite.connection_string, container, azurite.api_version


@pytest.fixture
async def blobs(store: tuple[str, str, str | None]) -> AsyncIterator[Blobs]:
    async with open_blobs(*store) as opened:
        yield opened


async def test_a_second_one_is_told_who_holds_it_since_when_and_what_to_do(blobs: Blobs) -> None:
    async with blobs.lease("turn", "line café"):
        with pytest.raises(Refused, match=r"line café has the lease since 20\d\d-.*Z: wait until that ends") as told:
            async with blobs.lease("turn", "another"):
                pytest.fail("two hold it")
        assert told.value.kind == "leased"
        async with blobs.lease("another", "another"):
            pass
    async with blobs.lease("turn", "another"):
        pass


async def test_no_listing_shows_it(blobs: Blobs) -> None:
    async with blobs.lease("turn", "me"):
        await blobs.put("line-1/a.jpg", b"an image")
        assert [blob.name async for blob in blobs.list()] == ["line-1/a.jpg"]


async def test_what_the_body_raises_is_raised_and_it_is_given_back(blobs: Blobs) -> None:
    with pytest.raises(ZeroDivisionError):
        async with blobs.lease("turn", "me"):
            raise ZeroDivisionError
    async with blobs.lease("turn", "another"):
        pass


async def test_who_was_killed_has_it_again_at_once(store: tuple[str, str, str | None]) -> None:
    words = [*store[:2], store[2] or "", ME]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, *words, stdout=asyncio.subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with open_blobs(*store) as blobs:
        if isinstance(blobs, AzureBlobs):
            with pytest.raises(Refused, match=r"the first has the lease.*ends by itself within 60 s"):
                async with blobs.lease("turn", "another"):
                    pytest.fail("nobody waited")
        async with blobs.lease("turn", "the first again", ME):
            pass


async def test_it_can_be_taken_and_the_one_before_stops(
    azurite_cloud: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bloblease, "RENEWED_AFTER", 0.005)
    stopped = False
    async with open_blobs(azurite_cloud.connection_string, f"c{uuid.uuid4().hex}", azurite_cloud.api_version) as blobs:
        with pytest.raises(Refused, match="the lease was lost") as told:  # noqa: PT012
            async with blobs.lease("turn", "the first") as first, blobs.lease("turn", "the second", take=True):
                try:
                    await asyncio.sleep(20)
                finally:
                    stopped = True
                    with pytest.raises(Refused):
                        first.check()
    assert (stopped, told.value.kind) == (True, "lease_lost")


async def test_a_store_that_is_away_for_a_while_costs_nothing() -> None:
    answers = iter([Offline("away"), Offline("away")])

    async def renew() -> None:
        if (error := next(answers, None)) is not None:
            raise error

    async with kept(renew, 0.6) as lease:
        await asyncio.sleep(1)
        lease.check()


async def test_a_store_that_stays_away_ends_it_before_another_may_have_it() -> None:
    async def renew() -> None:
        raise Offline("away")

    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Refused, match="could not be renewed in time: away"):
        async with kept(renew, 2):
            await asyncio.sleep(20)
    assert loop.time() - began < 2  # another may have it from then on


async def test_a_store_that_does_not_answer_ends_it_too() -> None:
    async def renew() -> None:
        await asyncio.sleep(20)

    with pytest.raises(Refused, match="could not be renewed in time"):
        async with kept(renew, 0.3):
            await asyncio.sleep(20)


async def test_renewed_it_lasts() -> None:
    renewed = 0

    async def renew() -> None:
        nonlocal renewed
        renewed += 1

    async with kept(renew, 0.6) as lease:
        await asyncio.sleep(1.5)
        lease.check()
    assert renewed >= 3


async def test_what_was_taken_long_ago_is_renewed_at_once() -> None:
    renewed = asyncio.Event()

    async def renew() -> None:
        renewed.set()

    async with kept(renew, 60, began=time.monotonic() - 50):
        await asyncio.wait_for(renewed.wait(), 5)
