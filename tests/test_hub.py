"""The hub of a module: the real azure-iot-device against the real local runtime, while all is well."""

import asyncio
import logging
import socket
import threading
from dataclasses import replace

import pytest

from hubs import LIMITS, OF_THE_SDK, bodies, call, desire, first, online, until_reported
from ripeloop.errors import SettingsError, TooLarge
from ripeloop.hub import Alone, EdgeHub, HubLimits, open_hub

pytestmark = OF_THE_SDK


async def test_a_message_goes_from_module_to_module(edge, opened):
    async with opened("classifier") as classifier, opened("sampler", inputs=["uncertain"]) as sampler:
        await online(edge, "classifier", "sampler")
        await classifier.send("uncertain", b'{"id":1}', {"reason": "narrow_margin", "wörter": "a/b & c=d"})
        message = await first(sampler.messages("uncertain"))
    assert message.body == b'{"id":1}'
    assert message.properties["reason"] == "narrow_margin"
    assert message.properties["wörter"] == "a/b & c=d"
    assert message.properties["$.cmid"] == "classifier"


async def test_the_device_is_the_edge_device(opened):
    async with opened("classifier") as hub:
        assert isinstance(hub, EdgeHub)
        assert hub.device == "laptop"


async def test_a_body_of_json_says_so_and_other_bytes_do_not(edge, opened):
    async with opened("classifier") as hub:
        await online(edge, "classifier")
        for body in (b'{"a": 1}', b"\xff\xfe", b"{broken"):
            await hub.send("summary", body)
    types = [message["system"].get("contentType") for message in await edge.arrived(3)]
    assert types == ["application/json", None, None]


async def test_200_kb_pass_and_more_is_refused_before_it_is_sent(edge, opened):
    async with opened("classifier") as hub:
        await online(edge, "classifier")
        await hub.send("summary", b"x" * 200 * 1024)
        for method in (hub.send, hub.post):
            with pytest.raises(TooLarge, match="reference"):
                await method("summary", b"x" * (200 * 1024 + 1))
            with pytest.raises(TooLarge, match="properties"):
                await method("summary", b"", {"long": "ü" * 4000})
            with pytest.raises(TypeError):
                await method("summary", b"", {"n": 1})
    assert len((await edge.arrived(1))[0]["body"]) == 200 * 1024


async def test_a_posted_message_arrives_with_the_id_it_got_on_disk(edge, opened):
    async with opened("classifier") as hub:
        await hub.post("summary", b'{"n":1}', {"kind": "hourly"})
        (message,) = await edge.arrived(1)
    assert message["properties"] == {"kind": "hourly"}
    assert len(message["system"]["messageId"]) == 36


async def test_posted_messages_of_an_earlier_life_are_delivered(edge, opened):
    edge.stop()
    async with opened("classifier") as hub:
        for n in range(3):
            await hub.post("summary", str(n).encode())
    edge.start()
    async with opened("classifier"):
        assert [message["body"] for message in await edge.arrived(3)] == ["0", "1", "2"]


async def test_inputs_are_told_apart(edge, opened):
    async with opened("sampler", inputs=["uncertain", "other"]) as hub:
        for name in ("uncertain", "other"):
            await edge.control("POST", "/input", {"module": "sampler", "input": name, "body": name})
        assert await bodies(hub, "other", 1) == ["other"]
        assert await bodies(hub, "uncertain", 1) == ["uncertain"]
        with pytest.raises(ValueError, match="open_hub"):
            await anext(hub.messages("unnamed"))


async def test_a_full_input_drops_and_says_so_once(edge, opened, caplog):
    async with opened("sampler", inputs=["uncertain"], limits=replace(LIMITS, inputs=3)) as hub:
        for n in range(8):
            await edge.control("POST", "/input", {"module": "sampler", "input": "uncertain", "body": str(n)})
        await edge.until(lambda state: not state["queues"])
        await asyncio.sleep(0.2)
        assert await bodies(hub, "uncertain", 3) == ["0", "1", "2"]
    assert caplog.text.count("input uncertain is full") == 1


