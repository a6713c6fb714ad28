"""Where images are kept: a blob container (azure-storage-blob) or a plain folder, behind one seam."""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import (
    BlobProperties,
    ContentSettings,
)
from azure.storage.blob.aio import BlobLeaseClient, ContainerClient

from ripeloop.blobfolder import FolderBlobs
from ripeloop.bloblease import FOLDER, Lease, azure_lease
from ripeloop.blobname import Blob, check_metadata, check_name, is_name
from ripeloop.blobsas import Sas
from ripeloop.blobtrouble import AlreadyThere, MayNotOverwrite, code_of, in_our_words, not_a_store, silent
from ripeloop.errors import Changed, Denied, NotFound, Offline, SettingsError

__all__ = [
    "NO_CONTAINER",
    "AzureBlobs",
    "Blob",
    "Blobs",
    "FolderBlobs",
    "is_folder",
    "is_there",
    "open_blobs",
    "try_blobs",
]

NO_CONTAINER = "no_container"
"""The kind of Offline and Denied where the container does not exist, and is not to be made or may not be."""

CONNECT_SECONDS = 10
SILENT_SECONDS = 30
# one call may take this long in all, and a second more for every 8 KB: a thin line is slow, a dead one never ends
CALL_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 8 * 1024

# under a segment that no name of ours may have, so that no listing shows them
PROBES = ".probes"

Answer = TypeVar("Answer")


class Blobs(Protocol):
    """Named bytes with a little metadata.

    Names are printable ASCII in segments that `/` divides; metadata is lower-case keys and ASCII values, 8 KB in all.
    Every call raises Offline when the store cannot be reached and Denied when it turns this caller away; Refused
    itself speaks of the one blob.
    """

    async def put(
        self, name: str, data: bytes, metadata: Mapping[str, str] | None = None, content_type: str = ""
    ) -> bool:
        """Store `data`; False where the name was there before, which changes nothing. Raises Offline, Refused."""

    async def get(self, name: str) -> bytes:
        """The bytes stored under `name`. Raises NotFound, Offline, Refused."""

    def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        """The blobs whose names start with `prefix`, in the order of their names. Raises Offline, Refused."""

    async def head(self, name: str) -> Blob:
        """What a listing says of `name`. Raises NotFound, Offline, Refused."""

    async def mark(self, name: str, metadata: Mapping[str, str], etag: str) -> str:
        """Replace all metadata of a blob that still has `etag`; the new etag.

        Raises Changed where somebody was quicker, NotFound, Offline, Refused.
        """

    async def delete(self, name: str) -> None:
        """Remove `name`. Deleting what is not there changes nothing. Raises Offline, Refused."""

    def lease(
        self, name: str, by: str, lease_id: str = "", *, take: bool = False
    ) -> AbstractAsyncContextManager[Lease]:
        """Be the only one who holds `name` while the block runs; others are told `by` as the holder.

        A holder that was killed gets it again at once with the same `lease_id` (a UUID), any other within a minute;
        `take` takes it from whoever has it. Where it is lost, the block is cancelled. Raises Refused of kind `leased`
        or `lease_lost`, Offline.
        """


@asynccontextmanager
async def open_blobs(
    address: str, container: str, api_version: str | None = None, *, make: bool = True
) -> AsyncIterator[Blobs]:
    """The store at `address`: a connection string, a container's SAS URL, or a folder that holds containers.

    A SAS URL names its own container. A missing container or folder is made with the first call that needs it, where
    the credential allows it: the store need not be reachable yet. Without `make` no call but `put` and `lease` of a
    folder makes it, and in an account each raises Offline of kind `no_container`. Raises SettingsError, which never
    shows the address.
    """
    if is_folder(address):
        yield FolderBlobs(Path(address) / container)
        return
    try:
        client = _client(address, container, api_version)
    except ValueError as error:  # the SDK's words may hold parts of the address
        raise SettingsError(
            "a blob address or its API version cannot be used: write a whole connection string, a container's SAS URL "
            f"or a folder, and an API version such as 2019-07-07 ({type(error).__name__})"
        ) from None
    async with client:
        yield AzureBlobs(client, Sas.in_address(address), make=make)


