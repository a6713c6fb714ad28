"""The image in a multipart form, as cameras and SDKs post it. Pure: bytes in, bytes out, nothing is ever opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ripeloop.errors import BadImage

IMAGE_FIELD = "imageData"
MAX_PARTS = 16
MAX_HEAD = 8192  # bytes of one part's headers

# possessive, so that a hostile header costs its length once; the standard library's parser takes its square
_PARAMETER = re.compile(r"""[;\s]*+([^=;\s]*+)\s*+(?:=\s*+(?:"((?:[^"\\]|\\.)*+)"?+[^;]*+|([^;]*+)))?+""", re.DOTALL)
_ESCAPED = re.compile(r"""\\(["\\])""")
_BARE_END = re.compile(rb"[ \t]*+\n")
_FOLD = re.compile(r"[\r\n]+[ \t]+")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form; `filename` is None for a plain field."""

    name: str
    filename: str | None
    data: bytes


def image_in(content_type: str, body: bytes) -> bytes:
    """The field `imageData`, else the only file. Raises BadImage.

    The Custom Vision SDK sends `imageData` without a file name; its bytes are the image, whatever they say.
    """
    found = list(parts(content_type, body))
    named = [part for part in found if part.name == IMAGE_FIELD]
    chosen = named or [part for part in found if part.filename is not None]
    if len(chosen) != 1:
        has = f"{len(chosen)} files" if chosen else "no file"
        raise BadImage(f"the form holds {has}: post one image in the field {IMAGE_FIELD}, or as the raw body")
    return chosen[0].data


def parts(content_type: str, body: bytes, most: int = MAX_PARTS) -> Iterator[Part]:
    """The parts of a multipart/form-data body, `most` of them. Raises BadImage where it is malformed.

    Scripts written by hand end their lines with a bare line feed: then all lines of the form end as its first one.
    """
    boundary = _parameters(content_type).get("boundary", "").rstrip()
    if not boundary:
        raise BadImage("the multipart form names no boundary: let the HTTP library set Content-Type")
    first = b"--" + boundary.encode("utf-8", "surrogateescape")
    begins = body.startswith(first)
    newline = b"\n" if begins and _BARE_END.match(body, len(first)) else b"\r\n"
    delimiter = newline + first
    found = 0 if begins else body.find(delimiter)
    at = len(first) if begins else found + len(delimiter)
    number = 0
    while found != -1:  # the body is searched, never cut up: each copy of an image is as large as the image
        if body.startswith(b"--", at):
            return
        if number == most:
            raise BadImage(f"the multipart form has more than {most} parts: post one image")
        found, number = body.find(delimiter, at), number + 1
        end = len(body) if found == -1 else found
        line = body.find(newline, at, end)
        if line == -1 or body[at:line].strip(b" \t"):
            raise BadImage("the multipart form is malformed: its boundary does not end its line")
        yield _part(body, line + len(newline), end, newline)
        at = found + len(delimiter)
    raise BadImage("the multipart form is cut short: its last boundary is missing")


def _part(body: bytes, start: int, stop: int, newline: bytes) -> Part:
    """The part between these places of the body."""
    if body.startswith(newline, start, stop):
        head, data = b"", body[start + len(newline) : stop]
    else:
        end = body.find(2 * newline, start, min(start + MAX_HEAD, stop))
        if end < 0:
            raise BadImage(f"the multipart form is malformed: a part has no end of its headers within {MAX_HEAD} bytes")
        head, data = body[start:end], body[end + 2 * len(newline) : stop]
    named = _parameters(_disposition(head.decode("utf-8", "replace")))
    # a name in the extended form, `name*`, is not for forms (RFC 7578); a file's name is not looked at
    return Part(named.get("name", ""), named.get("filename", named.get("filename*")), data)


def _disposition(head: str) -> str:
    """The part's Content-Disposition; empty where it has none."""
    for line in _FOLD.sub(" ", head).splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            return value
    return ""


def _parameters(header: str) -> dict[str, str]:
    """The parameters behind a header's value by their names in lower case; of a name twice the first counts."""
    found: dict[str, str] = {}
    for parameter in _PARAMETER.finditer(header.partition(";")[2]):
        name, quoted, bare = parameter.groups()
        found.setdefault(name.lower(), (bare or "").strip() if quoted is None else _ESCAPED.sub(r"\1", quoted))
    return found
