"""`python -m trainer`: a service that speaks Custom Vision; `python -m trainer train`: a folder in, a model out."""

from __future__ import annotations

import os

# before anything imports numpy: OpenBLAS's threads wait for each other by spinning, and where other programs need the
# cores as well that makes a fit twenty times slower; on idle cores they gain little
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from classifier.serving.url import Hosts
from ripeloop import process
from ripeloop.errors import RipeloopError, SettingsError
from ripeloop.process import option
from trainer.serve import serve
from trainer.settings import ServeSettings, Settings

FAILED = 2
PIPE_WIDTH = 200


@click.group(invoke_without_command=True, context_settings={"auto_envvar_prefix": "TRAINER", "show_default": True})
@option("--data", type=click.Path(path_type=Path), metavar="DIR",
        help="The folder for projects, images and models, made if needed. To serve it must be set.")  # fmt: skip
@option("--host", default="127.0.0.1",
        help="The address to listen on; other computers reach 0.0.0.0, and that takes a key.")  # fmt: skip
@option("--port", default=8088, type=click.IntRange(0, 65535),
        help="The port; 0: a free one.")  # fmt: skip
@option("--training-key", default="", show_default=False,
        help="What requests must send as Training-Key; set it in the environment, unseen.")  # fmt: skip
@option("--prediction-key", default="", show_default=False,
        help="What they must send as Prediction-Key; empty: the training key.")  # fmt: skip
@option("--url", default="",
        help="What links to images and models begin with; empty: the address each client asked for.")  # fmt: skip
@option("--url-hosts", default="",
        help="Hosts that images may be fetched from, as in cam1.local,cam2.local:8000; empty: none.")  # fmt: skip
@option("--url-private", is_flag=True,
        help="Let the hosts of --url-hosts have private addresses.")  # fmt: skip
@option("--calls-per-second", default=0.0, type=click.FloatRange(min=0),
        help="More calls are told to come again (429), as Custom Vision does; 0: any number.")  # fmt: skip
@process.log_options
@click.version_option(package_name="ripeloop")
@click.pass_context
def main(context: click.Context, /, log_level: str, log_json: bool, **options: Any) -> None:
    """Train image classifiers on this computer, in the form Custom Vision exports.

    Without a command, a service that speaks Custom Vision's Training and Prediction APIs for classification projects:
    give its address to their SDK as the endpoint. Its page shows how far trainings are.

    \b
    Example:
      TRAINER_TRAINING_KEY=... python -m trainer --data trainer-data --port 8088
    """
    if context.invoked_subcommand is None:
        process.run(_serve(options), log_level=log_level, log_json=log_json)


async def _serve(options: dict[str, Any]) -> None:
    if options["data"] is None:
        raise SettingsError("set --data (TRAINER_DATA) to the folder the trainer shall keep everything in")
    hosts, private = options.pop("url_hosts"), options.pop("url_private")
    options["url_hosts"] = Hosts.parse(hosts, private=private) if hosts.strip() else None
    await serve(ServeSettings(**options))


@main.command("train")
@option("--images", type=click.Path(path_type=Path), required=True, metavar="DIR",
        help="Your labelled images: DIR/<tag>/*.jpg, two tags or more, five images or more of each.")  # fmt: skip
@option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE",
        help="The zip to write, for `python -m classifier --model FILE`.")  # fmt: skip
@option("--int8", is_flag=True,
        help="Train a model in 8 bits: about twice as fast on the device, a third of the size.")  # fmt: skip
def train_command(images: Path, out: Path, int8: bool) -> None:
    """Train a model on the images in DIR and write its export to FILE.

    Then shows how well it did on images it had not seen.

    \b
    Example:
      python -m trainer train --images pictures/ --out model.zip
    """
    from trainer import train, view  # the service, which stays small, needs none of what they bring

    try:
        trained = train.run(Settings(images, out, int8), Console(stderr=True))
    except RipeloopError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    view.show(Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH), trained)


if __name__ == "__main__":
    main()
