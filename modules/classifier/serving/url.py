"""Images fetched by URL, from listed hosts only: a camera's request must not open doors inside the network.

Every hop of every request is checked anew: the host must be listed, all the addresses it resolves to must be allowed,
and the connection goes to one of these very addresses. Files are never read.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ripeloop.errors import RipeloopError, SettingsError

MAX_REDIRECTS = 3
SECONDS = 10.0  # for one image, all hops together
MAX_URL = 2048  # characters
PORTS = {"http": 80, "https": 443}

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host. Raises OSError."""
Fetch = Callable[[str], Awaitable[bytes]]
"""The image at a URL. Raises BadUrl, ForbiddenUrl, BigImage."""

_REDIRECTS = {301, 302, 303, 307, 308}
_HOST = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(:(?P<port>\d{1,5}))?")
_NAT64 = IPv6Network("64:ff9b::/96")


class BadUrl(RipeloopError):
    """The request names no URL, or what it names gives no image."""


class ForbiddenUrl(RipeloopError):
    """The URL leads to a place that images may not come from."""


class BigImage(RipeloopError):
    """The image at the URL is larger than a posted one may be."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts images may come from; `private` ones may have addresses inside the network, too."""

    listed: frozenset[tuple[str, int]]
    private: bool = False

    @classmethod
    def parse(cls, text: str, *, private: bool = False) -> Hosts:
        """From `cam1.local, cam2.local:8000`; without a port 80 and 443 are meant. Raises SettingsError."""
        return cls(frozenset(pair for name in text.split(",") if name.strip() for pair in _host(name.strip())), private)

    def check_url(self, url: URL) -> None:
        """Raises BadUrl, ForbiddenUrl."""
        if url.scheme not in PORTS or not url.raw_host:
            raise ForbiddenUrl("only http:// and https:// URLs are fetched")
        if url.user is not None or url.password is not None:
            raise ForbiddenUrl("a URL with a user name or a password is not fetched")
        host = _plain(url.raw_host)
        if (host, url.port) not in self.listed:
            raise ForbiddenUrl(f"{host} port {url.port} is not listed: add it to --url-hosts, or post the image itself")

    def check_address(self, host: str, text: str) -> None:
        """Raises ForbiddenUrl where `text`, an address of `host`, may not be connected to."""
        where = _kind(ip_address(text))
        if where == "private" and self.private:
            return
        if where != "public":
            hint = ": allow it with --url-private, or post the image itself" if where == "private" else ""
            raise ForbiddenUrl(f"{host} has a {where} address{hint}")


def url_in(body: bytes) -> str:
    """The URL in a request's JSON, under `url` or `Url`. Raises BadUrl."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    given = (fields.get("url") or fields.get("Url")) if isinstance(fields, dict) else None
    if not isinstance(given, str) or len(given) > MAX_URL:
        raise BadUrl('name the image as JSON: {"url": "https://..."}')
    return given


async def lookup(host: str, port: int) -> list[str]:
    """What the system's resolver says. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@asynccontextmanager
async def fetching(
    hosts: Hosts, *, max_bytes: int, seconds: float = SECONDS, resolve: Resolve = lookup
) -> AsyncIterator[Fetch]:
    """A Fetch for the listed hosts, until the block ends."""
    connector = aiohttp.TCPConnector(resolver=_Checked(hosts, resolve), use_dns_cache=False)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # an image is compressed as it is; what unpacks to gigabytes is none
        headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "ripeloop-classifier"},
    ) as session:

        async def fetch(text: str) -> bytes:
            try:
                async with asyncio.timeout(seconds):
                    return await _follow(session, hosts, _parsed(text), max_bytes)
            except TimeoutError:
                raise BadUrl(f"the image did not arrive within {seconds:g} seconds") from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise BadUrl(f"the image cannot be fetched ({type(error).__name__}): is its host well?") from error

        yield fetch


class _Checked(AbstractResolver):
    """Hands aiohttp nothing but checked addresses, and aiohttp connects to what it is handed."""

    def __init__(self, hosts: Hosts, resolve: Resolve) -> None:
        self._hosts = hosts
        self._resolve = resolve

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - the contract of aiohttp
    ) -> list[ResolveResult]:
        addresses = await self._resolve(host, port)
        for address in addresses:
            self._hosts.check_address(host, address)
        return [_result(host, address, port) for address in addresses]

    async def close(self) -> None:
        pass


async def _follow(session: aiohttp.ClientSession, hosts: Hosts, url: URL, max_bytes: int) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        hosts.check_url(url)
        _check_literal(hosts, url)
        async with session.get(url, allow_redirects=False) as response:
            if response.status == 200:
                return await _body(response, max_bytes)
            target = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not target:
                raise BadUrl(f"the image's host answers {response.status}: is the URL right?")
        url = url.join(_parsed(target))
    raise BadUrl(f"the URL redirects more than {MAX_REDIRECTS} times")


async def _body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    received = bytearray()
    async for chunk in response.content.iter_any():
        received += chunk
        if len(received) > max_bytes:
            raise BigImage(f"the image at the URL is larger than {max_bytes} bytes: use a smaller one")
    return bytes(received)


def _check_literal(hosts: Hosts, url: URL) -> None:
    """An address for a host: aiohttp asks no resolver about it."""
    host = str(url.raw_host)
    try:
        ip_address(host)
    except ValueError:
        return
    hosts.check_address(host, host)


def _parsed(text: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        raise BadUrl("that is no URL: begin with http:// or https://") from None


def _host(name: str) -> list[tuple[str, int]]:
    found = _HOST.fullmatch(name)
    if found is None:
        raise SettingsError(f"--url-hosts: {name!r} is no host; give names such as cam1.local or cam1.local:8000")
    ports = [int(found["port"])] if found["port"] else PORTS.values()
    return [(_plain(found["v6"] or found["name"]), port) for port in ports]


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")


def _kind(address: Address) -> str:
    """`public`, `private` (loopback included), or one that images never come from."""
    inner = _embedded(address)
    if inner is not None:
        return _kind(inner)
    if address.is_multicast:
        return "multicast"
    if address.is_link_local:  # the cloud's metadata service has such a one
        return "link-local"
    if address.is_loopback:
        return "private"
    if address.is_reserved or address.is_unspecified:
        return "reserved"
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return "public" if address.is_global and not site_local else "private"


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
