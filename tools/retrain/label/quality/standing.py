"""How things stand, for the line at the edge of every page."""

from __future__ import annotations

from typing import Any

from retrain.label.container.cache import Look
from retrain.label.container.rows import OPEN
from retrain.label.pages.shown import answer_json
from retrain.label.parts import Parts
from retrain.label.people import Person
from retrain.label.quality.progress import today


async def of(parts: Parts, person: Person) -> dict[str, Any]:
    """As that person is told it. What was kept and came too late is told until it was heard."""
    progress = parts.scan.progress
    counts = await parts.cache.ask(_counts)
    late = await parts.journal.to_tell(person.name)
    return {
        "online": not (parts.answers.away or progress.why),
        "why": parts.answers.away or progress.why,
        "waiting": await parts.journal.count_waiting(),
        "scan": {"running": progress.running, "done": progress.done, "at": progress.at},
        "samples": sum(counts.values()),
        "open": counts.get(OPEN, 0),
        "today": await parts.journal.count_answers(person.name, today(parts.now())),
        "taken": [
            {"id": entry.id, "key": entry.key, "outcome": entry.outcome}
            | ({"theirs": answer_json(theirs, person)} if (theirs := (entry.result or {}).get("theirs")) else {})
            for entry in late
        ],
    }


def _counts(look: Look) -> dict[str, int]:
    return {row["state"]: row["n"] for row in look.rows("SELECT state, sum(n) AS n FROM counts GROUP BY state")}
