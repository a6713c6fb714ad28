"""The store that `--cloud-blobs` names, as the commands open it: it is there before, and nothing is made by mistake.

A device makes its own container; a command that did so with a mistyped name would find nothing to do for ever.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ripeloop.blobs import NO_CONTAINER, Blobs, is_folder, open_blobs
from ripeloop.errors import Offline, SettingsError

OPTION = "--cloud-blobs (RIPELOOP_CLOUD_BLOBS)"
_LIKE_A_STRING = re.compile(r"[A-Za-z]+=")


@asynccontextmanager
async def opened(
    address: str, container: str, api_version: str | None = None, *, make: bool = False, away: bool = False
) -> AsyncIterator[Blobs]:
    """The store at `address`, where it is one. Raises SettingsError.

    `make`: its container may be new; `away`: a folder may be missing, for its disk may not be mounted.
    """
    async with AsyncExitStack() as stack:
        with _of_the_option():
            _check(address, away=away)
            blobs = await stack.enter_async_context(open_blobs(address, container, api_version, make=make))
        yield blobs


def no_container(address: str, container: str) -> Offline:
    """What to raise where the container has to exist: the first upload is waited for."""
    return Offline(missing(address, container), kind=NO_CONTAINER)


def missing(address: str, container: str, option: str = "--container") -> str:
    """What to say of a container that does not exist, which may be all right, and may be a typing error."""
    mistyped = f"its name ({option}) or the store is mistyped"
    if address.startswith("http"):  # a SAS URL names its own
        container = unquote(urlsplit(address).path).rsplit("/", 1)[-1]
        mistyped = f"the URL of {OPTION} is another's"
    return f"the container {container!r} does not exist yet: either nothing was ever stored in it, or {mistyped}"


def check_address(address: str) -> None:
    """Return if `address` is a connection string, a SAS URL or a folder that is there. Raises SettingsError."""
    with _of_the_option():
        _check(address)


@contextmanager
def _of_the_option() -> Iterator[None]:
    """What is wrong names the option it was said with."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{OPTION}: {error}") from None


def _check(address: str, *, away: bool = False) -> None:
    if not is_folder(address):
        return
    if _LIKE_A_STRING.match(address):
        if address.startswith("UseDevelopmentStorage"):
            raise SettingsError(
                "UseDevelopmentStorage=true is not understood: write Azurite's whole connection string, with "
                "AccountName=, AccountKey= and BlobEndpoint="
            )
        raise SettingsError(
            "it is no whole connection string: copy all of it, with AccountName= and AccountKey=; of a folder with = "
            "in its name write the whole path, from / on"
        )
    folder = Path(address)
    if away or folder.is_dir():
        return
    shown = "such folder" if "=" in address else f"folder {address}"  # half a key would be shown
    if folder.is_file():
        raise SettingsError(f"{address} is a file: name the folder that holds the containers")
    where = "" if folder.is_absolute() else f" in {Path.cwd()}"
    raise SettingsError(
        f"there is no {shown}{where}: name the one that holds the containers, a connection string, or a container's "
        "SAS URL"
    )
