"""The local edge runtime as azure-iot-device sees it: the real client against a real process."""

import asyncio
import json
import os
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubModuleClient
from azure.iot.device.exceptions import ClientError, CredentialError

from edge import ROUTES, manifest
from hubs import OF_THE_SDK
from sampling import until

pytestmark = OF_THE_SDK


@dataclass
class Heard:
    """What a module's handlers were called with."""

    messages: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    patches: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    async def bodies(self, count):
        async with asyncio.timeout(20):
            return [(await self.messages.get()).data.decode() for _ in range(count)]


@asynccontextmanager
async def module(edge, name, *, answers=True, **options):
    """A module's client, connected, its handlers set before it connects."""
    loop, heard = asyncio.get_running_loop(), Heard()

    async def on_message(message):
        loop.call_soon_threadsafe(heard.messages.put_nowait, message)

    async def on_patch(patch):
        loop.call_soon_threadsafe(heard.patches.put_nowait, patch)

    async def on_method(request):
        if answers:
            payload = {"name": request.name, "payload": request.payload}
            await client.send_method_response(MethodResponse.create_from_method_request(request, 200, payload))

    client = await create(edge, name, **options)
    await asyncio.to_thread(setattr, client, "on_message_received", on_message)
    await asyncio.to_thread(setattr, client, "on_twin_desired_properties_patch_received", on_patch)
    await asyncio.to_thread(setattr, client, "on_method_request_received", on_method)
    await client.connect()
    try:
        yield client, heard
    finally:
        # a client whose hub was killed, or that was refused, may never shut down, and blocks its loop meanwhile
        ending = threading.Thread(target=lambda: asyncio.run(client.shutdown()), daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, 5)


async def create(edge, name, **options):
    # the client reads its environment from the process; only one is made at a time here
    os.environ.update(edge.environ(name))
    try:
        return await asyncio.to_thread(
            IoTHubModuleClient.create_from_edge_environment, connection_retry_interval=1, **options
        )
    finally:
        for key in edge.environ(name):
            del os.environ[key]


def routed(condition, **route):
    """A deployment with one conditional route from the classifier to the sampler."""
    text = f'FROM /messages/modules/classifier/* WHERE {condition} INTO BrokeredEndpoint("/modules/sampler/inputs/in")'
    return manifest(routes={"only": {"route": text, **route}})


def json_message(body):
    return Message(json.dumps(body).encode(), content_type="application/json", content_encoding="utf-8")


async def test_a_message_goes_from_an_output_to_the_routed_input(edge):
    async with module(edge, "sampler") as (_, heard), module(edge, "classifier") as (classifier, _):
        message = json_message({"id": "1"})
        message.custom_properties["reason"] = "low confidence/märz"
        await classifier.send_message_to_output(message, "uncertain")
        async with asyncio.timeout(5):
            got = await heard.messages.get()
    assert json.loads(got.data) == {"id": "1"}
    assert got.input_name == "uncertain"
    assert got.custom_properties == {"reason": "low confidence/märz", "$.cdid": "laptop", "$.cmid": "classifier"}
    assert (got.content_type, got.content_encoding) == ("application/json", "utf-8")


async def test_a_message_no_route_takes_is_acknowledged_and_dropped(edge):
    async with module(edge, "classifier") as (classifier, _):
        await classifier.send_message_to_output(Message(b"x"), "nobody")
    state = await edge.control("GET", "/state")
    assert state["queues"] == {}
    assert state["stats"]["unrouted"] == 1


async def test_messages_reach_upstream_in_order_and_once(edge):
    async with module(edge, "classifier") as (classifier, _):
        for number in range(20):
            await classifier.send_message_to_output(json_message({"n": number}), "summary")
        messages = await edge.arrived(20)
    assert [json.loads(message["body"])["n"] for message in messages] == list(range(20))
    assert {(message["module"], message["output"]) for message in messages} == {("classifier", "summary")}
    assert messages[0]["system"]["contentType"] == "application/json"
    later = await edge.control("GET", f"/messages?after={messages[-2]['id']}")
    assert later["messages"] == messages[-1:]


