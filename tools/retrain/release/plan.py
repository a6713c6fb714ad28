"""Where a model goes, in which order, and how long each step is given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ripeloop.errors import SettingsError

CLASSIFIER = "classifier"
CANARY, ALL = "canary", "all"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Ring:
    """Devices that take a model together: those whose module twin meets a condition; an empty one means all."""

    name: str
    condition: str = ""

    def where(self, module: str) -> str:
        """The condition on the module's twin, in IoT Hub's query language."""
        ours = f"moduleId = '{module}'"
        return f"{ours} AND ({self.condition})" if self.condition else ours


@dataclass(frozen=True, slots=True)
class Device:
    """One device, by its id."""

    id: str


Place = Ring | Device


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes where and when; seconds.

    `first` gets the model and is watched for `watch` seconds from the moment it answers there; with `then` it goes on,
    where the first stayed well. Each place has `wait` seconds to report; looked at every `poll`. A place is done once
    the share `enough` of its devices is active. Of `then`, up to the share `bad_share` may have failed; of `first`
    none. Devices fetch with a link that `lasts`, or from `base_url`, or where that is an absolute folder, from there.
    `version` is the export's own where it is empty; `shadow` is the twin's `model.shadow`. `again`: also a package
    that was undone there before.
    """

    first: Place
    then: Ring | None = None
    version: str = ""
    base_url: str = ""
    lasts: timedelta = timedelta(days=30)
    shadow: Mapping[str, Any] | None = None
    wait: float = 3600.0
    watch: float = 600.0
    poll: float = 10.0
    pace: float = 3.0
    enough: float = 1.0
    bad_share: float = 0.05
    again: bool = False
    module: str = CLASSIFIER

    def __post_init__(self) -> None:
        """Raises SettingsError for a plan that cannot go on as it says."""
        host = self.base_url.partition("//")[2].partition("/")[0]
        if "?" in self.base_url or "#" in self.base_url or "@" in host:
            raise SettingsError(
                "--base-url is an address alone, to which a package's name is added: no query, no SAS, no password; "
                "everybody who may read the twin would see it"
            )
        if self.then is not None and self.then == self.first:
            raise SettingsError("the release goes on to where it was first: name another ring with --then")
        if self.then is not None and isinstance(self.first, Device):
            raise SettingsError(
                "a release to one device stays there: begin with a ring to go on to another with --then"
            )


def ring(name: str, conditions: Mapping[str, str] | None = None) -> Ring:
    """The ring of this name. Raises SettingsError.

    `all` is every classifier; any other name is that of the tag `ring` on the module's twin, unless `conditions` says
    what it means.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"a ring's name is 1 to 32 lower-case letters, digits and dashes, not {name[:40]!r}")
    condition = (conditions or {}).get(name)
    if condition is None:
        condition = "" if name == ALL else f"tags.ring = '{name}'"
    return Ring(name, condition.strip())


def name_of(place: Place) -> str:
    """The place in words, and in names of blobs."""
    return f"device {place.id}" if isinstance(place, Device) else f"ring {place.name}"
