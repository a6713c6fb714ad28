"""The model the twin asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ripeloop.errors import Refused
from ripeloop.package import SHA256

MAX_VERSION = 128  # characters: it travels in messages and metadata


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model package by its SHA-256, and where it is: `url` or `path`, one of the two. `signature` is base64."""

    version: str
    sha256: str
    url: str = ""
    path: str = ""
    signature: str = ""

    @property
    def place(self) -> str:
        """Where it comes from, without what may be secret."""
        return shown(self.url) if self.url else self.path

    @property
    def content(self) -> str:
        """Names the model, wherever it comes from."""
        return f"{self.version} {self.sha256}"

    @property
    def whole(self) -> str:
        """Names the request, a renewed URL being another one; tells no secret."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def from_desired(section: object) -> Wanted | None:
    """What the desired property `model` asks for; None where it asks for nothing. Raises Refused."""
    if section is None or section == {}:
        return None
    if not isinstance(section, Mapping):
        raise Refused("model must be an object: version, sha256, url or path")
    wanted = Wanted(
        version=_text(section, "version"),
        sha256=_text(section, "sha256").lower(),
        url=_text(section, "url"),
        path=_text(section, "path"),
        signature=_text(section, "signature"),
    )
    if not 0 < len(wanted.version) <= MAX_VERSION or not (wanted.version.isascii() and wanted.version.isprintable()):
        raise Refused(f"model.version must be 1 to {MAX_VERSION} ASCII characters")
    if not SHA256.fullmatch(wanted.sha256):
        raise Refused("model.sha256 must be the package's SHA-256, 64 hex digits")
    if bool(wanted.url) == bool(wanted.path):
        raise Refused("give model.url or model.path, one of the two")
    if wanted.url and not _is_web(wanted.url):
        raise Refused("model.url must be an http or https address")
    if wanted.path and not Path(wanted.path).is_absolute():
        raise Refused("model.path must be absolute, as this module sees the folder")
    return wanted


def shown(url: str) -> str:
    """The address for people and logs: a query may be a SAS, and a user part a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _text(section: Mapping[str, object], name: str) -> str:
    value = section.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(f"model.{name} must be a string")
    return value.strip()


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
