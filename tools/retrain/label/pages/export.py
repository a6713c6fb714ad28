"""The CSV of all samples, sent as it is read: a million rows need no more memory than two thousand."""

from __future__ import annotations

from aiohttp import web

from retrain.label.container.filters import ANY, Filters
from retrain.label.container.finding import Condition, condition
from retrain.label.parts import Parts
from retrain.label.people import person_of
from retrain.label.quality import table

ANSWERED = "EXISTS (SELECT 1 FROM answers mine WHERE mine.seq = samples.seq AND mine.by = ?)"


def routes(parts: Parts) -> list[web.RouteDef]:
    """What this file answers."""

    async def export(request: web.Request) -> web.StreamResponse:
        """One row an image, of those the filters in the address leave; a labeller gets those they answered."""
        person = person_of(request)
        filters = Filters.of(request.query, name=person.name, admin=person.admin)
        also, sees = _wanted(filters), None if person.admin else person.name
        if not person.admin and parts.settings.admins:  # what they may still be asked of would be told
            also = also & condition(ANSWERED, person.name)
        name = f"labels-{parts.now():%Y-%m-%d}.csv"
        answer = web.StreamResponse(
            headers={
                "Content-Type": "text/csv; charset=utf-8",
                "Content-Disposition": f'attachment; filename="{name}"',
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            }
        )
        await answer.prepare(request)
        await answer.write(table.lines([table.COLUMNS]).encode())
        after = 0
        while rows := await parts.cache.ask(table.part, after, also):
            await answer.write(table.lines(table.row_of(row, sees) for row in rows).encode())
            after = rows[-1]["seq"]
        await answer.write_eof()
        return answer

    return [web.get("/export.csv", export)]


def _wanted(filters: Filters) -> Condition:
    states = filters.states(ANY)
    wanted = condition(f"state IN ({','.join('?' * len(states))})", *states)
    for name, word in filters.cell.items():
        wanted = wanted & condition(f"{name} = ?", word)
    for name, word in (("said", filters.said), ("by", filters.by)):
        if word:
            wanted = wanted & condition(f"{name} = ?", word)
    begin, end = filters.moments
    wanted = wanted & condition("captured_at >= ?", begin) if begin else wanted
    return wanted & condition("captured_at < ?", end) if end else wanted
