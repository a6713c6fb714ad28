"""One holder at a time of a name in a blob store: how a lease is kept, and what it means to lose it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

from azure.core.exceptions import HttpResponseError

from ripeloop.beside import beside
from ripeloop.blobtrouble import code_of
from ripeloop.errors import NotFound, Offline, Refused

SECONDS = 60
"""What a lease of Azure lasts, the longest that ends by itself."""
RENEWED_AFTER = 1 / 3  # of that; and where the store was away, tried again after AGAIN_AFTER
AGAIN_AFTER = 1 / 12
FOLDER = ".leases/"  # under a segment that no name of ours may have, so that no listing shows them
LEASED, LOST = "leased", "lease_lost"


class Lease:
    """Ours until it is lost. Work that cannot be cancelled asks `check` before it changes anything outside."""

    def __init__(self) -> None:
        self._lost = ""

    def check(self) -> None:
        """Return while it is ours. Raises Refused of kind `lease_lost`."""
        if self._lost:
            raise Refused(self._lost, kind=LOST)

    def lose(self, why: str) -> Refused:
        """It is no longer ours; the error that says so."""
        self._lost = f"the lease was lost, so that nothing more is changed here ({why}): run it again"
        return Refused(self._lost, kind=LOST)


@asynccontextmanager
async def kept(
    renew: Callable[[], Awaitable[None]], seconds: float = SECONDS, began: float | None = None
) -> AsyncIterator[Lease]:
    """A lease that `renew` makes last so long again, renewed beside the body; lost, it ends the body with Refused.

    `began`: since when it is ours, by time.monotonic; None for now. `renew` raises Refused where somebody else has it,
    and Offline, which is tried again until it would have ended.
    """
    lease = Lease()
    async with beside(_renewing(lease, renew, seconds, time.monotonic() if began is None else began)):
        yield lease


class AzureLease(Protocol):
    """A lease of one blob, as azure-storage-blob has it; every call raises HttpResponseError."""

    def acquire(self, lease_duration: int) -> Awaitable[None]:
        """Take it where nobody has it, or where we had it before under the same id."""

    def renew(self) -> Awaitable[None]:
        """Make it last as long again."""

    def release(self) -> Awaitable[None]:
        """Give it back."""

    def break_lease(self, lease_break_period: int) -> Awaitable[int]:
        """End it, whoever has it."""


Call = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Makes a call and turns its failure into our words."""


@asynccontextmanager
async def azure_lease(blob: Any, lease: AzureLease, call: Call, by: str, *, take: bool) -> AsyncIterator[Lease]:
    """Hold `lease` of `blob` (a BlobClient), which is made where it is missing. Raises Refused of kind `leased`."""
    try:
        with suppress(NotFound):
            if take:
                await call(lambda: _broken(lease))
        began = time.monotonic()
        try:
            ours = await call(lambda: _acquired(lease))
        except NotFound:
            with suppress(Refused):  # somebody else made it just now
                await call(lambda: blob.upload_blob(b"", overwrite=False))
            began = time.monotonic()
            ours = await call(lambda: _acquired(lease))
        if not ours:
            about = (await call(blob.get_blob_properties)).metadata or {}
            raise taken(unquote(about.get("by", "")), about.get("since", ""),
                        f"where it is gone for good, the lease ends by itself within {SECONDS} s, and --take-lease "
                        "ends it at once")  # fmt: skip
        about = {"by": quote(by, safe=" ()/:,.-_@").strip() or "somebody", "since": _now()}
        await call(lambda: blob.set_blob_metadata(about, lease=lease))
        async with kept(lambda: call(lease.renew), began=began) as held:
            yield held
    finally:
        with suppress(Offline, Refused, NotFound):  # it ends by itself
            await call(lease.release)


@contextmanager
def folder_lease(path: Path, by: str) -> Iterator[Lease]:
    """Hold the lock of the file `path`, which ends with the process. Raises Refused of kind `leased`, OSError."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            about = _read(os.pread(lock, 4096, 0))
            raise taken(about.get("by", ""), about.get("since", ""), "or end that process") from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"by": by, "since": _now()}).encode(), 0)
        yield Lease()
    finally:
        os.close(lock)


def taken(by: str, since: str, way_out: str) -> Refused:
    """Somebody else holds it."""
    about = f"{by or 'somebody'} has the lease" + (f" since {since}" if since else "")
    return Refused(f"{about}: wait until that ends; {way_out}", kind=LEASED)


async def _acquired(lease: AzureLease) -> bool:
    try:
        await lease.acquire(lease_duration=SECONDS)
    except HttpResponseError as error:
        if code_of(error) == "LeaseAlreadyPresent":
            return False
        raise
    return True


async def _broken(lease: AzureLease) -> None:
    try:
        await lease.break_lease(lease_break_period=0)
    except HttpResponseError as error:
        if code_of(error) != "LeaseNotPresentWithLeaseOperation":  # nobody has it
            raise


def _read(text: bytes) -> Mapping[str, str]:
    try:
        about = json.loads(text)
        return {name: str(value) for name, value in about.items()}
    except (ValueError, AttributeError, RecursionError):  # the other one is just writing it
        return {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def _renewing(lease: Lease, renew: Callable[[], Awaitable[None]], seconds: float, began: float) -> None:
    until, pause = began + seconds, began + seconds * RENEWED_AFTER - time.monotonic()
    while True:
        await asyncio.sleep(max(pause, 0.0))
        began = time.monotonic()  # the store counts from when it was asked, or later
        try:
            async with asyncio.timeout(max(until - began, 0)):
                await renew()
        except Offline as error:
            pause = seconds * AGAIN_AFTER
            if time.monotonic() + pause >= until:
                raise lease.lose(f"it could not be renewed in time: {error}") from error
        except TimeoutError as error:
            raise lease.lose("it could not be renewed in time") from error
        except Refused as error:
            raise lease.lose(str(error)) from error
        else:
            until, pause = began + seconds, seconds * RENEWED_AFTER
