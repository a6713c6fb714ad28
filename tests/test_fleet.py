"""The fleet over IoT Hub's own REST: the local edge runtime serves it, signatures and all."""

import asyncio
import base64
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web

from edge import manifest
from localedge.daemon import certificates
from retrain.devices.fleet import Fleet
from retrain.devices.sas import HubKey
from ripeloop.errors import NotFound, Offline, Refused, SettingsError
from ripeloop.hub import open_hub

DEVICE = "laptop"
AZURE = "HostName=fleet.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey="
KEY = base64.b64encode(b"secret key of 32 bytes, of a test").decode()


@pytest.fixture
def tls_server(tmp_path):
    """Start an HTTPS server that answers everything with one handler; yields its `host:port` and its authority."""

    @asynccontextmanager
    async def serve(handler):
        files = certificates.ensure(tmp_path, ["127.0.0.1"], datetime.now(UTC))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=files.tls())
            await site.start()
            yield f"127.0.0.1:{runner.addresses[0][1]}", files.ca
        finally:
            await runner.cleanup()

    return serve


def opened(edge, connection_string=None):
    return Fleet.open(connection_string or edge.connection_string, edge.ca_file)


def module(edge, tmp_path, name="classifier", **methods):
    return open_hub(edge.environ(name), mailbox=tmp_path / "mailbox.db", methods=methods)


async def answer(fleet, payload):
    """What `status` answers, once the module has subscribed to its methods."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await fleet.invoke(DEVICE, "classifier", "status", payload)
            except Offline:
                await asyncio.sleep(0.05)


def test_a_token_is_the_one_azure_expects():
    """Computed once with the formula of Azure's documentation, by openssl."""
    key = HubKey.from_connection_string(AZURE + KEY)
    assert key.token(1800000000) == (
        "SharedAccessSignature sr=fleet.azure-devices.net"
        "&sig=SlAqq7y3nzECnRuycgTKRBKfxKCjF5asoT%2BTDWLrIX4%3D&se=1800000000&skn=service"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks HostName, SharedAccessKeyName, SharedAccessKey"),
        (AZURE, "lacks SharedAccessKey;"),
        (f"SharedAccessKeyName=service;SharedAccessKey={KEY}", "lacks HostName;"),
        (f"{AZURE}{KEY[:-3]}", "not base64"),
    ],
)
async def test_a_bad_connection_string_is_explained_without_the_key(text, said):
    with pytest.raises(SettingsError) as caught:
        async with Fleet.open(text):
            pass
    assert said in str(caught.value)
    assert KEY[:8] not in str(caught.value)


async def test_a_ca_file_without_certificates_is_explained(tmp_path):
    (tmp_path / "ca.pem").write_text("none here")
    with pytest.raises(SettingsError, match="--hub-ca"):
        async with Fleet.open(AZURE + KEY, tmp_path / "ca.pem"):
            pass


async def test_a_hub_that_is_away_is_offline():
    gone = f"HostName=127.0.0.1:9;SharedAccessKeyName=service;SharedAccessKey={KEY}"
    async with Fleet.open(gone) as fleet:
        with pytest.raises(Offline, match=r"127\.0\.0\.1:9 cannot be reached"):
            await fleet.twin(DEVICE, "classifier")


async def test_a_hub_nobody_vouches_for_is_refused(edge):
    async with Fleet.open(edge.connection_string) as fleet:
        with pytest.raises(Refused, match="--hub-ca"):
            await fleet.twin(DEVICE, "classifier")


async def test_a_wrong_key_is_refused(edge):
    stranger = edge.connection_string.rpartition("SharedAccessKey=")[0] + f"SharedAccessKey={KEY}"
    async with opened(edge, stranger) as fleet:
        with pytest.raises(Refused, match="did not take the key"):
            await fleet.twin(DEVICE, "classifier")


async def test_a_device_lists_its_modules(edge):
    async with opened(edge) as fleet:
        assert {"classifier", "sampler"} <= set(await fleet.modules(DEVICE))


