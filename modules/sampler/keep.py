"""Is a flagged image kept, and why not? Pure: what the index knows comes in as arguments."""

from __future__ import annotations

DUPLICATE = "duplicate"
BUDGET = "budget"
DAMAGED = "damaged"
REFUSED = "refused"


def reason_to_drop(*, known: bool, kept_last_hour: int, max_per_hour: int) -> str | None:
    """Why this image is not kept, or None. `known`: the same bytes are a sample already; 0 an hour is no limit."""
    if known:
        return DUPLICATE
    if max_per_hour and kept_last_hour >= max_per_hour:
        return BUDGET
    return None
