"""What a twin's section `sampling`, or a model's package, asks of the policy: the fields it names and no others."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ripeloop.errors import Refused
from ripeloop.prediction import MAX_TEXT
from ripeloop.uncertainty import Policy, TagPolicy

MOST_ENTROPY = 1000.0  # nats; no model has the tags for more
MAX_REPORTED = 8 * 1024  # bytes of tags in what is reported: a twin holds 32 KB in all

THRESHOLDS = tuple(f.name for f in fields(TagPolicy))
AUDIT_RATE = "audit_rate"


@dataclass(frozen=True, slots=True)
class Sampling:
    """The fields as in Policy; None and a tag that is absent: no word on it."""

    confidence_below: float | None = None
    margin_below: float | None = None
    entropy_above: float | None = None
    audit_rate: float | None = None
    tags: Mapping[str, TagPolicy] = field(default_factory=dict)

    @classmethod
    def from_section(cls, section: object, before: Sampling) -> tuple[Sampling, dict[str, str]]:
        """What the section asks for, and per refused field the reason.

        Unknown fields are ignored; a bad value is refused and that of `before` stays. Raises Refused for a section
        that is none.
        """
        if not isinstance(section, Mapping):
            raise Refused(f"must be an object, not {_shown(section)}")
        values, refused = _numbers(section, before, (*THRESHOLDS, AUDIT_RATE))
        tags, reason = _tags(section.get("tags", []), before.tags)
        return cls(**values, tags=tags), refused | ({"tags": reason} if reason else {})

    def over(self, policy: Policy) -> Policy:
        """`policy`, where nothing is said here. What is said for all tags holds for each, whatever `policy` has."""
        said = {name: value for name, value in asdict(self).items() if name != "tags" and value is not None}
        tags = {tag: replace(own, **{name: None for name in THRESHOLDS if name in said})
                for tag, own in policy.tags.items()}  # fmt: skip
        for tag, own in self.tags.items():
            tags[tag] = replace(tags.get(tag, TagPolicy()), **_named(own))
        return replace(policy, **said, tags={tag: own for tag, own in tags.items() if own != TagPolicy()})

    def to_section(self) -> dict[str, Any]:
        """What `from_section` reads."""
        said = {name: value for name, value in asdict(self).items() if name != "tags" and value is not None}
        return said | ({"tags": _listed(self.tags)} if self.tags else {})


def reported(policy: Policy) -> dict[str, Any]:
    """The whole policy in the twin's words; tags that a twin has no room for are counted in `tags_left_out`."""
    listed, room = [], MAX_REPORTED
    for entry in _listed(policy.tags):
        room -= len(json.dumps(entry, ensure_ascii=False).encode())
        if room < 0:
            break
        listed.append(entry)
    said = {name: value for name, value in asdict(policy).items() if name != "tags"}
    return said | {"tags": listed, "tags_left_out": len(policy.tags) - len(listed)}


def is_text(tag: str) -> bool:
    """A tag as a model may have it: not empty, not too long, no line end or the like, no half of a surrogate pair."""
    return 0 < len(tag) <= MAX_TEXT and not any(unicodedata.category(character) in ("Cc", "Cs") for character in tag)


def _numbers(
    section: Mapping[str, Any], before: object, names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name in names:
        if name not in section:
            continue
        reason = _reason_to_refuse(name, section[name])
        values[name] = section[name] if reason is None else getattr(before, name)
        if reason is not None:
            refused[name] = reason
    return values, refused


def _tags(section: object, before: Mapping[str, TagPolicy]) -> tuple[Mapping[str, TagPolicy], str]:
    """What differs by tag, and the reasons why some of it was refused."""
    if not isinstance(section, list):
        return before, f'must be a list, as in [{{"tag": "ripe", "confidence_below": 0.9}}], not {_shown(section)}'
    tags: dict[str, TagPolicy] = {}
    reasons = []
    for number, entry in enumerate(section, 1):
        tag = entry.get("tag") if isinstance(entry, Mapping) else None
        if not isinstance(tag, str) or not is_text(tag):
            reasons.append(f"entry {number} must name its tag")
            continue
        if tag in tags:
            reasons.append(f"{tag[:50]} stands there twice")
            continue
        values, refused = _numbers(entry, before.get(tag, TagPolicy()), THRESHOLDS)
        tags[tag] = TagPolicy(**values)
        if AUDIT_RATE in entry:
            refused[AUDIT_RATE] = "must be the same for all tags, or audits would depend on the model"
        reasons += [f"{tag[:50]}: {name} {reason}" for name, reason in refused.items()]
    return tags, "; ".join(reasons)


def _reason_to_refuse(name: str, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {_shown(value)}"
    most = MOST_ENTROPY if name == "entropy_above" else 1
    if not 0 <= value <= most:  # nor is nan
        return f"must be between 0 and {most:g}, not {_shown(value)}"
    return None


def _listed(tags: Mapping[str, TagPolicy]) -> list[dict[str, Any]]:
    return [{"tag": tag} | _named(own) for tag, own in tags.items()]


def _named(own: TagPolicy) -> dict[str, float]:
    return {name: value for name, value in asdict(own).items() if value is not None}


def _shown(value: object) -> str:
    if isinstance(value, Mapping | list):
        return "an object" if isinstance(value, Mapping) else "a list"
    return repr(value)[:50]
