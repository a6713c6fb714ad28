"""One suite over every form of the blob store: a folder, Azurite as the device's, Azurite as the cloud's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from azurite import Azurite
from ripeloop.blobgrant import grant
from ripeloop.blobs import Blob, Blobs, FolderBlobs, open_blobs, try_blobs
from ripeloop.blobsas import Sas
from ripeloop.errors import Changed, Denied, NotFound, Offline, Refused, RipeloopError, SettingsError

BANANA = b"\x89PNG not really"
METADATA = {"id": "0a1b", "predictions": '[["ripe",0.5],["50%",0.5]]', "captured_at": "2026-11-22T02:10:00.000001Z"}
BAD_NAMES = [
    "",
    "/absolute",
    "a//b",
    "a/",
    "../up",
    "a/../b",
    "a/./b",
    ".hidden",
    "a\\b",
    "a\nb",
    "a\x7f",
    "bänana",
    "🍌",
    "a.meta.json",
    "x" * 201,
    "/".join(["x" * 100] * 9),
]
BAD_METADATA = [
    {"Upper": "x"},
    {"with-dash": "x"},
    {"": "x"},
    {"note": "bänana"},
    {"note": "two\r\nlines"},
    {"note": " padded"},
    {"note": ""},
    {"note": "x" * 8192},
]


@pytest.fixture(params=["folder", "device", "cloud"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    container = f"c{uuid.uuid4().hex}"
    if request.param == "folder":
        address, version = str(tmp_path / "blobs"), None
    else:
        azurite: Azurite = request.getfixturevalue(f"azurite_{request.param}")
        address, version = azurite.connection_string, azurite.api_version
    async with open_blobs(address, container, version) as opened:
        yield opened


async def listed(blobs: Blobs, prefix: str = "") -> list[str]:
    return [blob.name async for blob in blobs.list(prefix)]


async def test_what_is_put_is_got(blobs: Blobs) -> None:
    await blobs.put("line-1/2026/11/22/0a1b.png", BANANA, METADATA, "image/png")
    assert await blobs.get("line-1/2026/11/22/0a1b.png") == BANANA


async def test_metadata_is_replaced_where_nobody_was_quicker(blobs: Blobs) -> None:
    await blobs.put("line-1/0a1b.png", BANANA, METADATA, "image/png")
    found = await blobs.head("line-1/0a1b.png")
    assert found == Blob("line-1/0a1b.png", len(BANANA), METADATA)
    etag = await blobs.mark(found.name, {**METADATA, "labels": "[]"}, found.etag)
    assert etag != found.etag
    after = await blobs.head(found.name)
    assert after.metadata == {**METADATA, "labels": "[]"}
    assert [(blob.etag, blob.metadata) async for blob in blobs.list()] == [(etag, after.metadata)]
    assert after.etag == etag
    assert await blobs.get(found.name) == BANANA


async def test_of_two_who_mark_the_same_blob_one_is_told_that_it_changed(blobs: Blobs) -> None:
    await blobs.put("a", BANANA, {"id": "0"})
    etag = (await blobs.head("a")).etag
    marks = (blobs.mark("a", {"by": f"person-{nth}"}, etag) for nth in range(4))
    ends = await asyncio.gather(*marks, return_exceptions=True)
    assert [type(end) for end in ends if not isinstance(end, str)] == [Changed] * 3
    assert (await blobs.head("a")).metadata["by"] == f"person-{[isinstance(end, str) for end in ends].index(True)}"


async def test_what_is_not_there_has_no_head_and_cannot_be_marked(blobs: Blobs) -> None:
    await blobs.put("a", BANANA)
    for missing in ("b", "a/b"):
        with pytest.raises(NotFound):
            await blobs.head(missing)
        with pytest.raises(NotFound):
            await blobs.mark(missing, {"id": "1"}, "0x8DC")
    assert [blob async for blob in blobs.list()] == [Blob("a", len(BANANA))]


async def test_metadata_that_no_header_carries_is_refused_and_the_old_stays(blobs: Blobs) -> None:
    await blobs.put("a", BANANA, {"id": "0"})
    found = await blobs.head("a")
    for bad in BAD_METADATA:
        with pytest.raises(Refused):
            await blobs.mark("a", bad, found.etag)
    assert await blobs.head("a") == found


async def test_a_listing_tells_name_size_and_metadata(blobs: Blobs) -> None:
    await blobs.put("line-1/0a1b.png", BANANA, METADATA)
    await blobs.put("line-1/bare.bin", b"")
    assert [blob async for blob in blobs.list()] == [
        Blob("line-1/0a1b.png", len(BANANA), METADATA),
        Blob("line-1/bare.bin", 0, {}),
    ]
    assert await blobs.get("line-1/bare.bin") == b""


async def test_an_empty_store_lists_nothing(blobs: Blobs) -> None:
    assert await listed(blobs) == []


async def test_putting_a_name_again_changes_nothing(blobs: Blobs) -> None:
    await blobs.put("a", BANANA, METADATA)
    await blobs.put("a", b"something else", {"id": "other"})
    assert await blobs.get("a") == BANANA
    assert [blob async for blob in blobs.list()] == [Blob("a", len(BANANA), METADATA)]


async def test_of_many_puts_of_one_name_exactly_one_wins(blobs: Blobs) -> None:
    await asyncio.gather(*(blobs.put("a", f"image {n}".encode(), {"id": f"{n}"}) for n in range(12)))
    (blob,) = [blob async for blob in blobs.list()]
    assert await blobs.get("a") == f"image {blob.metadata['id']}".encode()


async def test_a_listing_is_in_the_order_of_the_names(blobs: Blobs) -> None:
    names = ["b", "a/b/c", "a-b", "a/b-c", "a.b", "a/a", "a0", "A", "~", "a b", "a/b/a", "!"]
    for name in names:
        await blobs.put(name, name.encode())
    assert await listed(blobs) == sorted(names)


async def test_a_prefix_need_not_end_at_a_segment(blobs: Blobs) -> None:
    for name in ("line-1/2026/a", "line-1/2027/b", "line-10/c", "line-2/d"):
        await blobs.put(name, b"x")
    assert await listed(blobs, "line-1") == ["line-1/2026/a", "line-1/2027/b", "line-10/c"]
    assert await listed(blobs, "line-1/202") == ["line-1/2026/a", "line-1/2027/b"]
    assert await listed(blobs, "line-1/2026/") == ["line-1/2026/a"]
    assert await listed(blobs, "line-1/2026/a") == ["line-1/2026/a"]
    assert await listed(blobs, "nothing/like/it") == []


async def test_a_listing_may_be_left_early_and_is_longer_than_a_page(blobs: Blobs) -> None:
    await asyncio.gather(*(blobs.put(f"n/{n:04}", b"x") for n in range(130)))
    async for blob in blobs.list("n/"):
        assert blob.name == "n/0000"
        break
    assert await listed(blobs) == [f"n/{n:04}" for n in range(130)]


async def test_names_with_every_printable_character_survive(blobs: Blobs) -> None:
    name = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "\\/") + " x/%41?#&=+"
    await blobs.put(name.lstrip("."), BANANA)
    assert await listed(blobs) == [name]
    assert await blobs.get(name) == BANANA
    await blobs.delete(name)
    assert await listed(blobs) == []


async def test_what_is_deleted_is_gone_and_may_come_back(blobs: Blobs) -> None:
    await blobs.put("a", BANANA, METADATA)
    await blobs.delete("a")
    await blobs.delete("a")
    with pytest.raises(NotFound):
        await blobs.get("a")
    assert await listed(blobs) == []
    await blobs.put("a", b"new", {"id": "new"})
    assert [blob async for blob in blobs.list()] == [Blob("a", 3, {"id": "new"})]


async def test_deleting_and_getting_what_never_was(blobs: Blobs) -> None:
    await blobs.delete("never/was")
    with pytest.raises(NotFound):
        await blobs.get("never/was")


async def test_a_big_image_survives(blobs: Blobs) -> None:
    image = os.urandom(5 * 1024 * 1024)
    await blobs.put("big", image)
    assert await blobs.get("big") == image


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_name_that_means_trouble_is_refused(tmp_path: Path, name: str) -> None:
    async with open_blobs(str(tmp_path / "blobs"), "samples") as blobs:
        with pytest.raises(Refused):
            await blobs.put(name, BANANA)
        with pytest.raises(Refused):
            await blobs.get(name)
        with pytest.raises(Refused):
            await blobs.delete(name)
    assert not list(tmp_path.rglob("*.meta.json"))


async def test_bad_names_and_metadata_are_refused_everywhere(blobs: Blobs) -> None:
    for name in BAD_NAMES:
        with pytest.raises(Refused):
            await blobs.put(name, BANANA)
    for metadata in BAD_METADATA:
        with pytest.raises(Refused, match="metadata"):
            await blobs.put("a", BANANA, metadata)
    assert await listed(blobs) == []


async def test_metadata_may_fill_its_8_kilobytes(tmp_path: Path, azurite_cloud: Azurite) -> None:
    metadata = {"note": "x" * 8188}
    for address, version in ((str(tmp_path), None), (azurite_cloud.connection_string, azurite_cloud.api_version)):
        async with open_blobs(address, f"c{uuid.uuid4().hex}", version) as blobs:
            await blobs.put("a", BANANA, metadata)
            assert [blob.metadata async for blob in blobs.list()] == [metadata]


# -- the folder's own promises


async def test_a_put_that_was_killed_half_way_is_not_seen_and_can_be_done_again(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.meta.json").write_text(json.dumps({"id": "half"}))
    async with open_blobs(str(tmp_path), "samples") as blobs:
        assert await listed(blobs) == []
        await blobs.put("a", BANANA, METADATA)
        assert [blob async for blob in blobs.list()] == [Blob("a", len(BANANA), METADATA)]


async def test_what_a_killed_writer_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    unfinished = tmp_path / "samples" / ".unfinished"
    unfinished.mkdir(parents=True)
    for name in ("old.tmp", "new.tmp"):
        (unfinished / name).write_bytes(b"half an im")
    os.utime(unfinished / "old.tmp", (0, 0))
    async with open_blobs(str(tmp_path), "samples") as blobs:
        assert await listed(blobs) == []
    assert [path.name for path in unfinished.iterdir()] == ["new.tmp"]


async def test_a_blob_cannot_be_a_folder_too(tmp_path: Path) -> None:
    async with open_blobs(str(tmp_path), "samples") as blobs:
        await blobs.put("a/b", BANANA)
        with pytest.raises(Refused):
            await blobs.put("a", BANANA)
        with pytest.raises(Refused):
            await blobs.put("a/b/c", BANANA)
        with pytest.raises(NotFound):
            await blobs.get("a")


async def test_a_store_whose_path_is_a_file_is_denied(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file")
    async with open_blobs(str(tmp_path / "blobs"), "samples") as blobs:
        with pytest.raises(Denied, match="is a file"):
            await blobs.put("a", BANANA)
        with pytest.raises(NotFound):
            await blobs.get("a")
        await blobs.delete("a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_folder_one_may_not_write_to_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    async with open_blobs(str(tmp_path), "samples") as blobs:
        with pytest.raises(Denied, match="let this user write"):
            await blobs.put("a", BANANA)


# -- what only a server can say


async def test_a_server_that_is_gone_is_offline() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else can have it, and it answers nobody
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/gone"
        connection = f"DefaultEndpointsProtocol=http;BlobEndpoint={url};AccountName=gone;AccountKey=a2V5"
        for address in (connection, f"{url}/samples?sv=2026-06-06&sp=c&sig=x"):
            async with open_blobs(address, "samples") as blobs:
                with pytest.raises(Offline):
                    await blobs.put("a", BANANA)
                with pytest.raises(Offline):
                    await blobs.get("a")
                with pytest.raises(Offline):
                    await blobs.delete("a")
                with pytest.raises(Offline):
                    await listed(blobs)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Server Busy\r\nx-ms-error-code: ServerBusy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Slow down\r\nx-ms-error-code: Throttled\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 17\r\n\r\n<p>Sign in</p>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 17\r\n\r\n<p>Welcome</p>\r\n\r\n",
        b"",
    ],
    ids=["busy", "throttled", "proxy", "sign-in page", "cut"],
)
async def test_a_server_in_trouble_and_a_machine_between_are_offline(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/acc"
    async with (
        server,
        open_blobs(f"BlobEndpoint={url};AccountName=acc;AccountKey=a2V5", "samples", "2026-06-06") as blobs,
    ):
        with pytest.raises(Offline):
            await blobs.put("a", BANANA)


async def test_a_create_only_credential_can_put_and_put_again(azurite_cloud: Azurite) -> None:
    container = f"c{uuid.uuid4().hex}"
    version = azurite_cloud.api_version
    async with (
        open_blobs(azurite_cloud.connection_string, container, version) as owner,
        open_blobs(await made(owner, azurite_cloud, container, "c"), "ignored", version) as device,
    ):
        await device.put("a", BANANA, METADATA)
        await device.put("a", BANANA, METADATA)
        with pytest.raises(Denied):
            await device.get("a")
        with pytest.raises(Denied):
            await device.delete("a")
        with pytest.raises(Denied):
            await listed(device)
        assert [blob async for blob in owner.list()] == [Blob("a", len(BANANA), METADATA)]


async def made(owner: Blobs, azurite: Azurite, container: str, permissions: str, hours: float = 1) -> str:
    """A SAS URL of a container that exists."""
    assert await listed(owner) == []
    return azurite.sas_url(container, permissions, lasts=timedelta(hours=hours))


async def test_a_credential_without_the_right_to_create_is_denied(azurite_cloud: Azurite) -> None:
    container = f"c{uuid.uuid4().hex}"
    version = azurite_cloud.api_version
    async with (
        open_blobs(azurite_cloud.connection_string, container, version) as owner,
        open_blobs(await made(owner, azurite_cloud, container, "r"), "ignored", version) as device,
    ):
        with pytest.raises(Denied, match="does not allow"):
            await device.put("a", BANANA)


async def test_a_signer_who_lost_his_right_does_not_look_like_a_stored_image() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 403 No\r\nx-ms-error-code: AuthorizationPermissionMismatch\r\nContent-Length: 0\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/acc/samples?sv=2026-06-06&sr=c&sp=c&sig=x"
    async with server, open_blobs(url, "", "2026-06-06") as blobs:
        with pytest.raises(Denied, match="does not allow"):
            await blobs.put("a", BANANA)


async def test_an_expired_credential_is_denied_and_the_message_keeps_the_secret(azurite_cloud: Azurite) -> None:
    container = f"c{uuid.uuid4().hex}"
    version = azurite_cloud.api_version
    async with open_blobs(azurite_cloud.connection_string, container, version) as owner:
        address = await made(owner, azurite_cloud, container, "c", hours=-1)
    async with open_blobs(address, "ignored", version) as device:
        with pytest.raises(Denied, match="expired") as caught:
            await device.put("a", BANANA)
    assert "sig" not in str(caught.value)


async def test_a_wrong_key_is_denied(azurite_cloud: Azurite) -> None:
    address = azurite_cloud.connection_string.replace(azurite_cloud.key, "a2V5")
    async with open_blobs(address, "samples", azurite_cloud.api_version) as blobs:
        with pytest.raises(Denied):
            await blobs.put("a", BANANA)


async def test_a_container_that_is_missing_is_denied_where_the_credential_may_not_make_it(
    azurite_cloud: Azurite,
) -> None:
    address = azurite_cloud.sas_url(f"c{uuid.uuid4().hex}", "c")
    async with open_blobs(address, "ignored", azurite_cloud.api_version) as blobs:
        with pytest.raises(Denied, match="does not exist"):
            await blobs.put("a", BANANA)


async def test_an_api_version_the_server_does_not_know_is_denied(azurite_cloud: Azurite) -> None:
    async with open_blobs(azurite_cloud.connection_string, "samples", "2026-10-06") as blobs:
        with pytest.raises(Denied, match="API version"):
            await blobs.put("a", BANANA)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "$CLOUD_BLOBS",
        "https://account.blob.core.windows.net/samples",
        "ftp://somewhere/samples",
        "Account=typo;Key=c2VjcmV0",
        "AccountName=a;AccountKey=not base64!;EndpointSuffix=core.windows.net",
        "AccountName=a",
    ],
)
async def test_an_address_that_cannot_work_is_said_at_the_start(address: str) -> None:
    with pytest.raises(SettingsError, match="blob address") as caught:
        async with open_blobs(address, "samples"):
            pass
    assert "c2VjcmV0" not in str(caught.value)


async def test_an_unknown_api_version_is_said_at_the_start() -> None:
    with pytest.raises(SettingsError, match="API version"):
        async with open_blobs("AccountName=a;AccountKey=a2V5;EndpointSuffix=core.windows.net", "samples", "2017-04-17"):
            pass


@pytest.mark.parametrize("host", ["a..blob.core.windows.net", "a" * 70 + ".net"])
async def test_a_host_that_cannot_be_is_denied_by_each_call_and_the_secret_is_kept(host: str) -> None:
    async with open_blobs(f"https://{host}/samples?sp=c&sig=c2VjcmV0", "samples") as blobs:
        with pytest.raises(Denied, match="address cannot be used") as caught:
            await blobs.put("a", BANANA)
        with pytest.raises(Denied):
            await blobs.get("a")
    assert "c2VjcmV0" not in str(caught.value)
    assert caught.value.kind == "settings"


# -- what is wrong, by its kind


async def trouble(address: str) -> RipeloopError:
    """What putting an image at that address fails with."""
    async with open_blobs(address, "samples", "2026-06-06") as blobs:
        with pytest.raises(RipeloopError) as caught:
            await blobs.put("a", BANANA)
    assert "sig=" not in str(caught.value)
    return caught.value


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """The place of a server that gives every request this answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(65536)
        if b"HTTP/" in request and not request.endswith(BANANA):
            await reader.read(65536)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