async def is_there(blobs: Blobs) -> bool:
    """Whether the container exists; of a store that was opened without `make`. Raises Offline, Refused."""
    if isinstance(blobs, FolderBlobs):
        return bool(blobs.trace) or blobs.folder.is_dir()
    try:
        async for _ in blobs.list(f"{PROBES}/"):
            break
    except Offline as error:
        if error.kind != NO_CONTAINER:
            raise
        return False
    return True


async def try_blobs(address: str, container: str, api_version: str | None = None) -> None:
    """Return where an image could be put now. Raises SettingsError, Offline, Refused with the reason."""
    async with open_blobs(address, container, api_version) as blobs:
        if isinstance(blobs, AzureBlobs):
            await blobs.probe()


class AzureBlobs:
    """A container of the blob module, Azurite or Azure. It never tries again by itself: the caller does.

    `sas`: what the credential is, where it is no key. `make`: a missing container is made.
    """

    def __init__(self, client: ContainerClient, sas: Sas | None = None, *, make: bool = True) -> None:
        self._client = client
        self._sas = sas
        self._make = make

    @property
    def url(self) -> str:
        """The container's address, without a credential."""
        return str(self._client.url).partition("?")[0]

    @property
    def container(self) -> str:
        """Its name."""
        return str(self._client.container_name)

    def account_key(self) -> tuple[str, str] | None:
        """The account's name and its key, where the credential is one."""
        key = getattr(self._client.credential, "account_key", None)
        return None if key is None else (str(self._client.account_name), str(key))

    async def put(
        self, name: str, data: bytes, metadata: Mapping[str, str] | None = None, content_type: str = ""
    ) -> bool:
        """Store `data` with one Put Blob, on the condition that the name is free."""
        check_name(name)
        check_metadata(metadata or {})
        try:
            await self._upload(name, data, metadata or {}, content_type)
        except AlreadyThere:
            return False
        except MayNotOverwrite:
            if self._sas is None or not self._sas.create_only:
                raise
            # With a create-only SAS Azurite says this of a name that exists, but Azure of a signer who lost the right
            # to write. A name that is new for sure tells the two apart: the image is stored only if that one may be.
            await self.probe()
            return False
        return True

    async def probe(self) -> None:
        """Put an empty blob where no listing of ours shows it: the credential may create here. Raises as `put`."""
        await self._upload(f"{PROBES}/{uuid.uuid4()}", b"", {}, "")

    async def _upload(self, name: str, data: bytes, metadata: Mapping[str, str], content_type: str) -> None:
        async def upload() -> None:
            answer = await self._client.get_blob_client(name).upload_blob(
                data,
                overwrite=False,
                validate_content=True,
                metadata=dict(metadata),
                content_settings=ContentSettings(content_type=content_type or "application/octet-stream"),
            )
            if not answer.get("etag"):  # every blob store tells its tag; a proxy that just says yes does not
                raise not_a_store("yes, without having stored")

        await self._call(upload, len(data))

    async def get(self, name: str) -> bytes:
        """The bytes stored under `name`."""
        check_name(name)

        async def download() -> bytes:
            return await (await self._client.download_blob(name)).readall()

        return await self._call(download)

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        """The blobs whose names start with `prefix`, a page at a time."""
        pages = aiter(self._client.list_blobs(name_starts_with=prefix or None, include=["metadata"]).by_page())

        async def page() -> list[Blob] | None:
            try:
                return [_blob(found) async for found in await anext(pages) if is_name(found.name)]
            except StopAsyncIteration:
                return None

        while (blobs := await self._call(page)) is not None:
            for blob in blobs:
                yield blob

    async def head(self, name: str) -> Blob:
        """What is known of `name` without its bytes."""
        check_name(name)

        async def look() -> Blob:
            return _blob(await self._client.get_blob_client(name).get_blob_properties())

        return await self._call(look)

    async def mark(self, name: str, metadata: Mapping[str, str], etag: str) -> str:
        """Replace all metadata with one Set Blob Metadata, on the condition that nothing changed."""
        check_name(name)
        check_metadata(metadata)

        async def write() -> str:
            answer = await self._client.get_blob_client(name).set_blob_metadata(
                dict(metadata), etag=f'"{etag}"', match_condition=MatchConditions.IfNotModified
            )
            return _bare(answer["etag"])

        try:
            return await self._call(write)
        except Changed:
            await self.head(name)  # of a blob that is gone stores say the same
            raise

    async def delete(self, name: str) -> None:
        """Remove `name`."""
        check_name(name)

        async def remove() -> None:
            await self._client.delete_blob(name)

        try:
            await self._call(remove)
        except NotFound:
            return

    def lease(
        self, name: str, by: str, lease_id: str = "", *, take: bool = False
    ) -> AbstractAsyncContextManager[Lease]:
        """Hold a lease of a blob that no listing shows."""
        check_name(name)
        blob = self._client.get_blob_client(FOLDER + name)
        return azure_lease(blob, BlobLeaseClient(blob, lease_id or str(uuid.uuid4())), self._call, by, take=take)

    async def _call(self, call: Callable[[], Awaitable[Answer]], size: int = 0) -> Answer:
        """The call's answer, or its failure in our words; a missing container is made once."""
        try:
            async with asyncio.timeout(CALL_SECONDS + size / SLOWEST_BYTES_PER_SECOND):
                try:
                    return await call()
                except HttpResponseError as error:
                    if code_of(error) != "ContainerNotFound":
                        raise
                    if not self._make:
                        raise Offline(
                            f"the container {self.container!r} does not exist: nothing was stored in it yet, or its "
                            "name is wrong",
                            kind=NO_CONTAINER,
                        ) from error
                await self._make_container()
                return await call()
        except TimeoutError as error:
            raise silent() from error
        except AzureError as error:
            raise in_our_words(error, self._sas, datetime.now(UTC)) from error
        except ValueError as error:  # a host or port that no request can be made of, as in https://acct..blob
            raise Denied(
                f"the blob store's address cannot be used ({type(error).__name__}): correct it", kind="settings"
            ) from None

    async def _make_container(self) -> None:
        try:
            await self._client.create_container()
        except HttpResponseError as error:
            if error.status_code in (401, 403):
                raise Denied(
                    f"the container {self._client.container_name!r} does not exist and this credential may not make "
                    "it: make it, or correct its name",
                    kind=NO_CONTAINER,
                ) from error
            if code_of(error) != "ContainerAlreadyExists":
                raise


