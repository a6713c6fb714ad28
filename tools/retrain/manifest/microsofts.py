"""Microsoft's own images in a manifest: the IoT Edge runtime, and the blob module."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from retrain.manifest.deployed import Deployed, Module
from retrain.manifest.finding import Finding

LINE = (1, 6)
"""The oldest line of IoT Edge that is still mended; 1.5 was until November 2026."""

PORT = 11002
_RUNTIME = re.compile(r".*azureiotedge-(?:agent|hub)(?::(?:(?P<major>\d+)\.(?P<minor>\d+))?.*)?")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_HOST = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_ADDRESS = re.compile(rf"http://(?P<host>[^:/;]+):{PORT}/(?P<account>[^;/]+)")
_KEY_BYTES = 64


def runtime(found: Deployed) -> Iterator[Finding]:
    """A runtime of a line that is no longer mended, or edgeAgent and edgeHub of two different ones."""
    lines = {}
    for module in found.modules:
        match = _RUNTIME.fullmatch(module.image)
        if not module.is_system or match is None:
            continue
        place = module.place / "settings" / "image"
        if match["minor"] is None:
            yield Finding(place, f"{module.image} names no line of IoT Edge: write :{LINE[0]}.{LINE[1]}")
            continue
        line = lines[module.name] = int(match["major"]), int(match["minor"])
        if line < LINE:
            yield Finding(place, f"{module.image} is no longer mended: write :{LINE[0]}.{LINE[1]}")
    if len(set(lines.values())) > 1:
        hub = found.module("edgeHub")
        if hub is not None:
            yield Finding(
                hub.place / "settings" / "image", "edgeAgent and edgeHub are of two lines: give both the same"
            )


def images(found: Deployed) -> Iterator[Finding]:
    """Images whose name may mean another one tomorrow; Microsoft's are left alone."""
    for module in found.modules:
        name = module.image.rpartition("/")[2]
        if name and not module.is_microsofts and (name.endswith(":latest") or ":" not in name):
            yield Finding(
                module.place / "settings" / "image",
                f"{module.image} may be another image tomorrow, and devices keep what they have: name a version",
                serious=False,
            )


def blobs(found: Deployed, *, laptop: bool) -> Iterator[Finding]:
    """A blob module that would not start or keep anything, and those who would not find it.

    `laptop`: the example's key is all right.
    """
    stores = {module.name: module for module in found.modules if "azure-blob-storage" in module.image}
    for name, module in stores.items():
        yield from _store(module, laptop=laptop)
        twin = found.desired.get(name, {})
        if isinstance(up := twin.get("deviceToCloudUploadProperties"), dict) and up.get("uploadOn"):
            yield Finding(
                module.place, f"{name} uploads by itself (uploadOn), as the sampler does: say false", serious=False
            )
    for module in found.modules:
        yield from _reached(module, stores)


def _store(module: Module, *, laptop: bool) -> Iterator[Finding]:
    env = module.place / "env"
    if not _HOST.fullmatch(module.name):
        yield Finding(
            module.place, f"{module.name} is no host name: small letters, digits and -, for others reach it by it"
        )
    account = module.env.get("LOCAL_STORAGE_ACCOUNT_NAME", "")
    if not _ACCOUNT.fullmatch(account):
        yield Finding(env / "LOCAL_STORAGE_ACCOUNT_NAME", f"must be 3 to 24 small letters and digits, not {account!r}")
    if wrong := wrong_key(module.env.get("LOCAL_STORAGE_ACCOUNT_KEY", ""), laptop=laptop):
        yield Finding(env / "LOCAL_STORAGE_ACCOUNT_KEY", wrong)
    if "/blobroot" not in [target for _, target in module.binds] and not module.wrong:
        yield Finding(
            module.options_place, f"{module.name} has nothing at /blobroot: what it keeps goes with the container"
        )


def wrong_key(key: str, *, laptop: bool) -> str:
    """What is wrong with an account key; never the key itself."""
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    make = "make one: openssl rand -base64 64 | tr -d '\\n'"
    if len(raw) != _KEY_BYTES:
        return f"must be {_KEY_BYTES} bytes in base64; {make}"
    if not laptop and raw.isascii():  # of random bytes, one in 2^64 is
        return f"is the example's key, or another one that can be read: everybody knows it; {make}, or say --laptop"
    return ""


def _reached(module: Module, stores: dict[str, Module]) -> Iterator[Finding]:
    for name, value in module.env.items():
        address = _ADDRESS.search(value)
        if address is None:
            continue
        place, store = module.place / "env" / name, stores.get(address["host"])
        if store is None:
            yield Finding(place, f"looks for blobs at {address['host']}, which is no blob module of this deployment")
            continue
        parts = dict(part.partition("=")[::2] for part in value.split(";"))
        if parts.get("AccountName") != store.env.get("LOCAL_STORAGE_ACCOUNT_NAME") or (
            address["account"] != parts.get("AccountName")
        ):
            yield Finding(place, f"names another account than {store.name} has")
        if parts.get("AccountKey") != store.env.get("LOCAL_STORAGE_ACCOUNT_KEY"):
            yield Finding(place, f"holds another key than {store.name} has")
        if module.order is not None and store.order is not None and module.order < store.order:
            yield Finding(
                module.place, f"{module.name} starts before {store.name}, where its images go: change startupOrder"
            )
