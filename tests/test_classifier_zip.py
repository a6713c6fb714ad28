"""Whatever numbers a zip tells of itself, `--model` reads it or refuses it in words."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from pathlib import Path

import pytest

from classifier.models.export import read
from ripeloop.errors import BadModel

HUGE = (0, 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
SIZE, PACKED, OFFSET = 24, 20, 42  # where a member's entry has them


def plain(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("model.onnx", b"x" * 100)
        archive.writestr("labels.txt", "a\nb")
    return out.getvalue()


def with_member(whole: bytes, told: dict[int, int]) -> bytes:
    """The first member told with numbers of 64 bits."""
    made = bytearray(whole)
    at, end = made.index(b"PK\x01\x02"), made.rindex(b"PK\x05\x06")
    values = [told[field] for field in (SIZE, PACKED, OFFSET) if field in told]
    extra = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values)
    for field in told:
        struct.pack_into("<L", made, at + field, 2**32 - 1)
    struct.pack_into("<H", made, at + 30, len(extra))
    struct.pack_into("<L", made, end + 12, struct.unpack_from("<L", made, end + 12)[0] + len(extra))
    name = struct.unpack_from("<H", made, at + 28)[0]
    made[at + 46 + name : at + 46 + name] = extra
    return bytes(made)


def with_directory(whole: bytes, count: int, size: int, offset: int) -> bytes:
    """The directory told with numbers of 64 bits."""
    made = bytearray(whole)
    end = made.rindex(b"PK\x05\x06")
    struct.pack_into("<HHLL", made, end + 8, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    made[end:end] = record + struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    return bytes(made)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_numbers_of_64_bits_end_in_a_model_or_in_words(tmp_path: Path, method: int) -> None:
    chance, whole = random.Random(method), plain(method)
    path, refused = tmp_path / "e.zip", 0
    for n in range(150):
        fields = chance.sample((SIZE, PACKED, OFFSET), chance.randint(1, 3))
        if n % 2:
            path.write_bytes(with_member(whole, {field: chance.choice(HUGE) for field in fields}))
        else:
            path.write_bytes(with_directory(whole, *chance.choices(HUGE, k=3)))
        try:
            read(path)
        except BadModel:
            refused += 1
    assert refused > 50
