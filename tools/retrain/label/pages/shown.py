"""Samples and pages as a browser gets them: nobody is told more than they may know."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from retrain.label.answering.writing import CHECK, DOUBT, FIRST
from retrain.label.asking.chances import is_blind
from retrain.label.asking.queue import BROWSE, REVIEW
from retrain.label.container.cache import Found
from retrain.label.container.rows import DISPUTED, OPEN
from retrain.label.parts import Parts
from retrain.label.people import VISIT, VISITOR, Person
from retrain.label.security import VISIT_SECONDS, is_secure, visit
from retrain.label.strings import LANGUAGES, choose, translator

LANGUAGE_COOKIE = "lang"
ASKED_LENGTH = 16

Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """Why a sample was shown, and whether the suggestion was hidden."""

    why: str
    hidden: bool


def sample_json(row: Found, parts: Parts, person: Person, mode: str, *, known: bool = False) -> Told:
    """A sample for a page. Who labels is told nothing of what others said, nor of the model where that is hidden.

    `known`: the person knows what the model suggests, for it is what they asked for. A sample whose answer is known
    shows as much as any other, so that it does not stand out.
    """
    asked = row.get("asked", FIRST)
    deciding = mode == REVIEW or (mode == BROWSE and may_see(row, person))
    drawn = is_blind(row["id"], person.name, parts.settings.blind)
    hidden = not deciding and (mode == BROWSE or (drawn and not known))
    shown_as = Asked(asked, hidden=hidden and mode != BROWSE)  # who looked it up may have seen it elsewhere
    predictions = [] if hidden else json.loads(row["predictions"])
    told = {
        "key": row["key"], "id": row["id"], "blob": row["blob"], "device": row["device"], "camera": row["camera"],
        "reason": row["reason"], "capturedAt": row["captured_at"], "day": row["day"], "model": row["model"],
        "size": row["size"], "image": f"/image/{row['key']}", "blind": hidden, "broken": bool(row["broken"]),
        "predictions": [{"tag": tag, "probability": probability} for tag, probability in predictions],
        "tag": "" if hidden else row["tag"], "asked": asked_mark(parts, person, row["key"], shown_as),
        "state": OPEN, "said": "", "use": "", "seen": 0,
    }  # fmt: skip
    if deciding:
        answers = row.get("answers", [])
        told |= {"state": row["state"], "said": row["said"], "use": row["use"]}
        told["seen"] = max((answer["nth"] + 1 for answer in answers), default=0)
        told["answers"] = [answer_json(answer, person) for answer in answers]
    return told


def answer_json(answer: Mapping[str, Any], person: Person) -> Told:
    """What somebody answered; only an admin learns who it was."""
    mine = answer["by"] == person.name
    return {
        "kind": answer["kind"], "tags": list(answer["tags"]), "at": answer["at"], "how": answer.get("how", ""),
        "by": answer["by"] if mine or person.admin else "", "mine": mine,
    }  # fmt: skip


def may_see(row: Found, person: Person) -> bool:
    """Whether that person may know what others and the model say: an admin, who answered it, or may decide it."""
    answered = any(answer["by"] == person.name for answer in row.get("answers", []))
    return person.admin or answered or row["state"] == DISPUTED


def asked_mark(parts: Parts, person: Person, key: str, asked: Asked) -> str:
    """How a sample is shown, so that the server knows it again and nobody else can tell."""
    shown = "hidden" if asked.hidden else "shown"
    return parts.people.sign("asked", asked.why, shown, person.name, key)[:ASKED_LENGTH]


def asked_of(parts: Parts, person: Person, key: str, mark: object) -> Asked:
    """How it was shown. Without a mark of ours nothing special, and nobody knows whether the suggestion was hidden."""
    if isinstance(mark, str) and mark.isascii():
        for asked in (Asked(why, hidden) for why in (FIRST, CHECK, DOUBT) for hidden in (True, False)):
            if hmac.compare_digest(mark, asked_mark(parts, person, key, asked)):
                return asked
    return Asked(FIRST, hidden=False)


def page(
    request: web.Request, parts: Parts, template: str, more: Mapping[str, Any] | None = None, status: int = 200
) -> web.Response:
    """A page, with what every page shows."""
    person = request[VISITOR].person if VISITOR in request else None
    csrf, cookie = visit(request, parts.people) if VISITOR in request else ("", "")
    language = language_of(request)
    context: dict[str, Any] = {
        "lang": language,
        "languages": LANGUAGES,
        "_": translator(language),
        "person": person,
        "csrf": csrf,
        "page": template.removesuffix(".html"),
        "active_model": parts.scan.progress.model,
        "proxy": parts.people.by_proxy,
        "retrain": bool(parts.retraining.offered and person and person.admin),
    }
    text = parts.templates.get_template(template).render(context | dict(more or {}))
    response = web.Response(text=text, content_type="text/html", status=status)
    if cookie:
        set_visit(request, response, parts, cookie)
    return response


def language_of(request: web.Request) -> str:
    """The language of who asks."""
    return choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("Accept-Language", ""))


def in_words(request: web.Request, told: Told) -> Told:
    """What a script is told, with a refusal's `message` in the language of who asks."""
    if "message" not in told:
        return told
    return told | {"message": translator(language_of(request)).told(told["message"]).text}


def set_visit(request: web.Request, response: web.Response, parts: Parts, cookie: str) -> None:
    """Know a visitor again who has not signed in."""
    response.set_cookie(
        VISIT, cookie, max_age=VISIT_SECONDS, httponly=True, samesite="Strict",
        secure=is_secure(request, parts.people),
    )  # fmt: skip
