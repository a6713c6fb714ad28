"""What is measured, and in which order: everything once a round, side by side, so that all share the noise."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from bench.classifier import servers
from bench.classifier.floor import Floor, Limit
from bench.classifier.images import Picture
from bench.classifier.models import Flavour
from bench.classifier.plan import AT, BURST, USUAL, Plan
from bench.classifier.servers import FLASK_2018, FLASK_2024, FP32, INT8, ROOT, Server
from bench.load import Order, Seen
from bench.machine import Use, forget_peak, memory_of, used_by
from ripeloop.errors import SettingsError

FLAVOUR_OF: Mapping[str, str] = {FP32: "fp32", INT8: "int8", FLASK_2024: "fp32", FLASK_2018: "fp32"}
FLAGGING, ONE_WORKER = "classifier, flagging all", "classifier, one worker"
SOAK_PARTS = 10
HEALTH_PAUSE = 0.02
PAIRS = 2  # of measurements with and without flagging, a round

Key = tuple[str, str, int]
"""A server, a size and a concurrency."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One server under one load: answers a second, times in milliseconds, memory at its highest in MB.

    `server_ms` and `client_ms` are processor time for one answer; `failures` the answers that were none.
    """

    rate: float
    p50: float
    p99: float
    peak_mb: float
    server_ms: float
    client_ms: float
    failures: int


@dataclass(frozen=True, slots=True)
class Round:
    """All cells measured once, and the floor by size just before its cells.

    `flagging`: the shares of the speed left where every image is flagged, and `kept` the share of those images that
    were in the spool afterwards. `lone`: milliseconds of an answer at one request at a time. `others`: the share of
    the cores that other programs used.
    """

    floors: Mapping[str, Floor]
    cells: Mapping[Key, Cell]
    flagging: tuple[float, ...]
    kept: float
    lone: Mapping[str, float]
    others: float


@dataclass(frozen=True, slots=True)
class Health:
    """`/healthz` while BURST images of the largest size are under way: milliseconds over `asked` requests."""

    p50: float
    p99: float
    asked: int


@dataclass(frozen=True, slots=True)
class Soak:
    """Memory in MB after each tenth of so many requests."""

    requests: int
    megabytes: tuple[float, ...]

    @property
    def growth(self) -> float:
        """How much more is held at the end than after the second tenth, by which all is warm, in MB."""
        return sum(self.megabytes[-2:]) / 2 - sum(self.megabytes[1:3]) / 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that was measured."""

    rounds: tuple[Round, ...]
    health: Health
    soak: Soak


