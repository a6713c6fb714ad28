"""A package from the network or a disk: in pieces, with limits, over restarts; and never a secret in a message."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from classifier.rollout.fetch import FetchLimits, copy, fetch, pause, size
from depot import Depot
from ripeloop.errors import Offline, Refused

LIMITS = FetchLimits(bytes=1_000_000, total=5, silence=0.3, first_pause=0.01, longest_pause=0.05)
CONTENT = os.urandom(200_000)


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    (tmp_path / "m.zip").write_bytes(CONTENT)
    return Depot(tmp_path)


async def test_a_cut_download_goes_on_where_it_stopped(depot: Depot, tmp_path: Path) -> None:
    depot.cuts = [50_000, 50_000]
    depot.pause = 0.05  # what is received but not read yet goes with the connection
    partial = tmp_path / "x.part"
    async with depot:
        for _ in range(2):
            with pytest.raises(Offline):
                await fetch(depot.url("m.zip"), partial, LIMITS)
        assert 0 < size(partial) <= 100_000  # how much of the last packets arrived is the network's affair
        await fetch(depot.url("m.zip"), partial, LIMITS)
    assert partial.read_bytes() == CONTENT
    assert "Range" not in depot.requests[0]
    assert all(request["Range"].startswith("bytes=") for request in depot.requests[1:])


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
async def test_without_a_strong_etag_it_begins_anew(depot: Depot, tmp_path: Path, etag: str) -> None:
    depot.cuts, depot.etag = [50_000], etag
    partial = tmp_path / "x.part"
    async with depot:
        with pytest.raises(Offline):
            await fetch(depot.url("m.zip"), partial, LIMITS)
        await fetch(depot.url("m.zip"), partial, LIMITS)
    assert partial.read_bytes() == CONTENT
    assert "Range" not in depot.requests[1]


async def test_a_file_that_changed_meanwhile_is_taken_from_its_beginning(depot: Depot, tmp_path: Path) -> None:
    depot.cuts = [50_000]
    partial, other = tmp_path / "x.part", os.urandom(120_000)
    async with depot:
        with pytest.raises(Offline):
            await fetch(depot.url("m.zip"), partial, LIMITS)
        (tmp_path / "m.zip").write_bytes(other)
        await fetch(depot.url("m.zip"), partial, LIMITS)
    assert partial.read_bytes() == other


async def test_a_server_that_knows_no_ranges_will_do(depot: Depot, tmp_path: Path) -> None:
    depot.cuts, depot.ranges = [50_000], False
    partial = tmp_path / "x.part"
    async with depot:
        with pytest.raises(Offline):
            await fetch(depot.url("m.zip"), partial, LIMITS)
        await fetch(depot.url("m.zip"), partial, LIMITS)
    assert partial.read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "error"), [(403, Refused), (404, Refused), (410, Refused), (503, Offline)])
async def test_what_the_server_says_is_answered_and_tells_no_secret(
    depot: Depot, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    depot.statuses = [status]
    async with depot:
        with pytest.raises(error, match=str(status)) as caught:
            await fetch(depot.url("m.zip"), tmp_path / "x.part", LIMITS)
    assert "m.zip" in str(caught.value)
    assert "SECRET" not in str(caught.value)


async def test_a_server_that_is_away_silent_or_slow_is_tried_later(depot: Depot, tmp_path: Path) -> None:
    partial = tmp_path / "x.part"
    async with depot:
        url = depot.url("m.zip")
        depot.pause, depot.piece = 5, 1000
        with pytest.raises(Offline, match="too slowly"):
            await fetch(url, partial, LIMITS)
        assert size(partial) == 1000
        depot.pause = 0.1
        with pytest.raises(Offline, match="too slowly"):
            await fetch(url, partial, FetchLimits(total=0.3, silence=5))
        assert size(partial) > 1000
    with pytest.raises(Offline) as caught:
        await fetch(url, partial, LIMITS)
    assert "SECRET" not in str(caught.value)


async def test_a_file_over_the_limit_is_refused_before_it_fills_the_disk(depot: Depot, tmp_path: Path) -> None:
    async with depot:
        with pytest.raises(Refused, match="--model-bytes"):
            await fetch(depot.url("m.zip"), tmp_path / "x.part", FetchLimits(bytes=100_000))
    assert size(tmp_path / "x.part") == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x?sig=SECRET", "ftp://127.0.0.1/x?sig=SECRET"])
async def test_an_address_of_no_use_is_a_named_error(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises((Refused, Offline)) as caught:
        await fetch(url, tmp_path / "x.part", LIMITS)
    assert "SECRET" not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    "url", ["https://store..blob.core.windows.net/m.zip?sig=SECRET", f"https://{'a' * 70}.example.net/m?sig=SECRET"]
)
async def test_a_host_name_that_cannot_be_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(Refused, match="host name that cannot be") as caught:
        await fetch(url, tmp_path / "x.part", LIMITS)
    assert "SECRET" not in str(caught.value)


async def answered(reply: bytes, partial: Path) -> None:
    """Fetch from a server that says `reply`, whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/m.zip", partial, LIMITS)


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"302 Found\r\nLocation: http://a..b/x", Refused),
        (b"302 Found\r\nLocation: http://[::1", Refused),
        (b"206 Partial\r\nContent-Range: bytes " + b"9" * 5000 + b"-1/2", Offline),
        (b"206 Partial\r\nContent-Range: bytes \xb2-1/2", Offline),
        (b"200 OK\r\nContent-Length: " + b"9" * 5000, Offline),
        (b"no http", Offline),
    ],
)
async def test_an_odd_server_is_a_named_error(tmp_path: Path, head: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"m\.zip"):
        await answered(b"HTTP/1.1 " + head + b"\r\n\r\n", tmp_path / "x.part")


