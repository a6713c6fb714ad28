"""JSON from outside: read so that nothing in it fails later, where it is stored or sent on."""

from __future__ import annotations

import json
from typing import Any

from ripeloop.errors import Refused

MAX_DEPTH = 100


def read(text: bytes | str) -> Any:
    """The value in a JSON text. Raises Refused.

    Python's reader takes more than JSON: halves of surrogate pairs, NaN, numbers that become infinite.
    """
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise Refused("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise Refused("a text in it holds half a surrogate pair") from None
    except ValueError as error:
        raise Refused(str(error)) from None
    if _deeper_than(found, MAX_DEPTH):
        raise Refused(f"it is nested deeper than {MAX_DEPTH}")
    return found


def _deeper_than(value: object, limit: int) -> bool:
    """Level by level, so that no depth is too much for it."""
    level = [value]
    for _ in range(limit + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
