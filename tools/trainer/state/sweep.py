"""Files that a killed process left behind before any row spoke of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from trainer.state.files import IMAGES, PREDICTIONS, Files
from trainer.state.store import Store


def sweep(store: Store, files: Files) -> int:
    """Remove them; how many files and folders. Not while images are being added."""
    removed = 0
    projects = {row["id"] for row in store.rows("SELECT id FROM projects")}
    for folder in _inside(files.folder / "projects"):
        if folder.name not in projects:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed + sum(_sweep(store, files, project) for project in projects)


_TRAINED = "SELECT id FROM iterations WHERE project = ? AND status = 'Completed'"


def _sweep(store: Store, files: Files, project: str) -> int:
    removed = 0
    for kind, table in ((IMAGES, "images"), (PREDICTIONS, "predictions")):
        known = {row["id"] for row in store.rows(f"SELECT id FROM {table} WHERE project = ?", [project])}  # noqa: S608
        for shelf in _inside(files.project(project) / kind):
            for path in _inside(shelf):
                if path.name not in known:
                    path.unlink(missing_ok=True)
                    removed += 1
    for path in files.features(project).glob("*.tmp"):
        path.unlink(missing_ok=True)
        removed += 1
    trained = {row["id"] for row in store.rows(_TRAINED, [project])}
    for folder in _inside(files.project(project) / "iterations"):
        if folder.name not in trained:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _inside(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())
