"""`ripeloop manifest render` and `ripeloop manifest check`: what they are told, and how they end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from retrain.manifest.check import check
from retrain.manifest.deployed import deployed
from retrain.manifest.fill import fill
from retrain.manifest.finding import Finding
from retrain.manifest.rendered import read_document
from retrain.manifest.solution import ENV, EXPLAINED, Solution, example_secrets, read_solution
from retrain.settings import NOT_AS_WANTED, USAGE, json_option
from ripeloop.disk import write_whole
from ripeloop.errors import SettingsError

ENDS = (
    "Ends with 0: the manifest is sound; 1: it is not, and every error is listed; 2: wrong usage, a setting is missing \
or a file cannot be read. Warnings change nothing."
)

FILE = click.Path(dir_okay=False, path_type=Path)

laptop_option = click.option(
    "--laptop",
    is_flag=True,
    envvar="RIPELOOP_LAPTOP",
    show_envvar=True,
    help="This is for a laptop: the example's keys, which everybody knows, are all right.",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `render` is told."""

    template: Path
    platform: str
    env_file: Path | None
    out: Path | None
    laptop: bool

    @property
    def target(self) -> Path:
        """The file to write; where genconfig writes it, unless another was named."""
        name = self.template.name.removesuffix(".json").removesuffix(".template")
        return self.out or self.template.parent / "config" / f"{name}.{self.platform}.json"


@click.group()
def manifest() -> None:
    """Deployment manifests: rendered from the template, and checked before a device gets them."""


@manifest.command("render", epilog=ENDS)
@click.argument("template", type=FILE, default=Path("deployment.template.json"))
@click.option("--platform", default="amd64", envvar="RIPELOOP_PLATFORM", show_envvar=True,
              help="The devices' platform, as the module.json files name it.")  # fmt: skip
@click.option("--env-file", type=FILE, envvar="RIPELOOP_ENV_FILE", show_envvar=True, metavar="FILE",
              show_default=".env beside the template",
              help="The settings, as NAME=value lines. The environment goes before them.")  # fmt: skip
@click.option("--out", type=FILE, envvar="RIPELOOP_MANIFEST_OUT", show_envvar=True, metavar="FILE",
              show_default="config/deployment.PLATFORM.json",
              help="Where to write it. It holds keys: only its owner may read it.")  # fmt: skip
@laptop_option
@json_option
def render_command(
    template: Path, platform: str, env_file: Path | None, out: Path | None, laptop: bool, as_json: bool
) -> None:
    """Fill TEMPLATE from .env, the environment and the module.json files; what comes out is checked, then written.

    \b
    Example:
      ripeloop manifest render --platform arm64v8
      ripeloop deploy config/deployment.arm64v8.json --device line-1
      ripeloop manifest render --env-file .env.template --laptop
    """
    settings = Settings(template, platform, env_file, out, laptop)
    with _told():
        solution = read_solution(template, env_file, os.environ)
        if platform not in solution.platforms:
            raise SettingsError(f"no module.json knows the platform {platform}: {', '.join(solution.platforms)}")
        filled = fill(solution.template, solution.values, solution.placeholders(platform))
        if filled.unfilled:
            _show(filled.unfilled, None, as_json)
            sys.exit(USAGE)
        around = list(_around(solution, settings))
        known = laptop or any(finding.place == ENV for finding in around)  # the key in the manifest is the same fault
        found = [*around, *check(filled.manifest, laptop=known)]
        sound = not any(finding.serious for finding in found)
        if sound:
            _write(settings.target, filled.manifest)
    _show(found, settings.target if sound else None, as_json)
    if not sound:
        sys.exit(NOT_AS_WANTED)
    if not as_json:
        click.echo(f"{settings.target} is written: {_counted(filled.manifest)}")
        if laptop and any(finding.serious for finding in check(filled.manifest)):
            click.echo("it holds the example's key, for a laptop alone: check it with --laptop, too", err=True)


@manifest.command("check", epilog=ENDS)
@click.argument("file", type=FILE)
@laptop_option
@json_option
def check_command(file: Path, laptop: bool, as_json: bool) -> None:
    """What is wrong with FILE, a rendered manifest: its schema, routes, images, ports, volumes, limits and order.

    So is what our modules would refuse of their variables and desired properties. Whether keys, addresses and the model
    are right, only the device tells.

    \b
    Example:
      ripeloop manifest check config/deployment.amd64.json
      ripeloop manifest check config/deployment.amd64.json --json
    """
    with _told():
        document = read_document(file)
    found = check(document, laptop=laptop)
    _show(found, None, as_json)
    if any(finding.serious for finding in found):
        sys.exit(NOT_AS_WANTED)
    if not as_json:
        click.echo(f"{file} is sound: {_counted(document)}")


def _around(solution: Solution, settings: Settings) -> Iterator[Finding]:
    """What is wrong beside the manifest: with the modules' images, and with secrets."""
    for image in solution.images:
        yield from image.wrong
    if not settings.laptop:
        yield from example_secrets(solution, settings.template.with_name(EXPLAINED))


def _show(found: Sequence[Finding], written: Path | None, as_json: bool) -> None:
    if as_json:
        sound = not any(finding.serious for finding in found)
        click.echo(
            json.dumps(
                {
                    "sound": sound,
                    "written": None if written is None else str(written),
                    "findings": [finding.to_json() for finding in found],
                },
                indent=2,
            )
        )
        return
    for finding in found:
        click.echo(f"{'error' if finding.serious else 'warning'}: {finding.place}: {finding.says}", err=True)


def _write(path: Path, document: dict[str, Any]) -> None:
    """The whole of it or nothing, for its owner's eyes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(document, indent=2) + "\n").encode(), 0o600)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; name another with --out") from error


def _counted(document: dict[str, Any]) -> str:
    found = deployed(document)
    modules = [module.name for module in found.modules if not module.is_system]
    return f"{len(modules)} modules ({', '.join(modules)}), {len(found.routes)} routes"


@contextmanager
def _told() -> Iterator[None]:
    """A file or a setting that is not as it should be is one line and an exit code."""
    try:
        yield
    except SettingsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(USAGE)
