"""One release, from a file to the devices: stored, wanted, waited for, watched, and gone on with or undone.

Killed at any moment it goes on where it was when it is run again: what is wanted stands in the hub, and what happened
in the journal beside the package.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from classifier.rollout.watch import Figures, unjudged, worse
from retrain.devices.fleet import PAGE, Fleet, Twin
from retrain.release import figures, journal
from retrain.release.board import ACTIVE, BAD, SILENT, Board, Row, row
from retrain.release.devicewishes import DeviceWishes
from retrain.release.journal import ANSWERS, BEFORE, DONE, Attempt, Journal
from retrain.release.plan import Device, Place, Plan, name_of
from retrain.release.ringwishes import RingWishes
from retrain.release.storing import Offer, offer, runs_out, utc_now
from retrain.release.wishes import Held, Wish, Wishes
from ripeloop.blobs import Blobs
from ripeloop.errors import Changed, NotFound, Offline, Refused, SettingsError

RELEASED, WAITING, UNDONE = "released", "waiting", journal.UNDONE
OLD_NEWS = 20.0  # seconds in which a device that is told the same again still reports how it went before
LONGEST_PAUSE = 60.0  # seconds between two looks while the hub does not answer

Seen = Callable[[str, Board], None]
"""Hears what is being done, a word, and how the devices stand, at each look."""


@dataclass(frozen=True, slots=True)
class Released:
    """How a release ended: `released`, `waiting` (some have not reported, nothing is undone) or `undone`."""

    version: str
    sha256: str
    outcome: str
    reason: str = ""
    """Why it ended so; of one that is released, what its watch had too few images to compare."""
    unchanged: bool = False
    """Whether it was released before, and nothing had to be done."""
    places: tuple[Board, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the model is where it should be."""
        return self.outcome == RELEASED

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        names = ("version", "sha256", "outcome", "reason", "unchanged")
        return {name: getattr(self, name) for name in names} | {"places": [place.to_json() for place in self.places]}


@dataclass(frozen=True, slots=True)
class _Step:
    """How one place ended."""

    outcome: str
    board: Board
    reason: str = ""
    unchanged: bool = False


async def release(
    fleet: Fleet, store: Blobs, package: Path, signature: str, plan: Plan, seen: Seen = lambda *_: None
) -> Released:
    """Bring a package to the devices of the plan; `seen` has each look at them. The same again changes nothing.

    Raises Changed where somebody released something else there meanwhile (which stays), Refused for a package that was
    undone there before, Offline, NotFound, BadModel and SettingsError; run again later, it goes on.
    """
    offered = await offer(store, package, signature, plan, utc_now())
    first = _Release(fleet, Journal(store), offered, plan.first, replace(plan, bad_share=0.0), seen)
    steps = [first]
    if plan.then is not None:
        steps.append(_Release(fleet, Journal(store), offered, plan.then, replace(plan, watch=0.0), seen, first))
    await _check_all(steps)
    boards: list[Board] = []
    remarks: list[str] = []
    unchanged = True
    for step in steps:
        ended = await step.run()
        boards.append(ended.board)
        unchanged = unchanged and ended.unchanged
        if ended.outcome == UNDONE:
            for other in steps:
                await other.take_back(ended.reason)
        if ended.outcome != RELEASED:
            return Released(offered.version, offered.sha256, ended.outcome, ended.reason, places=tuple(boards))
        remarks += [ended.reason] if ended.reason else []
    return Released(offered.version, offered.sha256, RELEASED, "; ".join(remarks), unchanged, tuple(boards))


async def _check_all(steps: list[_Release]) -> None:
    """Nothing is wanted anywhere of what was undone in one of the places; where it is under way, it is taken back."""
    for place, step in enumerate(steps):
        try:
            if await step.is_being_undone():
                return  # which this run finishes
        except Refused as error:
            if error.kind == UNDONE:
                for before in steps[:place]:
                    await before.take_back(str(error))
            raise


def wishes_of(fleet: Fleet, place: Place, module: str) -> Wishes:
    """What is wanted of a place, in the hub's way for it."""
    return DeviceWishes(fleet, place.id, module) if isinstance(place, Device) else RingWishes(fleet, place, module)