async def test_a_session_survives_kill_9(edge):
    async with module(edge, "sampler") as (_, heard):
        edge.kill()
        edge.start()
        await edge.until(lambda state: state["connected"] == ["sampler"])
        async with module(edge, "classifier") as (classifier, _):
            await classifier.send_message_to_output(Message(b"after"), "uncertain")
        assert await heard.bodies(1) == ["after"]


async def test_stored_messages_arrive_in_order_after_kill_9(edge):
    async with module(edge, "classifier") as (classifier, _):
        for number in range(40):
            await classifier.send_message_to_output(Message(str(number).encode()), "uncertain")
    edge.kill()
    edge.start()
    assert (await edge.control("GET", "/state"))["queues"] == {"sampler/uncertain": 40}
    async with module(edge, "sampler") as (_, heard):
        assert await heard.bodies(40) == [str(number) for number in range(40)]
    assert (await edge.control("GET", "/state"))["queues"] == {}


async def test_nothing_acknowledged_is_lost_when_killed_under_load(edge):
    acknowledged = []

    async def send(classifier, number):
        await classifier.send_message_to_output(Message(str(number).encode()), "uncertain")
        acknowledged.append(str(number))

    async with module(edge, "classifier") as (classifier, _):
        sends = [asyncio.create_task(send(classifier, number)) for number in range(300)]
        while len(acknowledged) < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        edge.kill()
        edge.start()
        # those on their way are sent again once the client is back, new ones fail at once while it is not,
        # and the client may leave one without an answer for good
        _, pending = await asyncio.wait(sends, timeout=5)
        for send in pending:
            send.cancel()
        await asyncio.gather(*sends, return_exceptions=True)
    waiting = (await edge.control("GET", "/state"))["queues"]["sampler/uncertain"]
    async with module(edge, "sampler") as (_, heard):
        assert set(await heard.bodies(waiting)) >= set(acknowledged)


async def test_identities_survive_kill_9(edge):
    before = edge.environ("classifier"), edge.connection_string, edge.ca_file.read_bytes()
    edge.kill()
    edge.start()
    assert (edge.environ("classifier"), edge.connection_string, edge.ca_file.read_bytes()) == before


async def test_a_condition_on_the_body_and_a_property_filters(edge_factory):
    edge = edge_factory(routed("level = 'high' AND $body.score > 0.5"))
    async with module(edge, "sampler") as (_, heard), module(edge, "classifier") as (classifier, _):
        for level, score, declared in [("high", 0.1, True), ("low", 0.9, True), ("high", 0.7, False)]:
            message = json_message({"score": score}) if declared else Message(json.dumps({"score": score}).encode())
            message.custom_properties["level"] = level
            await classifier.send_message_to_output(message, "o")
        message = json_message({"score": 0.9})
        message.custom_properties["level"] = "high"
        await classifier.send_message_to_output(message, "o")
        assert await heard.bodies(1) == ['{"score": 0.9}']
        assert heard.messages.empty()


async def test_what_waits_too_long_is_dropped(edge_factory):
    edge = edge_factory(routed("true", timeToLiveSecs=1))
    async with module(edge, "classifier") as (classifier, _):
        await classifier.send_message_to_output(Message(b"old"), "o")
    assert (await edge.control("GET", "/state"))["queues"] == {"sampler/in": 1}
    state = await edge.until(lambda state: state["stats"]["expired"])
    assert state["queues"] == {}


async def test_the_highest_priority_goes_first(edge_factory):
    sink = 'INTO BrokeredEndpoint("/modules/sampler/inputs/in")'
    edge = edge_factory(
        manifest(
            routes={
                "low": {"route": f"FROM /messages/modules/classifier/outputs/low {sink}", "priority": 9},
                "high": {"route": f"FROM /messages/modules/classifier/outputs/high {sink}", "priority": 0},
            }
        )
    )
    async with module(edge, "classifier") as (classifier, _):
        for output in ("low", "high", "low", "high"):
            await classifier.send_message_to_output(Message(output.encode()), output)
    async with module(edge, "sampler") as (_, heard):
        assert await heard.bodies(4) == ["high", "high", "low", "low"]


