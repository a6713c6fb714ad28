"""A rendered deployment manifest, read from its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retrain.manifest.fill import TEMPLATE_MARK, variables
from ripeloop.errors import SettingsError

RENDER = "render it first: ripeloop manifest render"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in `path`. Raises SettingsError for a template, or for one with a variable still in it."""
    manifest = read_document(path)
    if unset := sorted({_written(name) for _, name in variables(manifest)}):
        raise SettingsError(f"{path} still holds {', '.join(unset)}: set them in .env and render it again")
    return manifest


def read_document(path: Path) -> dict[str, Any]:
    """The manifest in `path`, whatever else is wrong with it. Raises SettingsError for what is none."""
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(manifest, dict) or "modulesContent" not in manifest:
        raise SettingsError(f"{path} is no deployment manifest: it has no modulesContent; {RENDER}")
    if TEMPLATE_MARK in manifest:
        raise SettingsError(f"{path} is a template; {RENDER}")
    return manifest


def _written(name: str) -> str:
    return f"${name}" if name.isidentifier() else f"${{{name}}}"
