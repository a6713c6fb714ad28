"""Who is there: signed in with a name, or named by a proxy that signed them in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import secrets
import time
import unicodedata
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from retrain.label.settings import Network, Settings
from retrain.labels import MAX_NAME
from ripeloop.errors import Refused, SettingsError

log = logging.getLogger(__name__)

SESSION, VISIT = "ripeloop_session", "ripeloop_visit"
SESSION_SECONDS = 30 * 24 * 3600
TRIES, TRIES_OF_ALL, WITHIN_SECONDS = 5, 50, 60.0
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks."""

    name: str
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, if they have signed in, and what their CSRF token is made of: another one for every session."""

    person: Person | None
    session: str


VISITOR: web.RequestKey[Visitor] = web.RequestKey("visitor", Visitor)


def person_of(request: web.Request) -> Person:
    """Who asks. The middleware let nobody through without a name; raises HTTPForbidden where it was not asked."""
    person = request[VISITOR].person
    if person is None:
        raise web.HTTPForbidden(text="sign in first")
    return person


def admins_only(request: web.Request) -> Person:
    """Who asks, an admin. Raises HTTPForbidden."""
    person = person_of(request)
    if not person.admin:
        raise web.HTTPForbidden(text="only an admin may do this")
    return person


def secret_in(state: Path) -> bytes:
    """What sessions are signed with: made with the first start, readable by this user alone. Raises SettingsError."""
    path = state / "secret"
    try:
        state.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            secret = path.read_bytes()
            if len(secret) == SECRET_BYTES:
                return secret
            file = os.open(path, os.O_TRUNC | os.O_WRONLY)  # half written when the power went
        secret = secrets.token_bytes(SECRET_BYTES)
        with os.fdopen(file, "wb") as opened:
            opened.write(secret)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise SettingsError(f"--state: {path} cannot be used ({error.strerror}): let this user write there") from error
    return secret


class People:
    """Sessions, names and roles, by `settings`; `secret` signs."""

    def __init__(self, settings: Settings, secret: bytes) -> None:
        self._settings, self._secret = settings, secret
        self.cookie = f"{SESSION}_{self.sign('cookie')[:8]}"
        """Its name: browsers send cookies to all ports of a host, and another server's would be in the way."""
        self._ended = _Ended(settings.state / "signed-out")
        self._failures: dict[str, deque[float]] = {}
        self._all_failures: deque[float] = deque(maxlen=TRIES_OF_ALL)

    @property
    def by_proxy(self) -> bool:
        """Whether a proxy says who it is."""
        return bool(self._settings.user_header)

    def visitor(self, request: web.Request) -> Visitor:
        """Who asks, as far as that is certain."""
        if self.by_proxy:
            name = self._named_by_proxy(request)
            return Visitor(self._person(name), f"proxy\0{name}") if name else Visitor(None, "")
        fields = self._opened(request.cookies.get(self.cookie, ""))
        if fields is None:
            return Visitor(None, request.cookies.get(VISIT, ""))
        person = Person(fields["name"], bool(fields["admin"]) and fields["name"] in self._settings.admins)
        return Visitor(person, fields["nonce"])

    def from_proxy(self, request: web.Request) -> bool:
        """Whether the request came through a proxy that is trusted."""
        return _is_among(request.remote, self._settings.proxies)

    def csrf(self, visitor: Visitor) -> str:
        """What a form or a script of ours sends along, and a stranger's page cannot know."""
        return self.sign("csrf", visitor.session)

    def sign(self, *words: str) -> str:
        """A mark that nobody makes without the secret."""
        text = "\0".join(words).encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()

    def sign_in(self, request: web.Request, name: str, token: str) -> tuple[Person, str]:
        """The person and the cookie of their session. Raises Refused, HTTPTooManyRequests."""
        if self.by_proxy:
            raise Refused("the proxy signs people in here")
        name = name_of(name)
        admin = name in self._settings.admins
        wanted = self._token(admin=admin)
        # the right one first: who guesses, perhaps behind the same proxy, locks nobody out
        if wanted and not hmac.compare_digest(token.encode("utf-8", "surrogatepass"), wanted.encode()):
            remote = self._remote(request)
            self._check_tries(remote)
            self._failed(remote)
            raise Refused("the name or the token is not right" if admin else "the token is not right")
        fields = {"name": name, "admin": admin, "nonce": secrets.token_urlsafe(16), "at": int(time.time())}
        body = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()
        return Person(name, admin), f"{body}.{self.sign('session', body, wanted)}"

    def sign_out(self, request: web.Request) -> None:
        """End the session for good, also that of a copied cookie."""
        if not self.by_proxy and (fields := self._opened(request.cookies.get(self.cookie, ""))):
            self._ended.add(fields["nonce"])

    def _opened(self, cookie: str) -> Mapping[str, str] | None:
        """What a session says. It ends with the token it was made with, and where it was made without one."""
        body, _, signed = cookie.partition(".")
        wanted = (self.sign("session", body, self._token(admin=admin)) for admin in (False, True))
        given = signed.encode("utf-8", "surrogatepass")
        fits = [hmac.compare_digest(given, one.encode()) for one in wanted]
        if not any(fits):
            return None
        fields: dict[str, str] = json.loads(base64.urlsafe_b64decode(body))
        if not fits[bool(fields["admin"])] or fields["nonce"] in self._ended:
            return None
        return fields if float(fields["at"]) > time.time() - SESSION_SECONDS else None

    def _token(self, *, admin: bool) -> str:
        """What such a person says to sign in; empty where a name is enough."""
        return self._settings.admin_token if admin and self._settings.admin_token else self._settings.token

    def _remote(self, request: web.Request) -> str:
        """The address it came from: that before the proxies that are trusted."""
        if self.from_proxy(request):
            hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
            for hop in (one.strip() for one in reversed(hops)):
                if hop and not _is_among(hop, self._settings.proxies):
                    return hop[:64]
        return request.remote or ""

    def _named_by_proxy(self, request: web.Request) -> str:
        values = request.headers.getall(self._settings.user_header, [])
        if not self.from_proxy(request) or len(values) != 1:
            return ""
        try:
            return name_of(values[0])
        except Refused:
            return ""

    def _person(self, name: str) -> Person:
        return Person(name, name in self._settings.admins)

    def _check_tries(self, remote: str) -> None:
        now = time.monotonic()
        mine = self._failures.get(remote, ())
        few = sum(at > now - WITHIN_SECONDS for at in mine) < TRIES
        if not few or sum(at > now - WITHIN_SECONDS for at in self._all_failures) >= TRIES_OF_ALL:
            raise web.HTTPTooManyRequests(
                text="too many wrong tokens: try again in a minute", headers={"Retry-After": f"{WITHIN_SECONDS:.0f}"}
            )

    def _failed(self, remote: str) -> None:
        now = time.monotonic()
        self._failures = {who: tries for who, tries in self._failures.items() if tries[-1] > now - WITHIN_SECONDS}
        self._failures.setdefault(remote, deque(maxlen=TRIES)).append(now)
        self._all_failures.append(now)


class _Ended:
    """The sessions that people signed out of, kept in a file for as long as their cookies would hold."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._until = dict[str, float]()
        try:
            lines = path.read_text("ascii", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            nonce, _, until = line.partition(" ")
            if until.isdecimal() and len(until) < 12 and float(until) > time.time():
                self._until[nonce] = float(until)

    def __contains__(self, nonce: str) -> bool:
        return nonce in self._until

    def add(self, nonce: str) -> None:
        now = time.time()
        self._until = {one: until for one, until in self._until.items() if until > now}
        self._until[nonce] = now + SESSION_SECONDS
        text = "".join(f"{one} {until:.0f}\n" for one, until in self._until.items())
        new = self._path.with_suffix(".new")
        try:
            new.write_text(text, "ascii")
            new.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written (%s): after a restart a copied cookie counts again", self._path, error)


def name_of(text: str) -> str:
    """A person's name as it is written everywhere: one form, no control characters. Raises Refused."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    hidden = any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") for character in name)
    if hidden or not 0 < len(name) <= MAX_NAME or not any(character.isalnum() for character in name):
        raise Refused(f"a name has 1 to {MAX_NAME} letters, digits, spaces and signs")
    return name


def _is_among(remote: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    return any(address in network for network in networks)
