"""`ripeloop dataset` and `ripeloop trainer`: labelled images from one place to another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from retrain import served
from retrain.customvision import CustomVision
from retrain.data import folders, formats, transfer
from retrain.ending import answered
from retrain.settings import KEEP_KEYS, NOT_AS_WANTED, endpoint_options, project_option
from retrain.shown import plain
from retrain.turn.train.training import find_project
from ripeloop.errors import SettingsError

ENDS = "Ends with 0: all images are there; 1: some were refused, or all; 2: wrong usage, settings, project or key; \
3: the service cannot be reached. Do the same again to go on where it ended."


SOME = 5
"""Names told of many."""


@click.group()
def dataset() -> None:
    """Labelled images between Custom Vision, our own trainer, and folders that others read."""


@click.group(invoke_without_command=True)
@click.pass_context
def trainer(context: click.Context, /) -> None:
    """A trainer of your own, that speaks Custom Vision: without a command, serve it as python -m trainer does."""
    if context.invoked_subcommand is None:
        served.hand_over([])


trainer.add_command(served.serve_command)


@dataset.command("export", epilog=ENDS)
@endpoint_options
@project_option
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True,
              envvar="RIPELOOP_DATASET", show_envvar=True, metavar="DIR", help="The folder to write.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(formats.NAMES), default="imagefolder",
              envvar="RIPELOOP_DATASET_FORMAT", show_envvar=True,
              help="A folder for each tag, COCO's JSON, or Azure ML's JSON lines.")  # fmt: skip
@click.option("--image-url", default="", envvar="RIPELOOP_IMAGE_URL", show_envvar=True, metavar="PREFIX",
              help="What goes before a file's place in Azure ML's lines, as azureml://…/paths/.")  # fmt: skip
def export_command(endpoint: str, training_key: str, project: str, folder: Path, form: str, image_url: str) -> None:
    """Write the images of a project into a folder, with all that is known of them.

    \b
    Example:
      export RIPELOOP_TRAINING_KEY=…
      ripeloop dataset export --endpoint https://fruit.cognitiveservices.azure.com --project fruit --to fruit/
      ripeloop dataset export --endpoint http://127.0.0.1:8088 --project fruit --to fruit/ --format azureml
    """
    with answered(), closing(CustomVision(endpoint, training_key)) as service:
        project = find_project(service, project)
        about = service.about(project)
        with _bar("fetching images", service.count(project)) as told:
            written = folders.write(folder, about, transfer.items_of(service, project), form, told, image_url)
        click.echo(f"{written.images} images with {len(about.tags)} tags in {folder}, {written.already} were there")
        if written.left:
            more = f" and {len(written.left) - 1} more" if len(written.left) > 1 else ""
            click.echo(f"no longer in the project, but still in the folder: {written.left[0]}{more}", err=True)


@dataset.command("import", epilog=ENDS)
@endpoint_options
@click.option("--from", "folder", type=click.Path(path_type=Path), required=True, envvar="RIPELOOP_DATASET",
              show_envvar=True, metavar="DIR", help="The folder to read.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("auto", *formats.NAMES)), default="auto",
              envvar="RIPELOOP_DATASET_FORMAT", show_envvar=True, help="How the folder is kept.")  # fmt: skip
@click.option("--project", default="", envvar="RIPELOOP_PROJECT", show_envvar=True,
              help="The project to add to, id or name; else one named as the data set, made if need be.")  # fmt: skip
def import_command(endpoint: str, training_key: str, folder: Path, form: str, project: str) -> None:
    """Bring the labelled images of a folder into a project.

    \b
    Example:
      export RIPELOOP_TRAINING_KEY=…
      ripeloop dataset import --from fruit/ --endpoint http://127.0.0.1:8088
    """
    with answered(), closing(CustomVision(endpoint, training_key)) as service:
        found = folders.read(folder, "" if form == "auto" else form)
        _tell_left_out(found)
        if not found.records:
            raise SettingsError(
                f"{folder} holds no images: put those of each tag into a folder of its name, as in "
                f"{folder / 'ripe' / '1.jpg'}"
            )
        where = transfer.project_for(service, found.about, project)
        with _bar("adding images", len(found.records)) as told:
            items = found.items(one_tag=not service.about(where).multilabel)
            counts = transfer.copy(found.about, items, service, where, told)
        _tell(counts, where)


@trainer.command("clone", epilog=ENDS)
@click.option("--from", "endpoint", required=True, envvar="RIPELOOP_ENDPOINT", show_envvar=True, metavar="ENDPOINT",
              help="The Custom Vision service the project is in.")  # fmt: skip
@click.option("--training-key", required=True, envvar="RIPELOOP_TRAINING_KEY", show_envvar=True, metavar="KEY",
              help=f"Its training key. {KEEP_KEYS}")  # fmt: skip
@project_option
@click.option("--to", "to", default="http://127.0.0.1:8088", envvar="RIPELOOP_TRAINER", show_envvar=True,
              metavar="URL", help="The trainer to copy into.")  # fmt: skip
@click.option("--trainer-key", default="", envvar="RIPELOOP_TRAINER_KEY", show_envvar=True, metavar="KEY",
              help="The training key of that trainer.")  # fmt: skip
@click.option("--to-project", default="", envvar="RIPELOOP_TRAINER_PROJECT", show_envvar=True,
              help="The project to copy into, id or name; else one of the same name, made if need be.")  # fmt: skip
def clone_command(endpoint: str, training_key: str, project: str, to: str, trainer_key: str, to_project: str) -> None:
    """Copy a Custom Vision project, its tags and images, into your own trainer.

    \b
    Example:
      export RIPELOOP_TRAINING_KEY=…
      ripeloop trainer clone --from https://fruit.cognitiveservices.azure.com --project fruit
    """
    with (
        answered(),
        closing(CustomVision(endpoint, training_key)) as source,
        closing(CustomVision(to, trainer_key)) as target,
    ):
        project = find_project(source, project)
        about = source.about(project)
        where = transfer.project_for(target, about, to_project)
        with _bar("copying images", source.count(project)) as told:
            counts = transfer.copy(about, transfer.items_of(source, project), target, where, told)
        _tell(counts, where)


def _tell_left_out(found: folders.DataSet) -> None:
    if found.left_out:
        some, count = ", ".join(map(plain, found.left_out[:SOME])), len(found.left_out)
        more = f" and {count - SOME} more" if count > SOME else ""
        click.echo(f"left out, for they are no images in a tag's folder: {count} files, {some}{more}", err=True)


def _tell(counts: transfer.Counts, project: str) -> None:
    click.echo(
        f"project {project}: {counts.added} images added, {counts.already} were there "
        f"({counts.retagged} with other tags), {counts.tags} tags made, {counts.refused} images refused"
    )
    stay = {
        "images, other tags": counts.other_tags,
        "images, other values of metadata": counts.other_words,
        "tags, another description": counts.other_descriptions,
    }
    if told := "; ".join(f"{count} {what}" for what, count in stay.items() if count):
        click.echo(f"not as in the source, and left as it is there: {told}", err=True)
    if counts.shortened:
        click.echo(
            f"of {counts.shortened} images not all is kept there: it takes 10 pairs of metadata an image", err=True
        )
    for reason in counts.reasons:
        click.echo(f"refused: {reason}", err=True)
    if counts.refused:
        sys.exit(NOT_AS_WANTED)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere nothing, for the counts come at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
