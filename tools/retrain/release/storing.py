"""A package goes to storage, and gets a place that devices can fetch it from."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from classifier.models import export as exports
from classifier.rollout.wanted import from_desired, shown
from retrain.release.plan import Plan
from ripeloop.blobgrant import link
from ripeloop.blobs import Blobs, FolderBlobs
from ripeloop.blobsas import Sas
from ripeloop.errors import Changed, NotFound, Refused, SettingsError
from ripeloop.package import sha256_of

PACKAGES = "packages/"
RENEW_AT = 0.2  # a link with less than this share of its time left is made anew


@dataclass(frozen=True, slots=True)
class Offer:
    """A package in storage: the twin's words for it, which may hold a secret."""

    version: str
    sha256: str
    section: dict[str, Any] = field(repr=False)

    @property
    def place(self) -> str:
        """Where devices fetch it from, without what may be secret."""
        return shown(self.section["url"]) if "url" in self.section else str(self.section["path"])


async def offer(blobs: Blobs, package: Path, signature: str, plan: Plan, now: datetime) -> Offer:
    """Store the package, where it is not stored yet, and say where devices find it.

    Raises BadModel, SettingsError, Offline, Refused.
    """
    own_version = (await asyncio.to_thread(exports.read, package)).version
    sha256, version = await asyncio.to_thread(sha256_of, package), plan.version or own_version
    name = name_of(version, sha256)
    section: dict[str, Any] = {"version": version, "sha256": sha256} | _where(blobs, name, plan, now)
    kept = {"signature": signature} if signature else {}
    section |= kept
    section |= {"shadow": dict(plan.shadow)} if plan.shadow else {}
    try:
        from_desired(section)
    except Refused as error:
        raise SettingsError(f"no device would take this: {error}") from error
    await _store(blobs, name, package, {"sha256": sha256, "version": version} | kept)
    return Offer(version, sha256, section)


def name_of(version: str, sha256: str) -> str:
    """The name of a package in storage."""
    return f"{PACKAGES}{re.sub('[^A-Za-z0-9._-]', '-', version).lstrip('.')[:100]}-{sha256[:12]}.zip"


def runs_out(section: dict[str, Any], plan: Plan, now: datetime) -> bool:
    """Whether the link that a twin or a configuration holds is soon good no more."""
    sas = Sas.in_address(str(section.get("url") or ""))
    return sas is not None and sas.expires is not None and sas.expires - now < plan.lasts * RENEW_AT


async def _store(blobs: Blobs, name: str, package: Path, metadata: dict[str, str]) -> None:
    """Look first: a package is large, and a credential may be for new blobs only."""
    try:
        found = await blobs.head(name)
    except NotFound:
        await blobs.put(name, await asyncio.to_thread(package.read_bytes), metadata, "application/zip")
        return
    if found.size != package.stat().st_size:
        raise Changed(f"{name} in the storage is not this package: delete it there, and release again")


def _where(blobs: Blobs, name: str, plan: Plan, now: datetime) -> dict[str, str]:
    if plan.base_url:
        kind = "path" if plan.base_url.startswith("/") else "url"
        return {kind: f"{plan.base_url.rstrip('/')}/{name}"}
    if isinstance(blobs, FolderBlobs):
        return {"path": str(blobs.path(name).resolve())}
    return {"url": link(blobs, name, lasts=plan.lasts, now=now).address}


def utc_now() -> datetime:
    """The moment."""
    return datetime.now(UTC)
