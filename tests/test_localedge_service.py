"""IoT Hub's service REST, as the tools call it."""

import json
import sqlite3
from contextlib import closing

import aiohttp

from edge import manifest, service_token

TWIN = "/twins/laptop/modules/classifier"


def code(answer):
    return answer["Message"].removeprefix("ErrorCode:").partition(";")[0]


async def test_without_the_owners_signature_nothing_is_answered(edge):
    owner = edge.connection_string
    for token in (
        "",
        service_token(owner, -1),
        service_token(owner.replace("SharedAccessKey=", "SharedAccessKey=AAAA")),
        service_token(owner.replace("iothubowner", "service")),
        service_token(owner.replace("HostName=", "HostName=other.")),
    ):
        status, answer = await edge.service("GET", TWIN, headers={"Authorization": token})
        assert (status, code(answer)) == (401, "IotHubUnauthorizedAccess"), token
        assert answer["ExceptionMessage"].startswith("Tracking ID:")


async def test_an_api_version_is_required(edge):
    headers = {"Authorization": service_token(edge.connection_string)}
    async with (
        aiohttp.ClientSession() as session,
        session.get(edge.hub_url + TWIN, headers=headers, ssl=False) as response,
    ):
        assert (response.status, code(await response.json())) == (400, "InvalidProtocolVersion")


async def test_a_twin_changes_only_for_who_has_seen_it(edge):
    _, twin = await edge.service("GET", TWIN)
    patch = {"properties": {"desired": {"a": 1}}, "tags": {"site": "north"}}
    status, changed = await edge.service("PATCH", TWIN, patch, {"If-Match": f'"{twin["etag"]}"'})
    assert (status, changed["tags"]) == (200, {"site": "north"})
    assert changed["etag"] != twin["etag"]
    status, answer = await edge.service("PATCH", TWIN, patch, {"If-Match": f'"{twin["etag"]}"'})
    assert (status, code(answer)) == (412, "PreconditionFailed")
    assert (await edge.service("PATCH", TWIN, patch, {"If-Match": "*"}))[0] == 200
    status, last = await edge.service("PATCH", TWIN, {"properties": {"desired": {"a": None}}})
    desired = last["properties"]["desired"]
    assert {name for name in desired if not name.startswith("$")} == set()
    assert desired["$version"] == 4


async def test_a_twin_names_its_module_and_whether_it_is_connected(edge):
    _, twin = await edge.service("GET", TWIN)
    assert (twin["deviceId"], twin["moduleId"], twin["connectionState"]) == ("laptop", "classifier", "Disconnected")
    _, device = await edge.service("GET", "/twins/laptop")
    assert "moduleId" not in device
    _, hub = await edge.service("GET", "/twins/laptop/modules/$edgeHub")
    assert "summary" not in hub["properties"]["desired"]["routes"]
    assert "uncertain" in hub["properties"]["desired"]["routes"]


async def test_the_devices_own_twin_has_tags(edge):
    await edge.service("PATCH", "/twins/laptop", {"tags": {"site": {"name": "north"}}})
    edge.kill()
    edge.start()
    _, twin = await edge.service("GET", "/twins/laptop")
    assert twin["tags"] == {"site": {"name": "north"}}


async def test_what_is_not_there_is_not_found(edge):
    for path, answer in (
        ("/twins/desk", "DeviceNotFound"),
        ("/twins/laptop/modules/nobody", "ModuleNotFound"),
        ("/nothing", "NotFound"),
    ):
        status, body = await edge.service("GET", path)
        assert (status, code(body)) == (404, answer)


async def test_a_change_over_a_limit_is_refused_and_changes_nothing(edge):
    _, before = await edge.service("GET", TWIN)
    too_long = {"tags": {"a": "x" * 5000}}
    for body in ([], {"properties": []}, {"properties": {"desired": {"a.b": 1}}}, too_long):
        status, answer = await edge.service("PATCH", TWIN, body)
        assert (status, code(answer)) == (400, "ArgumentInvalid"), body
    assert (await edge.service("GET", TWIN))[1]["etag"] == before["etag"]


async def test_a_method_call_that_cannot_be_is_refused(edge):
    for body in (
        {},
        {"methodName": 3},
        {"methodName": "x" * 70_000},
        {"methodName": "m", "responseTimeoutInSeconds": 4},
        {"methodName": "m", "connectTimeoutInSeconds": 301},
    ):
        status, answer = await edge.service("POST", TWIN + "/methods", body)
        assert (status, code(answer)) == (400, "ArgumentInvalid"), body


