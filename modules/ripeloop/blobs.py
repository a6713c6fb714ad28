"""Where images are kept: a blob container (azure-storage-blob) or a plain folder, behind one seam."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Blob:
    """What a listing says of one blob: its name, its size in bytes and its metadata (ASCII keys and values)."""

    name: str
    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)


class Blobs(Protocol):
    """Named bytes with a little metadata. Every call raises Offline when the store cannot be reached."""

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
