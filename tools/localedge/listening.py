"""Sockets to listen on, with one clear line for each that cannot be had."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from localedge.settings import SOCKET_PATH_LIMIT
from ripeloop.errors import SettingsError

Listen = Callable[[web.BaseRunner], Awaitable[None]]


@asynccontextmanager
async def serve(app: web.Application, listen: Listen) -> AsyncIterator[None]:
    """Serve `app` for a while. Raises SettingsError where its socket cannot be had."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await listen(runner)
        yield
    finally:
        await runner.cleanup()


def tcp(host: str, port: int, tls: ssl.SSLContext | None = None) -> Listen:
    """A TCP port."""

    async def listen(runner: web.BaseRunner) -> None:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()

    return listen


def unix(path: str) -> Listen:
    """A unix socket for this user alone. Raises SettingsError for a path longer than the kernel takes."""
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_LIMIT:
        raise SettingsError(
            f"the socket path {path} has {length} bytes, {SOCKET_PATH_LIMIT} is the limit: choose a shorter --state"
        )

    async def listen(runner: web.BaseRunner) -> None:
        await web.UnixSite(runner, path).start()
        Path(path).chmod(0o600)

    return listen


def workload(uri: str) -> Listen:
    """The socket of a workload URI: unix:///path or http://host:port. Raises SettingsError for any other."""
    parts = urlsplit(uri)
    if parts.scheme == "unix" and parts.path:
        return unix(parts.path)
    if parts.scheme == "http" and parts.hostname and parts.port:
        return tcp(parts.hostname, parts.port)
    raise SettingsError(f"--workload {uri} is neither unix:///path nor http://host:port")


@contextmanager
def one_line(what: str, cure: str) -> Iterator[None]:
    """Say in one line why `what` cannot be listened on and what to do. Raises SettingsError for OSError."""
    try:
        yield
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({_plain(error)})"
        raise SettingsError(f"{what} {reason}; {cure}") from error


def _plain(error: OSError) -> str:
    """The system's own words; asyncio wraps them in longer ones."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
