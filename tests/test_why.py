"""The answer to "why was (almost) nothing captured or uploaded?", and troubles said once."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sampler.index.outbox import Counters
from sampler.keeping.evict import DISK, QUOTA
from sampler.keeping.keep import BUDGET, DAMAGED, DUPLICATE, NEAR_DUPLICATE, QUOTA_REASON, QUOTA_TAG, REFUSED, Rules
from sampler.telling.trouble import Troubles
from sampler.telling.why import Facts, why


def told(counters: Counters, rules: Rules = Rules(), **facts: Any) -> str:
    return "\n".join(why(Facts(counters=counters, rules=rules, **facts)))


def test_without_a_flagged_image_it_points_at_the_classifier_or_at_the_spool() -> None:
    assert "the classifier was sure of all of them" in told(Counters())
    assert "3 images wait in the spool" in told(Counters(), in_spool=3, trouble={"spool": "no room"})
    assert "Wrong now: no room." in told(Counters(), in_spool=3, trouble={"spool": "no room"})


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (DUPLICATE, "the very same image"),
        (NEAR_DUPLICATE, "at most 10 of 256 bits differ within 10 minutes (keep.near_distance"),
        (BUDGET, "7 an hour (keep.max_per_hour) and 9 a day (keep.max_per_day)"),
        (QUOTA_TAG, "its number for the day: 5 (keep.max_per_tag)"),
        (QUOTA_REASON, "its number for the day: 6 (keep.max_per_reason)"),
        (DAMAGED, "is the disk sound?"),
        (REFUSED, "the local store refuses them"),
        ("next_year", "for the reason next_year"),
    ],
)
def test_every_reason_to_drop_has_its_words_and_its_setting(reason: str, words: str) -> None:
    rules = Rules(max_per_hour=7, max_per_day=9, max_per_tag=5, max_per_reason=6)
    text = told(Counters(flagged=9, kept=1, dropped={"other": 3, reason: 5}), rules)
    assert text.startswith("Of 9 flagged images 1 were kept and 8 dropped.")
    assert words in text
    assert text.index(words) < text.index("the reason other")  # the most frequent first


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (QUOTA, "retention.max_bytes"),
        (DISK, "retention.free_bytes"),
        (BUDGET, "more useful images took their places"),
        (QUOTA_TAG, "of their tag"),
        (QUOTA_REASON, "for the same reason"),
        ("next_year", "for the reason next_year"),
    ],
)
def test_every_reason_to_evict_has_its_words(reason: str, words: str) -> None:
    assert words in told(Counters(flagged=4, kept=4, evicted={reason: 4}))


def test_what_waits_says_what_it_waits_for() -> None:
    waiting = Counters(
        flagged=5, kept=5, waiting=4, uploaded=1, waiting_bytes=2_500_000, oldest_waiting="2026-11-23T08:00:00Z"
    )
    text = told(waiting, closed="uploads go out in 02:00-05:00", failing="offline")
    assert "Of 5 kept images 1 are in the cloud." in text
    assert "4 wait to be uploaded (2.5 MB), the oldest since 2026-11-23T08:00:00Z." in text
    assert "Nothing goes out now: uploads go out in 02:00-05:00." in text
    assert "offline" not in text
    assert "does not arrive: offline." in told(waiting, failing="offline")
    assert "hold" not in told(waiting)
    assert "keep.hold_minutes" in told(waiting, Rules(max_per_day=1))
    assert "keep.hold_minutes" in told(waiting, uplink_budget=True)
    assert "set aside" in told(Counters(flagged=1, kept=1, set_aside=1))


def test_a_trouble_is_said_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    troubles = Troubles()
    for detail in ("no room", "no room", "no room at all", ""):
        troubles.say("spool", detail)
    assert caplog.messages == ["spool: no room", "spool: well again"]
    assert troubles.now() == {}
    troubles.say("spool", "x" * 1000)
    troubles.count("missing_blob", 3)
    assert len(troubles.now()["spool"]) == 300
    assert troubles.counts() == {"spool": 2, "missing_blob": 3}
