"""The image in a multipart form, as cameras and SDKs post it. Pure: bytes in, bytes out, nothing is ever opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser

from ripeloop.errors import BadImage

IMAGE_FIELD = "imageData"


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


def parts(content_type: str, body: bytes) -> Iterator[Part]:
    """The parts of a multipart/form-data body. Raises BadImage where it is malformed."""
    boundary = _headers(f"Content-Type: {content_type}").get_boundary()
    if not boundary:
        raise BadImage("the multipart form names no boundary: let the HTTP library set Content-Type")
    delimiter = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
    _, *sections = (b"\r\n" + body).split(delimiter)
    for section in sections:
        if section.startswith(b"--"):
            return
        padding, found, part = section.partition(b"\r\n")
        if not found or padding.strip(b" \t"):
            raise BadImage("the multipart form is malformed: its boundary does not end its line")
        yield _part(part)
    raise BadImage("the multipart form is cut short: its last boundary is missing")


def _part(part: bytes) -> Part:
    if part.startswith(b"\r\n"):
        head, data = b"", part[2:]
    else:
        head, found, data = part.partition(b"\r\n\r\n")
        if not found:
            raise BadImage("the multipart form is malformed: a part has no end of its headers")
    headers = _headers(head.decode("utf-8", "replace"))
    name = headers.get_param("name", "", "content-disposition")
    return Part(name if isinstance(name, str) else "", headers.get_filename(), data)


def _headers(text: str) -> Message:
    return HeaderParser().parsestr(text, headersonly=True)
