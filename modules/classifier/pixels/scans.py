"""The scans of a JPEG, counted without decoding it.

Each scan goes over the whole picture, and a progressive JPEG may have as many as its sender likes: a thousand of them
fit into half a megabyte and keep a core busy for a minute. A thread cannot be stopped, so they are counted before.
"""

from __future__ import annotations

import re

MAX_SCANS = 100  # cameras and editors write ten or so

_SOS, _EOI = 0xDA, 0xD9
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
_MARKER = re.compile(rb"\xff+([\xc0-\xcf\xd8-\xfe])")  # the others stand alone, or are the picture's own bytes


def scans(jpeg: bytes) -> int:
    """How many scans a decoder would find, or more where the file is damaged; counting ends a little above MAX_SCANS.

    What lies in a segment (a thumbnail, a profile) or behind the end does not count, nor does anything behind a first
    scan with all the colours of a sequential picture: there a decoder ends, and so most files need not be searched.
    """
    count, at, frames = 0, 2, list[tuple[int, int]]()
    while count <= MAX_SCANS and (found := _MARKER.search(jpeg, at)):
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            break
        if marker in _FRAMES:
            frames.append((marker, _byte(jpeg, at + 7)))  # behind length, precision, height and width
        if marker == _SOS:
            count += 1
            if count == 1 and _is_all(frames, _byte(jpeg, at + 2)):
                break
        at += max(2, int.from_bytes(jpeg[at : at + 2], "big"))
    return count


def _is_all(frames: list[tuple[int, int]], colours: int) -> bool:
    """Whether a scan of so many colours is the whole of a picture whose frame headers were these."""
    return len(frames) == 1 and frames[0][0] in _SEQUENTIAL and 0 < frames[0][1] == colours


def _byte(data: bytes, at: int) -> int:
    return data[at] if at < len(data) else 0
