"""The files a manifest is made from: the template, the settings, and each module's module.json and Dockerfile."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.variables import expand, read_env_file, why_unread
from retrain.manifest.finding import Finding
from ripeloop.errors import SettingsError

EXPLAINED, ENV = ".env.template", ".env"
_SECRET = re.compile(r".*_(KEY|PASSWORD|SECRET|TOKEN)")
_ROOTS = ("", "root", "0")


@dataclass(frozen=True, slots=True)
class Image:
    """A module's image as its module.json names it, for each platform."""

    module: str
    names: Mapping[str, str]
    """By platform."""
    wrong: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Solution:
    """What stands around a template."""

    template: Mapping[str, Any]
    values: Mapping[str, str]
    images: tuple[Image, ...]

    def placeholders(self, platform: str) -> dict[str, str]:
        """What stands for each image in the template, without its `${}`: the platform is asked for, or named."""
        found = {}
        for image in self.images:
            if platform in image.names:
                found[f"MODULES.{image.module}"] = image.names[platform]
            found |= {f"MODULES.{image.module}.{name}": of for name, of in image.names.items()}
        return found

    @property
    def platforms(self) -> list[str]:
        """Every platform any module has."""
        return sorted({platform for image in self.images for platform in image.names})


def read_solution(template: Path, env_file: Path | None, environment: Mapping[str, str]) -> Solution:
    """The solution in the template's folder. The `environment` goes before the file. Raises SettingsError."""
    document = _read(template)
    file = env_file or template.with_name(ENV)
    if env_file is None and not file.exists():
        raise SettingsError(f"there is no {file}: copy {EXPLAINED} to it and fill it in, or name one with --env-file")
    values = {**read_env_file(file), **environment}
    folders = sorted(path.parent for path in (template.parent / "modules").glob("*/module.json"))
    return Solution(document, values, tuple(read_image(folder, values) for folder in folders))


def read_image(folder: Path, values: Mapping[str, str]) -> Image:
    """What a module's folder says of its image. Raises SettingsError where its module.json cannot be read."""
    described = _read(folder / "module.json")
    image = _object(described, "image", folder)
    tag = _object(image, "tag", folder)
    platforms = _object(tag, "platforms", folder)
    repository, version = (expand(str(text), values) for text in (image.get("repository", ""), tag.get("version", "")))
    if not repository or not version:
        raise SettingsError(f"{folder / 'module.json'} lacks the image's repository or its tag's version")
    names = {platform: f"{repository.lower()}:{version}-{platform}" for platform in platforms}
    return Image(folder.name, names, tuple(_wrong(folder, image.get("contextPath", "."), platforms)))


def example_secrets(solution: Solution, explained: Path) -> Iterator[Finding]:
    """Secrets that are still those of the example, which everybody can read."""
    example = read_env_file(explained) if explained.exists() else {}
    for name, value in example.items():
        if value and _SECRET.fullmatch(name) and solution.values.get(name) == value:
            yield Finding(ENV, f"{name} is still the example's: set your own in .env, or say --laptop")


def _wrong(folder: Path, context: object, platforms: Mapping[str, Any]) -> Iterator[Finding]:
    """Files that an image cannot be built without, and a Dockerfile whose process is root."""
    if not (folder / str(context)).is_dir():
        yield Finding(str(folder / "module.json"), f"contextPath {context} is no folder")
    for dockerfile in sorted({folder / str(file) for file in platforms.values()}):
        try:
            text = dockerfile.read_text()
        except (OSError, UnicodeDecodeError) as error:
            yield Finding(str(dockerfile), f"cannot be read: {why_unread(error)}")
            continue
        if user_of(text) in _ROOTS:
            yield Finding(str(dockerfile), "ends as root: give its last stage a USER, as in USER 10001:10001")


def user_of(dockerfile: str) -> str:
    """The user of the last stage; empty where it is the base image's, mostly root."""
    user = ""
    for line in dockerfile.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            user = ""
        elif word.upper() == "USER":
            user = rest.strip().partition(":")[0]
    return user


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {why_unread(error)}") from None
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{path} is not a JSON object")
    return found


def _object(within: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    found = within.get(name)
    if not isinstance(found, dict):
        raise SettingsError(f"{folder / 'module.json'} lacks {name}")
    return found
