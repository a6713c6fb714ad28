"""Addresses that carry their own permission, for a while: images, thumbnails, exported models, import tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable

EXPORT_SECONDS = 3600
IMAGE_SECONDS = 24 * 3600
TOKEN_SECONDS = 30 * 24 * 3600


class Links:
    """Signs and checks, with a secret that outlives the process."""

    def __init__(self, secret: bytes, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now = now

    def signed(self, path: str, seconds: float) -> str:
        """The path with what lets anyone read it for so long."""
        until = str(int(self._now() + seconds))
        return f"{path}?se={until}&sig={self._signature(path, until)}"

    def allows(self, path: str, until: str, signature: str) -> bool:
        """Whether the path was signed, and not too long ago."""
        if not self._same(signature, self._signature(path, until)):
            return False
        return until.isascii() and until.isdigit() and int(until) >= self._now()

    def token(self, what: str) -> str:
        """Words that stand for `what` for a month."""
        until = str(int(self._now() + TOKEN_SECONDS))
        return base64.urlsafe_b64encode(f"{what} {until} {self._signature(what, until)}".encode()).decode()

    def of_token(self, token: str) -> str | None:
        """What a token stands for; None for one that is wrong or old."""
        try:
            what, until, signature = base64.urlsafe_b64decode(token.encode()).decode("ascii").split(" ")
        except (ValueError, binascii.Error):
            return None
        return what if self.allows(what, until, signature) else None

    def _signature(self, path: str, until: str) -> str:
        signed = f"{path}\n{until}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()

    @staticmethod
    def _same(one: str, other: str) -> bool:
        return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))
