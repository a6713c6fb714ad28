"""What a stranger, another site's page, a rebound name or a hostile file may do: nothing."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar, web
from PIL import Image, PngImagePlugin
from yarl import URL

from labelling import Browser, labelling, person, put, sample_of
from retrain.label import connections
from retrain.label.container.rows import key_of
from retrain.label.people import name_of, secret_in
from retrain.label.security import is_here
from retrain.label.settings import Settings, network
from ripeloop.blobs import FolderBlobs
from ripeloop.errors import Refused, SettingsError

TOKEN, ADMIN_TOKEN = "a-token-of-enough-length", "another-of-enough-length"


@pytest.fixture
def folder(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
async def url(folder: FolderBlobs, tmp_path: Path) -> AsyncIterator[str]:
    await put(folder, 1)
    async with labelling(folder, tmp_path / "state") as (_, url):
        yield url


def test_other_computers_are_let_in_only_with_a_token_or_a_proxy(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "label.example.com"):
        with pytest.raises(SettingsError, match="lets other computers in"):
            Settings(tmp_path, host=host)
        assert not Settings(tmp_path, host=host, token=TOKEN).local
        Settings(tmp_path, host=host, user_header="X-Forwarded-User", proxies=(network("10.0.0.1"),))
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert Settings(tmp_path, host=host).local


def test_settings_that_let_strangers_in_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="belong together"):
        Settings(tmp_path, user_header="X-Forwarded-User")
    with pytest.raises(SettingsError, match="ADMIN_TOKEN"):
        Settings(tmp_path, token=TOKEN, admins=("Anna",))
    with pytest.raises(SettingsError, match="guessed"):
        Settings(tmp_path, token="1234")
    with pytest.raises(SettingsError, match="differ"):
        Settings(tmp_path, token=TOKEN, admin_token=TOKEN)
    with pytest.raises(SettingsError, match="no address"):
        network("proxy.local")
    assert TOKEN not in repr(Settings(tmp_path, token=TOKEN))


async def test_every_answer_forbids_scripts_of_others_frames_and_guessing(url: str) -> None:
    async with person(url, "Kari") as kari:
        for path in (
            "/label",
            "/sign-in",
            "/api/standing",
            "/static/look.css",
            "/nowhere",
            "/api/nowhere",
            "/static/no",
        ):
            async with kari.session.get(url + path, allow_redirects=False) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "frame-ancestors 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "same-origin"
                assert answer.headers["Cache-Control"] in ("no-store", "no-cache")
        async with kari.session.get(url + "/label") as answer:
            text = await answer.text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", text)


async def test_a_post_without_our_token_or_from_another_site_changes_nothing(url: str) -> None:
    async with person(url, "Kari") as kari:
        (sample,) = await kari.next()
        answer = {"id": "answer-1", "key": sample["key"], "kind": "none"}
        for headers in (
            {"X-CSRF-Token": ""},
            {"X-CSRF-Token": "0" * 64},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": url.replace("127.0.0.1", "127.0.0.2")},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            status, told = await kari.post("/api/answer", answer, **headers)
            assert (status, told["error"]) == (403, "csrf"), headers
        async with person(url, "Per") as per:  # a token is of one session
            assert (await kari.post("/api/answer", answer, **{"X-CSRF-Token": per.csrf}))[0] == 403
        assert (await kari.get(f"/api/sample/{sample['key']}"))[1]["state"] == "open"
        assert (await kari.post("/api/answer", answer))[0] == 200


async def test_who_has_not_signed_in_sees_and_changes_nothing(url: str) -> None:
    async with person(url, "Kari") as kari:
        (sample,) = await kari.next()
    stranger = Browser(url)
    stranger.csrf = (await stranger.get("/api/visit"))[1]["csrf"]
    assert (await stranger.get("/api/next"))[0] == 401
    assert (await stranger.get(sample["image"]))[0] == 401
    assert (await stranger.get("/export.csv"))[0] in (303, 404)
    assert (await stranger.post("/api/answer", {}))[0] == 401
    async with stranger.session.get(url + "/label?device=a%26b", allow_redirects=False) as answer:
        assert answer.headers["Location"] == "/sign-in?next=/label?device%3Da%2526b"
    await stranger.close()
    async with person(url, "Kari") as kari:
        (name,) = (cookie.key for cookie in kari.session.cookie_jar if cookie.key.startswith("ripeloop_session"))
    for cookie in ("x", "e30.", "e30=.\u00e9", f"{'A' * 100}.{'0' * 64}"):
        stranger = Browser(url)
        assert (await stranger.get("/api/next", Cookie=f"{name}={cookie}"))[0] == 401
        await stranger.close()


async def test_a_session_is_no_scripts_and_no_other_sites_business(url: str) -> None:
    async with person(url, "Kari") as kari:
        (session,) = (cookie for cookie in kari.session.cookie_jar if cookie.key.startswith("ripeloop_session"))
        assert session["httponly"]
        assert session["samesite"] == "Strict"
        forged = session.value.replace(session.value[:8], "AAAAAAAA")
        other = Browser(url)
        assert (await other.get("/api/next", Cookie=f"{session.key}={forged}"))[0] == 401
        assert (await other.get("/api/next", Cookie=f"{session.key}={session.value}"))[0] == 200
        await other.close()
        assert (await kari.post("/sign-out", {}))[0] == 303
        assert (await kari.get("/api/next"))[0] == 401


async def cookie_of(browser: Browser) -> str:
    return "; ".join(f"{one.key}={one.value}" for one in browser.session.cookie_jar)


async def test_a_session_ends_when_its_person_signs_out_also_its_copies(folder: FolderBlobs, tmp_path: Path) -> None:
    for nth in range(2):
        async with labelling(folder, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
            if nth == 0:
                copied = await cookie_of(kari)
                assert (await kari.post("/sign-out", {}))[0] == 303
            thief = Browser(url)
            assert (await thief.get("/api/next", Cookie=copied))[0] == 401
            await thief.close()


async def test_a_session_ends_with_the_token_it_was_made_with(folder: FolderBlobs, tmp_path: Path) -> None:
    steps: tuple[dict[str, Any], ...] = (
        {"admins": ("Anna",)},
        {"admins": ("Anna",), "token": TOKEN, "admin_token": ADMIN_TOKEN},
        {"admins": ("Anna",), "token": TOKEN + "2", "admin_token": ADMIN_TOKEN},
        {"admins": ("Anna",), "token": TOKEN + "2", "admin_token": ADMIN_TOKEN + "2"},
    )
    made = dict[str, str]()
    went_on = list[tuple[bool, bool]]()
    for options in steps:
        async with labelling(folder, tmp_path / "state", **options) as (_, url):
            browser = Browser(url)
            if made:
                kari, anna = [(await browser.get("/api/next", Cookie=one))[0] == 200 for one in made.values()]
                went_on.append((kari, anna))
            await browser.close()
            for name, token in (("Kari", "token"), ("Anna", "admin_token")):
                async with person(url, name, options.get(token, "")) as one:
                    made[name] = await cookie_of(one)
    assert went_on == [(False, False), (False, True), (True, False)]


async def test_who_connects_and_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    host = "127.0.0.1"
    monkeypatch.setattr(connections, "MOST_OF_ONE", 3)
    server = web.Server(answered)
    doors = connections.Doors(server, head_seconds=0.3)
    listening = await asyncio.get_running_loop().create_server(doors, host, 0)
    port = listening.sockets[0].getsockname()[1]
    head = b"GET / HTTP/1.1\r\nHost: x\r\n"
    async with asyncio.timeout(10):
        slow = [await asyncio.open_connection(host, port) for _ in range(3)]
        for _, writer in slow:
            writer.write(head)
        assert await ended(*await asyncio.open_connection(host, port))  # one too many of one address
        for reader, writer in slow:
            assert await ended(reader, writer)  # too slow
        reader, writer = await asyncio.open_connection(host, port)
        for part in (head[:9], head[9:] + b"\r", b"\n"):
            writer.write(part)
            await asyncio.sleep(0.05)
        assert b"200" in await reader.readline()
        await asyncio.sleep(0.5)  # an asker may stay
        writer.write(head + b"\r\n")
        assert b"200" in (await reader.readuntil(b"yes" + b"HTTP/1.1 200 OK"))
        writer.close()
    listening.close()
    await server.shutdown()


async def answered(_: web.BaseRequest) -> web.Response:
    return web.Response(text="yes")


async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
    finally:
        writer.close()


async def test_a_name_that_was_made_to_lead_here_is_refused(folder: FolderBlobs, tmp_path: Path) -> None:
    async with labelling(folder, tmp_path / "state", allowed_hosts=("label.example.com",)) as (_, url):
        port = url.rpartition(":")[2]
        browser = Browser(url)
        for host, status in (
            (f"evil.example:{port}", 421), ("evil.example", 421), ("localhost.evil.example", 421),
            (f"127.0.0.1:{port}", 200), (f"localhost:{port}", 200), ("LABEL.example.com", 200), (f"[::1]:{port}", 200),
        ):  # fmt: skip
            assert (await browser.get("/sign-in", Host=host))[0] == status, host
        await browser.close()


async def test_a_token_is_asked_for_and_guessing_is_slow(folder: FolderBlobs, tmp_path: Path) -> None:
    options = {"token": TOKEN, "admin_token": ADMIN_TOKEN, "admins": ("Anna",)}
    async with labelling(folder, tmp_path / "state", **options) as (_, url):
        browser = Browser(url)
        assert await browser.sign_in("Kari", TOKEN) == 303
        assert (await browser.get("/api/start"))[1]["person"] == {"name": "Kari", "admin": False}
        assert await browser.sign_in("Anna", ADMIN_TOKEN) == 303
        assert (await browser.get("/api/start"))[1]["person"] == {"name": "Anna", "admin": True}
        await browser.close()
        browser = Browser(url)
        assert await browser.sign_in("Anna", TOKEN) == 422  # an admin's name takes the admins' token
        assert [await browser.sign_in("Kari", f"guess {nth}") for nth in range(4)] == [422] * 4
        assert await browser.sign_in("Kari", "guess 5") == 429
        assert await browser.sign_in("Kari", TOKEN) == 303  # who guesses locks nobody out
        await browser.close()


async def test_behind_a_proxy_with_tls_the_cookie_is_secure_and_each_address_has_its_own_tries(
    folder: FolderBlobs, tmp_path: Path
) -> None:
    trusted = {"token": TOKEN, "proxies": (ipaddress.ip_network("127.0.0.1"),)}
    with pytest.raises(SettingsError, match="lets other computers in"):
        Settings(tmp_path, proxies=trusted["proxies"])  # type: ignore[arg-type]
    async with labelling(folder, tmp_path / "state", **trusted) as (_, url):
        statuses = list[int]()
        for address in ("10.9.9.9, 192.0.2.1", "192.0.2.2"):
            browser = Browser(url)
            await browser.session.close()
            jar = CookieJar(unsafe=True, treat_as_secure_origin=URL(url))
            headers = {"X-Forwarded-For": address, "X-Forwarded-Proto": "https"}
            browser.session = ClientSession(cookie_jar=jar, headers=headers)
            statuses += [await browser.sign_in("Kari", f"guess {nth}") for nth in range(6)]
            assert await browser.sign_in("Kari", TOKEN) == 303
            cookies = [one for one in browser.session.cookie_jar if one.key.startswith("ripeloop_session")]
            assert all(one["secure"] for one in cookies)
            await browser.close()
        assert statuses == ([422] * 5 + [429]) * 2


async def test_who_signed_in_with_the_token_of_all_does_not_become_an_admin_by_name(
    folder: FolderBlobs, tmp_path: Path
) -> None:
    async with labelling(folder, tmp_path / "state", token=TOKEN) as (_, url), person(url, "Anna", TOKEN) as anna:
        cookie = "; ".join(f"{one.key}={one.value}" for one in anna.session.cookie_jar)
    options = {"token": TOKEN, "admin_token": ADMIN_TOKEN, "admins": ("Anna",)}
    async with labelling(folder, tmp_path / "state", **options) as (_, url):
        browser = Browser(url)
        status, told = await browser.get("/api/start", Cookie=cookie)
        assert (status, told["person"]) == (200, {"name": "Anna", "admin": False})
        await browser.close()


async def test_a_proxy_says_who_it_is_and_nobody_else_does(folder: FolderBlobs, tmp_path: Path) -> None:
    proxied = {"user_header": "X-Forwarded-User", "admins": ("anna@example.com",)}
    trusted = (ipaddress.ip_network("127.0.0.1"),)
    async with labelling(folder, tmp_path / "one", proxies=trusted, **proxied) as (_, url):
        browser = Browser(url)
        status, told = await browser.get("/api/start", **{"X-Forwarded-User": "anna@example.com"})
        assert (status, told["person"]) == (200, {"name": "anna@example.com", "admin": True})
        assert (await browser.get("/api/start"))[0] == 403
        assert (await browser.get("/api/start", **{"X-Forwarded-User": "  "}))[0] == 403
        answer = {"tag": "ripe"}
        mine = {"X-Forwarded-User": "per@example.com", "X-CSRF-Token": told["csrf"]}
        assert (await browser.post("/api/tags", answer, **mine))[0] == 403  # her token is not his
        mine["X-Forwarded-User"] = "anna@example.com"
        assert (await browser.post("/api/tags", answer, **mine))[0] == 200
        await browser.close()
    elsewhere = (ipaddress.ip_network("10.0.0.0/8"),)
    async with labelling(folder, tmp_path / "two", proxies=elsewhere, **proxied) as (_, url):
        browser = Browser(url)
        assert (await browser.get("/api/start", **{"X-Forwarded-User": "anna@example.com"}))[0] == 403
        await browser.close()


HOSTILE = {
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "cut": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "empty png": b"\x89PNG\r\n\x1a\n",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_file_that_is_no_image_reaches_no_browser_and_can_be_called_junk(
    kind: str, folder: FolderBlobs, tmp_path: Path
) -> None:
    sample, _ = sample_of(1, image=HOSTILE[kind])
    await folder.put(sample.blob, HOSTILE[kind], sample.metadata())
    async with labelling(folder, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        (shown,) = await kari.next()
        async with kari.session.get(url + shown["image"] + "?w=320") as answer:
            body = await answer.read()
            assert (answer.status, answer.content_type) == (200, "image/jpeg")
            assert answer.headers["X-Broken"] == "1"
            assert answer.headers["Cache-Control"] == "no-store"
        assert Image.open(io.BytesIO(body)).format == "JPEG"
        assert b"script" not in body
        assert (await kari.get(f"/api/sample/{shown['key']}"))[1]["broken"]
        assert (await kari.answer(shown, kind="junk"))[1]["state"] == "junk"


def hiding(kind: str) -> bytes:
    """An image of 3000 x 1000 with a script in its notes and one behind its end."""
    file, notes, script = io.BytesIO(), PngImagePlugin.PngInfo(), "<script>alert(1)</script>"
    notes.add_text("Comment", script)
    image = Image.new("RGB", (3000, 1000), (200, 180, 20))
    if kind == "PNG":
        image.save(file, kind, pnginfo=notes)
    else:
        image.save(file, kind, comment=script.encode(), exif=b"Exif\0\0" + script.encode())
    return file.getvalue() + script.encode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_what_hides_in_an_image_stays_behind(kind: str, folder: FolderBlobs, tmp_path: Path) -> None:
    image = hiding(kind)
    assert b"script" in image
    sample, _ = sample_of(1, image=image)
    await folder.put(sample.blob, image, sample.metadata())
    address = f"/image/{key_of(sample.blob)}?w=1024"
    async with labelling(folder, tmp_path / "state") as (_, url), person(url, "Kari") as kari:
        async with kari.session.get(url + address) as answer:
            body, etag = await answer.read(), answer.headers["ETag"]
            assert "sandbox" in answer.headers["Content-Security-Policy"]
        async with kari.session.get(url + address, headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304
    assert b"script" not in body
    made = Image.open(io.BytesIO(body))
    assert made.size == (1024, 341)
    assert abs(made.convert("RGB").getpixel((500, 200))[0] - 200) < 4  # type: ignore[index]


async def test_what_is_too_large_or_makes_no_sense_is_refused_in_words(url: str) -> None:
    async with person(url, "Kari") as kari:
        key = "0" * 32
        senseless: tuple[Any, ...] = (
            [], "x", {}, {"id": "short", "key": key}, {"id": "answer-1", "key": "../../etc"},
            {"id": "answer-1", "key": key, "kind": "undone"}, {"id": "answer-1", "key": key, "kind": "tag", "tags": []},
            {"id": "answer-1", "key": key, "kind": "tag", "tags": ["x" * 129]},
            {"id": "answer-1", "key": key, "kind": "tag", "tags": [1]},
            {"id": "answer-1", "key": key, "kind": "none", "mode": "admin"},
        )  # fmt: skip
        for fields in senseless:
            status, told = await kari.post("/api/answer", fields)
            assert status == 422, fields
            assert told["message"]
        assert (await kari.post("/api/answer", {"id": "answer-1", "key": key, "kind": "none"}))[0] == 404
        assert (await kari.post("/api/answer", {"id": "x" * 70_000}))[0] == 413
        for path in ("/api/next?n=-1", "/api/next?n=x", "/api/next?mode=x"):
            assert (await kari.get(path))[0] == 422
        assert (await kari.get("/api/next?n=100000&order=x&state=x&from=9999-99-99&have=x,y"))[0] == 200
        assert (await kari.get("/image/../../etc/passwd"))[0] in (303, 404)
        assert (await kari.get("/static/..%2f..%2fapp.py"))[0] in (403, 404)


@pytest.mark.parametrize("name", ["", "   ", "a\x00b", "x" * 65, "\u202egnp", "***", "\ud800"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        name_of(name)


def test_a_name_has_one_form() -> None:
    assert name_of("  Bjørn   Åse ") == name_of("Bjørn A\u030ase") == "Bjørn Åse"


def test_where_to_go_next_is_never_elsewhere() -> None:
    assert is_here("/label?device=line-1")
    for path in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "evil",
        "",
        "/a\nb",
        "javascript:alert(1)",
    ):
        assert not is_here(path), path


def test_the_secret_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    secret = secret_in(tmp_path)
    assert secret_in(tmp_path) == secret
    assert len(secret) == 32
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret").write_bytes(b"half")
    assert len(secret_in(tmp_path)) == 32


async def test_hostile_names_are_text_wherever_they_are_shown(folder: FolderBlobs, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    await put(folder, 1, device=evil, predictions=[(evil, 0.5), ("ripe", 0.4)])
    async with labelling(folder, tmp_path / "state") as (_, url), person(url, evil) as kari:
        for path in ("/label", "/grid", f"/sign-in?next={evil}", f"/nowhere/{evil}"):
            _, text = await kari.get(path)
            assert "<img src=x" not in str(text), path
        (sample,) = await kari.next()
        assert sample["tag"] == evil  # as JSON it is what it is
