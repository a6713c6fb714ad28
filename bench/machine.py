"""The machine a bench runs on: what it is, and whether it has its cores to itself."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from classifier.models.cores import cores

LOADED = 0.10
"""The share of all cores that others may use; above it the numbers say more of them than of us."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """What stands in a report about the machine: nothing that would find it again."""

    cores: int
    processor: str
    memory_gb: int
    system: str
    python: str
    versions: dict[str, str]


def this_machine(packages: Sequence[str]) -> Machine:
    """The machine under this process, and the versions of `packages`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cores(),
        _processor(),
        round(memory / 1e9),
        f"{platform.system()} {platform.release().split('-')[0]}",
        platform.python_version(),
        {package: metadata.version(package) for package in packages},
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {name.strip(): value.strip() for name, value in fields.items()}
    model = names.get("model name") or names.get("Processor") or platform.machine()
    # what decides the speed of 8 bits
    known = [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8") if flag in names.get("flags", "").split()]
    return f"{model} ({', '.join(known)})" if known else model


@dataclass(frozen=True, slots=True)
class Use:
    """Seconds the cores spent on anything, and seconds there were, since the machine started."""

    busy: float
    all: float

    @classmethod
    def now(cls) -> Use:
        """The use until now."""
        with Path("/proc/stat").open() as file:
            ticks = [int(number) for number in file.readline().split()[1:9]]
        return cls((sum(ticks) - ticks[3] - ticks[4]) / _TICKS, sum(ticks) / _TICKS)

    def since(self, earlier: Use) -> tuple[float, float]:
        """Busy seconds and all seconds since then."""
        return self.busy - earlier.busy, max(self.all - earlier.all, 1e-9)


def busy_share(seconds: float) -> float:
    """The share of the cores in use while this process does nothing, 0 to 1."""
    before = Use.now()
    time.sleep(seconds)
    busy, there_were = Use.now().since(before)
    return busy / there_were


def until_quiet(limit: float, at_once: float = 1.5) -> float:
    """Wait until the machine is quiet, `limit` seconds at most; the share in use at the end."""
    end = time.monotonic() + limit
    while (share := busy_share(at_once)) > LOADED and time.monotonic() < end:
        pass
    return share


def used_by(pid: int) -> float:
    """Seconds of processor time the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_of(pid: int, field: str) -> float:
    """A process's memory in MB: `VmRSS` now, `VmHWM` at its highest."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1000
    return 0.0


def forget_peak(pid: int) -> None:
    """Let `VmHWM` of the process start again from what it holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
