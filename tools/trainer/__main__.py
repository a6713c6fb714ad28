"""`python -m trainer`: labelled images in, a model to release out."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from ripeloop.errors import RipeloopError, SettingsError
from trainer import folder, view
from trainer.export import write_export
from trainer.features import BadTrainingImage
from trainer.settings import Settings
from trainer.training import Trained, check_enough, train

FAILED = 2
PIPE_WIDTH = 200


@click.group(context_settings={"auto_envvar_prefix": "TRAINER", "show_default": True})
@click.version_option(package_name="ripeloop")
def main() -> None:
    """Train image classifiers on this computer, in the form Custom Vision exports."""


@main.command("train")
@click.option("--images", type=click.Path(path_type=Path), required=True, show_envvar=True, metavar="DIR",
              help="Your labelled images: DIR/<tag>/*.jpg, two tags or more, five images or more of each.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, show_envvar=True, metavar="FILE",
              help="The zip to write, for `python -m classifier --model FILE`.")  # fmt: skip
@click.option("--int8", is_flag=True, show_envvar=True,
              help="Train a model in 8 bits: about twice as fast on the device, a third of the size.")  # fmt: skip
def train_command(images: Path, out: Path, int8: bool) -> None:
    """Train a model on the images in DIR and write its export to FILE.

    Then shows how well it did on images it had not seen.

    \b
    Example:
      python -m trainer train --images pictures/ --out model.zip
    """
    try:
        trained = run(Settings(images, out, int8), Console(stderr=True))
    except RipeloopError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    view.show(Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH), trained)


def run(settings: Settings, console: Console) -> Trained:
    """Train and write; `console` is told how far it is. Raises RipeloopError."""
    if settings.out.is_dir():
        raise SettingsError(f"{settings.out} is a folder; name the file to write, like {settings.out / 'model.zip'}")
    found = folder.find(settings.images)
    check_enough({tag: len(paths) for tag, paths in found.images.items()})
    if found.left_out:
        more = f" and {len(found.left_out) - 1} more" if len(found.left_out) > 1 else ""
        line = f"not an image by its name, left out: {found.left_out[0]}{more}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    total = len(found.in_order)
    with view.progress(console, "looking at the images") as told:
        try:
            trained = train(
                {tag: [folder.read(path) for path in paths] for tag, paths in found.images.items()},
                on_done=lambda done: told(done, total),
                int8=settings.int8,
            )
        except BadTrainingImage as error:
            path = found.in_order[error.position]
            raise SettingsError(f"{path} cannot be learnt from: {error.reason}; replace it or take it away") from error
    write_export(settings.out, trained.to_zip())
    return trained


if __name__ == "__main__":
    main()
