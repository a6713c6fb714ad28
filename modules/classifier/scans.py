"""The scans of a JPEG, counted without decoding it.

Each scan goes over the whole picture, and a progressive JPEG may have as many as its sender likes: a thousand of them
fit into half a megabyte and keep a core busy for a minute. A thread cannot be stopped, so they are counted before.
"""

from __future__ import annotations

import re

MAX_SCANS = 100  # cameras and editors write ten or so

_SOS, _EOI = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+([\xc0-\xcf\xd8-\xfe])")  # the others stand alone, or are the picture's own bytes


def scans(jpeg: bytes) -> int:
    """How many scans a decoder would find, or more where the file is damaged; counting ends a little above MAX_SCANS.

    What lies in a segment (a thumbnail, a profile) or behind the end does not count.
    """
    count, at = 0, 2
    while count <= MAX_SCANS and (found := _MARKER.search(jpeg, at)):
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            break
        count += marker == _SOS
        at += max(2, int.from_bytes(jpeg[at : at + 2], "big"))
    return count
