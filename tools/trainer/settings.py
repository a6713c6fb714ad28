"""What one training is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """The folder of images, one folder in it for each tag, and the file the export goes to; `int8`: in 8 bits."""

    images: Path
    out: Path
    int8: bool = False
