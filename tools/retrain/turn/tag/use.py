"""What a labelled sample is for, as it stands in the metadata of its blob. Pure.

The key `use` is written once before the sample is first used: `holdout` or `training`. That word never changes again,
whatever becomes of the share, of the project or of the label: no model is ever judged by an image it learned from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "use"
HOLDOUT, TRAINING = "holdout", "training"


@dataclass(frozen=True, slots=True)
class Use:
    """What a sample is for; the project that holds it and its id and tags there; when that became so, in UTC.

    `refused`: the status with which the service said that it never takes this image.
    """

    kind: str
    project: str = ""
    image: str = ""
    tags: tuple[str, ...] = ()
    at: str = ""
    refused: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Use | None:
        """What the metadata of a blob says; None where nobody decided yet, or where it cannot be read."""
        try:
            fields = json.loads(metadata.get(KEY, "null"))
        except (ValueError, RecursionError):
            return None
        if not isinstance(fields, dict) or fields.get("kind") not in (HOLDOUT, TRAINING):
            return None
        tags = fields.get("tags", [])
        words = {name: fields.get(name, "") for name in ("kind", "project", "image", "at", "refused")}
        if not isinstance(tags, list) or not all(isinstance(word, str) for word in (*tags, *words.values())):
            return cls(words["kind"])  # the one word that must not be lost
        return cls(tags=tuple(tags), **words)

    def into(self, metadata: Mapping[str, str], room: int) -> dict[str, str]:
        """The whole metadata of the blob with this in it; without the tags where all of it exceeds `room` bytes."""
        whole = {**metadata, KEY: self._to_json(("kind", "project", "image", "tags", "at", "refused"))}
        if sum(len(key) + len(value) for key, value in whole.items()) <= room:
            return whole
        return {**metadata, KEY: self._to_json(("kind", "project", "image", "at", "refused"))}

    def says(self) -> tuple[str, str, str, tuple[str, ...], str]:
        """All but the time."""
        return self.kind, self.project, self.image, self.tags, self.refused

    def _to_json(self, names: tuple[str, ...]) -> str:
        """As ASCII in one line, fit for a header."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in names}
        return json.dumps({name: value for name, value in fields.items() if value}, separators=(",", ":"))