SAS = "samples?sv=2026-06-06&sp=c&sig=x"


def refusal(status: str, code: str, date: str = "") -> bytes:
    dated = f"Date: {date}\r\n" if date else ""
    return f"HTTP/1.1 {status} -\r\n{dated}x-ms-error-code: {code}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("answer", "kind", "of"),
    [
        (refusal("507", "InsufficientStorage"), "full", Denied),
        (refusal("409", "AccountLimitExceeded"), "full", Denied),
        (refusal("403", "AccountIsDisabled"), "disabled", Denied),
        (refusal("403", "AuthenticationFailed"), "turned_away", Denied),
        (refusal("503", "ServerBusy"), "busy", Offline),
        (refusal("400", "Md5Mismatch"), "refused_blob", Refused),
        (refusal("400", "InvalidHeaderValue"), "settings", Denied),
        (b"HTTP/1.1 403 No\r\nContent-Length: 7\r\n\r\nsign in", "proxy", Offline),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", "proxy", Offline),
        (b'HTTP/1.1 201 Created\r\nETag: "1"\r\nContent-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\nContent-Length: 0\r\n\r\n',
         "proxy", Offline),
        (b"", "reset", Offline),
    ],
)  # fmt: skip
async def test_what_a_store_says_is_told_apart(answer: bytes, kind: str, of: type[RipeloopError]) -> None:
    async with answering(answer) as place:
        error = await trouble(f"http://{place}/a/{SAS}")
    assert (error.kind, type(error)) == (kind, of)