class _Release:
    """One package to one place; what goes wrong here goes back `before` it, too."""

    def __init__(
        self,
        fleet: Fleet,
        notes: Journal,
        offered: Offer,
        place: Place,
        plan: Plan,
        seen: Seen,
        before: _Release | None = None,
    ) -> None:
        self._fleet = fleet
        self._notes = notes
        self._offer = offered
        self._place = place
        self._plan = plan
        self._seen = seen
        self._before = before
        self._wishes = wishes_of(fleet, place, plan.module)
        self._old: dict[str, Any] = {}
        self._old_until = 0.0
        self.again = 0  # the attempt that devices are told, where they are to try again what they refuse

    async def is_being_undone(self) -> bool:
        """Whether an undo here was cut off. Raises Refused where it was undone and is wanted no more."""
        wish, _ = await self._wishes.look()
        if wish is None or wish.sha256 != self._offer.sha256:
            await self._check_undone(await self._notes.facts())
            return False
        self.again = _told_attempt(wish)
        return await self._notes.told(self._attempt(wish.number), UNDONE) is not None

    async def run(self) -> _Step:
        """Want it, and wait until it is well there, or is not, or the time is over."""
        wish, twins = await self._wishes.look()
        attempt = self._under_way(wish)
        if wish is not None and attempt is not None:
            self.again = _told_attempt(wish)
        if attempt is None:
            attempt = await self._want(wish, twins)
        elif (undone := await self._notes.told(attempt, UNDONE)) is not None:
            return await self._finish_undoing(twins, str(undone.get("reason") or ""))
        elif await self._notes.told(attempt, DONE) is not None:
            board = self._board(twins)
            if self._is_bad(board):
                return await self._undo(attempt, twins, board.why)
            return _Step(RELEASED, board, unchanged=True)
        return await self._wait(attempt)

    async def take_back(self, reason: str) -> None:
        """What was wanted here before is wanted again, for it went wrong elsewhere."""
        wish, _ = await self._wishes.look()
        if wish is not None and wish.sha256 == self._offer.sha256:
            await self.give_up(reason)
            await self._finish(reason)

    async def give_up(self, reason: str) -> None:
        """Write down that it is to be undone here, where it is wanted: the next run finishes what a kill leaves."""
        wish, _ = await self._wishes.look()
        if wish is not None and wish.sha256 == self._offer.sha256:
            await note_undone(self._notes, await self._wishes.held(), self._offer.sha256, reason)

    def _under_way(self, wish: Wish | None) -> Attempt | None:
        """The attempt that goes on; None where a new one is needed. Raises SettingsError."""
        if wish is None or wish.outranked:
            return None
        if wish.sha256 != self._offer.sha256:
            if wish.version == self._offer.version:
                raise SettingsError(
                    f"another package goes by the version {wish.version} there: name this one with --version-name"
                )
            return None
        if not wish.number or runs_out(dict(wish.section), self._plan, utc_now()):
            return None
        return self._attempt(wish.number)

    async def _want(self, wish: Wish | None, twins: list[Twin]) -> Attempt:
        if not twins:
            raise NotFound(f"no device is in {name_of(self._place)}: the tags of its module's twin say who is")
        facts = await self._notes.facts()
        if wish is None or wish.sha256 != self._offer.sha256:
            await self._check_undone(facts)
        newest = max([await self._wishes.newest(), *(attempt.number for attempt, _ in facts)])
        attempt = self._attempt(newest + 1)
        if self._plan.watch and (wish is None or wish.sha256 != self._offer.sha256):
            await self._notes.note(attempt, BEFORE, await figures.ask(self._fleet, twins, self._plan.module))
        self._old = {twin.device: twin.reported.get("model") for twin in twins}
        section = self._offer.section
        before = self._before.again if self._before is not None else 0
        if before or self._plan.again:  # one for all places: who has undone it meanwhile does not try it once more
            self.again = before or attempt.number
            section = section | {"attempt": self.again}
        await self._wishes.want(section, attempt.number)
        self._old_until = asyncio.get_running_loop().time() + OLD_NEWS
        return attempt

    async def _check_undone(self, facts: list[tuple[Attempt, str]]) -> None:
        ours = self._attempt(0)
        undone = [one for one, fact in facts if fact == UNDONE and (one.place, one.digest) == (ours.place, ours.digest)]
        before = self._before.again if self._before is not None else 0
        if undone and not self._plan.again and undone[-1].number > before:
            about = await self._notes.told(undone[-1], UNDONE) or {}
            raise Refused(
                f"{self._offer.version} was released to {name_of(self._place)} before and undone "
                f"({about.get('reason') or 'no reason is known'}): --again releases it all the same",
                kind=UNDONE,
            )

    async def _wait(self, attempt: Attempt) -> _Step:
        plan, loop = self._plan, asyncio.get_running_loop()
        ends, pause = loop.time() + plan.wait + plan.watch, plan.poll
        board = Board(name_of(self._place))
        while True:
            try:
                twins = await self._look(attempt)
                board, pause = self._board(twins), max(plan.poll, plan.pace * math.ceil(len(twins) / PAGE))
                step = await self._judged(attempt, twins, board)
            except Offline:
                twins, step, pause = [], None, min(2 * pause, LONGEST_PAUSE)
                if loop.time() >= ends:
                    raise
            if step is not None:
                return await self._undo(attempt, twins, step.reason) if step.outcome == UNDONE else step
            if loop.time() >= ends:
                return _Step(WAITING, board, f"after {plan.wait + plan.watch:.0f} s: {board.words}")
            await asyncio.sleep(min(pause, max(ends - loop.time(), 0.0)))

    async def _look(self, attempt: Attempt) -> list[Twin]:
        """The twins there, while this package is what is wanted. Raises Changed."""
        wish, twins = await self._wishes.look()
        if wish is None or wish.sha256 != self._offer.sha256 or wish.number != attempt.number or wish.outranked:
            other = wish.version if wish is not None and wish.sha256 != self._offer.sha256 else "something else"
            raise Changed(
                f"somebody released {other} to {name_of(self._place)} meanwhile: that stays, and this release ends"
            )
        return twins

    async def _judged(self, attempt: Attempt, twins: list[Twin], board: Board) -> _Step | None:
        """How this place ends, or must end; None while that is open."""
        plan = self._plan
        if self._is_bad(board):
            self._seen("undoing", board)
            return _Step(UNDONE, board, board.why)
        if not board.answering or board.share(board.answering) < self._enough(board):
            self._seen("waiting", board)
            return None
        self._seen("watching" if plan.watch else "waiting", board)
        answers = await self._since(attempt, twins)
        watched = (utc_now() - answers["at"]).total_seconds()
        if watched < plan.watch or board.share(board.counts.get(ACTIVE, 0)) < self._enough(board):
            return None
        remark = ""
        if plan.watch:
            old, new = await self._compared(attempt, answers, twins)
            if reason := worse(old, new):
                return _Step(UNDONE, board, f"watched in {name_of(self._place)}: {reason}")
            remark = unjudged(old, new)
        await self._notes.note(attempt, DONE, board.to_json())
        return _Step(RELEASED, board, remark and f"{name_of(self._place)}: {remark}")

    def _is_bad(self, board: Board) -> bool:
        return bool(board.troubles) and board.share(len(board.troubles)) > self._plan.bad_share

    def _enough(self, board: Board) -> float:
        """What has failed is not waited for, where it may fail."""
        return self._plan.enough * (1 - board.share(len(board.troubles)))

    async def _since(self, attempt: Attempt, twins: list[Twin]) -> dict[str, Any]:
        """When it answered here first, and what the devices had counted then."""
        known = await self._notes.told(attempt, ANSWERS)
        if known is None or _moment(known) is None:
            counted = await figures.ask(self._fleet, twins, self._plan.module) if self._plan.watch else {}
            about = {"at": utc_now().isoformat(), "counted": counted}
            known = await self._notes.note(attempt, ANSWERS, about, anew=known is not None)
        return dict(known) | {"at": _moment(known) or utc_now()}

    async def _compared(self, attempt: Attempt, answers: dict[str, Any], twins: list[Twin]) -> tuple[Figures, Figures]:
        before = await self._notes.told(attempt, BEFORE) or {}
        now = await figures.ask(self._fleet, twins, self._plan.module)
        return figures.compared(before, answers.get("counted") or {}, now)

    async def _undo(self, attempt: Attempt, twins: list[Twin], reason: str) -> _Step:
        """Written down first, here and before: a kill in between is finished by the next run."""
        about = {"reason": reason, "at": utc_now().isoformat()}
        about |= {"version": self._offer.version, "sha256": self._offer.sha256}
        await self._notes.note(attempt, UNDONE, about)
        await note_undone(self._notes, await self._wishes.held(), self._offer.sha256, reason)
        if self._before is not None:
            await self._before.give_up(reason)
        return await self._finish_undoing(twins, reason)

    async def _finish_undoing(self, twins: list[Twin], reason: str) -> _Step:
        await self._finish(reason)
        return _Step(UNDONE, self._board(twins), reason)

    async def _finish(self, reason: str) -> None:
        await self._wishes.undo(self._offer.sha256, reason, await self._notes.undone_versions())

    def _board(self, twins: list[Twin]) -> Board:
        return Board.of(name_of(self._place), (self._row(twin) for twin in twins))

    def _row(self, twin: Twin) -> Row:
        """How one device stands; that it failed before it was told again is no news, unless it stays with that."""
        found = row(twin, self._offer.sha256)
        is_old = found.state in BAD and self._old.get(twin.device) == twin.reported.get("model")
        if is_old and asyncio.get_running_loop().time() < self._old_until:
            return replace(found, state=SILENT, why="")
        return found

    def _attempt(self, number: int) -> Attempt:
        return Attempt.of(number, self._place, self._offer.sha256)


async def note_undone(notes: Journal, held: list[Held], sha256: str, reason: str, by: str = "") -> None:
    """Write down that a package is undone in each place that the undo reaches, before any is undone."""
    about = {"reason": reason, "at": utc_now().isoformat()} | ({"by": by} if by else {})
    for one in held:
        if one.sha256 == sha256:
            own = about | {"version": one.version, "sha256": sha256}
            await notes.note(Attempt.of(one.number, one.place, sha256), UNDONE, own)


def _told_attempt(wish: Wish) -> int:
    """The attempt that devices are told with a wish; 0 where there is none."""
    told = wish.section.get("attempt")
    return told if isinstance(told, int) else 0


def _moment(known: Mapping[str, Any]) -> datetime | None:
    """When it answered first; None where the note is damaged."""
    try:
        found = datetime.fromisoformat(str(known.get("at")))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
