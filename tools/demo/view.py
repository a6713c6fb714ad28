"""What a person sees while the demo runs, and the tables at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.account import Account
from demo.camera import Answer, Shift
from demo.rounds import Round, Undone
from demo.scene import CAMERA, STAGES, UNDO, Scene
from retrain.judging.chances import Share
from retrain.judging.judge import BETTER, WORSE
from retrain.shown import DASH
from retrain.turn.outcome import NOTHING

PLAIN_SECONDS = 2.0
WIDTH = 88
LATEST = 5
LEGEND = (
    "*  right, by the pictures kept by lot in all turns so far: a 95 % interval\n"
    "** of the pictures held out, right by the model so far and by the new one"
)
TONES = {BETTER: "green", WORSE: "red"}


class View:
    """A live picture on a terminal, a line every two seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
        self._last: Group | None = None
        self._said = float("-inf")
        self._answered = -1

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(Group())
            self._live.stop()

    def show(self, scene: Scene) -> None:
        """How things stand now."""
        if self._live:
            self._live.update(_picture(scene))
        elif not self.console.record and time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            if scene.shift.total and len(scene.shift.answers) != self._answered:
                self._answered = len(scene.shift.answers)
                self._line(
                    f"answered {len(scene.shift.answers)}/{scene.shift.total}  "
                    f"flagged {_counted(scene.account.flagged)}  kept {scene.account.kept}  "
                    f"dropped {_counted(scene.account.dropped)}  uploaded {len(scene.account.uploaded)}"
                )

    def heard(self, line: str) -> None:
        """A line of the turn."""
        if self._live is None and not self.console.record:
            self._line(line)

    def ended(self, round_: Round) -> None:
        """A turn has ended."""
        if self._live is None and not self.console.record:
            self._line(
                f"turn {round_.name}: right {_percent(round_.accuracy)}, flagged {_percent(round_.flagged_share)}, "
                f"{round_.labelled} labelled by the stand-in; the judge: {round_.verdict or 'was not asked'}; "
                f"{outcome(round_)}"
                + (f" ({round_.turn.why})" if round_.turn is not None and not round_.verdict else "")
            )

    def undone(self, undone: Undone) -> None:
        """The bad model is gone."""
        if self._live is None and not self.console.record:
            self._line(f"{undone.version}: {undone.reason}")

    def complain(self, what: str) -> None:
        """Something did not happen in time."""
        self.console.print(Text(what, style="red"))

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def shown(path: Path) -> Path:
    """The path as a person here would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def outcome(round_: Round) -> str:
    """What came of a turn, in a word or two."""
    if round_.turn is None:
        return ""
    if round_.turn.outcome == NOTHING:
        return "not trained"
    return "released" if round_.released else "not released"


def turns(rounds: Sequence[Round]) -> Table:
    """A line for each turn, and one for what came after."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="dim", show_edge=False, pad_edge=False)
    table.add_column("turn", style="bold", no_wrap=True)
    if any(one.light for one in rounds):
        table.add_column("light", style="dim", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for title in ("right", "flagged"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("field*", justify="right", style="dim", no_wrap=True)
    table.add_column("the judge**", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in rounds:
        light = [one.light] if any(other.light for other in rounds) else []
        came_of_it = Text(outcome(one), style="green" if one.released else "yellow")
        table.add_row(
            one.name, *light, one.model, Text(_percent(one.accuracy), style="bold"), _percent(one.flagged_share),
            _interval(one.field_estimate), _verdict(one), came_of_it,
        )  # fmt: skip
    return table


def bad_model(undone: Undone) -> Text:
    """One line: what became of the bad model, and why."""
    said = Text.assemble(("A bad model was released on purpose. ", "bold"))
    if undone.by_itself:
        return said.append("The device took it back by itself: ", style="bold green").append(undone.reason)
    return said.append(undone.reason, style="yellow")


def summary(shift: Shift, account: Account, *, right: bool = True) -> Table:
    """The table at the end; `right`: one model answered all, so that there is a share of right answers to tell."""
    answered = shift.answered
    posted = sum(answer.size for answer in answered)
    table = Table(title="What happened", title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    refused = len(shift.answers) - len(answered)
    table.add_row("images posted", str(len(shift.answers)), "by a camera, over HTTP")
    table.add_row("answered", str(len(answered)), _times(shift) if answered else "")
    if refused or shift.unreadable:
        table.add_row("not answered", str(refused + len(shift.unreadable)), "not images, or not readable; see above")
    if right and shift.right.of:
        table.add_row("right answers", _percent(shift.right), "by the folder each picture lies in")
    sure = "the model was sure of all" if answered else "nothing was answered"
    table.add_row("flagged", str(sum(account.flagged.values())), _by_reason(account.flagged) or sure)
    table.add_row("kept", str(account.kept), "by the sampler")
    table.add_row("dropped", str(sum(account.dropped.values())), _by_reason(account.dropped) or "none")
    if account.set_aside:
        table.add_row("set aside", str(account.set_aside), "could not be uploaded, kept on the device")
    table.add_row("uploaded", str(len(account.uploaded)), "in the cloud folder, each byte checked")
    saved = posted - account.uploaded_bytes
    table.add_row("uplink saved", _bytes(saved), f"{saved / posted:.0%} of {_bytes(posted)}" if posted else "")
    return table


def _picture(scene: Scene) -> Group:
    parts: list[RenderableType] = []
    if scene.rounds:
        parts += [turns(scene.rounds), Text()]
    parts.append(Panel(Group(*_now(scene)), title=_title(scene), width=WIDTH, border_style="dim"))
    return Group(*parts)


def _now(scene: Scene) -> list[RenderableType]:
    shift, account = scene.shift, scene.account
    lines: list[RenderableType] = [Padding(Text(scene.words), (0, 2))]
    if scene.turns:
        lines.append(Padding(_way(scene), (1, 2)))
    if scene.stage in (CAMERA, UNDO) or not scene.turns:
        width = WIDTH - 10
        lines += [Padding(ProgressBar(total=max(shift.total, 1), completed=len(shift.answers), width=width), (0, 2))]
    counters = Table(box=None, padding=(0, 3, 0, 0), show_header=True, header_style="dim", pad_edge=False)
    for title in ("answered", "flagged", "kept", "dropped", "uploaded"):
        counters.add_column(title, justify="right", min_width=9)
    counters.add_row(
        f"{len(shift.answers)}/{shift.total}",
        str(sum(account.flagged.values())),
        str(account.kept),
        str(sum(account.dropped.values())),
        f"[green]{len(account.uploaded)}[/]",
    )
    lines += [Padding(counters, (1, 2))]
    lines += [Padding(_line(answer, scene.reasons), (0, 2)) for answer in list(shift.latest)[-LATEST:]]
    return lines


def _title(scene: Scene) -> str:
    if not scene.turns:
        return "camera → classifier → sampler → cloud"
    if scene.stage == UNDO:
        return "a bad model, on purpose"
    return f"turn {scene.number} of {scene.turns}" if scene.number <= scene.turns else "after the last turn"


def _way(scene: Scene) -> Text:
    """The steps of a turn, and where it is."""
    way, here = Text(no_wrap=True), STAGES.index(scene.stage) if scene.stage in STAGES else -1
    for nth, stage in enumerate(STAGES):
        way.append(" → " if nth else "", style="dim")
        way.append(stage, style="bold cyan" if nth == here else "green" if nth < here else "dim")
    return way


def _line(answer: Answer, reasons: Mapping[str, str]) -> Text:
    line = Text(f"{answer.picture.name:<24.24} ", no_wrap=True, overflow="ellipsis")
    if answer.refusal:
        return line.append(answer.refusal, style="red")
    line.append(f"{answer.tag:<12.12} {answer.probability:4.0%}  ", style="bold")
    if answer.id in reasons:
        line.append(f"flagged: {reasons[answer.id]}, uploaded", style="yellow")
    return line


def _verdict(round_: Round) -> Text:
    if not round_.verdict:
        return Text(DASH if round_.turn is not None else "", style="dim")
    said = Text(round_.verdict, style=TONES.get(round_.verdict, "yellow"))
    if round_.judged is not None:
        before, after = round_.judged
        said.append(f" {_number(before)}→{_number(after)} %", style="default")
    return said


def _percent(share: Share) -> str:
    return f"{_number(share)} %" if share.of else DASH


def _number(share: Share) -> str:
    return DASH if share.value is None else f"{share.value * 100:.0f}"


def _interval(share: Share | None) -> str:
    return "" if share is None else f"{share.low * 100:.0f}{DASH}{share.high * 100:.0f} %"


def _times(shift: Shift) -> str:
    return f"{shift.rate:.0f} req/s, p50 {shift.quantile(0.5) * 1e3:.0f} ms, p99 {shift.quantile(0.99) * 1e3:.0f} ms"


def _counted(counts: Mapping[str, int]) -> str:
    reasons = _by_reason(counts)
    return f"{sum(counts.values())} ({reasons})" if reasons else "0"


def _by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items(), key=lambda item: -item[1]) if n)


def _bytes(count: int) -> str:
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
