"""The one config of all commands: `ripeloop.toml`. A flag goes before the environment, that before the file.

At the file's top stand settings for every command that has them, under the name of their environment variable without
`RIPELOOP_`, in lower case with dashes; a table for each command, `[judge]` or `[dataset.export]`, holds its own.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from retrain.settings import KEEP_KEYS, USAGE

FILE = Path("ripeloop.toml")
PREFIX = "RIPELOOP_"
WHERE = "retrain.config"  # in click's meta: the file that was read
KEYS = ("_KEY", "_PASSWORD", "_TOKEN", "_SECRET")
MAX_BYTES = 1024 * 1024

# about the call itself, and not for a file
_NO_SETTING = {"help", "version", "config"}

Command = TypeVar("Command", bound=Callable[..., Any])


class BadConfig(click.ClickException):
    """The file cannot be used; the message says what to write."""

    exit_code = USAGE


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of one command, whose words are `path`, as ("dataset", "export")."""

    path: tuple[str, ...]
    option: click.Option

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables it is read from, ours first."""
        given = self.option.envvar
        named = (given,) if isinstance(given, str) else tuple(given or ())
        by_itself = "_".join((*self.path, str(self.option.name))).upper().replace("-", "_")
        return named or (f"{PREFIX}{by_itself}",)

    @property
    def name(self) -> str:
        """Its name at the top of the file: the same for all options that share a variable."""
        return self.variables[0].removeprefix(PREFIX).lower().replace("_", "-")

    @property
    def flag(self) -> str:
        """Its name in the table of its command."""
        return max(self.option.opts, key=len).lstrip("-")

    @property
    def is_key(self) -> bool:
        """Whether it is a secret, whatever its value."""
        named = self.variables[0].endswith(KEYS)
        return named and not isinstance(self.option.type, click.Path)

    def is_secret(self, value: object) -> bool:
        """Whether this value must not be shown: a connection string and a SAS URL hold a key, a folder does not."""
        keyed = KEEP_KEYS in (self.option.help or "") and "=" in str(value)
        return self.is_key or keyed or "sig=" in str(value)


def config_option(command: Command) -> Command:
    """Add `--config` to the group of all commands."""
    option = click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="RIPELOOP_CONFIG",
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=_read_into,
        show_default=False,
        metavar="FILE",
        help=f"Settings for all commands; without it {FILE} in the current folder, where there is one. "
        "`ripeloop config` shows what holds.",
    )
    return option(command)


def settings_of(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """All settings of a command and of those below it."""
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in _NO_SETTING:
            yield Setting(path, option)
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from settings_of(below, (*path, name))


def read(path: Path, root: click.Command) -> dict[str, Any]:
    """The file as a tree of tables. Raises BadConfig for what no command takes."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadConfig(f"{path} has more than {MAX_BYTES} bytes: settings need less")
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadConfig(f"{path} cannot be read ({error}): `ripeloop config --example toml` prints one") from error
    for place, value in values_in(tree, root):
        found = settings_at(place, root)
        if not found:
            raise BadConfig(f"{path}: {_unknown(place, root)}")
        for setting in found:
            _check(path, ".".join(place), setting, value)
    return tree


