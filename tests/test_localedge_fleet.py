"""IoT Hub's registry, queries and module configurations: many devices that are nothing but their twins."""

import pytest

from edge import manifest, service_token


def code(answer):
    return answer["Message"].removeprefix("ErrorCode:").partition(";")[0]


def configuration(id_, priority, version, condition="moduleId = 'classifier'", **more):
    return {
        "id": id_,
        "schemaVersion": "2.0",
        "content": {"moduleContent": {"properties.desired.model": {"version": version}, **more}},
        "targetCondition": f"FROM devices.modules WHERE {condition}",
        "priority": priority,
    }


async def put(edge, document, headers=None):
    status, answer = await edge.service("PUT", f"/configurations/{document['id']}", document, headers)
    assert status == 200, answer
    return answer


async def twin(edge, device, module="classifier"):
    return (await edge.service("GET", f"/twins/{device}/modules/{module}"))[1]


async def desired(edge, device="a", module="classifier"):
    section = (await twin(edge, device, module))["properties"]["desired"]
    return {name: value for name, value in section.items() if not name.startswith("$")}


async def tag(edge, device, **tags):
    status, answer = await edge.service("PATCH", f"/twins/{device}/modules/classifier", {"tags": tags})
    assert status == 200, answer


async def say(edge, device, reported, **more):
    one = {"device": device, "module": "classifier", "reported": reported, **more}
    await edge.control("POST", "/say", {"modules": [one]})


@pytest.fixture
async def hub(edge):
    """Devices a and b with a classifier each, beside the one that runs here."""
    for device in ("a", "b"):
        assert (await edge.service("PUT", f"/devices/{device}", {"deviceId": device}))[0] == 200
        assert (await edge.service("PUT", f"/devices/{device}/modules/classifier", {}))[0] == 200
    return edge


async def test_devices_and_modules_are_made_once_and_survive_a_restart(hub):
    status, made = await hub.service("GET", "/devices/a/modules/classifier")
    assert (status, made["deviceId"], made["moduleId"], made["connectionState"]) == (
        200, "a", "classifier", "Disconnected",
    )  # fmt: skip
    for path, wanted in (
        ("/devices/a", (409, "DeviceAlreadyExists")),
        ("/devices/laptop", (409, "DeviceAlreadyExists")),
        ("/devices/a/modules/classifier", (409, "ModuleAlreadyExistsOnDevice")),
        ("/devices/x/modules/classifier", (404, "DeviceNotFound")),
    ):
        status, answer = await hub.service("PUT", path, {})
        assert (status, code(answer)) == wanted
    await tag(hub, "a", ring="canary")
    hub.kill()
    hub.start()
    assert (await twin(hub, "a"))["tags"] == {"ring": "canary"}
    assert [one["moduleId"] for one in (await hub.service("GET", "/devices/a/modules"))[1]] == ["classifier"]
    assert (await hub.service("DELETE", "/devices/a"))[0] == 204
    for path in ("/devices/a", "/twins/a", "/twins/a/modules/classifier"):
        status, answer = await hub.service("GET", path)
        assert (status, code(answer)) == (404, "DeviceNotFound")
    status, answer = await hub.service("GET", "/twins/b/modules/nobody")
    assert (status, code(answer)) == (404, "ModuleNotFound")


async def test_a_hundred_identities_are_made_in_one_request(edge):
    many = [{"id": f"d{n}", "importMode": "create"} for n in range(50)]
    many += [{**one, "moduleId": "classifier", "tags": {"ring": "canary"}} for one in many]
    assert (await edge.service("POST", "/devices", many)) == (
        200,
        {"isSuccessful": True, "errors": [], "warnings": []},
    )
    assert (await twin(edge, "d49"))["tags"] == {"ring": "canary"}
    status, answer = await edge.service("POST", "/devices", [*many[:2], {"id": "new", "importMode": "create"}])
    assert (status, answer["isSuccessful"]) == (400, False)
    assert [error["errorCode"] for error in answer["errors"]] == ["DeviceAlreadyExists"] * 2
    assert (await edge.service("GET", "/devices/new"))[0] == 200
    for body in ([], [{}] * 101, {}, [{"id": 5, "importMode": "create"}], [{"id": "y"}], [3]):
        assert (await edge.service("POST", "/devices", body))[0] == 400


