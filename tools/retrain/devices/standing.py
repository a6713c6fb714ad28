"""Is a module as the cloud wants it? Pure: twins and counters come in as arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from retrain.release.board import ACTIVE, SILENT, stands

AS_WANTED = "as wanted"
NOT_REPORTED = "not reported"


@dataclass(frozen=True, slots=True)
class Setting:
    """One desired property: what is wanted, what the module says it has, and a word on it."""

    name: str
    wanted: Any
    reported: Any
    verdict: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How one module stands."""

    device: str
    module: str
    answers: bool
    """Did it answer its `status` method?"""
    note: str = ""
    """Why not, where it did not."""
    settings: tuple[Setting, ...] = ()
    counters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def as_wanted(self) -> bool:
        """It answers, and each setting is as wanted."""
        return self.answers and all(setting.verdict == AS_WANTED for setting in self.settings)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "device": self.device,
            "module": self.module,
            "answers": self.answers,
            "note": self.note,
            "asWanted": self.as_wanted,
            "settings": {
                s.name: {"wanted": s.wanted, "reported": s.reported, "verdict": s.verdict} for s in self.settings
            },
            "counters": self.counters,
        }


def settings(desired: Mapping[str, Any], reported: Mapping[str, Any]) -> tuple[Setting, ...]:
    """Each leaf of the desired section beside what was reported under the same name, by name; a model is one."""
    model = desired.get("model")
    if isinstance(model, Mapping) and "sha256" in model:  # its place may hold a key, and no module repeats it
        others = {name: value for name, value in desired.items() if name != "model"}
        return tuple(sorted((*settings(others, reported), _model(model, reported.get("model"))), key=lambda s: s.name))
    is_so = dict(leaves({name: value for name, value in reported.items() if name != "refused"}))
    reasons = dict(leaves(reported.get("refused") or {}))
    refused = {name: reason for name, reason in reasons.items() if isinstance(reason, str)}  # what is cleared is empty
    return tuple(
        Setting(name, wanted, is_so.get(name), _verdict(name, wanted, is_so, refused))
        for name, wanted in sorted(leaves(desired))
    )


def _model(wanted: Mapping[str, Any], reported: Any) -> Setting:
    """The whole section as one setting: its version, and how far the device is with it."""
    told = reported if isinstance(reported, Mapping) else {}
    state, why = stands(wanted, told)
    verdict = AS_WANTED if state == ACTIVE else NOT_REPORTED if state == SILENT else f"{state}: {why}" if why else state
    return Setting("model", wanted.get("version"), told.get("version"), verdict)


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values at the ends of nested objects, each with its dotted name; lists and empty objects are values."""
    if isinstance(tree, Mapping) and (tree or not name):
        for key, value in tree.items():
            yield from leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, tree


def _verdict(name: str, wanted: Any, is_so: Mapping[str, Any], refused: Mapping[str, str]) -> str:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (part := ".".join(parts[:end])) in refused:
            return f"refused: {refused[part]}"
    if name not in is_so:
        return NOT_REPORTED
    same = is_so[name] == wanted and isinstance(is_so[name], bool) == isinstance(wanted, bool)  # True == 1
    return AS_WANTED if same else "differs"
