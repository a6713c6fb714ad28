"""The record of a flagged image keeps what it was given, and refuses what it cannot trust."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripeloop.errors import BadRecord
from ripeloop.prediction import Flagged, Prediction, format_time, image_id, parse_time

TAGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RECORDS = st.builds(
    Flagged,
    id=st.binary(max_size=8).map(image_id),
    captured_at=st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
    reason=st.from_regex(r"[a-z_]{1,64}", fullmatch=True),
    predictions=st.lists(st.builds(Prediction, TAGS, st.floats(0, 1).map(lambda p: round(p, 8))), max_size=4).map(
        tuple
    ),
    model=TAGS,
    content_type=st.sampled_from(["image/jpeg", "image/png"]),
)


@given(RECORDS)
def test_a_record_survives_its_journey_as_json(record):
    assert Flagged.from_json(record.to_json()) == record


@given(RECORDS)
def test_a_record_is_one_line_of_ascii(record):
    line = record.to_json()
    assert b"\n" not in line
    assert line.isascii()


def test_fields_of_a_newer_writer_are_ignored():
    record = Flagged(image_id(b"x"), datetime(2026, 11, 22, tzinfo=UTC), "audit", ())
    line = record.to_json().replace(b'{"id"', b'{"lens":"left","id"')
    assert Flagged.from_json(line) == record


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b'{"id":"../../etc/passwd","capturedAt":"2026-11-22T00:00:00Z","reason":"audit"}',
        b'{"id":"' + b"A" * 64 + b'","capturedAt":"2026-11-22T00:00:00Z","reason":"audit"}',
        b'{"id":"' + b"a" * 64 + b'","capturedAt":"2026-11-22T00:00:00","reason":"audit"}',
        b'{"id":"' + b"a" * 64 + b'","reason":"audit"}',
        b'{"id":"' + b"a" * 64 + b'","capturedAt":"2026-11-22T00:00:00Z","reason":"audit","predictions":[1]}',
    ],
)
def test_a_record_that_cannot_be_trusted_is_refused(line):
    with pytest.raises(BadRecord):
        Flagged.from_json(line)


def line(**fields):
    words = {"id": "a" * 64, "capturedAt": "2026-11-22T00:00:00Z", "reason": "audit", "predictions": [], **fields}
    return json.dumps(words).encode()


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(b"[" * 200_000, id="deeper than Python goes"),
        pytest.param(line(predictions=[{"tag": "\ud800", "probability": 0.5}]), id="half a surrogate pair as tag"),
        pytest.param(line(predictions=[{"tag": "t" * 1025, "probability": 0.5}]), id="a tag without an end"),
        pytest.param(line(predictions=[{"tag": 7, "probability": 0.5}]), id="a tag that is no text"),
        pytest.param(line(predictions=[{"tag": "t", "probability": 10**400}]), id="more than a float holds"),
        pytest.param(line(predictions=[{"tag": "t", "probability": float("nan")}]), id="nan"),
        pytest.param(line(predictions=[{"tag": "t", "probability": float("inf")}]), id="infinity"),
        pytest.param(line(predictions=[{"tag": "t", "probability": 1.5}]), id="more than certain"),
        pytest.param(line(predictions=[{"tag": "t", "probability": True}]), id="true"),
        pytest.param(line(predictions=[{"tag": "t", "probability": "1"}]), id="a text"),
        pytest.param(line(predictions={"tag": "t", "probability": 1}), id="no list"),
        pytest.param(line(predictions=None), id="null"),
        pytest.param(line(capturedAt="0001-01-01T00:00:00+14:00"), id="before the year 1"),
        pytest.param(line(capturedAt="9999-12-31T23:59:59-14:00"), id="after the year 9999"),
        pytest.param(line(capturedAt="0900-01-01T00:00:00Z"), id="the year 900"),
        pytest.param(line(capturedAt="9999-12-31T23:59:59Z"), id="the year 9999"),
        pytest.param(line(capturedAt=1764), id="a time that is no text"),
        pytest.param(line(reason=""), id="no reason"),
        pytest.param(line(reason="r" * 65), id="a long reason"),
        pytest.param(line(reason="two\r\nlines"), id="a reason of two lines"),
        pytest.param(line(reason="\ud800"), id="half a surrogate pair as reason"),
        pytest.param(line(model="\udfff"), id="half a surrogate pair as model"),
        pytest.param(line(contentType="\udfff"), id="half a surrogate pair as content type"),
    ],
)
def test_an_odd_record_is_a_bad_record_and_nothing_worse(odd):
    with pytest.raises(BadRecord) as refusal:
        Flagged.from_json(odd)
    assert len(str(refusal.value)) < 300
    str(refusal.value).encode()


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda some: st.lists(some)), st.data())
def test_whatever_a_field_holds_is_a_record_or_a_bad_record(value, data):
    field = data.draw(st.sampled_from(["id", "capturedAt", "reason", "predictions", "model", "contentType"]))
    with suppress(BadRecord):
        Flagged.from_json(line(**{field: value}))


def test_a_probability_a_little_over_is_one():
    (one,) = Flagged.from_json(line(predictions=[{"tag": "t", "probability": 1.0001}])).predictions
    assert one.probability == 1.0


def test_times_are_utc_and_sort_as_text():
    oslo = datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(oslo) == "2026-11-22T11:00:00.000000Z"
    assert parse_time("2026-11-22T12:00:00+01:00") == oslo
    assert format_time(oslo) < format_time(oslo + timedelta(microseconds=1))