async def test_what_is_wanted_can_be_changed_and_read_back(edge):
    async with opened(edge) as fleet:
        before = await fleet.twin(DEVICE, "classifier")
        after = await fleet.patch_twin(DEVICE, "classifier", {"sampling": {"margin_below": 0.25}}, before.etag)
        assert after.desired["sampling"]["margin_below"] == 0.25
        assert after.etag != before.etag
        assert await fleet.twin(DEVICE, "classifier") == after
        cleared = await fleet.patch_twin(DEVICE, "classifier", {"sampling": {"margin_below": None}})
        assert "margin_below" not in cleared.desired.get("sampling", {})


async def test_a_change_to_a_twin_somebody_else_changed_is_refused(edge):
    async with opened(edge) as fleet:
        read = await fleet.twin(DEVICE, "classifier")
        await fleet.patch_twin(DEVICE, "classifier", {"note": 1})
        with pytest.raises(Refused, match="meanwhile"):
            await fleet.patch_twin(DEVICE, "classifier", {"note": 2}, read.etag)


@pytest.mark.parametrize(("device", "name"), [(DEVICE, "nobody"), ("elsewhere", "classifier"), ("a/b ü", "c d")])
async def test_an_unknown_module_is_not_found(edge, device, name):
    async with opened(edge) as fleet:
        with pytest.raises(NotFound):
            await fleet.twin(device, name)
        with pytest.raises(NotFound):
            await fleet.invoke(device, name, "status")


async def test_a_method_of_a_module_that_is_away_is_offline(edge):
    async with opened(edge) as fleet:
        with pytest.raises(Offline, match="not connected"):
            await fleet.invoke(DEVICE, "classifier", "status")


async def test_a_module_answers_its_methods_and_reports(edge, tmp_path):
    async def status(payload):
        return 200, {"answered": 3, "asked": payload}

    async with opened(edge) as fleet, module(edge, tmp_path, status=status) as hub:
        await hub.report({"sampling": {"margin_below": 0.3}})
        assert await answer(fleet, {"deep": True}) == {"answered": 3, "asked": {"deep": True}}
        async with asyncio.timeout(20):
            while "sampling" not in (twin := await fleet.twin(DEVICE, "classifier")).reported:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert twin.connected
        assert twin.reported["sampling"] == {"margin_below": 0.3}
        assert not [name for name in (*twin.reported, *twin.desired) if name.startswith("$")]


async def test_a_method_that_says_no_is_refused_with_its_words(edge, tmp_path):
    async def status(_):
        return 409, {"why": "not now"}

    async with opened(edge) as fleet, module(edge, tmp_path, status=status):
        with pytest.raises(Refused, match=r"409.*not now"):
            await answer(fleet, None)


async def test_a_manifest_that_is_applied_changes_what_is_wanted(edge):
    wanted = {"sampling": {"margin_below": 0.4}}
    async with opened(edge) as fleet:
        await fleet.apply(DEVICE, manifest(desired={"classifier": wanted}))
        assert (await fleet.twin(DEVICE, "classifier")).desired == wanted


async def test_a_manifest_that_is_none_is_refused(edge):
    async with opened(edge) as fleet:
        with pytest.raises(Refused, match="modulesContent"):
            await fleet.apply(DEVICE, {"nothing": 1})
        with pytest.raises(NotFound):
            await fleet.apply("elsewhere", {"modulesContent": {}})


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (429, '{"Message":"ErrorCode:ThrottlingException;slow down"}', Offline, "slow down"),
        (503, "<html>away</html>", Offline, "503"),
        (403, '{"message":"no right"}', Refused, "no right"),
        (400, "", Refused, "no reason given"),
        (
            404,
            '{"Message":"{\\"errorCode\\":404103,\\"message\\":\\"Timed out waiting for device\\"}"}',
            Offline,
            "404103",
        ),
        (404, '{"Message":"ErrorCode:ModuleNotFound;m"}', NotFound, "ModuleNotFound"),
        (200, "<html>a hotel's sign-in page</html>", Refused, "not IoT Hub's"),
    ],
)
async def test_what_a_hub_may_answer_becomes_one_of_our_errors(tls_server, status, body, error, said):
    async def answer_with(_):
        return web.Response(status=status, text=body)

    async with tls_server(answer_with) as (host, ca_file):
        connection = f"HostName={host};SharedAccessKeyName=service;SharedAccessKey={KEY}"
        async with Fleet.open(connection, ca_file) as fleet:
            with pytest.raises(error, match=said):
                await fleet.invoke(DEVICE, "classifier", "status")