async def test_a_query_is_answered_in_pages(edge):
    many = [{"id": f"d{n:03}", "importMode": "create"} for n in range(60)]
    modules = [{**one, "moduleId": "classifier"} for one in many]
    for start in (0, 50):
        await edge.service("POST", "/devices", many[start : start + 50])
        await edge.service("POST", "/devices", modules[start : start + 50])
    found, token = [], ""
    while True:
        status, rows, headers = await asked(edge, "SELECT * FROM devices.modules WHERE deviceId != 'laptop'", 25, token)
        assert (status, headers["x-ms-item-type"]) == (200, "twin")
        found.append(len(rows))
        token = headers.get("x-ms-continuation", "")
        if not token:
            break
    assert found == [25, 25, 10]
    _, rows, headers = await asked(edge, "SELECT COUNT() AS n FROM devices WHERE deviceId != 'laptop'")
    assert (rows, headers["x-ms-item-type"]) == ([{"n": 60}], "raw")
    _, rows, _ = await asked(edge, "SELECT moduleId FROM devices.modules WHERE deviceId = 'laptop'")
    assert {row["moduleId"] for row in rows} == {"$edgeAgent", "$edgeHub", "classifier", "sampler"}
    for query, size, token in (("SELECT", 5, ""), (None, 5, ""), ("SELECT * FROM devices", 0, "")):
        assert (await asked(edge, query, size, token))[0] == 400
    assert (await asked(edge, "SELECT * FROM devices", 5, "no token"))[0] == 400


async def asked(edge, query, size=100, token=""):
    """A query with its paging headers: the status, the rows and the headers."""
    import ssl

    import aiohttp

    headers = {
        "Authorization": service_token(edge.connection_string),
        "x-ms-max-item-count": str(size),
        "x-ms-continuation": token,
    }
    url, tls = f"{edge.hub_url}/devices/query?api-version=2021-04-12", ssl.create_default_context(cafile=edge.ca_file)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"query": query}, headers=headers, ssl=tls) as response,
    ):
        return response.status, await response.json(), response.headers


async def test_the_configuration_with_the_highest_priority_is_applied_and_the_next_one_when_it_goes(hub):
    await put(hub, configuration("low", 1, "1"))
    await put(hub, configuration("high", 2, "2", "moduleId = 'classifier' AND tags.ring = 'canary'"))
    assert (await desired(hub, "a"), await desired(hub, "b")) == ({"model": {"version": "1"}},) * 2
    await tag(hub, "a", ring="canary")
    assert await desired(hub, "a") == {"model": {"version": "2"}}
    assert (await twin(hub, "a"))["configurations"] == {"high": {"status": "Applied"}, "low": {"status": "Targeted"}}
    assert (await desired(hub, "b"), await desired(hub, "laptop")) == ({"model": {"version": "1"}},) * 2
    await tag(hub, "a", ring=None)
    assert await desired(hub, "a") == {"model": {"version": "1"}}
    await tag(hub, "a", ring="canary")
    hub.kill()
    hub.start()
    assert (await hub.service("DELETE", "/configurations/high"))[0] == 204
    assert await desired(hub, "a") == {"model": {"version": "1"}}
    assert (await hub.service("DELETE", "/configurations/low"))[0] == 204
    assert (await desired(hub, "a"), await desired(hub, "laptop")) == ({}, {})
    assert "configurations" not in await twin(hub, "a")


async def test_of_two_equal_configurations_the_newest_is_applied(hub):
    await put(hub, configuration("older", 5, "1"))
    await put(hub, configuration("newer", 5, "2"))
    assert await desired(hub) == {"model": {"version": "2"}}


