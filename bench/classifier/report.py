"""The numbers as a person reads them: on the terminal, and as a page with a picture."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from bench.bars import Bars, Series
from bench.classifier import tables
from bench.classifier.plan import AT
from bench.classifier.servers import FLASK_2018, FLASK_2024, FP32, INT8
from bench.classifier.tables import Measured
from bench.classifier.targets import of_floor, targets
from bench.machine import LOADED, Machine
from bench.table import Table

PICTURE = "bench.svg"
WIDTH = 120


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a reader is told. `command` repeats the run; `trained_on` says what the model was trained on."""

    machine: Machine
    when: datetime
    command: str
    trained_on: str
    measured: Measured

    def terminal(self) -> str:
        """For a terminal: the tables, the targets last."""
        return "\n\n".join(f"{title}\n\n{table.plain()}" for title, table in self._tables())

    def page(self) -> str:
        """For docs/: the same with a picture and with words around it."""
        sections = "\n\n".join(
            f"## {title}\n\n{self._note(title)}{table.markdown()}" for title, table in self._tables()
        )
        return f"{self._opening()}\n\n{sections}\n"

    def svg(self) -> str:
        """Answers a second of each server as a share of the floor."""
        sizes = [picture.size for picture in self.measured.pictures]
        return Bars(
            "How near to the hardware's limit",
            f"Answers a second, {AT} at once, as a share of the limit: decoding and the 32-bit model, nothing else.",
            [f"{picture.width} x {picture.height}" for picture in self.measured.pictures],
            [
                Series(server, [of_floor(self.measured.outcome, server, size, AT) for size in sizes])
                for server in (FLASK_2018, FLASK_2024, FP32, INT8)
            ],
            "the limit",
        ).svg()

    @property
    def others(self) -> float:
        """The share of the cores that other programs used meanwhile, 0 to 1."""
        return statistics.median(each.others for each in self.measured.outcome.rounds)

    def _opening(self) -> str:
        machine, plan = self.machine, self.measured.plan
        versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        noise = f"Other programs used {self.others:.0%} of the cores meanwhile."
        if self.others > LOADED:
            noise = f"**{noise} That is too much: read nothing but the ratios, and those with care.**"
        met = targets(self.measured.outcome)
        text = _OPENING.format(
            picture=PICTURE,
            met=sum(one.met for one in met),
            all=len(met),
            when=f"{self.when:%Y-%m-%d}",
            cores=machine.cores,
            processor=machine.processor,
            memory=machine.memory_gb,
            system=f"{machine.system}, Python {machine.python}",
            versions=versions,
            command=self.command,
            rounds="once" if plan.rounds == 1 else f"{plan.rounds} times",
            middle="" if plan.rounds == 1 else "; each number is the middle one, each ratio is taken within a round",
            seconds=f"{plan.seconds:g}",
            noise=noise,
            client=f"{self._client_share():.0%}",
        )
        return "\n\n".join(_wrapped(paragraph) for paragraph in text.split("\n\n"))

    def _client_share(self) -> float:
        """The most of one core that the load generator took, over all cells."""
        return max(
            cell.client_ms * cell.rate / 1000 for each in self.measured.outcome.rounds for cell in each.cells.values()
        )

    def _note(self, title: str) -> str:
        return _NOTES[title].format(trained_on=self.trained_on) + "\n" if title in _NOTES else ""

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "The floor", tables.floor(self.measured)
        yield "Answers a second", tables.rates(self.measured)
        yield "Time of an answer, and memory", tables.times(self.measured)
        yield "Where the time of an image goes", tables.budget(self.measured)
        yield "One at a time", tables.lone(self.measured)
        yield "Meanwhile", tables.meanwhile(self.measured)
        yield "8 bits and 32", tables.flavours(self.measured)
        yield "Wanted and found", tables.wanted(self.measured)


def _wrapped(paragraph: str) -> str:
    if paragraph.startswith(("#", "!", "```")):
        return paragraph
    return textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)


_OPENING = """\
# How fast the classifier is

![Answers a second of each server as a share of the hardware's limit]({picture})

`make bench` wrote this page. It compares servers that answer the same images with the same model in one run: the
classifier with a model in 32 and in 8 bits, and two Flask servers that prepare images and answer as the containers do
that Custom Vision exported until 2021 and exports since. **{met} of {all} targets were met**
([the list](#wanted-and-found)).

{when}, {cores} cores of {processor}, {memory} GB, {system}; {versions}. Everything was measured {rounds}, {seconds} s
for each number after a warm-up{middle}. {noise} The client that posts the images took {client} of one core at most, and
has the same cores as the servers: what it takes, they lack.

Again, on Linux and a machine with nothing else to do; `QUICK=1` takes two minutes and is rougher:

```sh
{command}
```"""

_NOTES = {
    "The floor": """\
What the cores would answer if there were nothing but the quickest decoding we know of and the model, each on one
thread: cores / (decode + run). *All cores at once* is what they really did when all of them did that together: they
share caches, memory and, in clouds, often each other.
""",
    "Answers a second": """\
Posted over HTTP on one machine, so many at once, each image a different one. The container of 2018 is measured with 8
at once alone: more only wait longer.
""",
    "Time of an answer, and memory": """\
From the first byte sent to the last one read. MB is the server's memory at its highest while that was measured.
""",
    "Where the time of an image goes": """\
Between two answers, all cores together spend so many core-milliseconds. The rest is HTTP, JSON, the policy, threads
that wait for each other, and the client, which would be another machine's in a plant.
""",
    "One at a time": """\
A lone request has all cores for its model. Over HTTP it should take no longer than the better of one thread and all.
""",
    "8 bits and 32": """\
The same model twice, each with a head of its own, trained on {trained_on} and judged on others it had not seen.
After the ± stands the standard error: a difference of less than twice that is chance.
""",
}
