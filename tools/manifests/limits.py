"""What a twin may hold, by IoT Hub's limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ripeloop.errors import Refused

MAX_DEPTH: Final = 10
MAX_VALUE_BYTES: Final = 4096
MAX_NAME_BYTES: Final = 1024
MAX_DOCUMENT_BYTES: Final = 32 * 1024
LARGEST_WHOLE: Final = 2**52 - 1
SMALLEST_WHOLE: Final = -(2**52)


def check(patch: Mapping[str, Any]) -> None:
    """Let a patch pass that is within IoT Hub's limits. Raises Refused."""
    for name, value in patch.items():
        _check_name(name)
        _check_value(name, value, 1, in_array=False)


def check_size(properties: Mapping[str, Any]) -> None:
    """Let desired, or reported, properties pass that are not too many. Raises Refused."""
    size = len(json.dumps(properties, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_DOCUMENT_BYTES:
        raise Refused(f"the properties are {size} bytes; the limit is {MAX_DOCUMENT_BYTES}")


def _check_name(name: str) -> None:
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise Refused(f"the name {name[:10]}… is over {MAX_NAME_BYTES} bytes")
    if any(letter in ".$#" or letter.isspace() or ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name):
        raise Refused(f"the name {name!r} holds a dot, $, #, a space or a control character")


def _check_value(name: str, value: object, depth: int, *, in_array: bool) -> None:
    if isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise Refused(f"{name} is nested deeper than {MAX_DEPTH}")
        _check_inside(name, value, depth + 1, in_array=in_array)
    elif value is None and in_array:
        raise Refused(f"{name}: an array may not hold null")
    elif isinstance(value, int) and not SMALLEST_WHOLE <= value <= LARGEST_WHOLE:
        raise Refused(f"{name}: {value} is not between -2^52 and 2^52 - 1")
    elif isinstance(value, str) and len(value.encode(errors="replace")) > MAX_VALUE_BYTES:
        raise Refused(f"{name}: a value over {MAX_VALUE_BYTES} bytes")


def _check_inside(name: str, value: dict[str, Any] | list[object], depth: int, *, in_array: bool) -> None:
    if isinstance(value, list):
        for item in value:
            _check_value(name, item, depth, in_array=True)
        return
    for key, item in value.items():
        _check_name(key)
        _check_value(key, item, depth, in_array=in_array)
