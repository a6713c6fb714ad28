"""Routes and their conditions, without a hub."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localedge.protocol.message import Message, decode_bag, encode_bag
from localedge.protocol.topics import Event, read
from manifests.conditions import compile_condition
from manifests.routes import LOWEST_PRIORITY, parse
from ripeloop.errors import SettingsError

JSON = {"contentType": "application/json", "contentEncoding": "utf-8"}
SAMPLER = 'BrokeredEndpoint("/modules/sampler/inputs/in")'


def message(properties=None, body=None, system=None):
    sent = {"connectionModuleId": "classifier", "connectionDeviceId": "laptop", **JSON, **(system or {})}
    return Message("classifier", json.dumps(body).encode(), "out", properties or {}, sent)


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("/*", True),
        ("/messages", True),
        ("/messages/*", True),
        ("/messages/modules/*", True),
        ("/messages/modules/classifier", True),
        ("/messages/modules/classifier/*", True),
        ("/messages/modules/classifier/outputs/*", True),
        ("/messages/modules/classifier/outputs/out", True),
        ("/Messages/Modules/CLASSIFIER/outputs/out", True),
        ("/messages/modules/class/*", False),
        ("/messages/modules/sampler/*", False),
        ("/messages/modules/classifier/outputs/ou", False),
        ("/twinChangeNotifications", False),
    ],
)
def test_a_source_is_a_prefix_of_whole_segments(source, takes):
    assert parse("r", f"FROM {source} INTO $upstream").takes(message()) is takes


def test_a_message_without_an_output_has_no_output_in_its_source():
    plain = Message("classifier", b"")
    assert parse("r", "FROM /messages/modules/classifier/* INTO $upstream").takes(plain)
    assert not parse("r", "FROM /messages/modules/classifier/outputs/* INTO $upstream").takes(plain)


def test_sinks_are_endpoints():
    assert parse("r", f"FROM /* INTO {SAMPLER}").endpoint == "sampler/in"
    assert parse("r", "select * from /* into brokeredendpoint('modules/a/inputs/b')").endpoint == "a/b"
    assert parse("r", "FROM /* INTO $UPSTREAM").endpoint == "$upstream"


def test_a_route_object_has_priority_and_time_to_live():
    route = parse("r", {"route": "FROM /* INTO $upstream", "priority": 3, "timeToLiveSecs": 60})
    assert (route.priority, route.time_to_live) == (3, 60.0)
    assert parse("r", {"route": "FROM /* INTO $upstream"}).priority == LOWEST_PRIORITY


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "INTO $upstream",
        "FROM /* INTO",
        "FROM /* INTO somewhere",
        "FROM /* INTO BrokeredEndpoint('/modules/a')",
        "FROM messages INTO $upstream",
        "FROM /messages/*/outputs/o INTO $upstream",
        "FROM /* WHERE INTO $upstream",
        "FROM /* WHERE a = INTO $upstream",
        {"route": "FROM /* INTO $upstream", "priority": 10},
        {"route": "FROM /* INTO $upstream", "priority": True},
        {"route": "FROM /* INTO $upstream", "timeToLiveSecs": -1},
        {"priority": 1},
    ],
)
def test_what_is_no_route_is_refused_with_its_name(spec):
    with pytest.raises(SettingsError, match="route mine"):
        parse("mine", spec)


@pytest.mark.parametrize("name", ["a.b", "$a", "a#", "a b", ""])
def test_a_route_needs_a_plain_name(name):
    with pytest.raises(SettingsError):
        parse(name, "FROM /* INTO $upstream")


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("true", True),
        ("level = 'high'", True),
        ("LEVEL = 'high'", False),
        ('level = "high"', True),
        ("level != 'low'", True),
        ("level <> 'high'", False),
        ("missing = 'x'", False),
        ("missing != 'x'", False),
        ("NOT missing = 'x'", False),
        ("is_defined(missing)", False),
        ("NOT is_defined(missing)", True),
        ("(missing ?? 'none') = 'none'", True),
        ("as_number(count) > 9", True),
        ("as_number(level) > 9", False),
        ("as_number(count) * 2 - 1 = 19", True),
        ("$connectionModuleId = 'classifier'", True),
        ("{$connectionDeviceId} = 'laptop'", True),
        ("$body.score > 0.5", True),
        ("$body.score < 0.5", False),
        ("$body.score = 'high'", False),
        ("$body.deep.list[1] = 2", True),
        ("$body.deep.list[9] = 2", False),
        ("$body.deep = 1", False),
        ("$body.yes", True),
        ("$body.nothing = null", True),
        ("is_null($body.nothing)", True),
        ("$body.text = level", True),
        ("level = 'high' AND $body.score > 0.5", True),
        ("level = 'low' AND $body.score > 0.5", False),
        ("level = 'low' OR $body.score > 0.5", True),
        ("missing = 'x' OR level = 'high'", True),
        ("NOT (missing = 'x' AND level = 'low')", True),
        ("NOT (missing = 'x' AND level = 'high')", False),
        ("level = 'low' OR level = 'high' AND $body.yes", True),
        ("(level = 'low' OR level = 'high') and not $body.yes", False),
        ("starts_with(level, 'hi') AND contains(level, 'ig') AND length(level) = 4", True),
        ("upper(level) || '!' = 'HIGH!'", True),
        ("quoted = 'it\\'s'", True),
        ("-1 < 0", True),
    ],
)
def test_a_condition_decides(condition, holds):
    body = {"score": 0.9, "deep": {"list": [1, 2]}, "yes": True, "nothing": None, "text": "high"}
    sent = message({"level": "high", "count": "10", "quoted": "it's"}, body)
    assert compile_condition(condition)(sent) is holds


@pytest.mark.parametrize(
    "system",
    [{"contentType": ""}, {"contentType": "text/plain"}, {"contentEncoding": ""}, {"contentEncoding": "base64"}],
)
def test_the_body_is_read_only_where_the_message_declares_json_in_utf8(system):
    condition = compile_condition("$body.a = 1")
    assert condition(message(body={"a": 1}))
    assert not condition(message(body={"a": 1}, system=system))


def test_a_body_that_is_not_json_meets_no_condition():
    for body in (b"\xff{", b"[" * 100_000, b'{"a": 1%s}' % (b"0" * 400)):
        assert not compile_condition("$body.a = 1")(Message("m", body, system=JSON))


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("count > 9", "as_number"),
        ("level + 1 = 2", "two numbers"),
        ("level AND true", "comparisons"),
        ("a = ", "too early"),
        ("(a = 'b'", "lacks"),
        ("a = 'b' c", "should end"),
        ("a = 'b", "cannot be read"),
        ("twin_change_includes(a)", "not served"),
        ("length()", "not served"),
    ],
)
def test_a_condition_edge_hub_would_refuse_is_refused(condition, why):
    with pytest.raises(SettingsError, match=why):
        compile_condition(condition)


@given(st.text("ab$body.= <>()'\"+-*/%,0123{}?|ANDORNT\\", max_size=40))
@example("(" * 10_000)
@example("1/0 = 1")
def test_any_text_is_a_condition_or_a_settings_error(text):
    try:
        condition = compile_condition(text)
    except SettingsError:
        return
    assert condition(message({"a": "b"}, {"a": 1})) in (True, False)


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: not name.startswith("$.")), st.text()))
def test_a_property_bag_comes_back_as_it_went(properties):
    assert decode_bag(encode_bag(Message("m", b"", properties=properties)))[0] == properties


def test_a_topic_of_the_client_is_a_message():
    topic = "devices/laptop/modules/classifier/messages/events/%24.on=out&%24.ct=application%2Fjson&k%20v=x%2Fy"
    sent = read("laptop", "classifier", topic, b"b").message
    assert (sent.module, sent.output, sent.body) == ("classifier", "out", b"b")
    assert sent.properties == {"k v": "x/y"}
    assert sent.system["contentType"] == "application/json"
    assert sent.system["connectionModuleId"] == "classifier"


def test_an_unknown_topic_is_a_message_without_an_output():
    event = read("laptop", "classifier", "what/is/this", b"b")
    assert isinstance(event, Event)
    assert (event.message.source, event.message.properties) == ("/messages/modules/classifier", {})


@given(st.text())
def test_any_topic_can_be_read(topic):
    read("laptop", "classifier", topic, b"")
    read("laptop", "classifier", "$iothub/methods/res/" + topic, b"")