def values_in(tree: Mapping[str, Any], root: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each value of the file with its place: the words of its table and its name."""
    tables = _tables(root)
    for name, value in tree.items():
        if isinstance(value, dict) and (*path, name) in tables:
            yield from values_in(value, root, (*path, name))
        else:
            yield (*path, name), value


def settings_at(place: tuple[str, ...], root: click.Command) -> list[Setting]:
    """The settings that a place in the file sets: one of its command, or of all commands that have it."""
    *path, name = place
    if path:
        return [one for one in settings_of(root) if one.path == tuple(path) and name in (one.flag, one.name)]
    return [one for one in settings_of(root) if name == one.name]


def default_map(tree: Mapping[str, Any], root: click.Command) -> dict[str, Any]:
    """The file as click takes it: parameters by command; what a command's own table says goes before the top."""
    found: dict[str, Any] = {}
    for place, value in sorted(values_in(tree, root), key=lambda one: len(one[0])):
        for setting in settings_at(place, root):
            table = found
            for word in setting.path:
                table = table.setdefault(word, {})
            if _says_nothing(setting, value):
                table.pop(str(setting.option.name), None)
                continue
            table[str(setting.option.name)] = _as_click_takes_it(setting, value)
    return found


def from_environment(setting: Setting, environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """The variable it is set by and its value; empty ones count as none."""
    values = os.environ if environ is None else environ
    return next(((name, values[name]) for name in setting.variables if values.get(name)), None)


def _says_nothing(setting: Setting, value: object) -> bool:
    """Empty where only a number, a path or one of some words would do: as an empty variable, it is not set."""
    return (
        value == "" and not setting.option.multiple and not isinstance(setting.option.type, click.types.StringParamType)
    )


def _as_click_takes_it(setting: Setting, value: Any) -> Any:
    """As a variable would say it: texts, a list of them where there may be several; true and false as they are."""
    said = [one if isinstance(one, bool) else str(one) for one in (value if isinstance(value, list) else [value])]
    return said if setting.option.multiple else said[0]


def _read_into(context: click.Context, _: click.Parameter, given: Path | None) -> None:
    """Every command finds what the file says as its defaults."""
    path = given or (FILE if FILE.is_file() else None)
    if path is not None and not context.resilient_parsing:
        tree = read(path, context.command)
        context.default_map = default_map(tree, context.command)
        context.meta[WHERE] = (path, tree)


def _check(path: Path, place: str, setting: Setting, value: object) -> None:
    """Raises BadConfig for a secret, and for what no option can be."""
    if setting.is_secret(value):
        raise BadConfig(
            f"{path}: {place} is a key or holds one: set {setting.variables[0]} in the environment instead, for files "
            "like this one are copied, shared and kept"
        )
    if _says_nothing(setting, value):
        return
    if isinstance(value, dict):
        raise BadConfig(f"{path}: {place} is a setting, not a table: write {place} = a value")
    if isinstance(value, list) and not setting.option.multiple:
        raise BadConfig(f"{path}: {place} takes one value, not a list")
    members = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float | bool) for one in members):
        raise BadConfig(f"{path}: {place} must be a text in quotes, a number, true or false")
    if not setting.option.is_flag and any(isinstance(one, bool) for one in members):
        raise BadConfig(f"{path}: {place} must be a text in quotes or a number")
    if isinstance(setting.option.type, click.Path | click.File):
        return  # whether it is there, only its own command asks
    try:
        for one in members:
            setting.option.type.convert(one if isinstance(one, bool) else str(one), setting.option, None)
    except click.BadParameter as error:
        wrong = next((one for one in members if not _is_number(one)), None)
        said = (
            f"{wrong!r} is no number{_bounds(setting)}" if _is_ranged(setting) and wrong is not None else error.message
        )
        raise BadConfig(f"{path}: {place}: {said}") from error


def _is_ranged(setting: Setting) -> bool:
    return isinstance(setting.option.type, click.IntRange | click.FloatRange)


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _bounds(setting: Setting) -> str:
    """The numbers an option takes, in words."""
    low, high = (getattr(setting.option.type, end, None) for end in ("min", "max"))
    what = "a whole number" if isinstance(setting.option.type, click.IntRange) else "a number"
    if low is None and high is None:
        return f": write {what}"
    if high is None:
        return f": write {what} from {low:g} on"
    return f": write {what} up to {high:g}" if low is None else f": write {what} from {low:g} to {high:g}"


def _unknown(place: tuple[str, ...], root: click.Command) -> str:
    *path, name = place
    tables = _tables(root)
    if path:
        where = f"[{'.'.join(path)}] knows no setting {name!r}"
        names = {one.flag for one in settings_of(root) if one.path == tuple(path)}
    else:
        where = f"there is no setting and no command {name!r}"
        names = {one.name for one in settings_of(root)}
    names |= {table[-1] for table in tables if table[:-1] == tuple(path)}
    return f"{where}{_nearest(name, names)}"


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), 1, 0.5)
    return f": did you mean {near[0]!r}?" if near else "; `ripeloop config --example toml` prints all there are"


def _tables(command: click.Command, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The words of every command below."""
    found = {path} if path else set()
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            found |= _tables(below, (*path, name))
    return found
