"""The store goes away, the server is killed: nothing that was acknowledged is lost, and nothing is written twice."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from azurite import Azurite
from cloudproxy import PASS, REFUSED, RESET_AFTER, SILENT, CloudProxy
from labelling import labelling, labels_in, person, put, until
from retrain.labels import UNDONE
from ripeloop.blobs import Blobs, FolderBlobs, open_blobs
from ripeloop.errors import SettingsError


@pytest.fixture
async def container(azurite_cloud: Azurite) -> AsyncIterator[tuple[Blobs, str]]:
    """A container, asked directly, and its name."""
    name = f"c{uuid.uuid4().hex}"
    async with open_blobs(azurite_cloud.connection_string, name, azurite_cloud.api_version) as opened:
        yield opened, name


@pytest.fixture
async def line(azurite_cloud: Azurite) -> AsyncIterator[CloudProxy]:
    """The line between the server and the store."""
    async with CloudProxy.running(azurite_cloud.port) as proxy:
        yield proxy


async def test_answers_are_kept_while_the_store_is_away_and_written_in_order_once(
    azurite_cloud: Azurite, container: tuple[Blobs, str], line: CloudProxy, tmp_path: Path
) -> None:
    truth, name = container
    for nth in range(4):
        await put(truth, nth)
    through = replace(azurite_cloud, port=line.port).connection_string
    async with (
        open_blobs(through, name, azurite_cloud.api_version) as blobs,
        labelling(blobs, tmp_path / "state") as (parts, url),
        person(url, "Kari") as kari,
    ):
        samples = await kari.next(4)
        await line.become(REFUSED)
        assert (await kari.answer(samples[0], "ripe", id_="answer-1"))[0] == 202
        undo = {"id": "undo-0001", "answer": "answer-1", "key": samples[0]["key"]}
        assert (await kari.post("/api/undo", undo))[0] == 202
        assert (await kari.answer(samples[0], "unripe"))[0] == 202
        status, told = await kari.answer(samples[1], "ripe", id_="answer-2")
        assert status == 202
        assert (await kari.answer(samples[1], "ripe", id_="answer-2"))[0] == 202  # sent again meanwhile
        assert not told["standing"]["online"]
        assert told["standing"]["waiting"] == 4
        assert "refuses connections" in told["standing"]["why"]
        await line.become(PASS)
        await until(lambda: not parts.answers.away)
        told = (await kari.get("/api/standing"))[1]
        assert (told["online"], told["waiting"]) == (True, 0)
        assert (await kari.answer(samples[1], "ripe", id_="answer-2"))[1]["outcome"] == "written"
    labels = await labels_in(truth)
    history = [(answer.kind, answer.tags) for answer in labels[samples[0]["key"]].answers]
    assert history == [("tag", ("ripe",)), (UNDONE, ()), ("tag", ("unripe",))]
    assert len(labels[samples[1]["key"]].answers) == 1


class Unheard:
    """The store, whose receipts are lost on the line from the next mark on."""

    def __init__(self, blobs: Blobs, line: CloudProxy) -> None:
        self._blobs, self._line = blobs, line
        self.losing = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    async def mark(self, name: str, metadata: Mapping[str, str], etag: str) -> str:
        """Written, and not heard of."""
        if self.losing:
            await self._line.become(RESET_AFTER)
        return await self._blobs.mark(name, metadata, etag)


async def test_an_answer_whose_receipt_was_lost_on_the_line_is_written_once(
    azurite_cloud: Azurite, container: tuple[Blobs, str], line: CloudProxy, tmp_path: Path
) -> None:
    truth, name = container
    key = await put(truth, 1)
    through = replace(azurite_cloud, port=line.port).connection_string
    async with open_blobs(through, name, azurite_cloud.api_version) as blobs:
        unheard = Unheard(blobs, line)
        async with (
            labelling(cast("Blobs", unheard), tmp_path / "state") as (parts, url),
            person(url, "Kari") as kari,
        ):
            (sample,) = await kari.next()
            assert (await kari.answer(sample, "ripe"))[0] == 202
            assert len((await labels_in(truth))[key].answers) == 1  # it has arrived
            unheard.losing = False
            await line.become(PASS)
            await until(lambda: not parts.answers.away)
            await kari.nothing_waits()
    assert len((await labels_in(truth))[key].answers) == 1


async def test_a_kept_answer_that_comes_too_late_is_told_to_who_gave_it(
    azurite_cloud: Azurite, container: tuple[Blobs, str], line: CloudProxy, tmp_path: Path
) -> None:
    truth, name = container
    key = await put(truth, 1)
    through = replace(azurite_cloud, port=line.port).connection_string
    async with (
        open_blobs(through, name, azurite_cloud.api_version) as blobs,
        labelling(blobs, tmp_path / "one") as (parts, one),
        labelling(truth, tmp_path / "two") as (_, two),
        person(one, "Kari") as kari,
        person(two, "Per") as per,
    ):
        (hers,), (his,) = await kari.next(), await per.next()
        await line.become(REFUSED)
        assert (await kari.answer(hers, "ripe", id_="answer-1"))[0] == 202
        assert (await per.answer(his, "unripe"))[0] == 200
        await line.become(PASS)
        await until(lambda: not parts.answers.away)
        (late,) = (await kari.get("/api/standing"))[1]["taken"]
        assert (late["id"], late["key"], late["theirs"]["tags"]) == ("answer-1", key, ["unripe"])
        assert len((await kari.get("/api/standing"))[1]["taken"]) == 1  # that reply may have been lost
        assert (await kari.get("/api/standing?heard=answer-1,%ED%A0%80,x"))[1]["taken"] == []
        assert (await kari.answer(hers, "ripe", id_="answer-1"))[0] == 409
    assert len((await labels_in(truth))[key].answers) == 1


async def test_a_silent_store_keeps_nobody_waiting(
    azurite_cloud: Azurite, container: tuple[Blobs, str], line: CloudProxy, tmp_path: Path
) -> None:
    truth, name = container
    key = await put(truth, 1)
    through = replace(azurite_cloud, port=line.port).connection_string
    async with (
        open_blobs(through, name, azurite_cloud.api_version) as blobs,
        labelling(blobs, tmp_path / "state") as (parts, url),
        person(url, "Kari") as kari,
    ):
        (sample,) = await kari.next()
        await line.become(SILENT)
        async with asyncio.timeout(5):
            assert (await kari.answer(sample, "ripe"))[0] == 202
        await line.become(PASS)
        await until(lambda: not parts.answers.away)
        await kari.nothing_waits()
    assert (await labels_in(truth))[key].final is not None


@asynccontextmanager
async def program(
    address: str, container: str, version: str, state: Path
) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """`ripeloop label` as a process: its address, and a kill that leaves it no time."""
    environ = {name: word for name, word in os.environ.items() if not name.startswith("RIPELOOP_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "retrain", "label", "--container", container, "--api-version", version,
        "--state", str(state), "--port", "0",
        env=environ | {"RIPELOOP_CLOUD_BLOBS": address}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(rb"listening on (http://[\w.:]+)", await process.stderr.readline())):
                assert process.returncode is None
        yield found[1].decode(), process.kill
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_killed_between_answer_and_write_it_loses_nothing(
    azurite_cloud: Azurite, container: tuple[Blobs, str], line: CloudProxy, tmp_path: Path
) -> None:
    truth, name = container
    for nth in range(5):
        await put(truth, nth)
    through = replace(azurite_cloud, port=line.port).connection_string
    version = azurite_cloud.api_version
    async with program(through, name, version, tmp_path / "state") as (url, kill), person(url, "Kari") as kari:
        samples = await kari.next(5)
        while len(samples) < 5:
            await asyncio.sleep(0.05)
            samples = await kari.next(5)
        assert (await kari.answer(samples[0], "ripe"))[0] in (200, 202)
        await line.become(REFUSED)
        for sample in samples[1:]:
            assert (await kari.answer(sample, "unripe"))[0] == 202
        kill()
    (tmp_path / "state" / "cache.db").unlink()  # the cache may be thrown away
    await line.become(PASS)
    async with program(through, name, version, tmp_path / "state") as (url, _), person(url, "Kari") as kari:
        await kari.nothing_waits()
    labels = await labels_in(truth)
    finals = [labels[sample["key"]].final for sample in samples]
    assert [final.tags for final in finals if final] == [("ripe",)] + [("unripe",)] * 4
    assert all(len(one.answers) == 1 for one in labels.values())


async def test_answers_wait_while_the_folder_is_away_and_are_written_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "disk" / "samples"
    blobs = FolderBlobs(folder)
    keys = [await put(blobs, nth) for nth in range(3)]
    async with labelling(blobs, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        samples = await kari.next(3)
        folder.rename(tmp_path / "elsewhere")
        status, told = await kari.answer(samples[0], "ripe")
        assert (status, told["standing"]["online"]) == (202, False)
    # the next start finds nothing, or the empty place where the disk belongs
    async with (
        labelling(FolderBlobs(folder), tmp_path / "state") as (parts, url),
        person(url, "Kari") as kari,
    ):
        assert "mounted" in parts.scan.progress.why
        assert (await kari.get("/api/standing"))[1]["samples"] == 3  # none was forgotten
        assert (await kari.answer(samples[1], "unripe"))[0] == 202
        (tmp_path / "elsewhere").rename(folder)
        await until(lambda: not parts.answers.away)
        await kari.nothing_waits()
    labels = await labels_in(blobs)
    assert sum(bool(labels[key].answers) for key in keys) == 2


async def test_answers_that_wait_for_one_container_are_not_lost_to_another(tmp_path: Path) -> None:
    folder, other = tmp_path / "disk" / "samples", FolderBlobs(tmp_path / "other" / "samples")
    blobs = FolderBlobs(folder)
    await put(blobs, 1)
    await put(other, 2)
    async with labelling(blobs, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        (sample,) = await kari.next()
        folder.rename(tmp_path / "elsewhere")
        assert (await kari.answer(sample, "ripe"))[0] == 202
    with pytest.raises(SettingsError, match=r"1 answers that wait for .*disk/samples"):
        async with labelling(other, tmp_path / "state"):
            pass
    (tmp_path / "elsewhere").rename(folder)
    async with labelling(blobs, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        await kari.nothing_waits()
    assert (await labels_in(blobs))[sample["key"]].final is not None
    async with labelling(other, tmp_path / "state"):
        pass  # nothing waits


async def test_a_folder_that_does_not_exist_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no folder .*nonsense"):
        async with labelling(FolderBlobs(tmp_path / "nonsense" / "samples"), tmp_path / "state"):
            pass


async def test_an_undo_of_an_answer_that_never_came_takes_nothing_back(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    key = await put(blobs, 1)
    async with labelling(blobs, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        (sample,) = await kari.next()
        await kari.answer(sample, "ripe")
        undo = {"id": "undo-0001", "answer": "answer-that-never-came", "key": key}
        assert (await kari.post("/api/undo", undo))[1]["outcome"] == "nothing"
    assert (await labels_in(blobs))[key].final is not None


async def test_who_is_refused_after_all_leaves_the_image_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "disk" / "samples"
    blobs = FolderBlobs(folder)
    key = await put(blobs, 1)
    async with (
        labelling(blobs, tmp_path / "state") as (parts, url),
        person(url, "Kari") as kari,
        person(url, "Per") as per,
    ):
        (sample,) = await kari.next()
        folder.rename(tmp_path / "elsewhere")
        assert (await kari.answer(sample, "ripe"))[0] == 202
        away = FolderBlobs(tmp_path / "elsewhere")
        (blob,) = [blob async for blob in away.list()]
        etag = await away.mark(blob.name, dict(blob.metadata) | {"labels": "{"}, blob.etag)
        (tmp_path / "elsewhere").rename(folder)
        await until(lambda: not parts.answers.away)
        await kari.nothing_waits()
        (late,) = (await kari.get("/api/standing"))[1]["taken"]
        assert late["outcome"] == "refused"
        await blobs.mark(blob.name, blob.metadata, etag)
        await parts.scan.once()
        assert [one["key"] for one in await per.next()] == [key]
