"""A turn that is killed at every place where it changes something, before it and after: each place once, in any run.

`python turnkills.py SETTINGS.json KILLED`: for each line on stdin one run in a child of its own, forked, for imports
take longer than a run. Its end is a line on stdout: `killed PLACE`, or how the turn ended. KILLED remembers the places.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrain.devices.fleet import Fleet
from retrain.release import Device
from retrain.release import Plan as ReleasePlan
from retrain.settings import Hub
from retrain.trying import Trying
from retrain.turn import steps
from retrain.turn.outcome import Done
from retrain.turn.state import State
from retrain.turn.turn import run_turn
from retrain.turn.work import Step, Work
from ripeloop.blobfolder import FolderBlobs
from turns import told

READ = ("get_", "fetching")


class Places:
    """Where a run may die; it does where none did before. `only`: nowhere else."""

    def __init__(self, remembered: Path, only: list[str] | None) -> None:
        self._remembered, self._only = remembered, only
        self._before = set(remembered.read_text().splitlines()) if remembered.exists() else set()
        self.step = ""

    def pass_by(self, place: str) -> None:
        place = f"{self.step}: {place}"
        if place in self._before or (self._only is not None and place not in self._only):
            return
        with self._remembered.open("a") as file:
            file.write(f"{place}\n")
        os.kill(os.getpid(), signal.SIGKILL)


def around(places: Places, cls: type, name: str, place: Callable[..., str]) -> None:
    """Wrap a method: a place before it, and one after; `place` says which from the arguments, or nothing."""
    real = getattr(cls, name)

    @functools.wraps(real)
    def wrapped(self: Any, *values: Any, **named: Any) -> Any:
        where = place(*values, **named)
        if where:
            places.pass_by(f"before {where}")
        found = real(self, *values, **named)
        if where:
            places.pass_by(f"after {where}")
        return found

    @functools.wraps(real)
    async def awaited(self: Any, *values: Any, **named: Any) -> Any:
        where = place(*values, **named)
        if where:
            places.pass_by(f"before {where}")
        found = await real(self, *values, **named)
        if where:
            places.pass_by(f"after {where}")
        return found

    setattr(cls, name, awaited if asyncio.iscoroutinefunction(real) else wrapped)


def watch(places: Places) -> None:
    """Every place where a turn changes something."""
    around(places, Trying, "__call__", lambda _, doing, *__, **___: "" if doing.startswith(READ) else doing)
    around(places, Fleet, "_ask", lambda verb, *_, **__: "" if verb == "GET" else f"{verb} at the hub")
    around(places, FolderBlobs, "_put", lambda name, *_: f"put {name.split('/')[0]} {name.split('/')[-1][-9:]}")
    around(places, FolderBlobs, "_mark", lambda *_: "mark")
    around(places, State, "done", lambda _, step, *__: f"{step} is done")
    around(places, State, "begin", lambda *_: "a turn begins")
    around(places, State, "start", lambda *_: "a step begins")
    around(places, State, "note", lambda *_, **notes: f"noting {', '.join(notes)}")
    for name, step in steps.STEPS.items():
        steps.STEPS[name] = knowing(places, name, step)  # type: ignore[index]


def knowing(places: Places, name: str, step: Step) -> Step:
    async def known(work: Work) -> Done:
        places.step = name
        return await step(work)

    return known


def settings_of(document: dict[str, Any]) -> Any:
    hub = Hub(document["hub"], Path(document["hub_ca"]))
    plan = ReleasePlan(Device("laptop"), watch=0, poll=0.05, wait=20, pace=0)
    only_until = document.get("only_until", "")
    folder = Path(document["folder"])
    return told(document["endpoint"], folder, document["project"], hub=hub, release=plan, only_until=only_until)


def run(document: dict[str, Any], killed: Path) -> str:
    """One run to its end."""
    watch(Places(killed, document.get("only")))
    settings = settings_of(document)
    return asyncio.run(run_turn(settings)).outcome or f"stopped after {settings.only_until}"


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    document, killed = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            say(run(document, killed))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            say(f"killed {killed.read_text().splitlines()[-1]}")
        elif status:
            say("failed")
            break