async def test_what_a_configuration_does_not_name_stays_and_what_it_names_comes_back(hub):
    path = "/twins/a/modules/classifier"
    patch = {"properties": {"desired": {"sampling": {"margin_below": 0.3}, "model": {"version": "0", "url": "u"}}}}
    await hub.service("PATCH", path, patch)
    await put(hub, configuration("c", 1, "1", **{"properties.desired.sampling.audit_rate": 0.1}))
    wanted = {"model": {"version": "1"}, "sampling": {"margin_below": 0.3, "audit_rate": 0.1}}
    assert await desired(hub) == wanted
    await hub.service("PATCH", path, {"properties": {"desired": {"model": {"version": "by hand"}}}})
    assert await desired(hub) == wanted
    await hub.service("DELETE", "/configurations/c")
    assert await desired(hub) == {"sampling": {"margin_below": 0.3}}


async def test_a_new_module_gets_what_is_wanted_of_it(hub):
    await put(hub, configuration("c", 1, "1"))
    await hub.service("PUT", "/devices/late", {})
    await hub.service("PUT", "/devices/late/modules/classifier", {})
    assert await desired(hub, "late") == {"model": {"version": "1"}}
    content = manifest(modules=["classifier", "third"], desired={"classifier": {"sampling": {"margin_below": 0.1}}})
    assert (await hub.service("POST", "/devices/laptop/applyConfigurationContent", content))[0] == 204
    assert await desired(hub, "laptop") == {"sampling": {"margin_below": 0.1}, "model": {"version": "1"}}


async def test_a_configuration_counts_its_modules(hub):
    document = configuration("c", 1, "1", "deviceId != 'laptop' AND moduleId = 'classifier'")
    document["metrics"] = {"queries": {"active": "select deviceId from devices.modules where "
        "configurations.[[c]].status = 'Applied' and properties.reported.model.state = 'active'"}}  # fmt: skip
    await put(hub, document)
    await put(hub, configuration("stronger", 2, "2", "deviceId = 'b' AND moduleId = 'classifier'"))
    await say(hub, "a", {"model": {"state": "active"}})
    await say(hub, "b", {"model": {"state": "active"}})
    _, stored = await hub.service("GET", "/configurations/c")
    assert stored["systemMetrics"]["results"] == {"targetedCount": 2, "appliedCount": 1}
    assert stored["metrics"]["results"] == {"active": 1}
    status, answer = await hub.service("PUT", "/configurations/c", {**stored, "labels": {"a": "b"}}, {"If-Match": "*"})
    assert (status, answer["labels"]) == (200, {"a": "b"})


@pytest.mark.parametrize(
    "change",
    [
        {"targetCondition": "tags.ring = 'canary'"},
        {"targetCondition": ""},
        {"content": {"moduleContent": {"model": {}}}},
        {"content": {"moduleContent": {"properties.desired.": {}}}},
        {"content": {"moduleContent": {"properties.desired.a": 1, "properties.desired.a.b": 1}}},
        {"content": {"moduleContent": {"properties.desired.a": "x" * 5000}}},
        {"content": {"moduleContent": [1]}},
        {"metrics": {"queries": {"a": "nonsense"}}},
    ],
)
async def test_a_module_configuration_that_cannot_be_is_refused(hub, change):
    status, answer = await hub.service("PUT", "/configurations/c", {**configuration("c", 1, "1"), **change})
    assert (status, code(answer)) == (400, "InvalidConfigurationContent")
    assert await hub.service("GET", "/configurations") == (200, [])


async def test_a_simulated_module_reports_and_answers_what_it_was_told_to(hub):
    path = "/twins/a/modules/classifier/methods"
    status, answer = await hub.service("POST", path, {"methodName": "status"})
    assert (status, code(answer)) == (404, "DeviceNotOnline")
    await say(hub, "a", {"model": {"state": "active"}}, methods={"status": {"answered": 3}})
    found = await twin(hub, "a")
    assert found["connectionState"] == "Connected"
    assert found["lastActivityTime"] > "2020"
    assert found["properties"]["reported"]["model"] == {"state": "active"}
    assert await hub.service("POST", path, {"methodName": "status"}) == (
        200,
        {"status": 200, "payload": {"answered": 3}},
    )
    await say(hub, "a", {}, connected=False)
    assert (await twin(hub, "a"))["connectionState"] == "Disconnected"
    assert (await hub.service("POST", path, {"methodName": "status"}))[0] == 404
    with pytest.raises(AssertionError, match="speaks for itself"):
        await say(hub, "laptop", {"model": {}})
