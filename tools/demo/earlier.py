"""The run before this one: one is kept, for somebody may still be reading its report."""

from __future__ import annotations

import shutil
from pathlib import Path

REPORT = "report.html"


def set_aside(run: Path) -> Path | None:
    """Make room for a new run; the folder with the one before it, if there is one.

    Only `run` and its neighbour `run.before` are touched. Each moment of it can be the last: a later call goes on.
    """
    before = kept_beside(run)
    if not _is_there(run):
        return before if _is_there(before) else None
    _remove(before)
    run.rename(before)
    return before


def kept_beside(run: Path) -> Path:
    """Where the run before this one is kept."""
    return run.with_name(f"{run.name}.before")


def report_of(run: Path) -> Path | None:
    """The report of a run, where it came so far as to write one."""
    report = run / REPORT
    return report if report.is_file() else None


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _remove(path: Path) -> None:
    """A link goes, and what it points at stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