async def test_a_way_that_is_broken_is_told_apart() -> None:
    assert (await trouble(f"https://nowhere.invalid/a/{SAS}")).kind == "dns"
    assert (await trouble(f"http://127.0.0.1:1/a/{SAS}")).kind == "refused"
    async with answering(b"HTTP/1.1 400 this is no TLS\r\n\r\n") as place:
        assert (await trouble(f"https://{place}/a/{SAS}")).kind == "tls"


async def test_the_servers_clock_tells_an_expired_sas_from_one_too_early_and_from_a_wrong_clock() -> None:
    async with answering(refusal("403", "AuthenticationFailed", "Sun, 22 Nov 2020 07:28:47 GMT")) as place:
        expired = await trouble(f"http://{place}/a/{SAS}&se=2020-11-22T07:00:00Z")
        assert (expired.kind, "expired at 2020-11-22 07:00 UTC" in str(expired)) == ("expired", True)
        assert (await trouble(f"http://{place}/a/{SAS}&se=2020-11-22T08:00:00Z")).kind == "turned_away"
        assert (await trouble(f"http://{place}/a/{SAS}&st=2020-11-22&se=2030-01-01")).kind == "turned_away"
        assert (await trouble(f"http://{place}/a/{SAS}&st=2020-11-23&se=2030-01-01")).kind == "not_yet"
        skewed = await trouble(f"BlobEndpoint=http://{place}/a;AccountName=a;AccountKey=a2V5")
        assert (skewed.kind, "clock is wrong" in str(skewed)) == ("clock", True)


