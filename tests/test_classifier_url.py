"""`/url` fetches images from listed hosts and opens no other door."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from yarl import URL

from classifier.models.model import Model, load
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.rollout.live import Live
from classifier.serving.classify import Classifier
from classifier.serving.url import BadUrl, BigImage, Fetch, ForbiddenUrl, Hosts, Resolve, fetching, lookup, url_in
from colours import picture, zipped
from ripeloop.errors import SettingsError
from ripeloop.uncertainty import Policy
from serving import MAX_BODY, WebServer, serving

ROUTES = [
    f"{prefix}/url{store}"
    for prefix in ("", "/p", "/p/classify/iterations/i", "/customvision/v3.1/prediction/p/classify/iterations/i")
    for store in ("", "/nostore")
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(zipped(tmp_path_factory.mktemp("model") / "e.zip"))


@asynccontextmanager
async def fetcher(
    hosts: str, *, private: bool = True, resolve: Resolve = lookup, seconds: float = 5
) -> AsyncIterator[Fetch]:
    async with fetching(
        Hosts.parse(hosts, private=private), max_bytes=MAX_BODY, seconds=seconds, resolve=resolve
    ) as fetch:
        yield fetch


class Names:
    """A resolver that answers as told, and counts how often it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers[min(len(self.asked), len(self._answers)) - 1]


@pytest.mark.parametrize("route", ROUTES)
async def test_every_url_route_answers_for_the_image_at_the_url(
    loaded: Model, web_server: WebServer, route: str
) -> None:
    web_server.add("/a", body=picture("lime"), content_type="text/html")
    classifier = Classifier(Live(loaded), Counts(), Thresholds(Policy()))
    async with fetcher(web_server.host) as fetch, serving(classifier, fetch=fetch) as client:
        for field, content_type in [("url", "application/json"), ("Url", "text/plain"), ("Url", "image/png")]:
            body = json.dumps({field: f"http://{web_server.host}/a"})
            async with client.post(route, data=body, headers={"Content-Type": content_type}) as response:
                answer = await response.json()
                assert response.status == 200, answer
            assert max(answer["predictions"], key=lambda p: p["probability"])["tagName"] == "green"


async def test_each_refusal_has_the_clouds_json_and_a_fitting_status(
    loaded: Model, web_server: WebServer, tmp_path: Path
) -> None:
    here = f"http://{web_server.host}"
    (tmp_path / "a.png").write_bytes(picture())
    web_server.add("/text", body=b"no image")
    web_server.add("/big", body=bytes(MAX_BODY + 1))
    cases: list[tuple[object, int, str]] = [
        ({"url": f"{here}/text"}, 400, "BadRequestImageFormat"),
        ({"url": f"{here}/none"}, 400, "BadRequestImageUrl"),
        ({"url": f"{here}/big"}, 413, "BadRequestImageSizeBytes"),
        ({"url": "http://127.0.0.1:1/"}, 403, "Forbidden"),
        ({"url": "http://other.example/a.png"}, 403, "Forbidden"),
        ({"url": (tmp_path / "a.png").as_uri()}, 403, "Forbidden"),
        ({"url": str(tmp_path / "a.png")}, 403, "Forbidden"),
        ({"url": "ftp://127.0.0.1/a.png"}, 403, "Forbidden"),
        ({"url": f"http://user:secret@{web_server.host}/text"}, 403, "Forbidden"),
        ({"url": "http://[::1"}, 400, "BadRequestImageUrl"),
        ({"url": 7}, 400, "BadRequestImageUrl"),
        ({"url": f"{here}/{'a' * 3000}"}, 400, "BadRequestImageUrl"),
        ({"image": "x"}, 400, "BadRequestImageUrl"),
        (["url"], 400, "BadRequestImageUrl"),
    ]
    classifier = Classifier(Live(loaded), Counts(), Thresholds(Policy()))
    async with fetcher(web_server.host) as fetch, serving(classifier, fetch=fetch) as client:
        for body, status, code in cases:
            async with client.post("/url", json=body) as response:
                problem = await response.json()
            assert (response.status, problem["code"]) == (status, code), body
            assert len(problem["message"]) > 15
        async with client.post("/url", data=picture()) as response:
            assert response.status == 400
    assert set(web_server.asked) == {"/text", "/none", "/big"}


async def test_without_listed_hosts_no_url_is_fetched(loaded: Model, web_server: WebServer) -> None:
    async with serving(Classifier(Live(loaded), Counts(), Thresholds(Policy()))) as client:
        for route in ROUTES:
            async with client.post(route, json={"url": f"http://{web_server.host}/a"}) as response:
                assert response.status == 404
    assert web_server.asked == []


async def test_redirects_are_followed_three_times_and_each_is_checked(web_server: WebServer) -> None:
    web_server.add("/3", body=b"image")
    for n in range(3):
        web_server.add(f"/{n}", status=302, headers={"Location": f"/{n + 1}"})
    web_server.add("/loop", status=307, headers={"Location": "loop"})
    web_server.add("/file", status=302, headers={"Location": "file:///etc/passwd"})
    web_server.add("/nowhere", status=302)
    web_server.add("/odd", status=302, headers={"Location": "http://[::1"})
    async with WebServer() as other, fetcher(web_server.host) as fetch:
        web_server.add("/other", status=301, headers={"Location": f"http://{other.host}/a"})
        here = f"http://{web_server.host}"
        assert await fetch(f"{here}/0") == b"image"
        for path, error in [
            ("/loop", BadUrl),
            ("/nowhere", BadUrl),
            ("/odd", BadUrl),
            ("/file", ForbiddenUrl),
            ("/other", ForbiddenUrl),
        ]:
            with pytest.raises(error):
                await fetch(here + path)
        assert other.asked == []
    assert web_server.asked.count("/loop") == 4


