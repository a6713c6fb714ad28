"""The record of a flagged image keeps what it was given, and refuses what it cannot trust."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripeloop.errors import BadRecord
from ripeloop.prediction import Flagged, Prediction, format_time, image_id, parse_time

TAGS = st.text(max_size=20)
RECORDS = st.builds(
    Flagged,
    id=st.binary(max_size=8).map(image_id),
    captured_at=st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
    reason=st.text(max_size=20),
    predictions=st.lists(st.builds(Prediction, TAGS, st.floats(0, 1).map(lambda p: round(p, 8))), max_size=4).map(
        tuple
    ),
    model=st.text(max_size=20),
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
    line = record.to_json().replace(b'{"id"', b'{"camera":"left","id"')
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


def test_times_are_utc_and_sort_as_text():
    oslo = datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(oslo) == "2026-11-22T11:00:00.000000Z"
    assert parse_time("2026-11-22T12:00:00+01:00") == oslo
    assert format_time(oslo) < format_time(oslo + timedelta(microseconds=1))