async def test_a_put_tells_whether_the_name_was_there(blobs: Blobs) -> None:
    assert await blobs.put("a", BANANA) is True
    assert await blobs.put("a", BANANA) is False


async def test_a_listing_of_a_container_tells_the_digest_of_the_bytes(azurite_cloud: Azurite) -> None:
    async with open_blobs(azurite_cloud.connection_string, f"c{uuid.uuid4().hex}", azurite_cloud.api_version) as blobs:
        await blobs.put("a", BANANA)
        assert [blob.md5 async for blob in blobs.list()] == [hashlib.md5(BANANA).digest()]


async def test_a_granted_credential_creates_and_does_nothing_else(azurite_cloud: Azurite) -> None:
    container, version, now = f"c{uuid.uuid4().hex}", azurite_cloud.api_version, datetime.now(UTC)
    lasts = timedelta(hours=2)
    granted = await grant(azurite_cloud.connection_string, container, version, lasts=lasts, now=now)
    assert granted.expires == now + lasts
    assert "sig=" not in repr(granted)
    sas = Sas.in_address(granted.address)
    assert sas is not None
    assert (sas.permissions, sas.create_only) == ("c", True)
    assert sas.expires == granted.expires.replace(microsecond=0)
    await try_blobs(granted.address, "", version)
    async with open_blobs(granted.address, "", version) as device:
        assert await device.put("a", BANANA)
        with pytest.raises(Denied):
            await device.get("a")
    async with open_blobs(azurite_cloud.connection_string, container, version) as owner:
        assert await listed(owner) == ["a"]  # and not what trying left