async def test_a_listed_name_that_leads_inside_is_refused_unless_that_is_allowed(web_server: WebServer) -> None:
    web_server.add("/a", body=b"image")
    port = web_server.host.rpartition(":")[2]
    url = f"http://camera.example:{port}/a"
    for names in (Names(["127.0.0.1"]), Names(["93.184.216.34", "127.0.0.1"])):
        async with fetcher(f"camera.example:{port}", private=False, resolve=names) as fetch:
            with pytest.raises(ForbiddenUrl, match="--url-private"):
                await fetch(url)
    assert web_server.asked == []
    async with fetcher(f"camera.example:{port}", resolve=Names(["127.0.0.1"])) as fetch:
        assert await fetch(url) == b"image"


async def test_the_address_that_was_checked_is_the_one_connected_to(web_server: WebServer) -> None:
    """A name that changes its address between the check and the connection gains nothing: it is resolved once."""
    web_server.add("/a", body=b"image")
    port = web_server.host.rpartition(":")[2]
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with fetcher(f"camera.example:{port}", resolve=names) as fetch:
        assert await fetch(f"http://camera.example:{port}/a") == b"image"
    assert names.asked == ["camera.example"]


async def test_a_redirect_is_resolved_and_checked_anew(web_server: WebServer) -> None:
    port = web_server.host.rpartition(":")[2]
    web_server.add(
        "/a", status=302, headers={"Location": f"http://inside.example:{port}/secret", "Connection": "close"}
    )
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with fetcher(f"camera.example:{port},inside.example:{port}", resolve=names) as fetch:
        with pytest.raises(ForbiddenUrl, match="link-local"):
            await fetch(f"http://camera.example:{port}/a")
    assert web_server.asked == ["/a"]


PUBLIC = ["8.8.8.8", "2606:4700::1", "64:ff9b::808:808", "::ffff:8.8.8.8"]
PRIVATE = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.1.1", "198.18.0.1", "192.0.2.1", "::1"]
PRIVATE += ["fd00::1", "fec0::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "64:ff9b::a01:203"]
NEVER = ["169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1", "0.0.0.0", "::", "fe80::1", "ff02::1"]
NEVER += ["fe80::1%1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::127.0.0.1"]


@pytest.mark.parametrize("private", [False, True])
def test_addresses_are_public_or_private_or_never_connected_to(private: bool) -> None:
    hosts = Hosts.parse("a.example", private=private)

    def allowed(address: str) -> bool:
        try:
            hosts.check_address("a.example", address)
        except ForbiddenUrl:
            return False
        return True

    assert all(map(allowed, PUBLIC))
    assert [allowed(address) for address in PRIVATE] == [private] * len(PRIVATE)
    assert not any(map(allowed, NEVER))
    assert all(ip_address(address) for address in PUBLIC + PRIVATE + NEVER)


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]", "0.0.0.0"])
async def test_a_listed_address_is_checked_as_a_name_is(address: str) -> None:
    async with fetcher(address, private=False) as fetch:
        with pytest.raises(ForbiddenUrl):
            await fetch(f"http://{address}/a")


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1."])
async def test_other_ways_to_write_an_address_lead_nowhere_else(host: str) -> None:
    async with fetcher("a.example") as fetch:
        with pytest.raises(ForbiddenUrl):
            await fetch(f"http://{host}/a")
    async with fetcher(host, private=False) as fetch:
        with pytest.raises((ForbiddenUrl, BadUrl)):
            await fetch(f"http://{host}/a")


async def test_a_slow_host_and_an_endless_image_are_given_up(web_server: WebServer) -> None:
    web_server.add("/slow", body=b"image", delay=5)
    web_server.add("/bomb", body=b"x" * 1000, headers={"Content-Encoding": "gzip"})
    async with fetcher(web_server.host, seconds=0.3) as fetch:
        started = time.monotonic()
        with pytest.raises(BadUrl, match="within"):
            await fetch(f"http://{web_server.host}/slow")
        assert time.monotonic() - started < 3
        assert await fetch(f"http://{web_server.host}/bomb") == b"x" * 1000  # as it came, never unpacked

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(endless, "127.0.0.1", 0) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with fetcher(host) as fetch:
            with pytest.raises(BigImage):
                await fetch(f"http://{host}/")


async def test_a_host_that_is_away_is_told_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async with fetcher(f"{host},none.example", resolve=unknown) as fetch:
        for url in (f"http://{host}/a", "https://none.example/a"):
            with pytest.raises(BadUrl, match="is its host well"):
                await fetch(url)


def test_hosts_are_listed_by_name_and_port() -> None:
    hosts = Hosts.parse(" Cam1.local, cam2.local:8000 ,[::1]:81,")
    listed = {("cam1.local", 80), ("cam1.local", 443), ("cam2.local", 8000), ("::1", 81)}
    assert hosts.listed == listed
    for url in ("http://CAM1.local/a", "https://cam1.local./a", "http://cam2.local:8000", "http://[::1]:81/"):
        hosts.check_url(URL(url))
    for url in ("http://cam1.local:8000/", "http://cam2.local/", "http://evil-cam1.local/", "http://cam1.local.evil/"):
        with pytest.raises(ForbiddenUrl):
            hosts.check_url(URL(url))
    for text in ("http://cam1.local", "cam1.local/path", "a b", "user@cam1.local", "cam1.local:port", "cam1?x"):
        with pytest.raises(SettingsError, match="--url-hosts"):
            Hosts.parse(text)


def test_deeply_nested_json_is_no_url() -> None:
    with pytest.raises(BadUrl):
        url_in(b"[" * 100_000)
