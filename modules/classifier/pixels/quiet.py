"""What decoders say of odd files stays out of the log: any client could fill the disk with it.

What matters of it is in the answer to the client.
"""

from __future__ import annotations

import ctypes
import logging
import warnings
from pathlib import Path

from PIL import TiffImagePlugin  # loads libtiff

_MAPS = Path("/proc/self/maps")
_HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


def keep_quiet() -> None:
    """Let Pillow neither warn nor log, and libtiff, where it is found, not write to stderr by itself."""
    warnings.simplefilter("ignore")
    logging.getLogger(TiffImagePlugin.__name__.partition(".")[0]).setLevel(logging.CRITICAL)
    for path in _libtiffs():
        library = ctypes.CDLL(path)
        for name in _HANDLERS:
            handler = getattr(library, name, None)
            if handler is not None:
                handler.restype = ctypes.c_void_p
                handler(None)


def _libtiffs() -> set[str]:
    """The files of the libtiff that this process has loaded; none where the system does not tell."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return set()
    return {line.split(maxsplit=5)[5] for line in lines if "/libtiff" in line}
