"""`ripeloop config`: what every command is told and by whom, and examples to start from."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from retrain.config import FILE, PREFIX, WHERE, Setting, from_environment, settings_at, settings_of, values_in
from retrain.settings import KEEP_KEYS, json_option
from retrain.terminal import console

HIDDEN = "(hidden)"
WIDTH = 118
# examples in words, where a default says nothing
_AS_IN = {"endpoint": "https://fruit.cognitiveservices.azure.com", "cloud-blobs": "cloud"}


@dataclass(frozen=True, slots=True)
class Held:
    """A setting as it is: for all commands or for one, its value and where that comes from."""

    name: str
    value: Any
    source: str

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        return {"setting": self.name, "value": self.value, "from": self.source}


@click.command("config")
@click.option(
    "--all", "everything", is_flag=True, envvar="RIPELOOP_CONFIG_ALL", show_envvar=True, help="Show defaults, too."
)
@click.option(
    "--example",
    type=click.Choice(["toml", "env"]),
    envvar="RIPELOOP_CONFIG_EXAMPLE",
    show_envvar=True,
    help="Print all there is with its meaning instead: as a ripeloop.toml, or as environment variables.",
)
@json_option
@click.pass_context
def config_command(context: click.Context, /, *, everything: bool, example: str | None, as_json: bool) -> None:
    """Show what is set for the commands, and whether ripeloop.toml or the environment says so. Secrets are hidden.

    \b
    Example:
      ripeloop config
      ripeloop config --example toml > ripeloop.toml
    """
    root = context.find_root().command
    if example is not None:
        click.echo("\n".join(toml_example(root) if example == "toml" else env_example(root)))
        return
    path, tree = context.meta.get(WHERE, (None, {}))
    found = [one for one in held(root, path, tree) if everything or one.source != "default"]
    if as_json:
        document = {"file": None if path is None else str(path), "settings": [one.to_json() for one in found]}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"the file: {path}" if path else f"no file: there is no {FILE} here, and --config names none")
    if found:
        table = Table(box=None)
        for column in ("setting", "value", "from"):
            table.add_column(column, overflow="fold")
        for one in found:
            table.add_row(one.name, _as_toml(one.value), one.source)
        console().print(table)


def held(root: click.Command, path: Path | None, tree: Mapping[str, Any]) -> list[Held]:
    """Every setting once where all commands have the same, and once more for each table that says otherwise."""
    said = dict(values_in(tree, root))
    found: dict[str, Held] = {}
    for setting in settings_of(root):
        in_table = [
            Held(".".join(place), value, str(path))
            for place, value in said.items()
            if len(place) > 1 and setting in settings_at(place, root) and from_environment(setting) is None
        ]
        for one in in_table:
            found[one.name] = one
        if not in_table:
            found.setdefault(setting.name, _of_all(setting, said, path))
    return sorted(found.values(), key=lambda one: ("." in one.name, one.name))


def toml_example(root: click.Command) -> Iterator[str]:
    """A ripeloop.toml with every setting commented out: shared ones at the top, then a table for each command."""
    yield from _comment(
        "What the `ripeloop` commands are told. A flag or an environment variable goes before this file. "
        "Keys are not taken from here: set them in the environment; .env.template names them."
    )
    shared, own = _by_place(root)
    for setting in shared.values():
        yield ""
        yield from _lines(setting, setting.name)
    for path, settings in own.items():
        yield from ("", f"[{'.'.join(path)}]")
        for setting in settings:
            yield from _lines(setting, setting.flag)


def env_example(root: click.Command) -> Iterator[str]:
    """A line for each environment variable, commented out, with its default, below a line of its meaning."""
    yield "# The file of settings that are no keys; without it, the one of that name in the current folder."
    yield f"#{PREFIX}CONFIG={FILE}"
    shared, own = _by_place(root)
    settings = [*shared.values(), *(one for path in own.values() for one in path)]
    for setting in {one.variables[0]: one for one in settings}.values():
        yield f"# {_first_sentence(setting)}"
        yield f"#{setting.variables[0]}={_as_variable(_default(setting))}"


def _of_all(setting: Setting, said: Mapping[tuple[Any, ...], Any], path: Path | None) -> Held:
    if (given := from_environment(setting)) is not None:
        variable, value = given
        return Held(setting.name, HIDDEN if setting.is_secret(value) else value, f"environment {variable}")
    if (setting.name,) in said:
        return Held(setting.name, said[(setting.name,)], str(path))
    return Held(setting.name, _default(setting), "default")


def _by_place(root: click.Command) -> tuple[dict[str, Setting], dict[tuple[str, ...], list[Setting]]]:
    """The settings of several commands by name, each once; and the rest by command."""
    by_name: dict[str, list[Setting]] = {}
    for setting in settings_of(root):
        by_name.setdefault(setting.name, []).append(setting)
    commands = root.commands if isinstance(root, click.Group) else {}  # a file has no room for both under one name
    shared = {
        name: some[0] for name, some in by_name.items() if (len(some) > 1 or not some[0].path) and name not in commands
    }
    own: dict[tuple[str, ...], list[Setting]] = {}
    for setting in settings_of(root):
        if setting.name not in shared:
            own.setdefault(setting.path, []).append(setting)
    return shared, own


def _lines(setting: Setting, name: str) -> Iterator[str]:
    """A comment with the meaning, and the setting; of a key only where it belongs."""
    yield from _comment(_meaning(setting))
    if setting.is_key:
        yield from _comment(f"{name} is a key: set {setting.variables[0]} in the environment.")
        return
    default = _default(setting)
    yield f"#{name} = {_as_toml(_AS_IN.get(name, '') if default in (None, '') else default)}"


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _meaning(setting: Setting) -> str:
    return " ".join((setting.option.help or "").replace(KEEP_KEYS, "").split())


def _first_sentence(setting: Setting) -> str:
    """What a comment line says: a sentence that begins with a capital and ends."""
    first = re.split(r"(?<=[.!?]) (?=[A-Z`])", _meaning(setting))[0].rstrip(";:, ")
    first = first[:1].upper() + first[1:]
    return first if first.endswith((".", "!", "?", ")")) else f"{first}."


def _default(setting: Setting) -> Any:
    """The default as a person would write it, empty where there is none."""
    given = setting.option.to_info_dict()["default"]
    if setting.option.multiple:
        return list(given or ())
    if setting.option.is_flag and given is None:
        return False
    return "" if given is None or callable(given) else given if isinstance(given, bool | int | float) else str(given)


def _as_variable(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _as_toml(value: Any) -> str:
    """TOML's words for texts, numbers and lists are JSON's."""
    return json.dumps(value, ensure_ascii=False)
