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
MAX_ATTEMPT = 1_000_000_000
MAX_SHADOW_IMAGES = 1_000_000
MAX_SHADOW_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class ShadowWish:
    """Before it takes over, a model is compared with the one that answers, on a `share` of the images.

    It ends after so many `images` compared, or so many `seconds` after the first one answered. With an `agreement` the
    model takes over only where both find the same tag likeliest for at least that share of the images.
    """

    share: float = 0.2
    images: int = 200
    seconds: float = 3600.0
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model package by its SHA-256, and where it is: `url` or `path`, one of the two. `signature` is base64.

    A higher `attempt` than before has a package tried again that was undone, or failed, here.
    """

    version: str
    sha256: str
    url: str = ""
    path: str = ""
    signature: str = ""
    shadow: ShadowWish | None = None
    attempt: int | None = None

    @property
    def place(self) -> str:
        """Where it comes from, without what may be secret."""
        return shown(self.url) if self.url else self.path

    @property
    def whole(self) -> str:
        """Names the request, a renewed URL being another one; tells no secret."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


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
        shadow=_shadow(section.get("shadow")),
        attempt=_attempt(section.get("attempt")),
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


def _shadow(section: object) -> ShadowWish | None:
    if section is None or section == {}:
        return None
    if not isinstance(section, Mapping):
        raise Refused("model.shadow must be an object: share, images, seconds, agreement")
    wish = ShadowWish()
    share = _number(section, "share", wish.share)
    images = _number(section, "images", wish.images)
    seconds = _number(section, "seconds", wish.seconds)
    if not 0 < share <= 1:
        raise Refused("model.shadow.share must be above 0, and 1 at most")
    if not 1 <= images <= MAX_SHADOW_IMAGES or images != int(images):
        raise Refused(f"model.shadow.images must be a whole number from 1 to {MAX_SHADOW_IMAGES}")
    if not 0 < seconds <= MAX_SHADOW_SECONDS:
        raise Refused(f"model.shadow.seconds must be above 0, and {MAX_SHADOW_SECONDS} at most")
    agreement = None if section.get("agreement") is None else _number(section, "agreement", 0)
    if agreement is not None and not 0 <= agreement <= 1:
        raise Refused("model.shadow.agreement must be a share, from 0 to 1")
    return ShadowWish(share, int(images), seconds, agreement)


def _attempt(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_ATTEMPT:
        raise Refused(f"model.attempt must be a whole number from 1 to {MAX_ATTEMPT}")
    return value


def _number(section: Mapping[str, object], name: str, default: float) -> float:
    value = section.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"model.shadow.{name} must be a number")
    return value


def _text(section: Mapping[str, object], name: str) -> str:
    value = section.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(f"model.{name} must be a string")
    text = value.strip()
    if not text.isprintable():  # a line end would forge a line of the log, half a surrogate pair fits into no file
        raise Refused(f"model.{name} must be one line of printable characters")
    return text


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
