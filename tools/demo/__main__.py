"""`make demo`: the whole system on this computer, with nothing to set up."""

from __future__ import annotations

import asyncio
import fcntl
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from classifier.decoding import decode
from demo import starter
from demo.account import Account, strangers
from demo.camera import Shift, post_all
from demo.pictures import Picture, find, mixed, split_for_training
from demo.system import CLASSIFIER, SAMPLER, Plan, System, running, until
from demo.view import View, shown, summary
from retrain.fleet import Fleet
from ripeloop.blobs import open_blobs
from ripeloop.errors import BadImage, Offline, RipeloopError, SettingsError
from ripeloop.prediction import image_id
from ripeloop.process import first_of
from trainer.view import progress

PROJECT = Path(__file__).parents[2]
DEVICE = "laptop"
CONTAINER = "samples"
LOOK_SECONDS = 0.5
SETTLE_SECONDS = 60.0
DRAWN = 180
SLOWEST_RATE = 2.0  # pictures a second, for how long to wait
REPEATED = 12  # a camera sometimes posts the same frame twice
OWN_AT_MOST = 1000
FAILED, STOPPED = 2, 130
PHONE_PHOTOGRAPH = 32 * 1024 * 1024  # bytes; the container's own limit of 4 MiB would refuse most


@dataclass(frozen=True, slots=True)
class Settings:
    """What the demo is told; one flag and one environment variable each."""

    images: Path | None
    count: int
    rate: float
    folder: Path
    gateway: str
    port: int
    hub_port: int
    record: Path | None


@click.command(context_settings={"show_default": True, "auto_envvar_prefix": "DEMO"})
@click.option("--images", type=click.Path(path_type=Path), show_envvar=True,
              help="Your own pictures, DIR/<tag>/*.jpg or straight in DIR.  [default: drawn bananas]")  # fmt: skip
@click.option("--count", type=click.IntRange(0), default=0, show_envvar=True,
              help=f"Pictures to post; 0: {DRAWN} drawn ones, or up to {OWN_AT_MOST} of your own.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(0), default=0.0, show_envvar=True,
              help="Pictures a second at most; 0: as fast as they are answered.")  # fmt: skip
@click.option("--folder", type=click.Path(path_type=Path), default=PROJECT / ".demo", show_envvar=True,
              help="Where pictures, model, logs and the cloud's folder go.")  # fmt: skip
@click.option("--gateway", default="127.0.0.1", show_envvar=True, help="Loopback address of the local edge hub.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_envvar=True, help="The classifier's port.")
@click.option("--hub-port", type=click.IntRange(1, 65535), default=8484, show_envvar=True,
              help="Port of the local IoT Hub service.")  # fmt: skip
@click.option("--record", type=click.Path(path_type=Path), show_envvar=True,
              help="Also write what was shown to this SVG file.")  # fmt: skip
def main(**options: object) -> None:
    """Run the main job on this computer: images in, answers out, the uncertain ones kept and uploaded.

    Starts the local edge runtime, the classifier and the sampler as three processes, posts pictures as a camera
    would, and shows where each flagged image went. Exits 1 if one is neither uploaded nor counted as dropped.

    \b
    Examples:
      make demo
      make demo IMAGES=~/pictures
      .venv/bin/python -m demo --port 9000 --rate 5
    """
    settings = Settings(**options)  # type: ignore[arg-type]
    console = Console(record=settings.record is not None, width=90 if settings.record else None)
    try:
        lost = asyncio.run(_until_signalled(settings, console))
    except (RipeloopError, ExceptionGroup) as error:
        if not isinstance(first_of(error), RipeloopError):
            raise
        click.echo(f"error: {first_of(error)}", err=True)
        sys.exit(FAILED)
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("stopped; nothing is left running", err=True)
        sys.exit(STOPPED)
    if settings.record:
        console.save_svg(str(settings.record), title="make demo", code_format=without_fonts(CONSOLE_SVG_FORMAT))
    sys.exit(1 if lost else 0)


async def _until_signalled(settings: Settings, console: Console) -> bool:
    """Run the demo; a closed terminal or SIGTERM ends it as Ctrl-C does, with everything it started."""
    task = asyncio.current_task()
    if task is not None:
        for signum in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
    with _only_one(settings.folder):
        return await demonstrate(settings, console)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One demo at a time in a folder. Raises SettingsError for a second one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"another demo is running in {shown(folder)}; wait for it, or give this one --folder and other ports"
            ) from None
        yield


def without_fonts(svg_format: str) -> str:
    """Rich's SVG form, less its fonts: they would be fetched from elsewhere when somebody looks at the picture."""
    return re.sub(r"@font-face \{\{.*?\}\}|<!-- .*? -->", "", svg_format, flags=re.DOTALL)


