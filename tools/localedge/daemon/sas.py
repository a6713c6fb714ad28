"""Shared access signatures, as IoT Hub and edge hub read and check them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from ripeloop.errors import Refused

SCHEME = "SharedAccessSignature "


@dataclass(frozen=True, slots=True)
class Token:
    """A shared access signature as it was sent."""

    resource: str
    """What it is for, decoded: `hub/devices/d/modules/m`, or the hub's host name."""
    signature: str
    expires: int
    """Seconds since 1970."""
    policy: str
    """The service's policy name; empty in a module's token."""
    signed: bytes
    """The text under the signature."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who an MQTT user name says it is."""

    hub: str
    device: str
    module: str


def sign(key: str, data: bytes) -> str:
    """The base64 HMAC-SHA256 of `data` under a base64 key."""
    return base64.b64encode(hmac.new(base64.b64decode(key), data, hashlib.sha256).digest()).decode()


def parse_token(text: str) -> Token:
    """Read a `SharedAccessSignature sr=…&sig=…&se=…`. Raises Refused."""
    if not text.startswith(SCHEME):
        raise Refused("no SharedAccessSignature")
    fields = dict(pair.partition("=")[::2] for pair in text.removeprefix(SCHEME).strip().split("&"))
    try:
        resource, signature, expires = fields["sr"], fields["sig"], fields["se"]
        return Token(
            resource=unquote(resource, errors="strict"),
            signature=unquote(signature, errors="strict"),
            expires=int(expires),
            policy=unquote(fields.get("skn", "")),
            signed=f"{resource}\n{expires}".encode(),
        )
    except (KeyError, ValueError) as error:
        raise Refused("malformed SharedAccessSignature") from error


def check_token(token: Token, *, resources: Collection[str], keys: Collection[str], now: float) -> None:
    """Let a token pass that is for one of `resources`, signed with one of `keys` and not expired. Raises Refused."""
    if token.resource.lower() not in {resource.lower() for resource in resources}:
        raise Refused(f"the token is for {token.resource}")
    if token.expires <= now:
        raise Refused("the token has expired")
    if not any(_same(sign(key, token.signed), token.signature) for key in keys):
        raise Refused("bad signature")


def parse_username(username: str) -> Claim:
    """Read `hub/device/module/?api-version=…`. Raises Refused; edge hub wants the api-version too."""
    path, _, query = username.rpartition("/")
    if not dict(parse_qsl(query.removeprefix("?"))).get("api-version"):
        raise Refused("the user name has no api-version")
    segments = path.split("/")
    if len(segments) == 2:
        return Claim(segments[0], segments[1], "")
    if len(segments) == 3:
        return Claim(*segments)
    raise Refused("the user name is not hub/device/module")


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 text. Raises Refused."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("not base64") from error


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
