"""The sampler's counters as a test wants to see them."""

from __future__ import annotations

from typing import Any

from sampler.index.outbox import Outbox


def told(outbox: Outbox) -> dict[str, Any]:
    """The counters that are not 0, without bytes and times; their sums are right."""
    counters = outbox.counters()
    assert counters.flagged == counters.kept + sum(counters.dropped.values())
    evicted = sum(counters.evicted.values())
    assert counters.kept == counters.uploaded + counters.waiting + evicted + counters.set_aside
    names = ("flagged", "kept", "uploaded", "waiting", "set_aside", "evicted", "dropped")
    return {name: getattr(counters, name) for name in names if getattr(counters, name)}