async def test_desired_properties_come_at_the_start_and_after_each_change(edge, opened):
    await desire(edge, "classifier", {"sampling": {"margin_below": 0.3, "audit_rate": 0.1}})
    async with opened("classifier") as hub:
        desired = hub.desired()
        assert await first(desired) == {"sampling": {"margin_below": 0.3, "audit_rate": 0.1}}
        await desire(edge, "classifier", {"sampling": {"margin_below": 0.5, "audit_rate": None}, "other": [1]})
        assert await first(desired) == {"sampling": {"margin_below": 0.5}, "other": [1]}
        assert await first(hub.desired()) == {"sampling": {"margin_below": 0.5}, "other": [1]}  # a second reader


async def test_twenty_changes_in_a_row_end_with_the_last(edge, opened):
    async with opened("classifier") as hub:
        desired = hub.desired()
        await first(desired)
        for n in range(20):
            await desire(edge, "classifier", {"n": n, f"old{n - 1}": None, f"old{n}": True})
        async with asyncio.timeout(10):
            async for section in desired:
                if section["n"] == 19:
                    break
    assert section == {"n": 19, "old19": True}


async def test_reported_properties_are_merged_and_null_removes(edge, opened):
    async with opened("classifier") as hub:
        await hub.report({"model": {"version": "1", "tags": ["a"]}, "gone": 1})
        await hub.report({"model": {"version": "2"}, "gone": None})
        await until_reported(edge, "classifier", {"model": {"version": "2", "tags": ["a"]}})


async def test_a_refused_report_is_dropped_without_the_others(edge, opened, caplog):
    async with opened("classifier") as hub:
        await hub.report({"bad": {"sampling.margin_below": "a dot is not allowed"}, "good": 1})
        await until_reported(edge, "classifier", {"good": 1})
        await hub.report({"good": 2})
        await until_reported(edge, "classifier", {"good": 2})
        with pytest.raises(TypeError):
            await hub.report({"no JSON": b""})
    assert "refuses the reported property bad" in caplog.text


async def test_methods_answer_with_status_and_payload(edge, opened):
    async def echo(payload):
        return 201, {"got": payload}

    async with opened("classifier", methods={"echo": echo}):
        assert await call(edge, "classifier", "echo", {"a": [1, "ü"]}) == (201, {"got": {"a": [1, "ü"]}})
        assert await call(edge, "classifier", "echo") == (201, {"got": None})


async def test_a_method_nobody_wrote_is_404(edge, opened):
    async with opened("classifier"):
        status, payload = await call(edge, "classifier", "nothing")
    assert status == 404
    assert "nothing" in payload["error"]


async def test_a_method_that_fails_is_500_and_logged(edge, opened, caplog):
    async def broken(payload):
        raise LookupError("no such thing")

    async def no_json(payload):
        return 200, {"set": {1, 2}}

    async with opened("classifier", methods={"broken": broken, "no_json": no_json}):
        status, payload = await call(edge, "classifier", "broken")
        assert status == 500
        assert "no such thing" in payload["error"]
        assert (await call(edge, "classifier", "no_json"))[0] == 500
    assert "the direct method broken failed" in caplog.text


async def test_methods_run_in_the_modules_own_loop(edge, opened):
    async def where(payload):
        return 200, asyncio.get_running_loop() is loop

    loop = asyncio.get_running_loop()
    async with opened("classifier", methods={"where": where}):
        assert await call(edge, "classifier", "where") == (200, True)


async def test_only_so_many_methods_run_at_a_time(edge, opened):
    release = asyncio.Event()

    async def wait(payload):
        await release.wait()
        return 200, None

    async with opened("classifier", methods={"wait": wait}, limits=replace(LIMITS, methods=2)):
        running = [asyncio.create_task(call(edge, "classifier", "wait")) for _ in range(3)]
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()[0] for task in done] == [429]
        release.set()
        assert await asyncio.gather(*running) == [(200, None)] * 2


