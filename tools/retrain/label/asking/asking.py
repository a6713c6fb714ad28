"""What a page sends, checked. Raises Refused for what makes no sense; pure but for the lookups it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from retrain.label.asking.queue import LABEL, MODES
from retrain.label.asking.tags import is_tag
from retrain.labels import NONE, TAG, UNDONE, Answer, Labels
from ripeloop.errors import Refused

MAX_BODY = 64 * 1024
MOST_AT_ONCE = 60
MOST_HAVE = 200

_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_KEY = re.compile(r"[0-9a-f]{32}")


async def json_of(request: web.Request) -> dict[str, Any]:
    """The body, a JSON object. Raises Refused."""
    try:
        fields = await request.json()
    except (ValueError, RecursionError, LookupError):  # of which the last: an unknown charset
        raise Refused("the body is no JSON") from None
    if not isinstance(fields, dict):
        raise Refused("the body is no JSON object")
    return fields


def id_in(fields: Mapping[str, Any], name: str = "id") -> str:
    """An id that the page made. Raises Refused."""
    id_ = fields.get(name)
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise Refused(f"`{name}` is 8 to 64 letters, digits, - and _, made by the page")
    return id_


def key_in(fields: Mapping[str, Any]) -> str:
    """The key of a sample. Raises Refused."""
    key = fields.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Refused("`key` is a sample's key: 32 hex digits")
    return key


def keys_of(value: object) -> list[str]:
    """Those of a list, or of a text with commas, that are keys."""
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [word for word in words[:MOST_HAVE] if isinstance(word, str) and _KEY.fullmatch(word)]


def said_in(fields: Mapping[str, Any], by: str, negative: str) -> tuple[str, tuple[str, ...]]:
    """The kind and the tags of an answer. Raises Refused."""
    kind, tags = fields.get("kind"), fields.get("tags") or []
    if not isinstance(kind, str) or kind == UNDONE:
        raise Refused("an answer says its `kind`: tag, none, unsure or junk")
    if not isinstance(tags, list) or not all(isinstance(tag, str) and is_tag(tag) for tag in tags):
        raise Refused("`tags` is a list of tags, as they are offered")
    if kind == TAG and tags == [negative]:
        kind, tags = NONE, []
    said = tuple(dict.fromkeys(tags))
    Labels().with_answer(Answer(kind, said, by))
    return kind, said


def mode_in(fields: Mapping[str, Any]) -> str:
    """`label`, `grid` or `review`. Raises Refused."""
    mode = fields.get("mode") or LABEL
    if mode not in MODES:
        raise Refused(f"`mode` is one of {', '.join(MODES)}")
    return str(mode)


def number_in(fields: Mapping[str, Any], name: str, otherwise: int, most: int) -> int:
    """A whole number from 0 to `most`, also as text. Raises Refused."""
    value = fields.get(name, otherwise)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Refused(f"`{name}` is a whole number")
    return min(value, most)
