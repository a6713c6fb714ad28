"""What earlier turns left: the model that answers now, the learning curve, and files that nobody needs any more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain.turn.outcome import GOOD
from retrain.turn.state import Turn
from ripeloop.disk import write_whole

HISTORY = "history.jsonl"
EXPORT, LINEAGE, JUDGED, REPORT, MODEL = "export.zip", "lineage.json", "judged.json", "report.html", "model.zip"


@dataclass(frozen=True, slots=True)
class Active:
    """The model that answers now, and where it is known from."""

    path: Path
    source: str


def folder_of(work: Path, number: int) -> Path:
    """Where the files of a turn are."""
    return work / "turns" / f"{number:04}"


def holdout_of(work: Path) -> Path:
    """Where the holdout is; all turns judge on it."""
    return work / "holdout"


def released(turns: Sequence[Turn], work: Path) -> Active | None:
    """The package that was released last, or packed where there is no hub, of turns with the newest first."""
    found = next((turn for turn in turns if turn.outcome in GOOD), None)
    if found is None or not (path := folder_of(work, found.number) / MODEL).is_file():
        return None
    return Active(path, f"turn {found.number}")


def packed_as(turns: Sequence[Turn], work: Path, sha256: str) -> Active | None:
    """The package of that SHA-256, if a turn made it and it is still here."""
    for turn in turns:
        path = folder_of(work, turn.number) / MODEL
        if (turn.result("package") or {}).get("sha256") == sha256 and path.is_file():
            return Active(path, f"turn {turn.number}")
    return None


def add_to_history(path: Path, labels: int, accuracy: float, version: str) -> None:
    """One line for that version, however often this is done. Raises OSError."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines if line.strip() and _version(line) != version]
    kept.append(json.dumps({"labels": labels, "accuracy": round(accuracy, 6), "version": version}))
    write_whole(path, ("\n".join(kept) + "\n").encode())


def prune(turns: Sequence[Turn], work: Path, keep: int) -> None:
    """Remove the files of all of these turns but the newest, and the two that were released or packed last.

    Those of turns that nobody remembers stay. Raises OSError.
    """
    ours = [turn.number for turn in turns if turn.outcome in GOOD][:2]
    for old in {turn.number for turn in turns[max(keep, 1) :]}.difference(ours):
        forget(work, old)


def forget(work: Path, number: int) -> None:
    """Remove the files of a turn, if it has any. Raises OSError."""
    folder = folder_of(work, number)
    if folder.is_dir():
        shutil.rmtree(folder)


def newest_folder(work: Path) -> int:
    """The highest number of a turn that has files here, whoever remembers it; 0 where there is none."""
    names = (folder.name for folder in (work / "turns").glob("[0-9]*"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _version(line: str) -> str:
    try:
        return str(json.loads(line)["version"])
    except (ValueError, LookupError, TypeError):  # somebody else's line stays
        return ""
