"""Nobody else at the same time: one process in a work folder, and one in all at a container."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from retrain.turn.state import State
from ripeloop.bloblease import LEASED, Lease, folder_lease
from ripeloop.blobs import Blobs
from ripeloop.errors import Refused, SettingsError

NAME = "retrain"
LOCK = ".lock"
MACHINE = Path("/etc/machine-id")


@contextmanager
def only_here(work: Path) -> Iterator[None]:
    """Be the only process that uses this work folder, which is made. Raises Refused of kind `leased`, SettingsError."""
    with ExitStack() as held:
        try:
            work.mkdir(parents=True, exist_ok=True)
            held.enter_context(folder_lease(work / LOCK, f"process {os.getpid()}"))
        except Refused as error:
            raise Refused(f"{work} is in use: {error}", kind=LEASED) from None
        except OSError as error:
            raise SettingsError(f"{work} cannot be used ({error.strerror or error}): name another folder") from error
        yield


@asynccontextmanager
async def only_one(blobs: Blobs, state: State, *, take: bool = False) -> AsyncIterator[Lease]:
    """Be the only one that works on this container. A run that was killed in this folder has the lease again at once.

    Raises Refused of kind `leased` where another has it, of kind `lease_lost` once it is lost; Offline.
    """
    host = socket.gethostname()
    mine = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{state.identity()} {host} {_place_of(state.path)}"))
    async with blobs.lease(NAME, f"ripeloop retrain on {host}, process {os.getpid()}", mine, take=take) as lease:
        yield lease


def _place_of(path: Path) -> str:
    """What tells a file from its copy, here and on another machine."""
    found = path.stat()
    return f"{found.st_dev} {found.st_ino} {MACHINE.read_text() if MACHINE.is_file() else ''}"
