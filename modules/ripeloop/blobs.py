"""Where images are kept: a blob container (azure-storage-blob) or a plain folder, behind one seam."""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import ContainerClient

from ripeloop.blobfolder import FolderBlobs
from ripeloop.blobname import Blob, check_metadata, check_name, is_name
from ripeloop.errors import Denied, NotFound, Offline, Refused, RipeloopError, SettingsError

__all__ = ["AzureBlobs", "Blob", "Blobs", "FolderBlobs", "open_blobs"]

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
    ) -> None:
        """Store `data`. Putting the same name again changes nothing. Raises Offline, Refused."""

    async def get(self, name: str) -> bytes:
        """The bytes stored under `name`. Raises NotFound, Offline, Refused."""

    def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        """The blobs whose names start with `prefix`, in the order of their names. Raises Offline, Refused."""

    async def delete(self, name: str) -> None:
        """Remove `name`. Deleting what is not there changes nothing. Raises Offline, Refused."""


@asynccontextmanager
async def open_blobs(address: str, container: str, api_version: str | None = None) -> AsyncIterator[Blobs]:
    """The store at `address`: a connection string, a container's SAS URL, or a folder that holds containers.

    A SAS URL names its own container. A missing container or folder is made with the first call that needs it, where
    the credential allows it: the store need not be reachable yet. Raises SettingsError, which never shows the address.
    """
    if _is_folder(address):
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
        yield AzureBlobs(client, create_only=_permissions(address) == "c")


class AzureBlobs:
    """A container of the blob module, Azurite or Azure. It never tries again by itself: the caller does.

    `create_only`: the credential is a SAS with the right to create and no other.
    """

    def __init__(self, client: ContainerClient, *, create_only: bool = False) -> None:
        self._client = client
        self._create_only = create_only

    async def put(
        self, name: str, data: bytes, metadata: Mapping[str, str] | None = None, content_type: str = ""
    ) -> None:
        """Store `data` with one Put Blob, on the condition that the name is free."""
        check_name(name)
        check_metadata(metadata or {})
        try:
            await self._upload(name, data, metadata or {}, content_type)
        except _AlreadyThere:
            return
        except _MayNotOverwrite:
            if not self._create_only:
                raise
            # With a create-only SAS Azurite says this of a name that exists, but Azure of a signer who lost the right
            # to write. A name that is new for sure tells the two apart: the image is stored only if that one may be.
            await self._upload(f"{PROBES}/{uuid.uuid4()}", b"", {}, "")

    async def _upload(self, name: str, data: bytes, metadata: Mapping[str, str], content_type: str) -> None:
        async def upload() -> None:
            await self._client.upload_blob(
                name,
                data,
                overwrite=False,
                validate_content=True,
                metadata=dict(metadata),
                content_settings=ContentSettings(content_type=content_type or "application/octet-stream"),
            )

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
                return [
                    Blob(found.name, found.size, found.metadata or {})
                    async for found in await anext(pages)
                    if is_name(found.name)
                ]
            except StopAsyncIteration:
                return None

        while (blobs := await self._call(page)) is not None:
            for blob in blobs:
                yield blob

    async def delete(self, name: str) -> None:
        """Remove `name`."""
        check_name(name)

        async def remove() -> None:
            await self._client.delete_blob(name)

        try:
            await self._call(remove)
        except NotFound:
            return

    async def _call(self, call: Callable[[], Awaitable[Answer]], size: int = 0) -> Answer:
        """The call's answer, or its failure in our words; a missing container is made once."""
        try:
            async with asyncio.timeout(CALL_SECONDS + size / SLOWEST_BYTES_PER_SECOND):
                try:
                    return await call()
                except HttpResponseError as error:
                    if _code(error) != "ContainerNotFound":
                        raise
                await self._make_container()
                return await call()
        except TimeoutError as error:
            raise Offline("the blob store does not answer in time") from error
        except AzureError as error:
            raise _in_our_words(error) from error

    async def _make_container(self) -> None:
        try:
            await self._client.create_container()
        except HttpResponseError as error:
            if error.status_code in (401, 403):
                raise Denied(
                    f"the container {self._client.container_name!r} does not exist and this credential may not make "
                    "it: make it, or correct its name"
                ) from error
            if _code(error) != "ContainerAlreadyExists":
                raise


class _AlreadyThere(Refused):
    """A blob of that name exists."""


class _MayNotOverwrite(Denied):
    """The credential does not allow this; for a create-only one perhaps because the name exists."""


def _in_our_words(error: AzureError) -> RipeloopError:
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        return Offline(f"the blob store cannot be reached ({type(error.inner_exception or error).__name__})")
    status, code = error.status_code, _code(error)
    if not code:
        return Offline(f"what answers ({status}) is not a blob store: a proxy or a sign-in page between?")
    if code in ("BlobAlreadyExists", "UnauthorizedBlobOverwrite"):
        return _AlreadyThere(code)
    if code == "BlobNotFound":
        return NotFound("the container holds no blob of that name")
    if status in (408, 429) or status >= 500 or status < 400 or code == "ContainerBeingDeleted":
        return Offline(f"the blob store cannot serve now ({status} {code})")
    if code == "AuthorizationPermissionMismatch":
        return _MayNotOverwrite(f"the credential does not allow this ({code}): give it the right it lacks")
    if status in (401, 403):
        return Denied(
            f"the blob store turns the credential away ({code}): it may have expired or be for another container, or "
            "this device's clock may be wrong; set a new one"
        )
    if status == 404 or code in _WRONG_SETTINGS:
        return Denied(f"the blob store does not take this ({status} {code}): check address, container and API version")
    return Refused(f"the blob store does not take this blob ({status} {code})")


def _code(error: HttpResponseError) -> str:
    """The store's own name for what went wrong; empty where something else answered."""
    code = getattr(error, "error_code", None)  # the SDK adds it, but not to every answer
    return str(getattr(code, "value", code or ""))


_WRONG_SETTINGS = {
    "InvalidAuthenticationInfo",
    "InvalidHeaderValue",
    "InvalidQueryParameterValue",
    "InvalidResourceName",
    "InvalidUri",
    "OutOfRangeInput",
}


def _is_folder(address: str) -> bool:
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


def _permissions(address: str) -> str:
    """The rights a SAS in `address` gives, in its letters; empty without a SAS."""
    found = re.search(r"(?:[?&]|SharedAccessSignature=(?:[^;]*&)?)sp=(\w+)", address)
    return found[1] if found else ""


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
        raise ValueError("no credential")  # the SDK would go on as nobody
    client = ContainerClient.from_connection_string(address, container, **options)
    key = getattr(client.credential, "account_key", None)
    if key is not None:
        base64.b64decode(key, validate=True)  # else it fails with the first call, as if it were a bug
    return client
