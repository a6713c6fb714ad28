"""What is wrong with a manifest, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PLAIN = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a JSON document, as in `$.modulesContent["$edgeAgent"]`."""

    parts: tuple[str | int, ...] = ()

    def __truediv__(self, part: str | int) -> Place:
        return Place((*self.parts, part))

    def __str__(self) -> str:
        return "$" + "".join(_step(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at a place in the manifest, or in a file, and what to do. One that is not `serious` warns."""

    place: Place | str
    says: str
    serious: bool = True

    def to_json(self) -> dict[str, str]:
        """For a program."""
        return {"place": str(self.place), "level": "error" if self.serious else "warning", "says": self.says}


def without_repeats(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, in the order they came."""
    return list(dict.fromkeys(findings))


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    if _PLAIN.fullmatch(part):
        return f".{part}"
    escaped = part.replace("\\", "\\\\").replace('"', '\\"')
    return f'["{escaped}"]'