async def test_a_method_that_does_not_end_is_504(edge, opened):
    async def for_ever(payload):
        await asyncio.Event().wait()
        return 200, None

    async with opened("classifier", methods={"for_ever": for_ever}, limits=replace(LIMITS, method=0.2)):
        assert (await call(edge, "classifier", "for_ever"))[0] == 504


async def test_leaving_ends_the_connection_and_its_threads(edge, opened):
    before = [thread for thread in threading.enumerate() if thread.name == "hub"]
    async with opened("classifier"), opened("sampler"):
        await online(edge, "classifier", "sampler")
    await edge.until(lambda state: not state["connected"])
    ended = [thread for thread in threading.enumerate() if thread.name == "hub" and thread not in before]
    for thread in ended:
        await asyncio.to_thread(thread.join, 3)
    assert not any(thread.is_alive() for thread in ended)


async def test_what_the_body_raises_comes_out_as_itself(edge, opened):
    with pytest.raises(SettingsError, match="as itself"):
        async with opened("classifier"):
            raise SettingsError("as itself")


async def test_going_online_is_logged_once(edge, opened, caplog):
    caplog.set_level(logging.INFO, "ripeloop")
    async with opened("classifier"):
        await online(edge, "classifier")
        await asyncio.sleep(0.2)
    assert [record.getMessage() for record in caplog.records] == ["online: connected to the edge hub"]


async def test_a_debugger_connects_with_a_connection_string(edge, tmp_path):
    fields = edge.environ("classifier")
    key = (edge.state / "identities.json").read_text().split('"classifier"')[1].split('"key": "')[1].split('"')[0]
    environ = {
        "EdgeHubConnectionString": (
            f"HostName={fields['IOTEDGE_IOTHUBHOSTNAME']};DeviceId=laptop;ModuleId=classifier;"
            f"SharedAccessKey={key};GatewayHostName={edge.gateway}"
        ),
        "EdgeModuleCACertificateFile": str(edge.ca_file),
    }
    async with open_hub(environ, mailbox=tmp_path / "box.db", limits=LIMITS) as hub:
        assert hub.device == "laptop"
        await online(edge, "classifier")
        await hub.send("summary", b"{}")
    assert len(await edge.arrived(1)) == 1


async def test_half_an_environment_is_said_before_anything_starts(tmp_path):
    environ = {"EdgeHubConnectionString": "HostName=h;DeviceId=d", "EdgeModuleCACertificateFile": "/nowhere"}
    with pytest.raises(SettingsError, match="GatewayHostName, ModuleId, SharedAccessKey"):
        async with open_hub(environ, mailbox=tmp_path / "box.db"):
            pass
    environ["EdgeHubConnectionString"] += ";ModuleId=m;SharedAccessKey=k;GatewayHostName=g"
    with pytest.raises(SettingsError, match="/nowhere"):
        async with open_hub(environ, mailbox=tmp_path / "box.db"):
            pass


async def test_without_an_edge_environment_a_module_runs_alone_and_says_so_once(tmp_path, caplog):
    mailbox = tmp_path / "box.db"
    async with open_hub({"IOTEDGE_DEVICEID": "half"}, mailbox=mailbox, inputs=["uncertain"]) as hub:
        assert isinstance(hub, Alone)
        assert hub.device == socket.gethostname()
        await hub.send("uncertain", b"{}")
        await hub.post("summary", b"{}")
        await hub.report({"a": 1})
        desired = hub.desired()
        assert await first(desired) == {}
        for stream in (desired, hub.messages("uncertain")):
            with pytest.raises(TimeoutError):
                await first(stream, 0.05)
    assert caplog.text.count("runs alone") == 1
    assert "IOTEDGE_IOTHUBHOSTNAME is not set" in caplog.text
    assert not mailbox.exists()


def test_a_token_that_would_be_renewed_for_ever_is_refused():
    with pytest.raises(ValueError, match="120"):
        HubLimits(token=120)