async def test_a_desired_change_by_the_service_reaches_the_module(edge):
    async with module(edge, "classifier") as (classifier, heard):
        status, twin = await edge.service(
            "PATCH",
            "/twins/laptop/modules/classifier",
            {"properties": {"desired": {"sampling": {"margin_below": 0.2}}}},
        )
        async with asyncio.timeout(5):
            assert await heard.patches.get() == {"sampling": {"margin_below": 0.2}, "$version": 2}
        whole = await classifier.get_twin()
    assert status == 200
    assert twin["properties"]["desired"]["sampling"] == {"margin_below": 0.2}
    assert whole["desired"] == {"sampling": {"margin_below": 0.2}, "$version": 2}


async def test_a_module_away_gets_the_whole_desired_section_when_it_is_back(edge):
    async with module(edge, "classifier") as (_, heard):
        await edge.service("PATCH", "/twins/laptop/modules/classifier", {"properties": {"desired": {"a": 1}}})
        assert (await heard.patches.get())["a"] == 1
        edge.kill()
        deployed = manifest(desired={"classifier": {"b": 2}})
        edge.deploy(deployed)
        edge.start()
        async with asyncio.timeout(10):
            assert await heard.patches.get() == {"b": 2, "$version": 3}


async def test_reported_properties_reach_the_service(edge):
    async with module(edge, "classifier") as (classifier, _):
        await classifier.patch_twin_reported_properties({"model": {"version": "7", "old": True}})
        await classifier.patch_twin_reported_properties({"model": {"old": None}})
    _, twin = await edge.service("GET", "/twins/laptop/modules/classifier")
    assert twin["properties"]["reported"]["model"] == {"version": "7"}
    assert twin["properties"]["reported"]["$version"] == 3


async def test_reported_properties_over_a_limit_are_refused(edge):
    async with module(edge, "classifier") as (classifier, _):
        for patch in ({"a.b": 1}, {"a": "x" * 5000}, {"a": [None]}, {"a": 2**53}):
            with pytest.raises(ClientError):
                await classifier.patch_twin_reported_properties(patch)
        assert (await classifier.get_twin())["reported"] == {"$version": 1}


async def test_a_direct_method_is_answered(edge):
    async with module(edge, "classifier"):
        status, answer = await edge.service(
            "POST", "/twins/laptop/modules/classifier/methods", {"methodName": "status", "payload": {"a": [1]}}
        )
    assert (status, answer) == (200, {"status": 200, "payload": {"name": "status", "payload": {"a": [1]}}})


async def test_a_method_of_a_module_that_is_away_is_not_found(edge):
    path = "/twins/laptop/modules/classifier/methods"
    status, answer = await edge.service("POST", path, {"methodName": "status"})
    assert (status, answer["Message"].partition(";")[0]) == (404, "ErrorCode:DeviceNotOnline")


async def test_a_method_waits_for_a_module_that_connects_in_time(edge):
    body = {"methodName": "status", "connectTimeoutInSeconds": 20}
    call = asyncio.create_task(edge.service("POST", "/twins/laptop/modules/classifier/methods", body))
    await asyncio.sleep(0.2)
    async with module(edge, "classifier"):
        assert (await call)[0] == 200


async def test_a_method_nobody_answers_times_out(edge):
    async with module(edge, "classifier", answers=False):
        body = {"methodName": "status", "responseTimeoutInSeconds": 5}
        status, answer = await edge.service("POST", "/twins/laptop/modules/classifier/methods", body)
    assert (status, answer["Message"].partition(";")[0]) == (504, "ErrorCode:GatewayTimeout")


