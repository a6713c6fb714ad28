"""What a person sees while the demo runs, and the table at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.account import Account
from demo.camera import Answer, Shift

PLAIN_SECONDS = 2.0


class View:
    """A live picture on a terminal, a line every two seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
        self._last: Group | None = None
        self._said = float("-inf")

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        elif self.console.record and self._last:
            self.console.print(self._last)

    def show(self, shift: Shift, account: Account, reasons: Mapping[str, str]) -> None:
        """The state now; `reasons` tells why an image was flagged, by image id, for those already uploaded."""
        self._last = _picture(shift, account, reasons)
        if self._live:
            self._live.update(self._last)
        elif not self.console.record and time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self.console.print(
                f"answered {len(shift.answers)}/{shift.total}  flagged {_counted(account.flagged)}  "
                f"kept {account.kept}  dropped {_counted(account.dropped)}  uploaded {len(account.uploaded)}",
                highlight=False,
                soft_wrap=True,
            )


def shown(path: Path) -> Path:
    """The path as a person here would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def summary(shift: Shift, account: Account) -> Table:
    """The table at the end."""
    answered = shift.answered
    posted = sum(answer.size for answer in answered)
    table = Table(title="What happened", title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    refused = len(shift.answers) - len(answered)
    table.add_row("images posted", str(len(shift.answers)), "by a camera, over HTTP")
    table.add_row("answered", str(len(answered)), _times(shift))
    if refused or shift.unreadable:
        table.add_row("not answered", str(refused + len(shift.unreadable)), "not images, or not readable; see above")
    judged = [answer.right for answer in answered if answer.right is not None]
    if judged:
        table.add_row("right answers", f"{sum(judged) / len(judged):.0%}", "by the folder each picture lies in")
    table.add_row(
        "flagged", str(sum(account.flagged.values())), _by_reason(account.flagged) or "the model was sure of all"
    )
    table.add_row("kept", str(account.kept), "by the sampler")
    table.add_row("dropped", str(sum(account.dropped.values())), _by_reason(account.dropped) or "none")
    if account.set_aside:
        table.add_row("set aside", str(account.set_aside), "could not be uploaded, kept on the device")
    table.add_row("uploaded", str(len(account.uploaded)), "in the cloud folder, each byte checked")
    saved = posted - account.uploaded_bytes
    table.add_row("uplink saved", _bytes(saved), f"{saved / posted:.0%} of {_bytes(posted)}" if posted else "")
    return table


def _picture(shift: Shift, account: Account, reasons: Mapping[str, str]) -> Group:
    counters = Table(box=None, padding=(0, 3), show_header=True, header_style="dim")
    for title in ("answered", "flagged", "kept", "dropped", "uploaded"):
        counters.add_column(title, justify="right", min_width=9)
    counters.add_row(
        f"{len(shift.answers)}/{shift.total}",
        str(sum(account.flagged.values())),
        str(account.kept),
        str(sum(account.dropped.values())),
        f"[green]{len(account.uploaded)}[/]",
    )
    bar = ProgressBar(total=max(shift.total, 1), completed=len(shift.answers), width=60)
    lines = [_line(answer, reasons) for answer in shift.latest]
    return Group(
        Panel(
            Group(Padding(bar, (0, 3)), Text(), counters, Text(), *lines),
            title="camera → classifier → sampler → cloud",
            width=88,
        )
    )


def _line(answer: Answer, reasons: Mapping[str, str]) -> Text:
    line = Text(f"{answer.picture.name:<24.24} ", no_wrap=True, overflow="ellipsis")
    if answer.refusal:
        return line.append(answer.refusal, style="red")
    line.append(f"{answer.tag:<12.12} {answer.probability:4.0%}  ", style="bold")
    if answer.id in reasons:
        line.append(f"flagged: {reasons[answer.id]}, uploaded", style="yellow")
    return line


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