async def test_who_has_no_key_grants_nothing(tmp_path: Path, azurite_cloud: Azurite) -> None:
    for address in (str(tmp_path), azurite_cloud.sas_url("samples", "racwdl")):
        with pytest.raises(SettingsError, match="account's key"):
            await grant(address, "samples", azurite_cloud.api_version, lasts=timedelta(hours=1), now=datetime.now(UTC))


def test_a_sas_is_read_from_any_address_that_holds_one() -> None:
    inside = "BlobEndpoint=https://a.example/;SharedAccessSignature=sv=1&sp=cw&se=2026-11-22T08%3A00%3A00Z&sig=x"
    sas = Sas.in_address(inside)
    assert sas == Sas("cw", None, datetime(2026, 11, 22, 8, tzinfo=UTC))
    assert Sas.in_address("AccountName=a;AccountKey=a2V5") is None
    assert Sas.in_address("/mnt/usb") is None
    assert Sas.in_address("https://a.example/c?se=soon&sig=x") == Sas()


async def test_a_folder_whose_disk_went_away_is_offline_and_not_empty(tmp_path: Path) -> None:
    store = tmp_path / "disk" / "samples"
    blobs = FolderBlobs(store)
    assert [blob async for blob in blobs.list()] == []  # nothing was there yet
    await blobs.put("a/b.jpg", b"x", {"id": "0a"})
    etag = (await blobs.head("a/b.jpg")).etag
    mounted = store.rename(tmp_path / "elsewhere")
    for empty in (False, True):
        if empty:
            store.mkdir()  # the place where the disk was mounted
        with pytest.raises(Offline, match="mounted"):
            await blobs.head("a/b.jpg")
        with pytest.raises(Offline, match="mounted"):
            await blobs.get("a/b.jpg")
        with pytest.raises(Offline, match="mounted"):
            await blobs.mark("a/b.jpg", {}, etag)
        with pytest.raises(Offline, match="mounted"):
            await blobs.delete("a/b.jpg")
        with pytest.raises(Offline, match="mounted"):
            [blob async for blob in blobs.list()]
    assert list(store.iterdir()) == []
    new = FolderBlobs(store)  # another process
    new.expect(blobs.trace)
    with pytest.raises(Offline, match="mounted"):
        await new.head("a/b.jpg")
    store.rmdir()
    mounted.rename(store)
    assert await blobs.get("a/b.jpg") == await new.get("a/b.jpg") == b"x"
    with pytest.raises(NotFound):
        await blobs.head("a/c.jpg")


async def test_a_folder_that_is_filled_by_hand_needs_no_marker(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    blobs = FolderBlobs(tmp_path)
    assert [blob.name async for blob in blobs.list()] == ["a.jpg"]
    with pytest.raises(NotFound):
        await blobs.head("b.jpg")