async def test_offline_upstream_all_waits_until_it_is_online(edge_factory):
    edge = edge_factory(flags=["--offline"])
    async with module(edge, "classifier") as (classifier, heard):
        await classifier.send_message_to_output(Message(b"1"), "summary")
        await classifier.patch_twin_reported_properties({"said": "offline"})
        path = "/twins/laptop/modules/classifier"
        status, twin = await edge.service("PATCH", path, {"properties": {"desired": {"wanted": 1}}})
        assert (status, twin["properties"]["desired"]["wanted"]) == (200, 1)
        assert "said" not in twin["properties"]["reported"]
        assert "wanted" not in (await classifier.get_twin())["desired"]
        assert (await edge.service("POST", f"{path}/methods", {"methodName": "status"}))[0] == 404
        state = await edge.control("GET", "/state")
        assert (state["online"], state["queues"]) == (False, {"$upstream": 1})
        assert heard.patches.empty()

        await edge.control("PUT", "/upstream", {"online": True})
        assert [message["body"] for message in await edge.arrived(1)] == ["1"]
        async with asyncio.timeout(5):
            assert await heard.patches.get() == {"wanted": 1, "$version": 2}
        _, twin = await edge.service("GET", path)
        assert twin["properties"]["reported"]["said"] == "offline"


async def test_a_twin_change_survives_a_restart_unless_the_deployment_changes_it(edge_factory):
    edge = edge_factory(manifest(desired={"classifier": {"sampling": {"margin_below": 0.1}}}))
    path = "/twins/laptop/modules/classifier"
    await edge.service("PATCH", path, {"properties": {"desired": {"sampling": {"margin_below": 0.2}}}})
    edge.stop()
    edge.start()
    _, twin = await edge.service("GET", path)
    assert twin["properties"]["desired"]["sampling"] == {"margin_below": 0.2}
    edge.stop()
    edge.deploy(manifest(desired={"classifier": {"sampling": {"margin_below": 0.3}}}))
    edge.start()
    _, twin = await edge.service("GET", path)
    assert twin["properties"]["desired"]["sampling"] == {"margin_below": 0.3}


async def test_a_module_taken_out_of_the_deployment_is_refused(edge):
    environ = edge.environ("classifier")
    edge.stop()
    edge.deploy(manifest(modules=["sampler"], routes={}))
    edge.start()
    assert (await edge.service("GET", "/twins/laptop/modules/classifier"))[0] == 404
    os.environ.update(environ)
    try:
        with pytest.raises(ValueError):  # the workload API does not sign for it
            await asyncio.to_thread(IoTHubModuleClient.create_from_edge_environment)
    finally:
        for key in environ:
            del os.environ[key]


async def test_the_workload_api_can_be_a_tcp_port(edge_factory, unused_tcp_port):
    edge = edge_factory(flags=["--workload", f"http://127.0.0.1:{unused_tcp_port}"])
    assert edge.environ("classifier")["IOTEDGE_WORKLOADURI"] == f"http://127.0.0.1:{unused_tcp_port}"
    async with module(edge, "classifier") as (classifier, _):
        await classifier.send_message_to_output(Message(b"1"), "summary")
        await edge.arrived(1)


async def test_the_control_api_delivers_to_an_input(edge):
    await edge.control("POST", "/input", {"module": "sampler", "input": "x", "body": "b", "properties": {"k": "v"}})
    async with module(edge, "sampler") as (_, heard):
        got = await heard.messages.get()
    assert (got.data, got.input_name, got.custom_properties["k"]) == (b"b", "x", "v")


async def test_a_dropped_module_comes_back(edge):
    async with module(edge, "sampler") as (sampler, heard):
        seen = []
        sampler.on_connection_state_change = lambda: seen.append(sampler.connected)
        await edge.control("POST", "/drop", {"module": "sampler"})
        await until(lambda: seen == [False, True])  # it may be back before the hub is asked who is there
        await edge.control("POST", "/input", {"module": "sampler", "input": "x", "body": "b"})
        assert await heard.bodies(1) == ["b"]


async def test_a_forgotten_module_is_connected_and_deaf(edge):
    async with module(edge, "sampler"):
        await edge.control("POST", "/forget", {"module": "sampler"})
        state = await edge.until(lambda state: state["subscriptions"] == {"sampler": []})
        assert state["connected"] == ["sampler"]