async def test_a_deployment_that_cannot_be_is_refused_and_the_old_one_stays(edge):
    for content in ({}, manifest(routes={"bad": "FROM x"}), manifest(desired={"classifier": {"a.b": 1}})):
        status, answer = await edge.service("POST", "/devices/laptop/applyConfigurationContent", content)
        assert (status, code(answer)) == (400, "InvalidConfigurationContent")
    assert (await edge.service("GET", TWIN))[0] == 200


async def test_a_configuration_is_stored_changed_and_removed(edge):
    path = "/configurations/release-7"
    first = {
        "id": "release-7",
        "schemaVersion": "2.0",
        "content": manifest(),
        "targetCondition": "tags.site='nowhere'",
        "priority": 10,
    }
    status, stored = await edge.service("PUT", path, first)
    assert (status, stored["priority"]) == (200, 10)
    status, answer = await edge.service("PUT", path, first)
    assert (status, code(answer)) == (409, "ConfigurationAlreadyExists")
    status, changed = await edge.service("PUT", path, {**first, "priority": 11}, {"If-Match": f'"{stored["etag"]}"'})
    assert (status, changed["priority"]) == (200, 11)
    status, answer = await edge.service("PUT", path, first, {"If-Match": f'"{stored["etag"]}"'})
    assert (status, code(answer)) == (412, "PreconditionFailed")
    status, answer = await edge.service("PUT", path, {**first, "content": {}}, {"If-Match": "*"})
    assert (status, code(answer)) == (400, "ArgumentInvalid")
    edge.kill()
    edge.start()
    assert (await edge.service("GET", "/configurations")) == (200, [changed])
    assert (await edge.service("DELETE", path, headers={"If-Match": '"old"'}))[0] == 412
    assert await edge.service("DELETE", path) == (204, None)
    status, answer = await edge.service("GET", path)
    assert (status, code(answer)) == (404, "ConfigurationNotFound")


async def test_a_configuration_id_is_lower_case(edge):
    status, answer = await edge.service("PUT", "/configurations/Release", {"content": {}})
    assert (status, code(answer)) == (400, "ArgumentInvalid")


async def test_the_configurations_that_target_the_device_are_applied(edge):
    def configuration(priority, condition, modules_content):
        return {"content": modules_content, "targetCondition": condition, "priority": priority}

    async def put(id_, *values):
        status, answer = await edge.service("PUT", f"/configurations/{id_}", configuration(*values))
        assert status == 200, answer

    async def policy():
        _, twin = await edge.service("GET", TWIN)
        return {name: value for name, value in twin["properties"]["desired"].items() if not name.startswith("$")}

    await put("low", 1, "tags.site = 'north'", manifest(desired={"classifier": {"from": "low"}}))
    await put("high", 2, "tags.site = 'north'", manifest(desired={"classifier": {"from": "high", "more": 1}}))
    await put("other", 9, "tags.site = 'south'", manifest(desired={"classifier": {"from": "other"}}))
    layer = {"modulesContent": {"classifier": {"properties.desired.model.version": "7"}}}
    await put("layer", 3, "tags.site = 'north' AND deviceId = 'laptop'", layer)
    assert await policy() == {}
    await edge.service("PATCH", "/twins/laptop", {"tags": {"site": "north"}})
    assert await policy() == {"from": "high", "more": 1, "model": {"version": "7"}}
    assert (await edge.service("DELETE", "/configurations/high"))[0] == 204
    assert await policy() == {"from": "low", "model": {"version": "7"}}


async def test_a_configuration_that_cannot_be_deployed_is_refused(edge):
    body = {"content": manifest(routes={"bad": "FROM x"}), "targetCondition": "*", "priority": 1}
    status, answer = await edge.service("PUT", "/configurations/bad", body)
    assert (status, code(answer)) == (400, "InvalidConfigurationContent")
    assert await edge.service("GET", "/configurations") == (200, [])


def layer(**sections):
    return {"content": {"modulesContent": sections}, "targetCondition": "*", "priority": 5}


async def test_a_layer_that_contradicts_itself_is_refused_and_not_stored(edge):
    base = {"content": manifest(desired={"classifier": {"a": 1}}), "targetCondition": "*", "priority": 1}
    assert (await edge.service("PUT", "/configurations/base", base))[0] == 200
    for sections in (
        {"classifier": {"properties.desired.sampling": 1, "properties.desired.sampling.a.b": 1}},
        {"classifier": {"properties.desired.sampling.a.b": 1, "properties.desired": {"sampling": 1}}},
        {"classifier": {"nonsense": 1}},
        {"classifier": {"properties.desired.": 1}},
        {"classifier": {"properties.desired.a..b": 1}},
        {"classifier": {"properties.desired": [1]}},
        {"classifier": {"properties.desired.a b": 1}},
        {"classifier": {"properties.desired.a": "x" * 5000}},
    ):
        status, answer = await edge.service("PUT", "/configurations/layer", layer(**sections))
        assert (status, code(answer)) == (400, "InvalidConfigurationContent"), sections
    _, stored = await edge.service("GET", "/configurations")
    assert [one["id"] for one in stored] == ["base"]