class Measuring:
    """The servers, and how to load them. Use inside `running`."""

    def __init__(self, plan: Plan, pictures: Sequence[Picture], folder: Path, say: Callable[[str], None]) -> None:
        self._plan, self._folder, self._say = plan, folder, say
        self._pictures = {picture.size: folder / f"{picture.size}.jpg" for picture in pictures}
        for picture in pictures:
            self._pictures[picture.size].write_bytes(picture.jpeg)
        self._frames = 0
        self._servers: dict[str, Server] = {}

    @contextmanager
    def running(self, flavours: Mapping[str, Flavour]) -> Iterator[None]:
        """All servers, started and warm."""
        fp32, int8 = flavours["fp32"].export, flavours["int8"].export
        spool = ("--spool", "spool", "--spool-bytes", str(10**11), "--spool-images", str(10**7), "--audit-rate", "1")
        with ExitStack() as held:
            for started in (
                servers.classifier(FP32, fp32, self._folder),
                servers.classifier(INT8, int8, self._folder),
                servers.flask(FLASK_2024, "flask2024", fp32, self._folder),
                servers.flask(FLASK_2018, "flask2018", fp32, self._folder),
                servers.classifier(FLAGGING, fp32, self._folder, *spool),
                servers.classifier(ONE_WORKER, fp32, self._folder, "--workers", "1"),
            ):
                server = held.enter_context(started)
                self._servers[server.name] = server
                self._loaded(server, Order(server.port, "/image", self._image(USUAL), 2, 0.2, least=2))
            yield

    def round(self, number: int, limit: Limit) -> Round:
        """Everything once."""
        plan = self._plan
        floors: dict[str, Floor] = {}
        cells: dict[Key, Cell] = {}
        before, ours = Use.now(), self._used()
        for size, image in self._pictures.items():
            floors[size] = limit.measure(image.read_bytes(), plan.part_seconds)
            for concurrency in plan.concurrencies:
                for name in (FP32, INT8, FLASK_2024):
                    cells[name, size, concurrency] = self._cell(name, size, concurrency)
                self._say(f"round {number} of {plan.rounds}: {size}, {concurrency} at once")
            if size in plan.slow_sizes:
                cells[FLASK_2018, size, AT] = self._slow_cell(size)
        flagging, kept = self._flagging()
        lone = {name: self._cell(name, USUAL, 1).p50 for name in (FP32, ONE_WORKER)}
        busy, there_were = Use.now().since(before)
        return Round(floors, cells, flagging, kept, lone, max(0.0, busy - (self._used() - ours)) / there_were)

    def health(self) -> Health:
        """`/healthz` asked again and again while BURST images of the last size are under way."""
        server, seconds = self._servers[FP32], self._plan.health_seconds
        images = Order(
            server.port, "/image", self._image(list(self._pictures)[-1]), BURST, seconds + 1.5, first=self._next_frame()
        )
        asking = Order(server.port, "/healthz", seconds=seconds, warm_up=1.0, pause=HEALTH_PAUSE)
        behind = _generator(images)
        seen = _seen(_generator(asking))
        _seen(behind)
        times = sorted(seen.milliseconds)
        return Health(_quantile(times, 0.5), _quantile(times, 0.99), seen.answers)

    def soak(self, flavours: Mapping[str, Flavour]) -> Soak:
        """Memory of a fresh server while it answers."""
        each = max(1, self._plan.soak // SOAK_PARTS)
        megabytes = []
        with servers.classifier("soak", flavours["int8"].export, self._folder) as server:
            for part in range(SOAK_PARTS):
                order = Order(server.port, "/image", self._image(USUAL), AT, 1e9, 0.0, most=each, limit=3600.0)
                self._loaded(server, replace(order, first=self._next_frame()))
                megabytes.append(memory_of(server.pid, "VmRSS"))
                self._say(f"memory after {(part + 1) * each} requests: {megabytes[-1]:.0f} MB")
        return Soak(each * SOAK_PARTS, tuple(megabytes))

    def _cell(self, name: str, size: str, concurrency: int) -> Cell:
        plan, server = self._plan, self._servers[name]
        order = Order(server.port, "/image", self._image(size), concurrency, plan.seconds, plan.warm_up, least=5)
        return self._loaded(server, order)

    def _slow_cell(self, size: str) -> Cell:
        server = self._servers[FLASK_2018]
        # all are sent at once and all are waited for: none may be half done when the counting starts
        answers = self._plan.slow_answers
        return self._loaded(server, Order(server.port, "/image", self._image(size), AT, 0.0, 0.0, answers, answers))

    def _flagging(self) -> tuple[tuple[float, ...], float]:
        """What is left of the speed when every image is flagged, PAIRS times, and the share of them that was kept."""
        spool, shares, answers = self._folder / "spool", list[float](), 0.0
        before = len(list(spool.glob("*.sample")))
        for _ in range(PAIRS):
            plain, flagged = self._cell(FP32, USUAL, AT), self._cell(FLAGGING, USUAL, AT)
            shares.append(flagged.rate / plain.rate)
            answers += flagged.rate * self._plan.seconds
        kept = len(list(spool.glob("*.sample"))) - before
        return tuple(shares), min(1.0, kept / answers)  # those of the warm-up are kept, too

    def _loaded(self, server: Server, order: Order) -> Cell:
        forget_peak(server.pid)
        used = used_by(server.pid)
        seen = _seen(_generator(replace(order, first=self._next_frame())))
        if not seen.answers:
            raise SettingsError(f"{server.name} answered no image: {seen.failures or 'not even with an error'}")
        times = sorted(seen.milliseconds)
        # processor time runs from the first request to the last answer, a little longer than what is counted
        whole = (order.warm_up + seen.seconds) / seen.seconds * seen.answers
        return Cell(
            rate=seen.answers / seen.seconds,
            p50=_quantile(times, 0.5),
            p99=_quantile(times, 0.99),
            peak_mb=memory_of(server.pid, "VmHWM"),
            server_ms=(used_by(server.pid) - used) * 1000 / whole,
            client_ms=seen.own_cores * seen.seconds * 1000 / seen.answers,
            failures=sum(seen.failures.values()),
        )

    def _image(self, size: str) -> str:
        return str(self._pictures[size])

    def _next_frame(self) -> int:
        """Where the next generator's numbers begin: no two images are alike."""
        self._frames += 1_000_000
        return self._frames

    def _used(self) -> float:
        """Processor seconds of everything we started, and of this process."""
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in own) + sum(used_by(one.pid) for one in self._servers.values())


def _generator(order: Order) -> subprocess.Popen[bytes]:
    told = json.dumps(asdict(order))
    return subprocess.Popen([sys.executable, "-m", "bench.load", told], cwd=ROOT, stdout=subprocess.PIPE)


def _seen(generator: subprocess.Popen[bytes]) -> Seen:
    with generator:
        told, _ = generator.communicate()
    if generator.returncode:
        raise click.ClickException("the load generator failed; its last words stand above")
    return Seen(**json.loads(told))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share lies; the values stand in their order. 0 for none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
