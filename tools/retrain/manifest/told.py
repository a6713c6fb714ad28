"""What a manifest tells our own modules: variables and desired properties that they would refuse, or never read.

The modules' own code judges: their options, and what they make of their twins.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from classifier.__main__ import main as classifier
from classifier.numbers import thresholds
from classifier.rollout.wanted import from_desired
from classifier.serving.url import Hosts
from retrain.manifest.deployed import Deployed, Module, place_of
from retrain.manifest.finding import Finding, Place
from ripeloop.errors import Refused, SettingsError
from ripeloop.package import public_key
from ripeloop.sampling import Sampling
from sampler.__main__ import main as sampler
from sampler.telling.steering import KNOBS, Steering, steer

Wishes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Ours:
    """One of our programs: its options, the fields it reads of each desired section, and what it refuses of them.

    A section without fields is not looked into for names.
    """

    prefix: str
    command: click.Command
    sections: Mapping[str, Collection[str]]
    refusals: Callable[[Wishes], Iterator[tuple[tuple[str, ...], str]]]


def told(found: Deployed) -> Iterator[Finding]:
    """Variables of our modules that no option reads or takes, and desired properties they would refuse or not read."""
    for module in found.modules:
        if (ours := _OURS.get(module.image_name)) is not None:
            yield from _variables(module, ours)
            yield from _desired(found.desired.get(module.name, {}), place_of(module.name), ours)


def _variables(module: Module, ours: _Ours) -> Iterator[Finding]:
    context = click.Context(ours.command)
    options = {f"{ours.prefix}{one.name}".upper(): one for one in ours.command.params if isinstance(one, click.Option)}
    for name, value in module.env.items():
        place, option = module.place / "env" / name, options.get(name)
        if option is None:
            near = _nearest(name, options)
            if near or name.startswith(ours.prefix):
                yield Finding(place, f"{module.name} reads no such variable{near}")
        elif not value:
            if option.required:
                yield Finding(place, f"{module.name} does not start without it: give it a value, or leave it out")
        elif reason := _why_not_taken(name, option, value, context):
            yield Finding(place, f"{module.name} does not start with it: {reason}")


def _why_not_taken(name: str, option: click.Option, value: str, context: click.Context) -> str:
    if isinstance(option.type, click.Path):
        return ""  # what is there on this computer says nothing about the device
    try:
        option.type.convert(value, option, context)
        if name in _READ:
            _READ[name](value)
    except click.BadParameter as error:
        return error.message
    except SettingsError as error:
        return str(error)
    return ""


def _desired(wishes: Wishes, place: Place, ours: _Ours) -> Iterator[Finding]:
    for path, reason in ours.refusals(wishes):
        at = place
        for name in path:
            at = at / name
        yield Finding(at, f"the module would refuse it: {reason}")
    for section, value in wishes.items():
        if section not in ours.sections:
            near = _nearest(section, ours.sections)
            yield Finding(place / section, f"the module does not read it{near}", serious=False)
        elif isinstance(value, dict) and (fields := ours.sections[section]):
            for name in value.keys() - set(fields):
                near = _nearest(name, fields)
                yield Finding(place / section / name, f"the module does not read it{near}", serious=False)


def _classifier_refuses(wishes: Wishes) -> Iterator[tuple[tuple[str, ...], str]]:
    try:
        from_desired(wishes.get("model"))
    except Refused as error:
        yield ("model",), str(error)
    wanted = wishes.get(thresholds.SECTION)
    try:
        _, refused = Sampling.from_section({} if wanted is None else wanted, Sampling())
    except Refused as error:
        yield (thresholds.SECTION,), str(error)
    else:
        yield from (((thresholds.SECTION, name), reason) for name, reason in refused.items())


def _sampler_refuses(wishes: Wishes) -> Iterator[tuple[tuple[str, ...], str]]:
    _, refused = steer(wishes, Steering(), Steering())
    for section, reasons in refused.items():
        whole = isinstance(wishes.get(section), dict)
        yield from (
            ((section, name) if whole else (section,), reason) for name, reason in reasons.items() if reason is not None
        )


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1, 0.8)
    return f": is it meant to be {near[0]}?" if near else ""


# what the classifier makes of a text that its option takes as it is
_READ: Mapping[str, Callable[[str], object]] = {"CLASSIFIER_URL_HOSTS": Hosts.parse, "CLASSIFIER_MODEL_KEY": public_key}

_OURS = {
    "ripeloop-classifier": _Ours(
        "CLASSIFIER_",
        classifier,
        {"model": (), thresholds.SECTION: thresholds.FIELDS, "report": ("predictions",)},
        _classifier_refuses,
    ),
    "ripeloop-sampler": _Ours(
        "SAMPLER_",
        sampler,
        {knob.section: [one.wire for one in KNOBS if one.section == knob.section] for knob in KNOBS},
        _sampler_refuses,
    ),
}
"""By the image's name."""
