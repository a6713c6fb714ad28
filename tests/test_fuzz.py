"""Whatever is posted, the classifier answers it or refuses it by name. `make fuzz` does the same for ten minutes.

An input that does worse is printed; it becomes an `@example` of its test.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from classifier.pixels.imaging import InputSpec, to_tensor
from classifier.pixels.room import Room
from classifier.serving.multipart import image_in
from colours import picture, zipped
from fuzzing import BOUNDARY, FORM, damaged, forms, images
from program import Process
from ripeloop.errors import BadImage

SPECS = [
    InputSpec(32, 32),
    InputSpec(32, 32, "FullImageShorterSide", "ByShorterSideAlign32"),
    InputSpec(32, 32, "OneCropCenter", "ByShorterSide", crop_size=28, bgr=True, full_range=True),
]
ROOM = Room(max_pixels=1_000_000)
PATIENCE = 0.5  # seconds that a client waits for the next bytes of an answer
SLOW = 5.0  # seconds; a small image takes a thousandth of it
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LAST = os.environ.get("FUZZ_LAST", "")

quick = settings(
    max_examples=EXAMPLES or 400,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
over_http = settings(quick, max_examples=EXAMPLES // 10 or 60, phases=[Phase.explicit, Phase.generate])


def tried(image: bytes, spec: InputSpec) -> None:
    if LAST:  # a decoder that takes the process with it leaves what it was given
        Path(LAST).write_bytes(image)
    started, tensor, refusal = time.perf_counter(), np.zeros(spec.shape), ""
    try:
        tensor = to_tensor(image, spec, ROOM)
    except BadImage as error:
        refusal = str(error) or "no word of why"
    assert refusal != "no word of why"
    assert tensor.shape == spec.shape
    assert np.isfinite(tensor).all()
    assert time.perf_counter() - started < SLOW


@quick
@given(damaged(images()), st.sampled_from(SPECS))
def test_any_bytes_become_a_tensor_or_a_named_refusal(image: bytes, spec: InputSpec) -> None:
    tried(image, spec)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.crop)
def test_what_is_damaged_was_an_image(spec: InputSpec) -> None:
    for image in images():
        assert to_tensor(image, spec, ROOM).shape == spec.shape


@quick
@given(damaged(forms()), st.just(FORM) | damaged([FORM.encode()]).map(lambda kind: kind.decode("latin-1")))
def test_any_form_holds_an_image_or_is_refused_by_name(body: bytes, kind: str) -> None:
    started, found, refusal = time.perf_counter(), b"", "refused"
    try:
        found = image_in(kind, body)
    except BadImage as error:
        refusal = str(error)
    assert refusal
    assert found in body
    assert time.perf_counter() - started < SLOW


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A classifier of its own, which must outlive all that is posted to it and log no traceback."""
    process = Process(["--model", str(zipped(tmp_path_factory.mktemp("fuzz") / "export.zip"))])
    try:
        at = urlsplit(process.url())
        assert at.hostname
        assert at.port
        yield at.hostname, at.port
    finally:
        process.end()
    assert "Traceback" not in process.log


@over_http
@example(path="/image", kind="text/plain", body=b"\xff", head=b"Expect: 100\xff\xff\xff\xfftinue\r\n", cut=0)
@given(
    path=st.sampled_from(["/image", "/p/classify/iterations/i/image/nostore", "/customvision/v3.1/prediction/p/url"]),
    kind=st.sampled_from([FORM, "image/jpeg", "application/json", "text/plain"]),
    body=damaged(images() + forms()),
    head=damaged([b"", b"Expect: 100-continue\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n"]),
    cut=st.integers(-3, 3),
)
def test_any_request_is_answered_in_time_and_the_next_one_is_too(
    address: tuple[str, int], path: str, kind: str, body: bytes, head: bytes, cut: int
) -> None:
    first = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {max(0, len(body) + cut)}\r\n"
    )
    status, told = _sent(address, first.encode() + head + b"\r\n" + body)
    assert status in (0, 200, 400, 404, 405, 408, 411, 413, 415, 417), told
    if status >= 400 and told.startswith(b"{"):
        assert json.loads(told)["message"]
    status, told = _sent(address, _good(), SLOW)
    assert (status, json.loads(told)["predictions"][0]["tagName"]) == (200, "red")


def _good() -> bytes:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="imageData"\r\n\r\n'.encode()
    body = part + picture() + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        f"POST /image HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


def _sent(address: tuple[str, int], request: bytes, patience: float = PATIENCE) -> tuple[int, bytes]:
    """The status and the body of the first answer; 0 where the connection was closed without one."""
    with socket.create_connection(address, timeout=patience) as connection:
        connection.sendall(request)
        answer = b""
        while more := _received(connection):
            answer += more
    if not answer:
        return 0, b""
    head, _, told = answer.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, told = told.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), told


def _received(connection: socket.socket) -> Any:
    try:
        return connection.recv(65536)
    except (ConnectionResetError, TimeoutError):  # it does not want the rest, or still waits for it
        return b""
