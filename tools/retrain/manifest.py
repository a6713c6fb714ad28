"""A rendered deployment manifest, read from its file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ripeloop.errors import SettingsError

RENDER = "render it first: iotedgedev solution genconfig -f deployment.template.json -P amd64"
# $edgeAgent, $edgeHub and $upstream are IoT Edge's own words
_UNSET = re.compile(r"\$(?:\{[^}]*\}?|[A-Z][A-Z0-9_]*)")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in `path`. Raises SettingsError for a template, or for one with a variable still in it."""
    try:
        text = path.read_text()
        manifest = json.loads(text)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(manifest, dict) or "modulesContent" not in manifest:
        raise SettingsError(f"{path} is no deployment manifest: it has no modulesContent; {RENDER}")
    if "$schema-template" in manifest:
        raise SettingsError(f"{path} is a template; {RENDER}")
    if unset := sorted(set(_UNSET.findall(text))):
        raise SettingsError(f"{path} still holds {', '.join(unset)}: set them in .env and render it again")
    return manifest
