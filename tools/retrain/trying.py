"""Calls of a service that is away or busy for a while, made again until there is an answer."""

from __future__ import annotations

import random
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from msrest.exceptions import ClientException, HttpOperationError

from retrain.unreached import why_unreached
from ripeloop.errors import Denied, NotFound, Offline, Refused

Answer = TypeVar("Answer")

TRIES = 6
LONGEST_WAIT = 60.0
PATIENCE = 300.0  # seconds of waiting that a busy service asked for, beside the tries

_BUSY = (429, 500, 502, 503, 504)
_NO_KEY = (401, 403)


@dataclass(frozen=True, slots=True)
class Trying:
    """Calls of the service at `endpoint`; `before` is called before each.

    The client itself never repeats a POST, and hides what it repeats: so it is done here, for all alike.
    """

    endpoint: str
    sleep: Callable[[float], None]
    before: Callable[[], None]

    def __call__(self, call: Callable[[], Answer], doing: str, tries: int = TRIES) -> Answer:
        """What the call answers in the end. Raises Offline, Denied, NotFound and Refused, with what it was `doing`.

        A service that says how long to wait is not away: that counts as no try, up to PATIENCE.
        """
        nth, waited = 1, 0.0
        while True:
            self.before()
            try:
                return call()
            except (urllib.error.HTTPError, ClientException, OSError) as error:
                fault = _fault(error)
            if fault.code and fault.code not in _BUSY:
                raise _refusal(fault, doing)
            pause = _wait(nth, fault.after)
            if fault.code == 429 and fault.after and waited + pause <= PATIENCE:
                waited += pause
            elif nth == tries:
                break
            else:
                nth += 1
            self.sleep(pause)
        raise Offline(
            f"{bare(self.endpoint)} does not answer ({doing}: {fault.reason}); try again, it goes on from here"
        )


def bare(address: str) -> str:
    """The address without its query, which may hold a signature."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


@dataclass(frozen=True, slots=True)
class _Fault:
    """How a call failed: the status, 0 without an answer, and why; when to come again, and the service's own word."""

    code: int
    reason: str
    after: str | None = None
    kind: str = ""


def _fault(error: Exception) -> _Fault:
    if isinstance(error, urllib.error.HTTPError):
        return _Fault(error.code, str(error.reason), error.headers.get("Retry-After"))
    if isinstance(error, HttpOperationError):
        status, after = error.response.status_code, error.response.headers.get("Retry-After")
        kind, words = getattr(error.error, "code", None) or "", getattr(error.error, "message", None)
        # the gateway before the service answers in another shape
        return _Fault(status, f"{kind}: {words}" if kind else f"HTTP {status}", after, kind)
    return _Fault(0, why_unreached(error))


def _refusal(fault: _Fault, doing: str) -> Refused | NotFound:
    words = f"{doing}: {fault.reason}"
    if fault.code in _NO_KEY:
        return Denied(f"{words}; check the key and the endpoint, they belong together", kind=fault.kind)
    if fault.code == 404:
        return NotFound(f"{words}; check the project's id", kind=fault.kind)
    return Refused(words, kind=fault.kind)


def _wait(nth: int, after: str | None) -> float:
    asked = float(after) if after and after.isdecimal() else 2.0 ** (nth - 1)
    return min(asked, LONGEST_WAIT) + random.random() / 2  # noqa: S311