async def test_a_layer_wins_over_a_value_that_it_goes_below(edge):
    base = {"content": manifest(desired={"classifier": {"sampling": 1, "b": 2}}), "targetCondition": "*", "priority": 1}
    assert (await edge.service("PUT", "/configurations/base", base))[0] == 200
    status, _ = await edge.service("PUT", "/configurations/x", layer(classifier={"properties.desired.sampling.a.b": 1}))
    assert status == 200
    edge.kill()
    edge.start()
    _, twin = await edge.service("GET", TWIN)
    desired = twin["properties"]["desired"]
    assert {name: value for name, value in desired.items() if name[0] != "$"} == {"sampling": {"a": {"b": 1}}, "b": 2}


async def test_stored_configurations_that_make_no_deployment_do_not_stop_a_start(edge):
    base = {"content": manifest(desired={"classifier": {"a": 1}}), "targetCondition": "*", "priority": 1}
    assert (await edge.service("PUT", "/configurations/base", base))[0] == 200
    edge.kill()
    bad = (
        {"classifier": {"properties.desired.sampling": 1, "properties.desired.sampling.a.b": 1}},
        {"classifier": None},
        {"classifier": {"properties.desired": 3}},
        {"$edgeAgent": {"properties.desired.modules.x": 5}},
        {"$edgeAgent": None},
        {"$edgeHub": {"properties.desired.routes.r": 5}},
    )
    with closing(sqlite3.connect(edge.state / "edgehub.db", isolation_level=None)) as database:
        for number, sections in enumerate(bad):
            document = {**layer(**sections), "id": f"bad-{number}", "createdTimeUtc": ""}
            text = json.dumps({"document": document, "revision": 1})
            database.execute("INSERT INTO configuration VALUES (?, ?)", (f"bad-{number}", text))
        database.execute("UPDATE deployed SET document = '{}' WHERE name = '#active'")
    edge.start()
    assert "bad-0 is left out" in edge.log
    assert (await edge.service("GET", TWIN))[0] == 200
    assert (await edge.service("DELETE", "/configurations/bad-0"))[0] == 204


async def test_a_body_that_cannot_be_stored_is_refused_whatever_it_holds(edge):
    charset = {"Content-Type": "application/json; charset=nonsense"}
    for raw in (
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"properties":{"desired":{"a":"\\ud800"}}}',
        b'{"properties":{"desired":{"\\ud800":1}}}',
        b'{"properties":{"desired":{"a":NaN}}}',
        b'{"properties":{"desired":{"a":1e999}}}',
        b'{"properties":{"desired":' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"}}",
        b'{"properties":{"desired":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}}",
    ):
        for method, path, headers in (
            ("PATCH", TWIN, {}),
            ("PATCH", TWIN, charset),
            ("POST", TWIN + "/methods", {}),
            ("PUT", "/configurations/x", {}),
            ("POST", "/devices/laptop/applyConfigurationContent", {}),
        ):
            status, answer = await edge.service(method, path, headers=headers, raw=raw)
            assert (status, code(answer)) == (400, "ArgumentInvalid"), (path, raw[:40])
    assert "Traceback" not in edge.log


async def test_a_deployment_with_what_no_device_can_be_is_refused(edge):
    for content in (
        manifest(modules=["../../sampler"]),
        manifest(modules=["a/b"]),
        manifest(modules=[""]),
        manifest(routes={"r": 5}),
        manifest(time_to_live=10**400),
    ):
        status, answer = await edge.service("POST", "/devices/laptop/applyConfigurationContent", content)
        assert (status, code(answer)) == (400, "InvalidConfigurationContent")
    edge.kill()
    edge.start()


async def test_a_configuration_of_a_wrong_shape_is_refused(edge):
    for body in (
        {"content": []},
        {"content": {"modulesContent": {"m": 1}}},
        {"content": {"modulesContent": {"m": None}}},
        {"priority": "high"},
    ):
        status, answer = await edge.service("PUT", "/configurations/wrong", body)
        assert (status, code(answer)) == (400, "ArgumentInvalid"), body


async def test_a_deployment_made_while_offline_waits_until_it_is_online(edge):
    await edge.control("PUT", "/upstream", {"online": False})
    content = manifest(modules=["classifier", "third"], routes={})
    assert (await edge.service("POST", "/devices/laptop/applyConfigurationContent", content))[0] == 204
    assert (await edge.service("GET", "/twins/laptop/modules/third"))[0] == 404
    edge.kill()
    edge.start()  # online again
    assert (await edge.service("GET", "/twins/laptop/modules/third"))[0] == 200
