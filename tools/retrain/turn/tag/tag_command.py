"""The command `ripeloop tag`: what it is told, and how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from retrain.customvision import CustomVision
from retrain.data.dataset import About
from retrain.devices.tables import show_tagged
from retrain.ending import told
from retrain.judging.holdout import Holdout
from retrain.settings import NOT_AS_WANTED, cloud_options, endpoint_options, json_option, project_option
from retrain.shown import plain
from retrain.store import no_container, opened
from retrain.turn.tag.heldout import fetch_holdout
from retrain.turn.tag.tagged import Tagged
from retrain.turn.tag.tagging import Plan, Seen, tag
from retrain.turn.train.training import find_project
from ripeloop.blobs import is_there
from ripeloop.errors import NotFound

ENDS = "Ends with 0: the project holds what the labels say; 1: something was refused, and is named; 2: wrong usage, \
settings, project or key; 3: the service or the storage cannot be reached. Do the same again to go on where it ended."


@dataclass(frozen=True, slots=True)
class TagSettings:
    """The container, the service, the project and whether to make it, and the holdout: its share, where to fetch it."""

    cloud_blobs: str = field(repr=False)
    container: str
    api_version: str | None
    endpoint: str
    key: str = field(repr=False)
    project: str
    create: bool
    plan: Plan
    folder: Path | None


@click.command("tag", epilog=ENDS)
@cloud_options
@endpoint_options
@project_option
@click.option("--create", is_flag=True, envvar="RIPELOOP_CREATE_PROJECT", show_envvar=True,
              help="Make the project, one tag an image, where there is none of that name.")  # fmt: skip
@click.option("--holdout-share", default=Plan().holdout_share, type=click.FloatRange(0, 0.9), show_default=True,
              envvar="RIPELOOP_HOLDOUT_SHARE", show_envvar=True,
              help="Share of newly labelled samples that is never trained on; those decided before stay.")  # fmt: skip
@click.option("--fetch-holdout", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              envvar="RIPELOOP_FETCH_HOLDOUT", show_envvar=True,
              help="Bring the holdout into this folder as well, for `ripeloop judge`.")  # fmt: skip
@json_option
def tag_command(
    cloud_blobs: str, container: str, api_version: str | None, endpoint: str, training_key: str, project: str,
    create: bool, holdout_share: float, folder: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Make a project hold the labelled samples, as they are labelled, but for those held out.

    Samples labelled anew get their new tags, and those without a label any more leave the project. The credential of
    the container needs the rights list, read and write: each blob is marked with what its sample is used for.

    \b
    Example:
      export RIPELOOP_CLOUD_BLOBS="$STORAGE_CONNECTION_STRING" RIPELOOP_TRAINING_KEY=…
      ripeloop tag --endpoint https://fruit.cognitiveservices.azure.com --project fruit
      ripeloop tag --endpoint http://127.0.0.1:8088 --project fruit --create --fetch-holdout holdout/ --json
    """
    settings = TagSettings(
        cloud_blobs, container, api_version, endpoint, training_key, project, create, Plan(holdout_share), folder
    )
    with _progress() as seen:
        tagged, holdout = told(_tagged(settings, seen))
    if as_json:
        click.echo(json.dumps(tagged.to_json(), indent=2))
    else:
        show_tagged(tagged)
        if holdout is not None:
            click.echo(f"{len(holdout.cases)} images of the holdout in {plain(str(folder))}")
    for left in holdout.left_out if holdout is not None else ():
        click.echo(f"not in the holdout: {plain(left.name)}, {left.why}", err=True)
    if tagged.refused:
        sys.exit(NOT_AS_WANTED)


async def _tagged(settings: TagSettings, seen: Seen) -> tuple[Tagged, Holdout | None]:
    with closing(CustomVision(settings.endpoint, settings.key)) as service:
        async with opened(settings.cloud_blobs, settings.container, settings.api_version) as blobs:
            project = _project(service, settings)
            if not await is_there(blobs):
                if project:
                    service.about(project)  # what does not mend itself is told before a container that may come
                raise no_container(settings.cloud_blobs, settings.container)
            project = project or service.create(About(name=settings.project))
            tagged = await tag(blobs, service, project, settings.plan, seen)
            if settings.folder is None:
                return tagged, None

            def fetched(done: int, total: int) -> None:
                seen("fetching the holdout", done, total)

            return tagged, await fetch_holdout(blobs, settings.folder, tagged.negative, fetched)


def _project(service: CustomVision, settings: TagSettings) -> str:
    """Its id; empty where it is to be made. Raises NotFound, Refused, Denied, Offline."""
    try:
        return find_project(service, settings.project)
    except NotFound as error:
        if not settings.create:
            raise NotFound(f"{error}, or make it with --create", kind=error.kind) from error
        return ""


@contextmanager
def _progress() -> Iterator[Seen]:
    """A bar on a terminal; elsewhere nothing, for the counts come at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total or None)
