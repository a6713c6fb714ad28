"""What a person sees of a release and of a fleet."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from retrain.release.board import ACTIVE, BAD, NONE, Board, Row
from retrain.release.releasing import RELEASED, WAITING, Released
from retrain.terminal import console, text

MOST_TROUBLES = 20


def show_released(released: Released) -> None:
    """How it ended, and each place with what went wrong there."""
    out = console()
    sentence = {
        RELEASED: "is released" + (" already" if released.unchanged else ""),
        WAITING: "is wanted, but some devices have not got it yet: run it again to wait on",
    }.get(released.outcome, "is undone, what was wanted before is wanted again")
    out.print(text(f"{released.version} ({released.sha256[:12]}) {sentence}", "bold"))
    if released.reason:
        out.print(text(released.reason, "yellow"))
    for board in released.places:
        out.print(text(f"{board.place}: {board.words}"))
        for trouble in board.troubles[:MOST_TROUBLES]:
            out.print(text(f"  {trouble.device} {trouble.state}: {trouble.reason}", "red"))
        if len(board.troubles) > MOST_TROUBLES:
            out.print(text(f"  and {len(board.troubles) - MOST_TROUBLES} more"))


def show_fleet(rows: Sequence[Row], where: str = "") -> None:
    """Each device in a line, those that are not well first, and how many there are of each state."""
    out = console()
    table = Table("device", "state", "wanted", "reported", "since", "why")
    for row in sorted(rows, key=lambda row: (_order(row), row.device)):
        style = {ACTIVE: "", NONE: ""}.get(row.state, "red" if row.state in BAD else "yellow")
        words = (row.device, row.state, row.wanted or None, row.reported or None, row.since[:19] or None, row.why)
        table.add_row(*(text(word, style) for word in words))
    if rows:
        out.print(table)
    out.print(text(f"{len(rows)} devices{where}: {Board.of('', rows).words}", "bold"))


def _order(row: Row) -> int:
    if row.state in BAD:
        return 0
    return 2 if row.state in (ACTIVE, NONE) else 1
