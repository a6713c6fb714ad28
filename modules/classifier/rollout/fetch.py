"""A file from the network or a disk, taken in pieces: what has arrived stays, over tries and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import aiohttp

from classifier.rollout.wanted import shown
from ripeloop.disk import write_whole
from ripeloop.errors import Offline, Refused

PIECE = 256 * 1024
REDIRECTS = 5
LATER = (408, 425, 429)  # and every 5xx: the server's own trouble


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The largest file in bytes; seconds for one try, and without a byte; seconds between tries, first and longest."""

    bytes: int = 512 * 1024 * 1024
    total: float = 3600.0
    silence: float = 30.0
    first_pause: float = 1.0
    longest_pause: float = 300.0


def pause(tries: int, chance: float, limits: FetchLimits) -> float:
    """Seconds to wait after so many tries in vain: doubling, and spread by `chance` so that a fleet is no crowd."""
    return min(limits.longest_pause, limits.first_pause * 2.0 ** min(tries - 1, 30)) * (0.5 + chance / 2)


def size(partial: Path) -> int:
    """The bytes that are there already."""
    return partial.stat().st_size if partial.exists() else 0


def discard(partial: Path) -> None:
    """Forget what has arrived."""
    partial.unlink(missing_ok=True)
    _etag_file(partial).unlink(missing_ok=True)


async def fetch(url: str, partial: Path, limits: FetchLimits) -> None:
    """One try: all of the file is in `partial` when this returns, after what was there if it is the same still.

    Raises Offline where a later try may help, Refused where it will not, OSError of our own disk.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.silence, sock_read=limits.silence)
    try:
        async with (
            asyncio.timeout(limits.total),
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.get(url, headers=_headers(partial), max_redirects=REDIRECTS) as response,
        ):
            await _receive(response, partial, limits, shown(url))
    except aiohttp.TooManyRedirects:
        raise Refused(f"{shown(url)} leads to more than {REDIRECTS} other addresses: give the last one") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):  # these would quote the whole address
        raise Refused(f"{shown(url)} is, or leads to, no http address: give another") from None
    except UnicodeError:  # of a host name with an empty or an endless part
        raise Refused(f"{shown(url)} has, or leads to, a host name that cannot be: give another address") from None
    except TimeoutError:
        raise Offline(f"{shown(url)} does not answer, or too slowly") from None
    except (aiohttp.ClientError, ValueError) as error:  # a ValueError is of headers that no server should send
        raise Offline(f"{shown(url)} cannot be read now ({type(error).__name__})") from None


async def copy(source: Path, partial: Path, limits: FetchLimits) -> None:
    """All of the file `source` is in `partial` when this returns. Raises Refused, OSError of our own disk."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    discard(partial)
    with _reading(source):
        if not source.is_file():
            raise Refused(f"there is no file {source} in this module's folders: put it there, or mount its volume")
        _check_size(source.stat().st_size, limits, str(source))
        file = source.open("rb")
    with file, partial.open("wb") as out:
        await asyncio.to_thread(_copy, file, out, source)


def _copy(file: BinaryIO, out: BinaryIO, source: Path) -> None:
    while True:
        with _reading(source):
            piece = file.read(PIECE)
        if not piece:
            return
        out.write(piece)


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[None]:
    """What fails here is the place it comes from, not our own disk."""
    try:
        yield
    except PermissionError as error:
        where = error.filename or source
        raise Refused(f"{where} may not be read by this module's user (uid {os.getuid()}): let it read") from error
    except OSError as error:
        reason = error.strerror or error
        raise Refused(f"{str(source)[:150]} cannot be read ({reason}): look at its disk or mount") from error


async def _receive(response: aiohttp.ClientResponse, partial: Path, limits: FetchLimits, where: str) -> None:
    have = _continued(response, partial, where)
    _check_size(have + (response.content_length or 0), limits, where)
    if not have:
        discard(partial)
        etag = response.headers.get("ETag", "")
        if _promises(etag):
            write_whole(_etag_file(partial), etag.encode())
    with await asyncio.to_thread(partial.open, "ab") as file:
        async for piece in response.content.iter_chunked(PIECE):
            have += len(piece)
            _check_size(have, limits, where)
            await asyncio.to_thread(_append, file, piece)


def _continued(response: aiohttp.ClientResponse, partial: Path, where: str) -> int:
    """The bytes of `partial` that the response goes on after. Raises Offline, Refused."""
    if response.status == 200:
        return 0
    if response.status == 206:
        found = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
        if found and int(found[1]) == size(partial):
            return int(found[1])
    if response.status in (206, 416):  # not the piece that was asked for
        discard(partial)
        raise Offline(f"{where} has changed: taking it from its beginning")
    if response.status in LATER or response.status >= 500:
        raise Offline(f"{where} has trouble of its own ({response.status})")
    raise Refused(f"{where} answers {response.status} {response.reason}: give an address that can be read")


def _headers(partial: Path) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    have = size(partial)
    with contextlib.suppress(FileNotFoundError):
        etag = _etag_file(partial).read_text("latin-1")
        if have and _promises(etag):
            headers |= {"Range": f"bytes={have}-", "If-Range": etag}
    return headers


def _promises(etag: str) -> bool:
    """Whether it promises the same bytes, as a weak one does not, and can be sent back."""
    return bool(etag) and etag.isascii() and etag.isprintable() and not etag.startswith("W/")


def _append(file: BinaryIO, piece: bytes) -> None:
    file.write(piece)
    file.flush()


def _check_size(bytes_: int, limits: FetchLimits, where: str) -> None:
    if bytes_ > limits.bytes:
        raise Refused(f"{where} has more than {limits.bytes} bytes: give a smaller model, or raise --model-bytes")


def _etag_file(partial: Path) -> Path:
    return partial.with_suffix(".etag")
