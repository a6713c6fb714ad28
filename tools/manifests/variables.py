"""The variables of a template, and the files their values stand in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ripeloop.errors import SettingsError

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>\w+))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Fill in `$NAME` and `${NAME}`; what is not set stays as it is."""

    def value(found: re.Match[str]) -> str:
        return variables.get(found["braced"] or found["plain"] or "", found[0])

    return _VARIABLE.sub(value, text)


def read_env_file(path: Path) -> dict[str, str]:
    """The `NAME=value` lines of a file; quotes around a value are dropped. Raises SettingsError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {why_unread(error)}; name another with --env-file") from None
    values: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            values[name.strip()] = _unquote(value.strip())
    return values


def find_env_file(deployment: Path) -> Path | None:
    """The file of values beside a deployment: `.env`, else the `.env.template` it is made from."""
    beside = (deployment.with_name(".env"), deployment.with_name(".env.template"))
    return next((path for path in beside if os.access(path, os.F_OK) and path.is_file()), None)


def why_unread(error: OSError | UnicodeDecodeError) -> str:
    """Why a text file could not be read."""
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value
