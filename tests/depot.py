"""Model packages, and a file server on loopback that hands them out: well, in pieces, slowly, or badly."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from classifier.models.model import load
from colours import files, model, picture, zipped
from ripeloop.package import Golden, GoldenSet, Package, write
from ripeloop.prediction import Prediction


def first_model(folder: Path) -> Path:
    """The model of --model, a plain export."""
    return zipped(folder / "first.zip", files(model(), IterationId="first"))


def packed(
    path: Path, version: str, *, onnx: bytes | None = None, golden: GoldenSet | None = None, padding: int = 0
) -> dict[str, str]:
    """A package at `path`, unlike that of any other version; returns the twin's words for it, without a place."""
    content = files(onnx or model(metadata={"made": version}), IterationId=version)
    if golden is None:
        golden = answered_by(zipped(path.with_suffix(".export"), content))
    if padding:
        content["padding"] = bytes(range(256)) * (padding // 256)
    return {"version": version, "sha256": write(path, Package(content, golden, {"projectId": "p"}))}


def answered_by(export: Path, colours: Sequence[str] = ("red", "green", "blue")) -> GoldenSet:
    """Golden images with what the model at `export` says of them."""
    loaded = load(export)
    return GoldenSet(tuple(Golden(picture(c), loaded.predict(picture(c))) for c in colours))


def expected(image: bytes, **probabilities: float) -> Golden:
    return Golden(image, tuple(Prediction(tag, p) for tag, p in probabilities.items()))


def unsure_model() -> bytes:
    """Made for pixels of 0 to 255 and told 0 to 1: it takes everything for grey."""
    return model(full_range=True)


@dataclass
class Depot:
    """Serves `folder`. Each list is used up, one entry a request: cut after so many bytes; answer with a status."""

    folder: Path
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    pause: float = 0.0  # between two pieces
    piece: int = 16384
    etag: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    server: Any = None

    async def __aenter__(self) -> Depot:
        app = web.Application()
        app.router.add_get("/{name}", self._get)
        self.server = TestServer(app)
        await self.server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.port}/{name}?sig=SECRET"

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(dict(request.headers))
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        content = (self.folder / request.match_info["name"]).read_bytes()
        etag = self.etag if self.etag is not None else f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        if self.ranges and request.headers.get("If-Range") == etag and "Range" in request.headers:
            start = request.http_range.start or 0
        response = web.StreamResponse(status=206 if start else 200, headers={"ETag": etag} if etag else {})
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        response.content_length = len(content) - start
        await response.prepare(request)
        sent, end = start, start + self.cuts.pop(0) if self.cuts else len(content)
        while sent < min(end, len(content)):
            piece = content[sent : min(sent + self.piece, end)]
            await response.write(piece)
            sent += len(piece)
            await asyncio.sleep(self.pause)
        if sent < len(content):
            assert request.transport is not None
            request.transport.close()
        return response
