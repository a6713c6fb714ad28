"""Where a model came from, as its package tells: the project, the iteration, the tags' ids and the samples it saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ripeloop.errors import SettingsError
from ripeloop.package import MAX_TEXT_BYTES, SHA256

MOST_IDS = 8000  # what fits beside all else into the megabyte a package's file may have


def samples(ids: Iterable[str]) -> dict[str, Any]:
    """What a package says of the samples its model was trained on: all ids where they fit, always number and hash."""
    ordered = sorted(set(ids))
    digest = hashlib.sha256("\n".join(ordered).encode()).hexdigest()
    return {"count": len(ordered), "sha256": digest} | ({"ids": ordered} if len(ordered) <= MOST_IDS else {})


def trained_on(provenance: Mapping[str, Any]) -> frozenset[str]:
    """The ids of the samples the model saw, as far as its package lists them."""
    listed = provenance.get("samples")
    ids = listed.get("ids") if isinstance(listed, Mapping) else None
    return frozenset(one for one in ids if isinstance(one, str)) if isinstance(ids, list) else frozenset()


def read(path: Path) -> dict[str, Any]:
    """A lineage file: a JSON object such as {"projectId", "tagIds", "samples": [ids]}, ready for a package.

    Raises SettingsError.
    """
    fields = json_object(path, "the lineage")
    ids = fields.get("samples")
    if ids is not None:
        if not isinstance(ids, list) or not all(isinstance(one, str) and SHA256.fullmatch(one) for one in ids):
            raise SettingsError(f"the samples in {path} must be a list of image ids, 64 hex digits each")
        fields["samples"] = samples(ids)
    tag_ids = fields.get("tagIds", {})
    if not isinstance(tag_ids, dict):
        raise SettingsError(f'the tagIds in {path} must be an object like {{"ripe": "its id"}}')
    return fields


def json_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file. Raises SettingsError."""
    try:
        if path.stat().st_size > 64 * MAX_TEXT_BYTES:
            raise SettingsError(f"{what} {path} is larger than {64 * MAX_TEXT_BYTES} bytes")
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{what} {path} cannot be read ({error}); give a file with a JSON object") from error
    if not isinstance(fields, dict):
        raise SettingsError(f"{what} {path} is not a JSON object")
    return fields
