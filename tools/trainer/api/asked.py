"""What a request asks for: ids, numbers and words from its address and its body, checked."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from aiohttp import web

from trainer.errors import Problem

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def id_in(request: web.Request, name: str) -> str:
    """The id in the address. Raises Problem."""
    return an_id(request.match_info[name], name)


def an_id(value: object, name: str) -> str:
    """An id as it stands in rows. Raises Problem."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Problem(
            "BadRequestInvalidIds", f"{name}: {str(value)[:64]!r} is not an id; it looks like {uuid.UUID(int=0)}"
        )
    return value.lower()


def optional_id(request: web.Request, name: str) -> str | None:
    """The id of that name in the query. Raises Problem."""
    value = request.query.get(name)
    return an_id(value, name) if value else None


def ids(request: web.Request, name: str, most: int) -> tuple[str, ...]:
    """The ids of that name in the query, with commas between them or one by one. Raises Problem."""
    given = [value for values in request.query.getall(name, []) for value in values.split(",") if value]
    if len(given) > most:
        raise Problem(
            "BadRequestExceededBatchSize", f"{name}: {len(given)} are given, at most {most} are taken at once"
        )
    return tuple(dict.fromkeys(an_id(value, name) for value in given))


def needed_ids(request: web.Request, name: str, most: int) -> tuple[str, ...]:
    """The same, where one or more are needed. Raises Problem."""
    found = ids(request, name, most)
    if not found:
        raise Problem("BadRequestRequiredParamIsNull", f"{name} is missing: give one id or more")
    return found


def text(request: web.Request, name: str, *, needed: bool = False) -> str | None:
    """The text of that name in the query. Raises Problem."""
    value = request.query.get(name)
    if needed and not value:
        raise Problem("BadRequestRequiredParamIsNull", f"{name} is missing: add it to the address")
    return None if value is None else _whole(value, name)


def number(request: web.Request, name: str, usual: int, most: int) -> int:
    """A whole number from 0 to `most` in the query. Raises Problem."""
    value = request.query.get(name)
    if value is None:
        return usual
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or int(value) > most:
        raise Problem("BadRequestExceededBatchSize", f"{name}: {value[:20]!r} is not a number from 0 to {most}")
    return int(value)


def share(value: object, name: str, usual: float) -> float:
    """A number from 0 to 1. Raises Problem."""
    if value is None:
        return usual
    try:
        found = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise Problem("BadRequestInvalid", f"{name}: {str(value)[:20]!r} is not a number from 0 to 1")
    return found


def flag(request: web.Request, name: str, *, usual: bool = False) -> bool:
    """A yes or no in the query. Raises Problem."""
    value = request.query.get(name, "").lower()
    if value not in ("", "true", "false"):
        raise Problem("BadRequestInvalid", f"{name}: {value[:20]!r} is neither true nor false")
    return value == "true" if value else usual


def word(request: web.Request, name: str, known: Collection[str], usual: str) -> str:
    """One of the known words in the query, whatever its case. Raises Problem."""
    value = request.query.get(name)
    if not value:
        return usual
    for one in known:
        if one.lower() == value.lower():
            return one
    raise Problem("BadRequestInvalid", f"{name}: {value[:40]!r} is none of {', '.join(known)}")


def fields(body: bytes, *, needed: bool = True) -> dict[str, Any]:
    """The object a body holds as JSON; nothing for no body, unless it is needed. Raises Problem."""
    if not body.strip() and not needed:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if found is None and not needed:
        return {}
    if not isinstance(found, dict):
        raise Problem(
            "BadRequestInvalid", "the body is not an object in JSON: send one with Content-Type application/json"
        )
    return found


def listed(fields_: Mapping[str, Any], name: str) -> list[Any]:
    """A list in a body; empty where it is missing or null. Raises Problem."""
    value = fields_.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Problem("BadRequestInvalid", f"{name} is not a list")
    return value


def object_(fields_: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object in a body; empty where it is missing or null. Raises Problem."""
    value = fields_.get(name) or {}
    if not isinstance(value, dict):
        raise Problem("BadRequestInvalid", f"{name} is not an object")
    return value


def flags(fields_: Mapping[str, Any], name: str) -> dict[str, bool] | None:
    """An object of yes and no in a body; None where it is missing or null. Raises Problem."""
    if fields_.get(name) is None:
        return None
    found = object_(fields_, name)
    if not all(isinstance(one, bool) for one in found.values()):
        raise Problem("BadRequestInvalid", f"{name} is not an object of true and false")
    return {_whole(key, name): one for key, one in found.items()}


def objects(fields_: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects in a body. Raises Problem."""
    found = listed(fields_, name)
    if not all(isinstance(one, dict) for one in found):
        raise Problem("BadRequestInvalid", f"{name} is not a list of objects")
    return found


def ids_of(fields_: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of ids in a body. Raises Problem."""
    return tuple(dict.fromkeys(an_id(value, name) for value in listed(fields_, name)))


def string(fields_: Mapping[str, Any], name: str) -> str | None:
    """A text in a body; None where it is missing or null. Raises Problem."""
    value = fields_.get(name)
    if value is not None and not isinstance(value, str):
        raise Problem("BadRequestInvalid", f"{name} is not a text")
    return None if value is None else _whole(value, name)


def strings(value: object, name: str) -> dict[str, str]:
    """An object of texts. Raises Problem."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise Problem("BadRequestInvalid", f"{name} is not an object of texts")
    return {_whole(key, name): _whole(one, name) for key, one in value.items()}


def _whole(value: str, name: str) -> str:
    """The text, if it can be stored: half a surrogate pair, which JSON can spell, cannot. Raises Problem."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Problem("BadRequestInvalid", f"{name} holds half a character") from None
    return value
