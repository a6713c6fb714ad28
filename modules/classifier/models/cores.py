"""How many processor cores this process really has: those it may run on, within what its container may use of them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

Read = Callable[[PurePosixPath], str | None]
"""The text of a file; None where there is none."""

_V2, _V1 = "cgroup2", "cgroup"
_ESCAPED = re.compile(r"\\([0-7]{3})")


def cores() -> int:
    """The whole cores this process may keep busy, one at least.

    A part of a core is left to the event loop: a worker more would use up the quota early, and then the kernel stops
    the whole process until the next period, answers to health checks included.
    """
    return whole(_allowed(), quota(_read(PurePosixPath("/proc/self/cgroup")) or "", _mounts(), _read))


def whole(allowed: int, limit: float) -> int:
    """The whole cores within both, one at least."""
    return max(1, int(min(allowed, limit)))


def quota(memberships: str, mounts: str, read: Read) -> float:
    """The cores that the process's control groups, and those around them, let it use; infinity without a limit.

    `memberships` is the text of /proc/self/cgroup, `mounts` that of /proc/self/mountinfo.
    """
    return min((limit for group in _groups(memberships, mounts) for limit in _limits(*group, read)), default=math.inf)


def _groups(memberships: str, mounts: str) -> Iterator[tuple[str, PurePosixPath, PurePosixPath]]:
    """For each hierarchy that can limit cores: its kind, where it is mounted, and the process's own group there."""
    for line in memberships.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            kind = _V2
        elif "cpu" in controllers.split(","):
            kind = _V1
        else:
            continue
        for root, point in _mounted(kind, mounts):
            yield kind, point, point / _below(path, root)


def _mounted(kind: str, mounts: str) -> Iterator[tuple[str, PurePosixPath]]:
    """Where that kind of hierarchy is mounted, and which group is the root there."""
    for line in mounts.splitlines():
        fields, _, filesystem = line.partition(" - ")
        mount, of = fields.split(), filesystem.split()
        if len(mount) < 5 or len(of) < 3 or of[0] != kind:
            continue
        if kind == _V2 or "cpu" in of[2].split(","):
            yield _unescaped(mount[3]), PurePosixPath(_unescaped(mount[4]))


def _below(path: str, root: str) -> PurePosixPath:
    """The group's path below the mounted root; the root itself where the group lies elsewhere, as in some containers.

    There the process sees the host's path, while its own group is what is mounted.
    """
    group = PurePosixPath(path)
    if ".." in group.parts or not group.is_relative_to(root):
        return PurePosixPath()
    return group.relative_to(root)


def _limits(kind: str, point: PurePosixPath, group: PurePosixPath, read: Read) -> Iterator[float]:
    for folder in (group, *group.parents):
        yield _limit(kind, folder, read)
        if folder == point:
            return


def _limit(kind: str, folder: PurePosixPath, read: Read) -> float:
    if kind == _V2:
        text = read(folder / "cpu.max") or ""
    else:
        text = f"{read(folder / 'cpu.cfs_quota_us') or ''} {read(folder / 'cpu.cfs_period_us') or ''}"
    try:
        microseconds, period = map(int, text.split())
    except ValueError:  # "max", or no such file
        return math.inf
    return microseconds / period if microseconds > 0 and period > 0 else math.inf


def _unescaped(path: str) -> str:
    return _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), path)


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _mounts() -> str:
    return _read(PurePosixPath("/proc/self/mountinfo")) or ""


def _read(path: PurePosixPath) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