async def test_a_token_of_the_old_key_is_refused(edge):
    async with module(edge, "sampler", connection_retry=False) as (sampler, _):  # else it tries by itself meanwhile
        await edge.control("POST", "/rekey", {"module": "sampler"})
        await until(lambda: not sampler.connected)  # to connect before it knows that it was cut off does nothing
        with pytest.raises(CredentialError):
            await sampler.connect()
    async with module(edge, "sampler"):
        await edge.until(lambda state: state["connected"] == ["sampler"])


async def test_an_unacknowledged_message_is_stored_again(edge):
    async with module(edge, "classifier") as (classifier, _):
        await edge.control("PUT", "/faults", {"puback": False})
        send = asyncio.create_task(classifier.send_message_to_output(Message(b"1"), "summary"))
        await edge.arrived(1)
        assert not send.done()
        await edge.control("PUT", "/faults", {"puback": True})
        await edge.control("POST", "/drop", {"module": "classifier"})
        await asyncio.wait_for(send, 10)
        assert len(await edge.arrived(2)) == 2


async def test_a_refused_connect_says_why(edge):
    await edge.control("PUT", "/faults", {"connack": 5})
    client = await create(edge, "classifier")
    with pytest.raises(CredentialError):
        await client.connect()
    await edge.control("PUT", "/faults", {"connack": None})
    await client.connect()
    await client.shutdown()


async def test_a_failing_signature_fails_the_client(edge):
    await edge.control("PUT", "/faults", {"sign": "fail"})
    with pytest.raises(ValueError):
        await create(edge, "classifier")
    await edge.control("PUT", "/faults", {"sign": "hang"})
    creating = asyncio.create_task(create(edge, "classifier"))
    await asyncio.sleep(0.3)
    assert not creating.done()
    await edge.control("PUT", "/faults", {"sign": "ok"})
    await (await creating).shutdown()


async def test_what_cannot_be_signed_is_refused_in_json(edge):
    environ = edge.environ("sampler")
    generation = environ["IOTEDGE_MODULEGENERATIONID"]
    url = f"http://workload/modules/sampler/genid/{generation}/sign?api-version=2018-06-28"
    connector = aiohttp.UnixConnector(environ["IOTEDGE_WORKLOADURI"].removeprefix("unix://"))
    lone = b'{"keyId": "primary", "algo": "HMACSHA256", "data": "\\ud800"}'
    async with aiohttp.ClientSession(connector=connector) as session:
        for body in (b"", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, lone):
            async with session.post(url, data=body) as response:
                assert response.status == 400, body[:9]
                assert (await response.json())["message"]


async def test_a_silent_runtime_answers_late(edge):
    async with module(edge, "classifier") as (classifier, _):
        await edge.control("PUT", "/faults", {"silent": True})
        send = asyncio.create_task(classifier.send_message_to_output(Message(b"1"), "summary"))
        await asyncio.sleep(0.3)
        assert not send.done()
        assert (await edge.control("GET", "/state"))["connected"] == ["classifier"]
        await edge.control("PUT", "/faults", {"silent": False})
        await asyncio.wait_for(send, 5)


async def test_a_deployment_from_the_service_is_applied_at_once_and_kept(edge):
    content = manifest(
        modules=["classifier", "third"],
        routes={**ROUTES, "all": "FROM /messages/modules/third/* INTO $upstream"},
        desired={"classifier": {"wanted": True}},
    )
    async with module(edge, "classifier") as (_, heard):
        assert await edge.service("POST", "/devices/laptop/applyConfigurationContent", content) == (204, None)
        async with asyncio.timeout(5):
            assert (await heard.patches.get())["wanted"] is True
    async with module(edge, "third") as (third, _):
        await third.send_message(Message(b"1"))
        await edge.arrived(1)
    edge.kill()
    edge.start()
    _, modules = await edge.service("GET", "/devices/laptop/modules")
    assert [one["moduleId"] for one in modules] == ["$edgeAgent", "$edgeHub", "classifier", "third"]


async def test_it_ends_cleanly_when_asked_to(edge):
    async with module(edge, "classifier"):
        assert await asyncio.to_thread(edge.stop) == 0
