"""Forms as cameras, browsers and SDKs send them, and forms nobody should send."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.serving.multipart import image_in, parts
from ripeloop.errors import BadImage

FORM = "multipart/form-data; boundary=XyZ"
IMAGE = b"\x89PNG\r\n\x1a\n--Xy\r\n--\r\n\r\nbinary\x00\xff"


def form(*sections: bytes, end: bytes = b"--XyZ--\r\n") -> bytes:
    return b"".join(b"--XyZ\r\n" + section + b"\r\n" for section in sections) + end


def part(disposition: str, data: bytes = IMAGE) -> bytes:
    return f"Content-Disposition: form-data; {disposition}".encode() + b"\r\n\r\n" + data


@pytest.mark.parametrize(
    "disposition",
    [
        'name="imageData"; filename="a.png"',
        'name="imageData"',
        "name=imageData; filename=a.png",
        'name="photo"; filename="a;b \\"c\\".png"',
        "name=photo; filename*=UTF-8''b%C3%A4nane.png",
        'name="photo"; filename=""',
    ],
)
def test_the_image_comes_out_byte_for_byte(disposition: str) -> None:
    assert image_in(FORM, form(part(disposition))) == IMAGE
    assert image_in(FORM, form(part('name="note"', b"hi"), part(disposition))) == IMAGE


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="XyZ"',
        "multipart/form-data; charset=utf-8; boundary=XyZ",
        "multipart/mixed; boundary=XyZ",
    ],
)
def test_the_boundary_is_read_however_it_is_written(content_type: str) -> None:
    assert image_in(content_type, form(part("name=imageData"))) == IMAGE


def test_headers_are_read_folded_in_any_case_and_the_first_of_two_counts() -> None:
    head = b"X: y\r\nCONTENT-disposition : form-data;\r\n\tNAME = imageData ; name=other"
    assert image_in(FORM, form(head + b"\r\n\r\n" + IMAGE)) == IMAGE


@pytest.mark.parametrize(
    ("piece", "count"),
    [
        (b'Content-Disposition: form-data; name="%s', 200_000),
        (b"%s", 4_000_000),
        (b"Content-Disposition: form-data; %s", 2_000),
    ],
)
@pytest.mark.parametrize("filling", [b";", b"=", b"\\", b'"', b" ", b"a:b\r\n", b"\r\n--XyZ\r\n\r\n", b"a=b;"])
def test_no_form_takes_long(piece: bytes, count: int, filling: bytes) -> None:
    body = b"--XyZ\r\n" + piece % (filling * (count // len(filling))) + b"\r\n\r\nA\r\n--XyZ--"
    started = time.thread_time()
    with suppress(BadImage):
        image_in(FORM, body)
    assert time.thread_time() - started < 0.5


def test_a_preamble_padding_and_an_epilogue_are_passed_over() -> None:
    body = b"preamble\r\n" + form(part("name=imageData")).replace(b"--XyZ\r\n", b"--XyZ \t\r\n", 1) + b"epilogue"
    assert image_in(FORM, body) == IMAGE


@pytest.mark.parametrize("padding", [b"", b" \t"])
def test_a_form_whose_lines_end_in_bare_line_feeds_is_read(padding: bytes) -> None:
    note = [b"--XyZ" + padding, b'Content-Disposition: form-data; name="note"', b"", b"hello"]
    image = [b"--XyZ" + padding, b"X: y", b"Content-Disposition: form-data; name=imageData", b"", IMAGE + b"\r"]
    for lines in ([*note, *image], [*image, *note], image, [*image, b"--XyZ", b"", b"no headers"]):
        assert image_in(FORM, b"\n".join([*lines, b"--XyZ--\n"])) == IMAGE + b"\r"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "cut short"),
        (form(part("name=imageData"), end=b""), "cut short"),
        (form(part("name=imageData"))[:-8], "boundary"),
        (form(), "no file"),
        (form(part("name=note")), "no file"),
        (form(part("name=a; filename=a"), part("name=b; filename=b")), "2 files"),
        (form(part("name=imageData"), part("name=imageData")), "2 files"),
        (form(b"Content-Disposition: form-data"), "no end of its headers"),
        (form(b"\r\nno headers"), "no file"),
        (b"--XyZabc\r\n\r\n\r\n--XyZ--", "boundary"),
        (form(part("name*=a; name*0=b")), "no file"),
        (form(part("name*" + "9" * 5000 + "=a")), "no file"),
        (form(part("name*=punycode''%ff; name*0*=idna''%d8")), "no file"),
        (form(*[part("name=a")] * 17), "more than 16 parts"),
        (form(b"a: b\r\n" * 2000 + part("name=imageData")), "8192 bytes"),
    ],
)
def test_a_form_without_one_image_is_refused_in_words(body: bytes, words: str) -> None:
    with pytest.raises(BadImage, match=words):
        image_in(FORM, body)


@given(st.dictionaries(st.from_regex(r"[a-zA-Z]{1,8}", fullmatch=True), st.binary(max_size=200), max_size=5))
def test_what_goes_into_a_form_comes_out(fields: dict[str, bytes]) -> None:
    fields = {name: data for name, data in fields.items() if b"--XyZ" not in data}
    got = list(parts(FORM, form(*(part(f'name="{name}"', data) for name, data in fields.items()))))
    assert {p.name: p.data for p in got} == fields


@given(st.text(max_size=80), st.binary(max_size=300))
def test_nothing_at_all_surprises_the_parser(content_type: str, body: bytes) -> None:
    for kind in (content_type, f"multipart/form-data; boundary={content_type}", FORM):
        for text in (body, b"--XyZ\r\n" + body, b"--XyZ\r\n" + body + b"\r\n--XyZ--"):
            try:
                assert isinstance(image_in(kind, text), bytes)
            except BadImage:
                continue
