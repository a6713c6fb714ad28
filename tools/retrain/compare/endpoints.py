"""The two who classify: a classifier nearby and the cloud's published endpoint, asked in the same words."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import time
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit, urlunsplit

import aiohttp

from retrain.shown import plain
from retrain.unreached import why_unreached
from ripeloop.errors import Offline, Refused, SettingsError

MAX_TRIES = 6
MAX_ANSWER = 1024 * 1024  # bytes; an answer of 500 tags takes a tenth
ROUNDING = 1e-6
MAX_WORDS = 300  # characters of a side's own words
MAX_WAIT = 60.0  # seconds that a side may ask us to wait before the next try
_WAIT = (429, 503)
_DENIED = (401, 403, 404)
_WHERE = (
    "give the whole address that Custom Vision shows as Prediction URL: "
    "https://HOST/customvision/v3.0/Prediction/PROJECT/classify/iterations/NAME/image"
)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its name in the report, where images are posted, and its Prediction-Key."""

    name: str
    url: str
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Said:
    """What a side said of one image: the probability by tag, or its refusal; `seconds` from sending to the answer."""

    seconds: float
    probabilities: dict[str, float] = field(default_factory=dict)
    refusal: str = ""

    @property
    def tag(self) -> str:
        """The likeliest tag; empty where the side refused."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default="")


def edge_side(address: str, key: str = "") -> Side:
    """The classifier at `address`, as in http://line-1:8080. Nothing posted to it is kept. Raises SettingsError."""
    parts = _web_address(address, "--edge")
    path = parts.path.rstrip("/").removesuffix("/nostore").removesuffix("/image")
    url = urlunsplit((parts.scheme, parts.netloc, f"{path}/image/nostore", "", ""))
    return Side("edge", url, _key(key, "--edge-key"))


def cloud_side(address: str, key: str) -> Side:
    """The published endpoint at `address`. Nothing posted to it is stored. Raises SettingsError."""
    parts = _web_address(address, "--cloud")
    path = parts.path.rstrip("/").removesuffix("/nostore").removesuffix("/image").removesuffix("/url")
    if "/classify/iterations/" not in path.lower():
        raise SettingsError(f"--cloud names no published iteration: {_WHERE}")
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise SettingsError("--cloud: the key would travel for everybody to read; give an https:// address")
    url = urlunsplit((parts.scheme, parts.netloc, f"{path}/image/nostore", "", ""))
    return Side("cloud", url, _key(key, "--key"))


async def reach(session: aiohttp.ClientSession, side: Side, image: bytes) -> None:
    """Post `image` once, that a connection stands. Raises Offline; Refused where the side refuses everybody."""
    try:
        await _post(session, side, image)
    except (aiohttp.ClientError, OSError) as error:
        raise Offline(f"the {side.name} at {_host(side)} cannot be reached: {why_unreached(error)}") from error


async def ask(session: aiohttp.ClientSession, side: Side, image: bytes) -> Said:
    """The side's answer; a connection that breaks is an answer, too. Raises Refused where it refuses everybody."""
    started = time.perf_counter()
    try:
        return await _post(session, side, image)
    except (aiohttp.ClientError, OSError) as error:
        return Said(time.perf_counter() - started, refusal=why_unreached(error))


async def _post(session: aiohttp.ClientSession, side: Side, image: bytes) -> Said:
    headers = {"Content-Type": "application/octet-stream"} | ({"Prediction-Key": side.key} if side.key else {})
    for _ in range(MAX_TRIES):
        started = time.perf_counter()
        async with session.post(side.url, data=image, headers=headers, allow_redirects=False) as response:
            body = await _body(response)
            seconds = time.perf_counter() - started
        if body is None:
            return Said(seconds, refusal=f"the answer has more than {MAX_ANSWER} bytes: is the address right?")
        if response.status == 200:
            return _answer(body, seconds)
        words = plain((_words(body) or response.reason or "")[:MAX_WORDS])
        if response.status in _DENIED:
            raise Refused(f"the {side.name} at {_host(side)} said {response.status}: {words}")
        if response.status not in _WAIT:
            return Said(seconds, refusal=f"{response.status} {words}")
        await asyncio.sleep(_wait(response.headers.get("Retry-After", "")))  # it is asked to wait, not slow
    return Said(seconds, refusal=f"{response.status} after {MAX_TRIES} tries: {words}")


async def _body(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, unpacked; None where it is far too long."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            return None
    return body


def _answer(body: bytes, seconds: float) -> Said:
    try:
        found = {str(p["tagName"]): float(p["probability"]) for p in json.loads(body)["predictions"]}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Said(seconds, refusal="the answer is not Custom Vision's: is the address right?")
    if not all(0 <= probability <= 1 + ROUNDING for probability in found.values()):  # nor is nan
        return Said(seconds, refusal="the answer holds a probability that is none")
    return Said(seconds, found) if found else Said(seconds, refusal="the answer holds no prediction")


def _words(body: bytes) -> str:
    """The message of an error in the service's or in the gateway's form."""
    try:
        told = json.loads(body)
        return str(told.get("error", told)["message"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _wait(retry_after: str) -> float:
    try:
        seconds = float(retry_after)
    except ValueError:
        return 1.0
    return min(max(seconds, 0.0), MAX_WAIT) if math.isfinite(seconds) else 1.0


def _web_address(address: str, flag: str) -> SplitResult:
    """Raises SettingsError, which does not repeat a password."""
    try:
        parts = urlsplit(address)
        (parts.hostname or "").encode("idna")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an end, a port that is no number, a name that no host can have
        usable = False
    if not usable:
        raise SettingsError(f"{flag} is no http:// or https:// address that a host can have: look for a typing error")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            f"{flag} holds a name or a password: give the address alone, and the key by its own setting"
        )
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key(key: str, flag: str) -> str:
    """The key as a header can carry it. Raises SettingsError."""
    key = key.strip()  # a key file may end its line in either way
    if not key.isascii() or not key.isprintable():
        raise SettingsError(f"{flag} holds letters that no key has: copy it again")
    return key


def _host(side: Side) -> str:
    return urlsplit(side.url).netloc
