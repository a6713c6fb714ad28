"""`make demo`: the whole system on this computer, with nothing to set up."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import re
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from demo.account import strangers
from demo.earlier import REPORT, kept_beside, report_of, set_aside
from demo.loop import Loop, Told, make_project, opened
from demo.material import OWN_AT_MOST, Material, prepare
from demo.report import write_report
from demo.system import Plan, Training, running
from demo.view import LEGEND, View, bad_model, shown, summary, turns
from ripeloop.errors import RipeloopError, SettingsError
from ripeloop.process import first_of, option

PROJECT = Path(__file__).parents[2]
TURNS = 3
WATCH_SECONDS = 6  # for a picture show; on a device it is 600
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
    trainer_port: int
    turns: int
    record: Path | None


@click.command(context_settings={"show_default": True, "auto_envvar_prefix": "DEMO"})
@option("--images", type=click.Path(path_type=Path),
        help="Your own pictures, DIR/<tag>/*.jpg or straight in DIR.  [default: drawn bananas]")  # fmt: skip
@option("--count", type=click.IntRange(0), default=0,
        help=f"Pictures to post in all; 0: enough drawn ones, or up to {OWN_AT_MOST} of your own.")  # fmt: skip
@option("--turns", type=click.IntRange(0, 10), default=TURNS,
        help="How often to label, train, judge and release, as far as there are pictures for it.")  # fmt: skip
@option("--rate", type=click.FloatRange(0), default=0.0,
        help="Pictures a second at most; 0: as fast as they are answered.")  # fmt: skip
@option("--folder", type=click.Path(path_type=Path), default=PROJECT / ".demo",
        help="Where pictures, model, logs and the cloud's folder go.")  # fmt: skip
@option("--gateway", default="127.0.0.1", help="Loopback address of the local edge hub.")
@option("--port", type=click.IntRange(1, 65535), default=8080, help="The classifier's port.")
@option("--hub-port", type=click.IntRange(1, 65535), default=8484,
        help="Port of the local IoT Hub service.")  # fmt: skip
@option("--trainer-port", type=click.IntRange(1, 65535), default=8088,
        help="The trainer's port.")  # fmt: skip
@option("--record", type=click.Path(path_type=Path),
        help="Also write what was shown to this SVG file.")  # fmt: skip
def main(**options: object) -> None:
    """Run the whole loop on this computer: images in, answers out, and a better model from those it was unsure of.

    Starts the local edge runtime, the classifier, the sampler and the trainer as processes, and posts pictures as a
    camera would. A stand-in labels what was flagged and uploaded, for it knows the truth; a new model is trained,
    judged, released by twin and swapped in, three times. At the end a bad model is released on purpose, and the device
    takes it back. Exits 1 if a flagged image is neither uploaded nor counted as dropped.

    \b
    Examples:
      make demo
      make demo IMAGES=~/pictures
      .venv/bin/python -m demo --turns 1 --port 9000
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
    run, seal = settings.folder / "run", Ed25519PrivateKey.generate()
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
        extra={
            "CLASSIFIER_MAX_BODY": str(PHONE_PHOTOGRAPH),
            "CLASSIFIER_MODEL_KEY": _public(seal),
            "CLASSIFIER_WATCH_SECONDS": str(WATCH_SECONDS),
        },
        training=Training(run / "trainer", settings.trainer_port, secrets.token_urlsafe(24))
        if settings.turns
        else None,
    )
    plan.check_ports()
    material = await asyncio.to_thread(
        prepare(settings.images, settings.folder, settings.turns, settings.count), console
    )
    _keep_the_one_before(console, run)
    plan = replace(plan, model=material.model, training=plan.training if material.turns else None)
    with ExitStack() as starting:
        starting.enter_context(
            console.status("starting the edge runtime, the sampler, the classifier and the trainer ...")
        )
        async with running(plan) as system, opened(system) as fleet:
            _write_key(system.state / "signing.pem", seal)
            if plan.training is not None:
                await asyncio.to_thread(make_project, plan.training, material.known)
            starting.close()
            with View(console) as view, _noted(run / "logs" / "retrain.log"):
                told = await Loop(system, fleet, material, view, run / "retrain", settings.rate).run()
    return await asyncio.to_thread(_conclude, console, run, material, told)


def _keep_the_one_before(console: Console, run: Path) -> None:
    """Make room for this run, and say where the one before it is. Raises SettingsError."""
    try:
        before = set_aside(run)
    except OSError as error:
        raise SettingsError(
            f"the run before cannot be set aside: {error.filename or run}: {error.strerror or error}; remove "
            f"{shown(run)} and {shown(kept_beside(run))}"
        ) from error
    if before is not None:
        where = shown(report_of(before) or before)
        console.print(f"The run before this one is kept until the next: {where}", highlight=False, soft_wrap=True)


def _public(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def _write_key(path: Path, key: Ed25519PrivateKey) -> None:
    """For this run alone: it lies in the folder that is removed at the end."""
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@contextmanager
def _noted(path: Path) -> Iterator[None]:
    """What the turn says beside its lines goes to a file: it would run through the picture."""
    with path.open("w") as file, redirect_stderr(file):
        yield


def _conclude(console: Console, run: Path, material: Material, told: Told) -> bool:
    day, account = told.day, told.account
    for answer in day.answers:
        if answer.refusal:
            console.print(
                f"[red]not answered[/] {answer.picture.path}: {answer.refusal}", highlight=False, soft_wrap=True
            )
    for line in day.unreadable:
        console.print(Text("not read", style="red").append(f" {line}", style="default"), soft_wrap=True)
    lost = bool(account.missing or strangers(account, day))
    console.print()
    if material.turns:
        console.print(Text("Turn by turn", style="italic"))
        console.print(turns(told.rounds))
        if any(one.verdict for one in told.rounds):
            console.print(Text(LEGEND, style="dim"))
        console.print()
        if told.undone is not None:
            console.print(bad_model(told.undone))
            console.print()
    console.print(summary(day, account, right=not material.turns))
    console.print()
    if material.turns:
        report = run / REPORT
        write_report(report, material, told)
        console.print(f"The report, with pictures: {shown(report)}", highlight=False, soft_wrap=True)
    if lost:
        console.print(
            f"[red bold]{account.missing} flagged images are unaccounted for[/]; the logs are in {run / 'logs'}"
        )
        return True
    console.print(
        f"[green]Every flagged image is accounted for.[/] The uploaded ones are in {shown(run / 'cloud')}",
        highlight=False,
        soft_wrap=True,
    )
    return False


if __name__ == "__main__":
    main()
