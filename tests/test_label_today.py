"""There is one 'today', that of UTC, wherever the server stands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labelling import labelling, labels_in, person, put
from retrain.label.parts import Parts
from retrain.label.people import Person
from retrain.label.quality import standing
from retrain.label.quality.progress import progress, today
from retrain.label.quality.quality import days
from ripeloop.blobs import FolderBlobs

EAST, WEST = "Pacific/Auckland", "Pacific/Honolulu"  # with both, no answer is in the local day and in that of UTC


@pytest.fixture(params=(EAST, WEST))
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


class At(Parts):
    """The same parts at another time."""

    moment = datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment


def test_a_day_is_of_utc_whatever_the_clock_says(zone: str) -> None:
    for hour in (0, 10, 17, 23):
        moment = datetime(2026, 11, 22, hour, 56, tzinfo=UTC)
        assert today(moment) == today(moment.astimezone()) == "2026-11-22"


async def test_the_desk_and_the_pages_count_the_same_day(tmp_path: Path, zone: str) -> None:
    folder = FolderBlobs(tmp_path / "samples")
    await put(folder, 1)
    async with labelling(folder, tmp_path / "state") as (parts, url), person(url, "Kari") as kari:
        assert (await kari.answer((await kari.next())[0], "ripe"))[0] == 200
        await kari.nothing_waits()
        ((answer,),) = (one.answers for one in (await labels_in(folder)).values())
        midnight = datetime.combine(datetime.fromisoformat(answer.at).date(), datetime.min.time(), UTC)
        later = At(**{field.name: getattr(parts, field.name) for field in fields(Parts)})
        for back, counted in ((timedelta(seconds=1), 1), (timedelta(0), 0)):
            At.moment = midnight + timedelta(days=1) - back
            assert (await standing.of(later, Person("Kari")))["today"] == counted
            assert (await parts.cache.ask(progress, At.moment)).today == counted
            assert (await parts.cache.ask(days, "Kari", At.moment))[0][1] == counted
