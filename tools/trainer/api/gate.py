"""The gateway before the service: keys, and how many calls a second."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import math
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from trainer.errors import GatewayProblem, Problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

WRONG_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)


class Gate:
    """Lets requests pass that carry the right key. Without keys, those from this very computer."""

    def __init__(self, training_key: str, prediction_key: str, calls_per_second: float = 0.0) -> None:
        self._training = training_key.encode()
        self._prediction = (prediction_key or training_key).encode()
        self._calls = Calls(calls_per_second) if calls_per_second else None

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises GatewayProblem or Problem for what does not pass."""
        _check_host(request)
        path = request.path
        if path.startswith("/customvision/"):
            is_prediction = path.split("/")[3:4] == ["prediction"]
            header = "Prediction-Key" if is_prediction else "Training-Key"
            self._check(request, request.headers.get(header, ""), self._prediction if is_prediction else self._training)
            if self._calls is not None:
                self._calls.check()
        elif path == "/":
            self._check_page(request)
        return await handler(request)

    def _check(self, request: web.Request, given: str, key: bytes) -> None:
        if not key:
            _check_same_computer(request)
        elif not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), key):
            raise GatewayProblem(401, WRONG_KEY)

    def _check_page(self, request: web.Request) -> None:
        """A browser asks for a name and a password; the password is the training key."""
        if not self._training:
            _check_same_computer(request)
            return
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            password = base64.b64decode(encoded, validate=True).partition(b":")[2]
        except (ValueError, binascii.Error):
            password = b""
        if scheme.lower() != "basic" or not hmac.compare_digest(password, self._training):
            raise web.HTTPUnauthorized(
                headers={"WWW-Authenticate": 'Basic realm="trainer", charset="UTF-8"'}, text="the training key, please"
            )


class Calls:
    """How many calls are let through: so many a second, as many at once."""

    def __init__(self, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._left = max(1.0, per_second)
        self._now = now
        self._seen = now()

    def check(self) -> None:
        """Count one call. Raises GatewayProblem where there were too many."""
        now = self._now()
        self._left = min(max(1.0, self._rate), self._left + (now - self._seen) * self._rate)
        self._seen = now
        if self._left < 1:
            wait = math.ceil((1 - self._left) / self._rate)
            raise GatewayProblem(
                429,
                f"Requests to this trainer have exceeded rate limit of {self._rate:g} a second. "
                f"Please retry after {wait} seconds.",
                retry_after=wait,
            )
        self._left -= 1


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach that address."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_host(request: web.Request) -> None:
    """Links in answers begin with the host the client asked for."""
    try:
        request.url.origin()
    except ValueError:
        raise Problem("BadRequestInvalid", "the Host header is not a name and a port: correct it") from None


def _check_same_computer(request: web.Request) -> None:
    """Without a key, a page in this computer's browser must not be able to use us behind its user's back."""
    if not is_loopback(request.url.host or "") or "Origin" in request.headers:
        raise GatewayProblem(403, "this trainer has no key and serves its own computer alone: set --training-key")