async def demonstrate(settings: Settings, console: Console) -> bool:
    """Run the demo; True if a flagged image is unaccounted for."""
    run = settings.folder / "run"
    plan = Plan(
        deployment=PROJECT / "deployment.template.json",
        env_file=PROJECT / ".env.template",
        model=Path(),
        logs=run / "logs",
        cloud=str(run / "cloud"),
        local=str(run / "local"),
        gateway=settings.gateway,
        port=settings.port,
        hub_port=settings.hub_port,
        extra={"CLASSIFIER_MAX_BODY": str(PHONE_PHOTOGRAPH)},
    )
    plan.check_ports()
    pictures, model = await asyncio.to_thread(_prepare, settings, console)
    with suppress(FileNotFoundError):
        shutil.rmtree(run)
    shift = Shift(len(pictures))
    with ExitStack() as starting:
        starting.enter_context(console.status("starting the edge runtime, the sampler and the classifier ..."))
        async with running(plan.with_model(model)) as system:
            starting.close()
            account = await _watch(system, settings, pictures, shift, console)
    return _conclude(console, run, shift, account)


def _prepare(settings: Settings, console: Console) -> tuple[list[Picture], Path]:
    """The pictures to post and the model to answer them."""
    models = settings.folder / "model"
    if settings.images is None:
        with progress(console, "training a model on a few drawn bananas") as told:
            model = starter.ensure_starter_model(models, told)
        with progress(console, "drawing bananas to post") as told:
            drawn = starter.ensure_drawn(settings.folder / "bananas", settings.count or DRAWN, told)
        pictures = mixed(find(drawn))
        return pictures + pictures[:REPEATED], model
    training, rest = split_for_training(find(settings.images.expanduser()), _is_image)
    if training:
        own = {tag: [picture.path for picture in found] for tag, found in training.items()}
        with progress(console, f"training a model on a few pictures of each tag ({', '.join(training)})") as told:
            model = starter.ensure_model_of(own, models, told)
    else:
        console.print(
            "[yellow]A model that knows only bananas will answer.[/] To train one on your own pictures, put them in "
            "folders named by tag, ten or more of each of two tags.",
            soft_wrap=True,
        )
        with progress(console, "training a model on a few drawn bananas") as told:
            model = starter.ensure_starter_model(models, told)
    if not training:
        rest = [Picture(picture.path, None) for picture in rest]  # its tags are none this model knows
    return mixed(rest)[: settings.count or OWN_AT_MOST], model


def _complain(console: Console, what: str, of: str) -> None:
    console.print(Text(what, style="red").append(f" {of}", style="default"), soft_wrap=True)


def _is_image(path: Path) -> bool:
    try:
        decode(path.read_bytes())
    except (BadImage, OSError):
        return False
    return True


async def _watch(
    system: System, settings: Settings, pictures: Sequence[Picture], shift: Shift, console: Console
) -> Account:
    """Post all pictures and show what happens until every flagged image has found its place."""
    hub = system.settings_of("hub")
    account, reasons = Account(), dict[str, str]()
    seconds = SETTLE_SECONDS + len(pictures) / (settings.rate or SLOWEST_RATE)
    async with (
        Fleet.open(hub["IOTHUB_CONNECTION_STRING"], Path(hub["IOTHUB_CA_FILE"])) as fleet,
        asyncio.TaskGroup() as tasks,
    ):
        posting = tasks.create_task(post_all(system.classifier_url, pictures, shift, settings.rate))

        async def settled() -> bool:
            nonlocal account
            system.check()
            try:
                account = await _account(fleet, system.plan.cloud, reasons)
            except Offline:  # a module that was just started is not at the hub yet
                return False
            view.show(shift, account, reasons)
            return posting.done() and account.settled(shift)

        with View(console) as view:
            try:
                await until("every flagged image has found its place", settled, seconds, LOOK_SECONDS)
            except Offline as error:
                console.print(f"[red]{error}[/]", highlight=False)
    return account


async def _account(fleet: Fleet, cloud: str, reasons: dict[str, str]) -> Account:
    classifier = await fleet.invoke(DEVICE, CLASSIFIER, "status")
    sampler = await fleet.invoke(DEVICE, SAMPLER, "status")
    found = []
    async with open_blobs(cloud, CONTAINER) as blobs:
        async for blob in blobs.list():
            name = Path(blob.name).stem
            if name not in reasons:
                reasons[name] = blob.metadata.get("reason", "")
            found.append((name, image_id(await blobs.get(blob.name)), blob.size))
    return Account.of(classifier, sampler, found)


def _conclude(console: Console, run: Path, shift: Shift, account: Account) -> bool:
    for answer in shift.answers:
        if answer.refusal:
            console.print(
                f"[red]not answered[/] {answer.picture.path}: {answer.refusal}", highlight=False, soft_wrap=True
            )
    for line in shift.unreadable:
        _complain(console, "not read", line)
    console.print()
    console.print(summary(shift, account))
    console.print()
    if account.missing or strangers(account, shift):
        console.print(
            f"[red bold]{account.missing} flagged images are unaccounted for[/]; the logs are in {run / 'logs'}"
        )
        return True
    console.print(
        f"[green]Every flagged image is accounted for.[/] The uploaded ones are in {shown(run / 'cloud')}",
        soft_wrap=True,
    )
    return False


if __name__ == "__main__":
    main()
