"""Samples and pages as a browser gets them: nobody is told more than they may know."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from retrain.label.answering.writing import CHECK, FIRST
from retrain.label.asking.chances import is_blind
from retrain.label.asking.queue import BROWSE, REVIEW
from retrain.label.container.cache import Found
from retrain.label.container.rows import OPEN
from retrain.label.parts import Parts
from retrain.label.people import VISIT, VISITOR, Person
from retrain.label.security import VISIT_SECONDS, is_secure, visit
from retrain.label.strings import LANGUAGES, choose, translator

LANGUAGE_COOKIE = "lang"
ASKED_LENGTH = 16

Told = dict[str, Any]


def sample_json(row: Found, parts: Parts, person: Person, mode: str) -> Told:
    """A sample for a page. Who labels is told nothing of what others said, nor of the model where that is hidden."""
    asked = row.get("asked", FIRST)
    deciding = mode in (REVIEW, BROWSE)
    hidden = not deciding and (asked == CHECK or is_blind(row["id"], person.name, parts.settings.blind))
    predictions = [] if hidden else json.loads(row["predictions"])
    told = {
        "key": row["key"], "id": row["id"], "blob": row["blob"], "device": row["device"], "camera": row["camera"],
        "reason": row["reason"], "capturedAt": row["captured_at"], "day": row["day"], "model": row["model"],
        "size": row["size"], "image": f"/image/{row['key']}", "blind": hidden, "broken": bool(row["broken"]),
        "predictions": [{"tag": tag, "probability": probability} for tag, probability in predictions],
        "tag": "" if hidden else row["tag"], "asked": asked_mark(parts, person, row["key"], asked),
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


def asked_mark(parts: Parts, person: Person, key: str, asked: str) -> str:
    """Why a sample is shown, so that the server knows it again and nobody else can tell."""
    return parts.people.sign("asked", asked, person.name, key)[:ASKED_LENGTH]


def asked_of(parts: Parts, person: Person, key: str, mark: object) -> str:
    """Why it was shown: CHECK where the mark says so."""
    wanted = asked_mark(parts, person, key, CHECK)
    return CHECK if isinstance(mark, str) and mark.isascii() and hmac.compare_digest(mark, wanted) else FIRST


def page(
    request: web.Request, parts: Parts, template: str, more: Mapping[str, Any] | None = None, status: int = 200
) -> web.Response:
    """A page, with what every page shows."""
    person = request[VISITOR].person if VISITOR in request else None
    csrf, cookie = visit(request, parts.people) if VISITOR in request else ("", "")
    language = choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("Accept-Language", ""))
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


def set_visit(request: web.Request, response: web.Response, parts: Parts, cookie: str) -> None:
    """Know a visitor again who has not signed in."""
    response.set_cookie(
        VISIT, cookie, max_age=VISIT_SECONDS, httponly=True, samesite="Strict",
        secure=is_secure(request, parts.people),
    )  # fmt: skip
