"""Why somebody was not reached, in a few words: what the libraries say of it is a paragraph about themselves."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

from retrain.shown import plain

_LINKS = ("__cause__", "__context__", "os_error", "certificate_error", "inner_exception", "reason")
_LONGEST = 200
_DEEPEST = 12
_ERRNO = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "the connection broke off",
    errno.EPIPE: "the connection broke off",
    errno.ETIMEDOUT: "no answer in time",
    errno.EHOSTUNREACH: "no way to that host",
    errno.ENETUNREACH: "no way to that network",
}


def why_unreached(error: BaseException) -> str:
    """The socket's own reason, found below whatever wraps it; else what `error` says of itself, cut short."""
    below = list(_below(error))
    for one in below:
        if isinstance(one, socket.gaierror):
            return "its name is not found"
        if not isinstance(one, ssl.SSLError) or type(one).__module__ != ssl.__name__:
            continue  # a wrapper of aiohttp's is of this class, too, but has nothing to say
        if words := getattr(one, "verify_message", ""):
            return f"its certificate is not taken: {plain(words)}"
        return f"TLS is not agreed on: {plain(getattr(one, 'reason', '') or str(one))}"
    for one in below:
        if isinstance(one, OSError) and one.errno in _ERRNO:
            return _ERRNO[one.errno]
    if any(isinstance(one, TimeoutError) or "Timeout" in type(one).__name__ for one in below):
        return "no answer in time"
    return plain(str(error)[:_LONGEST]) or type(error).__name__


def _below(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that it was raised for."""
    known, waiting = set[int](), [error]
    while waiting and len(known) < _DEEPEST:
        one = waiting.pop(0)
        if id(one) in known:
            continue
        known.add(id(one))
        yield one
        linked = [getattr(one, name, None) for name in _LINKS]
        waiting += [other for other in (*linked, *one.args) if isinstance(other, BaseException)]
