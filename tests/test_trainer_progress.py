"""How far a fit is: it always moves, and never back."""

from __future__ import annotations

from trainer.learning.progress import Parts


def heard(parts: int) -> tuple[Parts, list[float]]:
    shares: list[float] = []
    return Parts(parts, lambda done, of: shares.append(done / of)), shares


def test_a_part_that_takes_long_moves_on_and_never_ends_by_itself() -> None:
    parts, shares = heard(2)
    for _ in range(30):
        parts.passed()
    assert len(shares) > 15
    assert shares == sorted(set(shares))
    assert shares[0] == 0
    assert 0.4 < shares[-1] <= 0.5


def test_what_is_counted_is_told_as_it_is() -> None:
    parts, shares = heard(4)
    for done in range(1, 11):
        parts.within(done, 10)
    assert all(abs(share - nth / 40) < 0.011 for nth, share in enumerate(shares))


def test_parts_that_are_left_out_are_jumped_over_and_more_than_were_planned_wait_for_the_last() -> None:
    parts, shares = heard(5)
    parts.left(2)
    assert shares[-1] == 3 / 5
    for _ in range(4):
        parts.passed()
        parts.ended()
    assert 4 / 5 <= shares[-1] < 1
    parts.left(0)
    assert shares[-1] == 1
    assert shares == sorted(set(shares))
