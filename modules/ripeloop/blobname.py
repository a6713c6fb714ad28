"""What every blob store takes: names and metadata that mean the same in a container and in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from ripeloop.errors import Refused

MAX_METADATA_BYTES = 8 * 1024
METADATA_SUFFIX = ".meta.json"

# printable ASCII; a segment is at most 200 characters, is not empty and starts with no dot
_SEGMENT = re.compile(r"(?!\.)[ -.0-\[\]-~]{1,200}")
# what stands in a segment that is made of any word; all else is escaped with %
_SAFE = "".join(set(map(chr, range(0x20, 0x7F))) - set("/\\?#%"))

_KEY = re.compile(r"[a-z_][a-z0-9_]*")
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class Blob:
    """What a listing says of one blob: its name, its size in bytes, its metadata (ASCII keys and values).

    `md5` is the digest of its bytes, empty where the store does not tell. `etag` is another one after every change.
    """

    name: str
    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    md5: bytes = field(default=b"", compare=False)
    etag: str = field(default="", compare=False)


def is_name(name: str) -> bool:
    """True for a name that every store takes."""
    segments = name.split("/")
    fits = len(name) <= 800 and not name.endswith(METADATA_SUFFIX)
    return fits and all(_SEGMENT.fullmatch(segment) for segment in segments)


def segment(word: str) -> str:
    """`word` as one segment of a name: `%` escapes what a segment cannot hold; the same word gives the same segment."""
    safe = quote(word, safe=_SAFE)[:128].strip(" ")
    return ("%2E" + safe[1:] if safe.startswith(".") else safe) or "device"


def check_name(name: str) -> None:
    """Raises Refused for a name that no blob may have."""
    if not is_name(name):
        raise Refused(
            f"{name!r} cannot be a blob's name: use printable ASCII in segments of 1 to 200 characters that `/` "
            f"divides, no segment starting with a dot, no backslash, not ending in {METADATA_SUFFIX}"
        )


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises Refused for metadata that HTTP headers cannot carry unchanged."""
    for key, value in metadata.items():
        if not _KEY.fullmatch(key):
            raise Refused(f"{key!r} cannot be a metadata key: use lower-case letters, digits and _")
        if not _VALUE.fullmatch(value):
            raise Refused(
                f"the metadata value of {key!r} cannot be sent: use printable ASCII without spaces at the ends, and "
                "leave an empty one out"
            )
    size = sum(len(key) + len(value) for key, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise Refused(f"the metadata is {size} bytes and a blob carries at most {MAX_METADATA_BYTES}: leave some out")
