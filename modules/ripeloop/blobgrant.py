"""Rights that expire: a SAS that creates blobs in one container, or reads one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote

from azure.storage.blob import BlobSasPermissions, ContainerSasPermissions, generate_blob_sas, generate_container_sas

from ripeloop.blobname import check_name
from ripeloop.blobs import PROBES, AzureBlobs, Blobs, open_blobs
from ripeloop.errors import SettingsError

# a SAS is good from a little before it was made, for a clock may be behind
CLOCKS_DIFFER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Grant:
    """A right that expires: to create blobs in one container, or to read one; `address` is the secret, a SAS URL."""

    address: str = field(repr=False)
    expires: datetime


async def grant(address: str, container: str, api_version: str | None, *, lasts: timedelta, now: datetime) -> Grant:
    """A new SAS of `container`, which is made where it is missing: to create blobs, and for nothing else.

    `address` is a connection string with the account's key. Raises SettingsError, Offline, Refused.
    """
    async with open_blobs(address, container, api_version) as blobs:
        key = blobs.account_key() if isinstance(blobs, AzureBlobs) else None
        if not isinstance(blobs, AzureBlobs) or key is None:
            raise SettingsError("to grant a credential takes a connection string with the account's key")
        async for _ in blobs.list(f"{PROBES}/"):  # where the container is missing, this makes it
            break
        account, url = key[0], blobs.url
        sas = generate_container_sas(
            account,
            container,
            account_key=key[1],
            permission=ContainerSasPermissions(create=True),
            start=now - CLOCKS_DIFFER,
            expiry=now + lasts,
            protocol="https" if url.startswith("https") else None,
        )
    return Grant(f"{url}?{sas}", now + lasts)


def link(blobs: Blobs, name: str, *, lasts: timedelta, now: datetime) -> Grant:
    """A new SAS of one blob: to read it, and for nothing else. Asks nobody. Raises SettingsError."""
    key = blobs.account_key() if isinstance(blobs, AzureBlobs) else None
    if not isinstance(blobs, AzureBlobs) or key is None:
        raise SettingsError("to make links for devices takes a connection string with the account's key")
    check_name(name)
    sas = generate_blob_sas(
        key[0],
        blobs.container,
        name,
        account_key=key[1],
        permission=BlobSasPermissions(read=True),
        start=now - CLOCKS_DIFFER,
        expiry=now + lasts,
        protocol="https" if blobs.url.startswith("https") else None,
    )
    return Grant(f"{blobs.url}/{quote(name)}?{sas}", now + lasts)
