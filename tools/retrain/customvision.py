"""Custom Vision's training service, or our own trainer, through the official client: the one file that knows it."""

from __future__ import annotations

import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient, models
from msrest.authentication import ApiKeyCredentials
from msrest.exceptions import ClientException

from retrain.dataset import About, Label, Record, Tag, packed, unpacked
from ripeloop.errors import Denied, NotFound, Offline, Refused

Answer = TypeVar("Answer")

PAGE = 256
PAIRS = 128  # image and tag, at once
TRIES = 6
LONGEST_WAIT = 60.0
READ_SECONDS = 60
MAX_IMAGE_BYTES = 8 * 1024 * 1024  # the service takes 6 MB

_BUSY = (429, 500, 502, 503, 504)
_NO_KEY = (401, 403)


@dataclass(frozen=True, slots=True)
class Kept:
    """An image in the service: its id and address there, the ids of its tags, its record."""

    id: str
    address: str
    tag_ids: frozenset[str]
    record: Record


class CustomVision:
    """One service. Each call is tried again while the service is busy or away, then raises Offline.

    Refused, Denied (the key) and NotFound are raised at once. Calls may come from many threads.
    """

    def __init__(self, endpoint: str, key: str, sleep: Callable[[float], None] = time.sleep) -> None:
        credentials = ApiKeyCredentials(in_headers={"Training-key": key})
        self._client: Any = CustomVisionTrainingClient(endpoint.rstrip("/"), credentials)  # type: ignore[no-untyped-call]
        self._endpoint, self._sleep = endpoint.rstrip("/") + "/", sleep

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def about(self, project: str) -> About:
        """The project and its tags."""
        found = self._call(self._client.get_project, project)
        settings = found.settings
        if not settings.classification_type:
            raise Refused(f"project {found.name!r} finds objects in images; only classification projects can be copied")
        tags = self._call(self._client.get_tags, project)
        return About(
            name=found.name,
            description=found.description or "",
            project=str(found.id),
            domain=str(settings.domain_id or ""),
            multilabel=settings.classification_type == "Multilabel",
            tags=tuple(Tag(tag.name, str(tag.id), tag.description or "", tag.type or "Regular") for tag in tags),
        )

    def projects(self, name: str) -> list[str]:
        """The ids of the projects of that name."""
        return [str(one.id) for one in self._call(self._client.get_projects) if one.name == name]

    def create(self, about: About) -> str:
        """A new project like that, without its tags; its id. In the service's first compact domain, if need be."""
        domains = self._call(self._client.get_domains)
        fit = [one for one in domains if one.type == "Classification" and one.exportable and one.enabled is not False]
        same = [one for one in domains if str(one.id) == about.domain and one.enabled is not False]
        if not same and not fit:
            raise Refused("the service has no domain whose models can be exported: create the project by hand")
        kind = "Multilabel" if about.multilabel else "Multiclass"
        made = self._call(
            self._client.create_project,
            about.name,
            description=about.description or None,
            domain_id=str((same or fit)[0].id),
            classification_type=kind,
        )
        return str(made.id)

    def create_tag(self, project: str, tag: Tag) -> str:
        """A new tag; its id."""
        made = self._call(
            self._client.create_tag, project, tag.name, description=tag.description or None, type=tag.kind
        )
        return str(made.id)

    def count(self, project: str) -> int:
        """How many images the project has."""
        return int(self._call(self._client.get_image_count, project))

    def images(self, project: str) -> Iterator[Kept]:
        """All images, the oldest first, so that one added meanwhile comes last."""
        skip = 0
        while True:
            page = self._call(self._client.get_images, project, order_by="Oldest", take=PAGE, skip=skip)
            yield from map(self._kept, page)
            if len(page) < PAGE:
                return
            skip += len(page)

    def read(self, address: str) -> bytes:
        """The bytes at the address of an image; the key is not sent there."""
        where = urljoin(self._endpoint, address)
        if urlsplit(where).scheme not in ("http", "https"):
            raise Refused(f"{where} is no address of the web: the service gave a wrong one")

        def fetch() -> bytes:
            with urllib.request.urlopen(where, timeout=READ_SECONDS) as answer:  # noqa: S310 - checked above
                data: bytes = answer.read(MAX_IMAGE_BYTES + 1)
            if len(data) > MAX_IMAGE_BYTES:
                raise Refused(f"the image at {_bare(where)} has more than {MAX_IMAGE_BYTES} bytes")
            return data

        return self._tried(fetch, f"fetching {_bare(where)}")

    def add(self, project: str, record: Record, image: bytes, tag_ids: Sequence[str]) -> tuple[str, bool]:
        """Upload one image with its tags and its record; its id in the service, and whether the record had room.

        An image the service has already gets the tags as well. Raises Refused for an image the service does not take.
        """
        metadata, whole = packed(record)
        entry = models.ImageFileCreateEntry(name=record.id, contents=bytearray(image), tag_ids=list(tag_ids))
        batch = models.ImageFileCreateBatch(images=[entry], metadata=metadata or None)
        (one,) = self._call(self._client.create_images_from_files, project, batch).images
        if one.status not in ("OK", "OKDuplicate"):
            raise Refused(f"the service does not take image {record.id or record.source}: {one.status}")
        if one.status == "OKDuplicate" and metadata:
            self._call(self._client.update_image_metadata, project, [str(one.image.id)], metadata)
        return str(one.image.id), whole

    def tag(self, project: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Give images tags, as pairs of ids."""
        for start in range(0, len(pairs), PAIRS):
            entries = [models.ImageTagCreateEntry(image_id=i, tag_id=t) for i, t in pairs[start : start + PAIRS]]
            self._call(self._client.create_image_tags, project, tags=entries)

    def untag(self, project: str, image: str, tag_ids: Sequence[str]) -> None:
        """Take tags from one image."""
        self._call(self._client.delete_image_tags, project, [image], list(tag_ids))

    def _kept(self, image: Any) -> Kept:
        tags = image.tags or []
        found = Record(
            labels=tuple(Label(tag.tag_name, at=_time(tag.created)) for tag in tags),
            source=str(image.id),
            created=_time(image.created),
        )
        metadata: Mapping[str, str] = image.metadata or {}
        address = image.original_image_uri or image.resized_image_uri or ""
        return Kept(str(image.id), address, frozenset(str(tag.tag_id) for tag in tags), unpacked(metadata, found))

    def _call(self, call: Callable[..., Any], *values: Any, **named: Any) -> Any:
        return self._tried(lambda: call(*values, **named), call.__name__)

    def _tried(self, call: Callable[[], Answer], doing: str) -> Answer:
        """The client itself never repeats a POST, and hides what it repeats: so it is done here, for all alike."""
        for nth in range(1, TRIES + 1):
            try:
                return call()
            except urllib.error.HTTPError as error:
                code, reason, after = error.code, error.reason, error.headers.get("Retry-After")
            except models.CustomVisionErrorException as error:
                code, reason, after = (
                    error.response.status_code,
                    _reason(error),
                    error.response.headers.get("Retry-After"),
                )
            except (ClientException, OSError) as error:
                code, reason, after = 0, str(error), None
            if code and code not in _BUSY:
                raise _refusal(code, f"{doing}: {reason}")
            if nth < TRIES:
                self._sleep(_wait(nth, after))
        raise Offline(f"{_bare(self._endpoint)} does not answer ({doing}: {reason}); try again, it goes on from here")


def _refusal(code: int, words: str) -> Refused | NotFound:
    if code in _NO_KEY:
        return Denied(f"{words}; check the key and the endpoint, they belong together")
    if code == 404:
        return NotFound(f"{words}; check the project's id")
    return Refused(words)


def _reason(error: models.CustomVisionErrorException) -> str:
    """The code and the words, where the answer has them; the gateway before the service answers in another shape."""
    code, words = getattr(error.error, "code", None), getattr(error.error, "message", None)
    return f"{code}: {words}" if code else f"HTTP {error.response.status_code}"


def _wait(nth: int, after: str | None) -> float:
    asked = float(after) if after and after.isdecimal() else 2.0 ** (nth - 1)
    return min(asked, LONGEST_WAIT) + random.random() / 2  # noqa: S311


def _time(value: datetime | None) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else ""


def _bare(address: str) -> str:
    """Without the query, which may hold a signature."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
