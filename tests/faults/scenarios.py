"""The scenarios by name, with the rounds of a long and of a short run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from faults.backlog import backlog
from faults.clock import clock_jumps
from faults.credential import expiring_sas
from faults.damage import damaged_index, damaged_spool
from faults.disks import disk_full, no_writes
from faults.ground import Ground
from faults.kills import kills
from faults.line import cut_line
from faults.outcome import Outcome
from faults.store import store_killed


@dataclass(frozen=True, slots=True)
class Scenario:
    """`play` makes so many rounds; `about` is for the reader."""

    name: str
    play: Callable[[Ground, int], Coroutine[Any, Any, list[Outcome]]]
    rounds: int
    short: int
    about: str


SCENARIOS = (
    Scenario("kill", kills, 100, 4, "kill -9 of classifier, sampler, runtime and cloud, shared out in turn"),
    Scenario("line", cut_line, 3, 1, "the line to the cloud breaks in seven ways"),
    Scenario("disk", disk_full, 5, 1, "a small disk is filled by somebody else"),
    Scenario("nowrite", no_writes, 5, 1, "no file may grow for a while"),
    Scenario("clock", clock_jumps, 3, 1, "the wall clock jumps, or was never set"),
    Scenario("index", damaged_index, 3, 1, "the index is damaged or deleted, running and not"),
    Scenario("spool", damaged_spool, 10, 2, "files in the spool are damaged"),
    Scenario("store", store_killed, 5, 1, "the device's blob server is killed after it acknowledged"),
    Scenario("sas", expiring_sas, 3, 1, "the credential ends in the middle of a drain"),
    Scenario("backlog", backlog, 1, 1, "a week offline, then everything at once"),
)
