"""IoT Hub's query language, as far as the local hub speaks it."""

import pytest

from localedge.iothub.query import parse, parse_target
from ripeloop.errors import Refused

TWINS = [
    {
        "deviceId": "a",
        "moduleId": "classifier",
        "tags": {"ring": "canary", "site": {"name": "it's here"}},
        "properties": {"reported": {"model": {"state": "active", "tags": 3}}},
        "configurations": {"r-1": {"status": "Applied"}},
    },
    {"deviceId": "b", "moduleId": "classifier", "properties": {"reported": {"model": {"state": "failed", "tags": 2}}}},
    {"deviceId": "c", "moduleId": "sampler", "tags": {"ring": None, "on": True, "count": 1}},
]


def found(where):
    return "".join(row["deviceId"] for row in parse(f"SELECT * FROM devices.modules WHERE {where}").rows(TWINS))


@pytest.mark.parametrize(
    ("where", "devices"),
    [
        ("moduleId = 'classifier'", "ab"),
        ("devices.modules.moduleId = 'classifier' and devices.deviceId = 'b'", "b"),
        ("tags.ring = 'canary' OR moduleId = 'sampler'", "ac"),
        ("NOT tags.ring = 'canary'", "c"),  # of b nothing is known
        ("tags.ring != 'canary'", "c"),
        ("tags.site.name = 'it''s here'", "a"),
        ("is_defined(tags.ring)", "ac"),
        ("NOT is_defined(tags)", "b"),
        ("deviceId IN ['a', 'c', 'x']", "ac"),
        ("deviceId NIN ['a']", "bc"),
        ("configurations.[[r-1]].status = 'Applied'", "a"),
        ("properties.reported.model.tags >= 3", "a"),
        ("properties.reported.model.state > 3", ""),
        ("tags.on = true", "c"),
        ("tags.on = 1", ""),  # true is no number
        ("tags.count = 1", "c"),
        ("tags.ring = null", "c"),
        ("(moduleId = 'sampler' OR tags.ring = 'canary') AND deviceId <> 'a'", "c"),
    ],
)
def test_a_condition_finds_what_it_is_true_of(where, devices):
    assert found(where) == devices


def test_a_row_has_the_columns_that_are_there():
    query = "select deviceId, tags.ring, properties.reported.model.state as how from devices.modules"
    assert parse(query).rows(TWINS) == [
        {"deviceId": "a", "ring": "canary", "how": "active"},
        {"deviceId": "b", "how": "failed"},
        {"deviceId": "c", "ring": None},
    ]


def test_groups_are_counted():
    query = "SELECT moduleId AS module, COUNT() AS number FROM devices.modules GROUP BY moduleId"
    assert parse(query).rows(TWINS) == [{"module": "classifier", "number": 2}, {"module": "sampler", "number": 1}]
    assert parse("SELECT COUNT() FROM devices.modules").rows(TWINS) == [{"count": 3}]
    assert parse("SELECT COUNT() AS n FROM devices").rows([]) == [{"n": 0}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks 'SELECT'"),
        ("SELECT * FROM jobs", "FROM jobs"),
        ("SELECT * FROM devices WHERE", "ends too early"),
        ("SELECT * FROM devices WHERE a = 'x", "cannot be read at"),
        ("SELECT * FROM devices WHERE (a = 1", "lacks ')'"),
        ("SELECT * FROM devices WHERE a = 1 b", "'b' where it should end"),
        ("SELECT * FROM devices WHERE a = FROM", "'FROM' where a value"),
        ("SELECT 'x' FROM devices", "where a name should be"),
        ("SELECT * FROM devices WHERE " + "(" * 20_000, "nested too deeply"),
        ("SELECT * FROM devices WHERE " + "NOT " * 20_000 + "a", "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused(text, said):
    with pytest.raises(Refused, match="query") as caught:
        parse(text)
    assert said in str(caught.value)


def test_a_module_configuration_targets_modules():
    assert parse_target("FROM devices.modules WHERE tags.ring = 'canary'").finds(TWINS[0])
    for condition in ("tags.ring = 'canary'", "*", "", "FROM devices WHERE deviceId = 'a'"):
        with pytest.raises(Refused):
            parse_target(condition)
