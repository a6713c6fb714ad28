"""The tables of the report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.classifier.images import Picture
from bench.classifier.measures import FLAVOUR_OF, Outcome
from bench.classifier.models import Flavour, agreement
from bench.classifier.plan import AT, BURST, USUAL, Plan
from bench.classifier.servers import FLASK_2018, FLASK_2024, FP32, INT8
from bench.classifier.targets import middle, of_floor, targets
from bench.table import Table

SERVERS = (FP32, INT8, FLASK_2024, FLASK_2018)
NONE = "-"


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, and with what."""

    plan: Plan
    pictures: Sequence[Picture]
    flavours: Mapping[str, Flavour]
    outcome: Outcome


def floor(of: Measured) -> Table:
    """The limit, part by part."""
    rows = []
    for picture in of.pictures:
        floors = [each.floors[picture.size] for each in of.outcome.rounds]
        decode = statistics.median(floor.decode for floor in floors)
        row = [picture.size, f"{picture.kilobytes} kB", f"{decode:.2f}"]
        for name in ("fp32", "int8"):
            row.append(f"{statistics.median(floor.model[name] for floor in floors):.2f}")
            row.append(f"{statistics.median(floor.rate(name) for floor in floors):.0f}")
            row.append(f"{statistics.median(floor.together[name] for floor in floors):.0f}")
        rows.append(row)
    heading = ["image", "file", "decode ms"]
    for name in ("fp32", "int8"):
        heading += [f"{name} run ms", f"{name} floor /s", f"{name} all cores at once /s"]
    return Table(heading, rows)


def rates(of: Measured) -> Table:
    """Answers a second at each concurrency, and as a share of the limit."""
    counts = of.plan.concurrencies
    rows = []
    for picture in of.pictures:
        for server in SERVERS:
            rates = [middle(of.outcome, server, picture.size, n, "rate") for n in counts]
            if any(rate is not None for rate in rates):
                share = of_floor(of.outcome, server, picture.size, AT)
                own = of_floor(of.outcome, server, picture.size, AT, FLAVOUR_OF[server])
                rows.append([picture.size, server, *map(_rate, rates), _share(share), _share(own)])
    heading = [
        "image",
        "server",
        *(f"{n} at once" for n in counts),
        f"of the fp32 floor ({AT})",
        f"of its own ({AT})",
    ]
    return Table(heading, rows, numbers=2)


def times(of: Measured) -> Table:
    """How long an answer takes, and the server's memory."""
    rows = []
    for picture in of.pictures:
        for server in SERVERS:
            row = [picture.size, server]
            for n in of.plan.concurrencies:
                p50, p99, peak = (
                    middle(of.outcome, server, picture.size, n, what) for what in ("p50", "p99", "peak_mb")
                )
                row += ["-", "-"] if p50 is None else [f"{_ms(p50)} / {_ms(p99)}", f"{peak:.0f}"]
            if set(row[2:]) != {"-"}:
                rows.append(row)
    heading = ["image", "server"]
    for n in of.plan.concurrencies:
        heading += [f"{n} at once: p50 / p99 ms", "MB"]
    return Table(heading, rows, numbers=2)


def budget(of: Measured) -> Table:
    """What the time between two answers is spent on."""
    rows = [
        [picture.size, server, *_parts(of, server, picture.size)] for picture in of.pictures for server in (FP32, INT8)
    ]
    heading = ["image", "server", "core-ms an image", "model", "decoding", "cores in each other's way", "the rest",
               "of it the client"]  # fmt: skip
    return Table(heading, rows, numbers=2)


