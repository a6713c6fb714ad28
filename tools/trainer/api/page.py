"""One page for a person: the projects, their iterations, and how far trainings are. Without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from trainer.runs.child import Progress
from trainer.state.iterations import Iteration
from trainer.state.projects import Project

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{seconds}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Trainer</title>
<style>
:root {{ color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #535c66; --line: #d5dae0; --bad: #c11f2b }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #12161b; --ink: #e8edf2; --soft: #a3adb8; --line: #39424d;
--bad: #ff7b72 }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
background: var(--paper); color: var(--ink); overflow-wrap: anywhere }}
.scroll {{ overflow-x: auto; overflow-wrap: normal }} table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0 }}
th {{ font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line) }} progress {{ width: 12rem }}
.why {{ color: var(--bad) }} pre {{ white-space: pre-wrap; font-size: 14px; border-left: 3px solid var(--line);
padding-left: .8rem }}
</style></head><body><h1>Trainer</h1>
"""
_EMPTY = """<p>There is no project yet. From a folder of images, one folder a tag, this command makes one:</p>
<pre>export RIPELOOP_TRAINING_KEY=…
ripeloop dataset import --from FOLDER --endpoint ADDRESS
</pre>
<p>The key is this trainer's, the address this page's. Any program that uses the Custom Vision SDK makes one too.</p>
"""
_HEADINGS = ("iteration", "status", "trained", "seconds", "published as")


@dataclass(frozen=True, slots=True)
class Made:
    """An iteration, how far its training or export is, and why its export failed, empty where none has."""

    iteration: Iteration
    progress: Progress | None
    failure: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A project with its iterations, the newest first."""

    project: Project
    images: int
    iterations: Sequence[Made]


def page(standings: Sequence[Standing]) -> str:
    """The page; it asks for itself again, more often while something is being trained or exported."""
    busy = any(one.progress for standing in standings for one in standing.iterations)
    parts = [_HEAD.format(seconds=2 if busy else 30)]
    if not standings:
        parts.append(_EMPTY)
    for standing in standings:
        project = standing.project
        parts.append(f"<h2>{escape(project.name)}</h2><p>{project.kind}, {standing.images} images</p>")
        if standing.iterations:
            rows = "".join(_row(one) for one in standing.iterations)
            heads = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
            parts.append(f"<div class=scroll><table><tr>{heads}</tr>{rows}</table></div>")
    parts.append("</body></html>")
    return "".join(parts)


def _row(made: Made) -> str:
    iteration, progress = made.iteration, made.progress
    status = escape(iteration.status)
    if progress is not None:
        far = f'<progress value="{progress.done}" max="{max(1, progress.of)}"></progress>'
        status = f"{status}: {escape(progress.what)} {far} {progress.done}/{progress.of}"
    if iteration.why:
        status = f'{status}: <span class="why">{escape(iteration.why)}</span>'
    if made.failure:
        status = f'{status}; the export has failed: <span class="why">{escape(made.failure)}</span>'
    cells = (
        escape(iteration.name),
        status,
        escape(iteration.trained or ""),
        f"{iteration.seconds:.1f}" if iteration.seconds else "",
        escape(iteration.published or ""),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
