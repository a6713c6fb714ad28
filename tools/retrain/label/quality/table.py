"""The table of all samples as CSV, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from retrain.label.container.cache import Found, Look
from retrain.label.container.finding import Condition

COLUMNS = (
    "id", "device", "camera", "time", "reason", "suggested", "confidence", "model", "state", "label", "by", "at", "how",
    "use", "blob",
)  # fmt: skip
AT_ONCE = 2000
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
             "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip


def safe(cell: str) -> str:
    """`cell` as text that no spreadsheet takes for a formula: an apostrophe stands before what could be one."""
    return f"'{cell}" if cell.startswith(_FORMULAS) else cell


def lines(rows: Iterable[Sequence[str]]) -> str:
    """Rows as RFC 4180 has them."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows([safe(cell) for cell in row] for row in rows)
    return out.getvalue()


def part(look: Look, after: int, wanted: Condition = Condition(), most: int = AT_ONCE) -> list[Found]:
    """The next samples after the one of that `seq`; `how` is that of the answer that stands, the newest of several."""
    query = f"""
        SELECT seq, id, device, camera, captured_at, reason, tag, top, model, state, said, by, labelled_at, use, blob,
               (SELECT how FROM answers a WHERE a.seq = samples.seq AND stands = 1 ORDER BY nth DESC LIMIT 1) how
        FROM samples NOT INDEXED WHERE seq > ?{wanted.sql} ORDER BY seq LIMIT ?"""  # noqa: S608
    return look.rows(query, (after, *wanted.values, most))


def row_of(found: Found, sees: str | None) -> list[str]:
    """One row. `sees`: whose own name may stand in it, the others' stay empty; None for an admin, who sees all."""
    name = found["by"] if sees is None or found["by"] == sees else ""
    return [
        found["id"], found["device"], found["camera"], found["captured_at"], found["reason"], found["tag"],
        f"{found['top']:.4f}" if found["tag"] else "", found["model"], found["state"],
        found["said"].replace("\n", " | "), name, found["labelled_at"], found["how"] or "", found["use"], found["blob"],
    ]  # fmt: skip
