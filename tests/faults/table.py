"""The outcomes as a table: what was tried, and where every flagged image is now."""

from __future__ import annotations

from collections.abc import Iterator

from faults.outcome import Outcome

HEAD = (
    f"{'fault':<22} {'rounds':>6} {'flagged':>7} {'uploaded':>8} {'lost':>4} {'doubled':>7} {'seconds':>7}  "
    "counted with a reason, and what was seen"
)


def row(outcome: Outcome) -> str:
    """One line; what is wrong begins with `!!`."""
    if outcome.skipped:
        return f"{outcome.fault:<22} skipped: {outcome.skipped}"
    numbers = (
        f"{outcome.rounds:>6} {outcome.flagged:>7} {outcome.uploaded:>8} {outcome.lost:>4} {outcome.duplicated:>7} "
        f"{outcome.seconds:>7.1f}"
    )
    return f"{outcome.fault:<22} {numbers}  {'; '.join(_words(outcome))}".rstrip()


def _words(outcome: Outcome) -> Iterator[str]:
    if outcome.dropped:
        yield ", ".join(f"{n} {reason}" for reason, n in sorted(outcome.dropped.items()))
    if outcome.note:
        yield outcome.note
    if outcome.damaged:
        yield f"!! {outcome.damaged} damaged"
    if outcome.disagrees:
        yield f"!! {outcome.disagrees}"
