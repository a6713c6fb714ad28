"""The two halves of a module twin as this side holds them: what the cloud wants, and what is still to be said."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from typing import Any


class Desired:
    """The desired section as the hub last told it. Its readers see every change, or the newest of several."""

    def __init__(self) -> None:
        self._section: dict[str, Any] | None = None
        self._version = 0
        self._turn = 0
        self._changed = asyncio.Event()

    def load(self, section: Mapping[str, Any]) -> None:
        """Take the whole section, as a twin request answers it."""
        self._take(dict(section))

    def patch(self, patch: Mapping[str, Any]) -> bool:
        """Take one change; False when others were missed before it: the whole section must be asked for."""
        version = patch.get("$version")
        if self._section is not None and version == self._version:
            return True  # delivered twice
        if self._section is None or version != self._version + 1:
            return False
        self._take(patched(self._section, patch))
        return True

    async def changes(self) -> AsyncIterator[dict[str, Any]]:
        """The whole section without its `$` fields, once it is known and then each time the hub told it anew."""
        seen = 0
        while True:
            while self._section is None or self._turn == seen:
                await self._changed.wait()
            seen = self._turn
            yield {key: copy.deepcopy(value) for key, value in self._section.items() if not key.startswith("$")}

    def _take(self, section: dict[str, Any]) -> None:
        self._section = section
        self._version = section.get("$version", 0)
        self._turn += 1
        self._changed.set()
        self._changed = asyncio.Event()


def patched(section: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`section` after `patch`: objects are merged, null removes, everything else replaces."""
    result = dict(section)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = patched(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def combined(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """One patch that does what the two do one after the other; the newest value of a key wins."""
    result = dict(first)
    for key, value in then.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = combined(before, value)
        else:
            result[key] = value
    return result
