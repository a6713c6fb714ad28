"""Edge or cloud? The same images to both: how long each takes, and every answer that differs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from retrain.compare.endpoints import Said, Side, ask, reach
from ripeloop.errors import Refused, SettingsError

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}
"""What Custom Vision takes, by the end of a file's name."""

ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One image, and what each side said of it."""

    image: str
    edge: Said
    cloud: Said

    @property
    def apart(self) -> float:
        """The largest difference of a tag's probability, 0 to 1; 1 where one side alone refused."""
        if bool(self.edge.refusal) != bool(self.cloud.refusal):
            return 1.0
        tags = self.edge.probabilities.keys() | self.cloud.probabilities.keys()
        edge, cloud = self.edge.probabilities, self.cloud.probabilities
        return max((abs(edge.get(tag, 0.0) - cloud.get(tag, 0.0)) for tag in tags), default=0.0)

    @property
    def answers(self) -> int:
        """How many of the two sides answered."""
        return (not self.edge.refusal) + (not self.cloud.refusal)

    def differs(self, tolerance: float) -> bool:
        """Whether the tag is another, or a probability is further apart than `tolerance`."""
        return self.edge.tag != self.cloud.tag or self.apart > tolerance


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds, of the images that were answered."""

    answered: int
    refused: int
    p50: float
    p99: float

    @classmethod
    def of(cls, said: Sequence[Said]) -> Latency:
        """The latency over these answers."""
        seconds = sorted(one.seconds for one in said if not one.refusal)
        return cls(len(seconds), len(said) - len(seconds), _percentile(seconds, 0.5), _percentile(seconds, 0.99))


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs, with what may differ before it is told; `ended` says why there are no more, where it ended early."""

    pairs: tuple[Pair, ...]
    tolerance: float
    ended: str = ""

    @property
    def edge(self) -> Latency:
        """The latency at the edge."""
        return Latency.of([pair.edge for pair in self.pairs])

    @property
    def cloud(self) -> Latency:
        """The latency of the cloud."""
        return Latency.of([pair.cloud for pair in self.pairs])

    @property
    def different(self) -> list[Pair]:
        """The pairs whose answers differ: another tag first, then the furthest apart."""
        found = [pair for pair in self.pairs if pair.differs(self.tolerance)]
        return sorted(found, key=lambda pair: (pair.edge.tag == pair.cloud.tag, -pair.apart, pair.image))

    @property
    def unanswered(self) -> list[Pair]:
        """The pairs that both sides refused: these say nothing of their answers."""
        return [pair for pair in self.pairs if not pair.answers]

    @property
    def trouble(self) -> str:
        """Why the answers cannot be called the same, though none differs; empty where they can."""
        if self.ended:
            return f"it ended after {len(self.pairs)} images: {self.ended}"
        return "" if any(pair.answers == 2 for pair in self.pairs) else "no image was answered by both"

    def to_json(self) -> dict[str, Any]:
        """The comparison for a program; milliseconds."""
        return {
            "images": len(self.pairs),
            "tolerance": self.tolerance,
            "edge": _latency(self.edge),
            "cloud": _latency(self.cloud),
            "different": [{"image": p.image, "apart": round(p.apart, 6)} | _both(p) for p in self.different],
            "unanswered": [{"image": p.image} | _both(p) for p in self.unanswered],
            "trouble": self.trouble,
        }


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files, and those in the folders, that Custom Vision takes by their names. Raises SettingsError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(one for one in path.rglob("*") if one.suffix.lower() in ENDINGS and one.is_file())
        else:
            found.append(path)
    if not found:
        raise SettingsError(f"there is no image ({' '.join(sorted(ENDINGS))}) in {', '.join(map(str, paths))}")
    return found


async def compare(
    edge: Side,
    cloud: Side,
    images: Sequence[Path],
    *,
    tolerance: float = 0.02,
    seen: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Post every image to both sides, one at a time, each side first every other time; `seen` hears how many are done.

    One image is posted to each beforehand and not timed, so that connections stand. Raises Offline where a side cannot
    be reached at all, Refused where it refuses everybody, SettingsError for a file that cannot be read; what comes so
    late that there are answers to show ends the comparison.
    """
    pairs: list[Pair] = []
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for side in (edge, cloud):
            await reach(session, side, _read(images[0]))
        for number, path in enumerate(images):
            order = (edge, cloud) if number % 2 == 0 else (cloud, edge)
            try:
                image = await asyncio.to_thread(_read, path)
                said = {side.name: await ask(session, side, image) for side in order}
            except (Refused, SettingsError) as error:  # a quota may end in the middle
                if not pairs:
                    raise
                return Comparison(tuple(pairs), tolerance, str(error))
            pairs.append(Pair(str(path), said[edge.name], said[cloud.name]))
            seen(number + 1)
    return Comparison(tuple(pairs), tolerance)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}") from error


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else math.nan


def _latency(latency: Latency) -> dict[str, Any]:
    found: dict[str, Any] = {"answered": latency.answered, "refused": latency.refused}
    if latency.answered:
        found |= {"p50": round(latency.p50 * 1000, 2), "p99": round(latency.p99 * 1000, 2)}
    return found


def _both(pair: Pair) -> dict[str, Any]:
    return {"edge": _said(pair.edge), "cloud": _said(pair.cloud)}


def _said(said: Said) -> dict[str, Any]:
    return {"refusal": said.refusal} if said.refusal else {"tag": said.tag, "probabilities": said.probabilities}