async def test_an_etag_that_cannot_be_sent_back_promises_nothing(tmp_path: Path, depot: Depot) -> None:
    partial = tmp_path / "x.part"
    await answered(b'HTTP/1.1 200 OK\r\nETag: "\xe9"\r\nContent-Length: 1\r\n\r\nx', partial)
    assert not partial.with_suffix(".etag").exists()
    partial.with_suffix(".etag").write_bytes(b'"\xff\n"')  # as a damaged disk gives it back
    async with depot:
        await fetch(depot.url("m.zip"), partial, LIMITS)
    assert partial.read_bytes() == CONTENT
    assert "Range" not in depot.requests[0]


async def test_a_file_on_a_disk_is_copied_within_the_limit(tmp_path: Path) -> None:
    source, partial = tmp_path / "usb.zip", tmp_path / "x.part"
    source.write_bytes(CONTENT)
    await copy(source, partial, LIMITS)
    assert partial.read_bytes() == CONTENT
    for path in (tmp_path / "none.zip", tmp_path, Path("/dev/zero")):
        with pytest.raises(Refused, match="there is no file"):
            await copy(path, partial, LIMITS)
    for path, words in (("/proc/self/mem", "/proc/self/mem cannot be read .Input"), ("/" + "a" * 5000, "a cannot be")):
        with pytest.raises(Refused, match=words):  # of the file, not of our own disk
            await copy(Path(path), partial, LIMITS)
    with pytest.raises(Refused, match="--model-bytes"):
        await copy(source, partial, FetchLimits(bytes=100))


@given(some.integers(1, 10_000), some.floats(0, 1, exclude_max=True))
def test_pauses_grow_to_a_limit_and_are_spread(tries: int, chance: float) -> None:
    limits = FetchLimits()
    seconds = pause(tries, chance, limits)
    assert limits.first_pause / 2 <= seconds <= limits.longest_pause
    assert pause(tries + 1, chance, limits) >= seconds
