"""What stands between a request and its handler: whose page it came from, who asks, and what the answer may do."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote, urlsplit

from aiohttp import web

from retrain.label.people import VISITOR, People, Visitor
from retrain.label.settings import Settings

log = logging.getLogger(__name__)

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser says `Origin: null` of our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Server": "ripeloop",
}
UNSIGNED = ("/sign-in", "/api/visit", "/lang", "/healthz")
"""What is answered before signing in, with /static/."""
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
SAFE = ("GET", "HEAD")
VISIT_SECONDS = 24 * 3600
BODY_SECONDS = 20.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """The middlewares, outermost first: `headers`, `hosts`, `people`, `forgery`."""

    def __init__(self, settings: Settings, people: People) -> None:
        self._people = people
        self._names = {"localhost", *(host.lower() for host in settings.allowed_hosts)}
        if not _is_address(settings.host):
            self._names.add(settings.host.lower())

    async def headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """For the signal of every answer that begins: also files and errors have them."""
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        static = request.path.startswith("/static/")
        response.headers.setdefault("Cache-Control", "no-cache" if static else "no-store")

    @web.middleware
    async def hosts(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A stranger's name that leads here (DNS rebinding) is refused; an address cannot be rebound."""
        host = _without_port(request.headers.get("Host", ""))
        if host not in self._names and not _is_address(host):
            raise web.HTTPMisdirectedRequest(
                text=f"this page does not answer to that name: if it should, start it with --allowed-host {host[:100]}"
                if host.isprintable() and host.isascii()
                else "this page does not answer to that name"
            )
        return await handler(request)

    @web.middleware
    async def people(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who has not signed in gets no further."""
        visitor = self._people.visitor(request)
        request[VISITOR] = visitor
        if visitor.person is None and not request.path.startswith("/static/") and request.path not in UNSIGNED:
            if self._people.by_proxy:
                raise web.HTTPForbidden(text="the proxy did not say who you are: open this page through it")
            if request.path.startswith("/api/") or request.method not in SAFE or request.path.startswith("/image/"):
                raise web.HTTPUnauthorized(text="sign in first")
            raise web.HTTPSeeOther(f"/sign-in?next={quote(request.path_qs, safe='')}")
        return await handler(request)

    @web.middleware
    async def forgery(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What changes something came from a page of ours, and has its token."""
        if request.method not in SAFE:
            async with asyncio.timeout(BODY_SECONDS):
                await request.read()
            if not _is_from_here(request):
                raise web.HTTPForbidden(text="csrf: this came from another site's page")
            token = request.headers.get(CSRF_HEADER, "")
            if not token and request.content_type == "application/x-www-form-urlencoded":
                token = str((await request.post()).get(CSRF_FIELD, ""))
            wanted = self._people.csrf(request[VISITOR])
            if not request[VISITOR].session or not hmac.compare_digest(
                token.encode("utf-8", "surrogatepass"), wanted.encode()
            ):
                raise web.HTTPForbidden(text="csrf: the page is too old, load it again")
        return await handler(request)


def visit(request: web.Request, people: People) -> tuple[str, str]:
    """The CSRF token for who asks, and the cookie to set for it where they have not signed in; empty: none."""
    visitor = request[VISITOR]
    if visitor.session:
        return people.csrf(visitor), ""
    made = secrets.token_urlsafe(16)
    return people.csrf(Visitor(None, made)), made


def is_secure(request: web.Request, people: People) -> bool:
    """Whether the browser speaks TLS, to us or to a trusted proxy."""
    return request.secure or (people.from_proxy(request) and request.headers.get("X-Forwarded-Proto") == "https")


def is_here(path: str) -> bool:
    """Whether `path` leads nowhere but into this site."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path


def _is_from_here(request: web.Request) -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None and site not in ("same-origin", "none"):
        return False
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("Host", "").lower()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
