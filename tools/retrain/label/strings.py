"""What the pages say, in every language there is: `languages/<code>.toml`, one table each.

A key is `section.name`. A language is added with one more file of the same keys and a line in `LANGUAGES`. Refusals are
raised and logged in English; the section `refusals` has each as it is raised, and in the others what people read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LANGUAGES = {"en": "English", "nb": "Norsk", "nl": "Nederlands"}
"""Each language under its own name. The first is spoken to those whom none suits."""

_ENGLISH = next(iter(LANGUAGES))
_ALSO = {"no": "nb", "nn": "nb"}  # what else a browser calls a language that is near enough
_SCRIPTS, _REFUSALS = "scripts.", "refusals."
_LONGEST = 1000  # characters of a refusal whose words are looked for


@dataclass(frozen=True, slots=True)
class Told:
    """A text, and the language it is in."""

    text: str
    lang: str


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language, by key."""

    texts: Mapping[str, str]
    lang: str

    def __call__(self, key: str, **values: object) -> str:
        """Plain text, with `values` in its places in braces. Raises KeyError for a key or a place that is unknown."""
        return self.texts[key].format_map(values) if values else self.texts[key]

    def reason(self, reason: str) -> str:
        """Why a device kept an image; its own word where that is a stranger."""
        return self.texts.get(f"{_SCRIPTS}reason_{reason}", reason.replace("_", " "))

    def told(self, refusal: str) -> Told:
        """What was refused, in this language; as it is, in English, where the table does not have it."""
        for key, pattern in _refusals() if len(refusal) <= _LONGEST else ():
            if found := pattern.fullmatch(refusal):
                return Told(self(key, **found.groupdict()), self.lang)
        return Told(refusal, _ENGLISH)

    @property
    def scripts(self) -> dict[str, str]:
        """What the scripts say, by name without its section; they fill the places in braces themselves."""
        return {key.removeprefix(_SCRIPTS): text for key, text in self.texts.items() if key.startswith(_SCRIPTS)}


def translator(language: str) -> Words:
    """The texts of one of `LANGUAGES`."""
    return Words(_table(language), language)


def choose(cookie: str | None, accept_language: str) -> str:
    """The language of a page: what the person chose before, else the browser's first wish that can be met."""
    for wish in (cookie, *_by_preference(accept_language)):
        if wish and (known := _known(wish)):
            return known
    return next(iter(LANGUAGES))


@cache
def _refusals() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Every refusal by its key, with a group for each of its places."""
    texts = {key: text for key, text in _table(_ENGLISH).items() if key.startswith(_REFUSALS)}
    return tuple(
        (key, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(text)), re.DOTALL))
        for key, text in texts.items()
    )


@cache
def _table(language: str) -> Mapping[str, str]:
    text = files(__package__).joinpath("languages", f"{language}.toml").read_text("utf-8")
    sections = tomllib.loads(text)
    return {f"{section}.{name}": text for section, texts in sections.items() for name, text in texts.items()}


def _known(wish: str) -> str | None:
    primary = wish.strip().lower().partition("-")[0]
    code = _ALSO.get(primary, primary)
    return code if code in LANGUAGES else None


def _by_preference(accept_language: str) -> list[str]:
    """The languages of an Accept-Language header, best first; those it refuses with `q=0` left out."""
    wishes = list[tuple[float, str]]()
    for part in accept_language.split(",")[:20]:
        name, _, quality = part.partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        if weight > 0:
            wishes.append((weight, name))
    return [name for _, name in sorted(wishes, key=lambda wish: -wish[0])]