def _blob(found: BlobProperties) -> Blob:
    md5 = bytes(found.content_settings.content_md5 or b"")
    return Blob(found.name, found.size, found.metadata or {}, md5, _bare(found.etag))


def _bare(etag: object) -> str:
    """Listings tell it bare, and headers in quotes."""
    return str(etag or "").strip('"')


def is_folder(address: str) -> bool:
    """False for a connection string or a URL. Raises SettingsError for what is neither and no folder's name."""
    if not address or address.startswith("$"):
        raise SettingsError(f"a blob address is missing: it is {address!r}; .env.template says what to write")
    if "AccountName=" in address or "BlobEndpoint=" in address:
        return False
    if re.match(r"https?://", address):
        if re.search(r"[?&]sig=", address):
            return False
        raise SettingsError("a blob address is a URL without a SAS: append ?sv=...&sig=... of its container")
    if "://" in address or ";" in address:
        raise SettingsError("a blob address is neither a connection string, nor a container's SAS URL, nor a folder")
    return True


def _client(address: str, container: str, api_version: str | None) -> ContainerClient:
    options: dict[str, Any] = {
        "retry_total": 0,
        "connection_timeout": CONNECT_SECONDS,
        "read_timeout": SILENT_SECONDS,
    }
    if api_version:
        options["api_version"] = api_version
    if address.startswith("http"):
        return ContainerClient.from_container_url(address, **options)
    if not re.search("AccountKey=|SharedAccessSignature=", address):
        raise SettingsError(  # the SDK would go on as nobody
            "a blob address has no AccountKey= and no SharedAccessSignature=: copy all of the connection string"
        )
    client = ContainerClient.from_connection_string(address, container, **options)
    key = getattr(client.credential, "account_key", None)
    if key is not None:
        base64.b64decode(key, validate=True)  # else it fails with the first call, as if it were a bug
    return client