def _parts(of: Measured, server: str, size: str) -> list[str]:
    """Of the core-milliseconds between two answers at AT, the share of each part."""
    flavour, key = FLAVOUR_OF[server], (server, size, AT)
    parts: list[tuple[float, ...]] = []
    for each in of.outcome.rounds:
        floor, cell = each.floors[size], each.cells[key]
        whole = floor.cores * 1000 / cell.rate
        shared = floor.cores * 1000 / floor.together[flavour] - floor.model[flavour] - floor.decode
        rest = whole - floor.model[flavour] - floor.decode - shared
        numbers = floor.model[flavour], floor.decode, shared, rest, cell.client_ms
        parts.append((whole, *(number / whole for number in numbers)))
    whole, *shares = (statistics.median(values) for values in zip(*parts, strict=True))
    return [f"{whole:.1f}", *(f"{share:.0%}" for share in shares)]


def lone(of: Measured) -> Table:
    """One request at a time."""
    rows = []
    for picture in of.pictures:
        floors = [each.floors[picture.size] for each in of.outcome.rounds]
        for server, flavour in ((FP32, "fp32"), (INT8, "int8")):
            decode = statistics.median(floor.decode for floor in floors)
            one = decode + statistics.median(floor.model[flavour] for floor in floors)
            several = decode + statistics.median(floor.alone[flavour] for floor in floors)
            found = middle(of.outcome, server, picture.size, 1, "p50")
            rows.append(
                [picture.size, server, f"{one:.1f}", f"{several:.1f}", "-" if found is None else f"{found:.1f}"]
            )
    heading = ["image", "server", "decode + model, one thread, ms", "on all cores, ms", "over HTTP, p50 ms"]
    return Table(heading, rows, numbers=2)


def meanwhile(of: Measured) -> Table:
    """What else was looked at."""
    outcome, soak = of.outcome, of.outcome.soak
    kept = statistics.median(pair for each in outcome.rounds for pair in each.flagging)
    tenths = ", ".join(f"{megabytes:.0f}" for megabytes in soak.megabytes)
    failures = sum(cell.failures for each in outcome.rounds for cell in each.cells.values())
    big = f"while {BURST} images of {of.pictures[-1].size} are under way"
    return Table(
        ["what", "found"],
        [
            [f"`/healthz` answers, p50, {big}", f"{outcome.health.p50:.1f} ms"],
            [f"`/healthz` answers, p99 of {outcome.health.asked}, {big}", f"{outcome.health.p99:.1f} ms"],
            [f"memory after each tenth of {soak.requests} requests ({INT8}, {USUAL}), MB", tenths],
            [f"share of the speed left when every image is flagged and kept ({USUAL})", f"{kept:.2f}"],
            [
                "share of those images that were in the spool afterwards",
                f"{min(one.kept for one in outcome.rounds):.2f}",
            ],
            ["answers that were errors, of all servers", str(failures)],
        ],
    )


def flavours(of: Measured) -> Table:
    """How good the model is in 8 bits and in 32."""
    rows = []
    for one in of.flavours.values():
        alike = agreement(of.flavours["fp32"], one)
        gained = f"{alike.gained:+.1%} ± {alike.by_chance:.1%}" if alike.by_chance else f"{alike.gained:+.1%}"
        row = [one.name, f"{one.megabytes:.1f}", f"{one.accuracy:.1%}", gained, str(len(one.right))]
        rows.append([*row, f"{alike.same_tag:.1%}", f"{alike.mean_step:.3f}"])
    heading = ["flavour", "MB", "accuracy", "beside fp32", "images judged", "same first tag", "mean difference of p"]
    return Table(heading, rows)


def wanted(of: Measured) -> Table:
    """The targets, and whether they are met."""
    rows = [[one.what, one.wanted, one.found, "met" if one.met else "missed"] for one in targets(of.outcome)]
    return Table(["what", "wanted", "found", ""], rows, numbers=1)


def _rate(rate: float | None) -> str:
    if rate is None:
        return NONE
    return f"{rate:.0f}" if rate >= 20 else f"{rate:.1f}"


def _share(share: float | None) -> str:
    if share is None:
        return NONE
    return f"{share:.2f}" if share >= 0.02 else f"{share:.3f}"


def _ms(milliseconds: float | None) -> str:
    if milliseconds is None:
        return NONE
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"
