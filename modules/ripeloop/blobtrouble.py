"""What a blob store, or the line to it, means when it says no: the situation by name, and what to do.

Pure: the error, the SAS that was used and the device's clock come in as arguments.
"""

from __future__ import annotations

import errno
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from azure.core.exceptions import AzureError, HttpResponseError

from ripeloop.blobsas import Sas
from ripeloop.errors import Changed, Denied, NotFound, Offline, Refused, RipeloopError

MOST_SKEW = timedelta(minutes=5)  # Azure takes up to fifteen: it is said before that

_WRONG_SETTINGS = {
    "InvalidAuthenticationInfo",
    "InvalidHeaderValue",
    "InvalidQueryParameterValue",
    "InvalidResourceName",
    "InvalidUri",
    "OutOfRangeInput",
}
_BROKEN = (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE)
# Azure's words for an account, and 507 of stores on a disk, that have no room for one byte more
_FULL = ("QuotaExceeded", "LimitExceeded", "CapacityExceeded", "InsufficientStorage", "AccountFull")


class AlreadyThere(Refused):
    """A blob of that name exists."""


class MayNotOverwrite(Denied):
    """The credential does not allow this; for a create-only one perhaps because the name exists."""


def in_our_words(error: AzureError, sas: Sas | None, now: datetime) -> RipeloopError:
    """The failure of one call as one of our errors, with its `kind`."""
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        if "MD5" in error.message:  # the SDK compares what was stored with what was sent
            return not_a_store("with another digest than that of the bytes sent")
        return line_trouble(error.inner_exception or error)
    return _said(error.status_code, code_of(error), error, sas, now)


def _said(status: int, code: str, error: HttpResponseError, sas: Sas | None, now: datetime) -> RipeloopError:
    if status == 507 or any(word in code for word in _FULL):
        return Denied(f"the blob store is full ({status} {code}): free some of it or raise its limit", kind="full")
    if not code:
        return not_a_store(f"{status}")
    if code in ("BlobAlreadyExists", "UnauthorizedBlobOverwrite"):
        return AlreadyThere(code)
    if code == "ConditionNotMet":
        return Changed("somebody changed the blob since it was read: read it again")
    if code == "BlobNotFound":
        return NotFound("the container holds no blob of that name")
    return _of_all(status, code, _server_time(error), sas, now)


def _of_all(status: int, code: str, server: datetime | None, sas: Sas | None, now: datetime) -> RipeloopError:
    """What the store says of more than one blob, but for the last."""
    if status in (408, 429) or status >= 500 or status < 400 or code == "ContainerBeingDeleted":
        return Offline(f"the blob store cannot serve now ({status} {code})", kind="busy")
    if code == "AuthorizationPermissionMismatch":
        return MayNotOverwrite(
            f"the credential does not allow this ({code}): give it the right it lacks", kind="no_right"
        )
    if status in (401, 403):
        return _turned_away(code, sas, server, now)
    if status == 404 or code in _WRONG_SETTINGS:
        return Denied(
            f"the blob store does not take this ({status} {code}): check address, container and API version",
            kind="settings",
        )
    return Refused(f"the blob store does not take this blob ({status} {code})", kind="refused_blob")


def line_trouble(cause: BaseException) -> Offline:
    """What is wrong with the way to the store, told from the error of the socket."""
    below = getattr(cause, "os_error", None) or getattr(cause, "certificate_error", None) or cause
    name = type(below).__name__
    if isinstance(below, socket.gaierror) or "DNS" in type(cause).__name__:
        return Offline("the blob store's name is not found: is the DNS reachable, the address right?", kind="dns")
    if isinstance(below, ssl.SSLError | ssl.CertificateError) or "SSL" in type(cause).__name__:
        return Offline(
            f"the blob store's certificate or TLS is not taken ({name}): a proxy between, or a wrong clock?", kind="tls"
        )
    number = getattr(below, "errno", None)  # aiohttp's own classes hide which of Python's it was
    if isinstance(below, ConnectionRefusedError) or number == errno.ECONNREFUSED:
        return Offline("the blob store refuses connections: is it running, the port right?", kind="refused")
    if isinstance(below, TimeoutError) or number == errno.ETIMEDOUT:
        return silent()
    if isinstance(below, ConnectionError) or number in _BROKEN or "Disconnected" in name or "Payload" in name:
        return Offline(f"the connection to the blob store breaks off ({name})", kind="reset")
    return Offline(f"the blob store cannot be reached ({name})", kind="unreachable")


def silent() -> Offline:
    """Nothing came back in time."""
    return Offline("the blob store does not answer in time", kind="silent")


def not_a_store(answer: str) -> Offline:
    """Something else answered."""
    return Offline(f"what answers ({answer}) is not a blob store: a proxy or a sign-in page between?", kind="proxy")


def code_of(error: HttpResponseError) -> str:
    """The store's own name for what went wrong; empty where something else answered."""
    code = getattr(error, "error_code", None)  # the SDK adds it, but not to every answer
    return str(getattr(code, "value", code or ""))


def _turned_away(code: str, sas: Sas | None, server: datetime | None, now: datetime) -> Denied:
    """Expired, not yet good, the clock, or the credential itself: the store's clock decides, where it told it."""
    moment = server or now
    if sas is not None and sas.expires is not None and moment >= sas.expires:
        return Denied(
            f"the SAS has expired at {sas.expires:%Y-%m-%d %H:%M} UTC ({code}): set a new one", kind="expired"
        )
    if sas is not None and sas.starts is not None and moment < sas.starts:
        return Denied(
            f"the SAS is good only from {sas.starts:%Y-%m-%d %H:%M} UTC on ({code}): was its maker's clock ahead?",
            kind="not_yet",
        )
    if sas is None and server is not None and abs(server - now) > MOST_SKEW:
        return Denied(
            f"this device's clock is wrong by {abs(server - now).total_seconds() / 60:.0f} minutes ({code}): "
            "set it, and keys are taken again",
            kind="clock",
        )
    if code == "AccountIsDisabled":
        return Denied(f"the storage account is disabled ({code}): ask who pays for it", kind="disabled")
    return Denied(
        f"the blob store turns the credential away ({code}): it may have expired or be for another container, or the "
        "store does not take this network; set a new one",
        kind="turned_away",
    )


def _server_time(error: HttpResponseError) -> datetime | None:
    headers = getattr(error.response, "headers", None) or {}
    try:
        moment = parsedate_to_datetime(headers.get("Date") or "")
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
