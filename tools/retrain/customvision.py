"""Custom Vision's training service, or our own trainer, through the official client: the one file that knows it."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient, models
from msrest.authentication import ApiKeyCredentials

from retrain.data.dataset import About, Copied, Label, Record, Tag, packed, unpacked
from retrain.iteration import ExportState, Iteration
from retrain.trying import Trying, bare
from ripeloop.errors import Refused, SettingsError

PAGE = 256
PAIRS = 128  # image and tag, at once
READ_SECONDS = 60
MAX_IMAGE_BYTES = 8 * 1024 * 1024  # the service takes 6 MB

_ADDRESS = re.compile(r"https?://(\[[0-9a-f:.]+\]|[\w.-]+)(:\d+)?(/[\w./~%-]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kept:
    """An image in the service: its id and address there, the ids of its tags, its record, and that as it is kept."""

    id: str
    address: str
    tag_ids: frozenset[str]
    record: Record
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to upload, with the ids of its tags."""

    name: str
    data: bytes = field(repr=False)
    tag_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Added:
    """An image's id in the service, whether the service had it not yet, and whether its record had room."""

    id: str
    new: bool
    whole: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one upload, in the service's word, and the image's id where the service has it now."""

    status: str
    id: str = ""


class CustomVision:
    """One service. Each call is tried again while the service is busy or away, then raises Offline.

    Refused, Denied (the key) and NotFound are raised at once. Calls may come from many threads. `before` is called
    before each, and what it raises stops it. Raises SettingsError for an endpoint that is no address.
    """

    def __init__(
        self,
        endpoint: str,
        key: str,
        sleep: Callable[[float], None] = time.sleep,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        _check_endpoint(endpoint)
        credentials = ApiKeyCredentials(in_headers={"Training-key": key})
        self._client: Any = CustomVisionTrainingClient(endpoint.rstrip("/"), credentials)  # type: ignore[no-untyped-call]
        self._client.config.retry_policy.retries = 0  # they are done by Trying
        self._endpoint = endpoint.rstrip("/") + "/"
        self._tried = Trying(self._endpoint, sleep, before)

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
                raise Refused(f"the image at {bare(where)} has more than {MAX_IMAGE_BYTES} bytes")
            return data

        return self._tried(fetch, f"fetching {bare(where)}")

    def add(
        self, project: str, record: Record, image: bytes, tag_ids: Sequence[str], copied: Copied | None = None
    ) -> Added:
        """Upload one image with its tags and its record, in which stands what was `copied`.

        An image the service has already gets the tags as well, and keeps them: who gave it which, nobody knows.
        Raises Refused for an image the service does not take, its `kind` the service's word.
        """
        metadata, whole = packed(record, copied)
        entry = models.ImageFileCreateEntry(name=record.id, contents=bytearray(image), tag_ids=list(tag_ids))
        batch = models.ImageFileCreateBatch(images=[entry], metadata=metadata or None)
        (one,) = self._call(self._client.create_images_from_files, project, batch).images
        if one.status not in ("OK", "OKDuplicate"):
            raise Refused(
                f"the service does not take image {record.id or record.source}: {one.status}", kind=one.status
            )
        if one.status == "OKDuplicate" and metadata:
            self.describe(project, str(one.image.id), record, Copied(copied.origin) if copied else None)
        return Added(str(one.image.id), one.status == "OK", whole)

    def add_all(
        self, project: str, images: Sequence[NewImage], metadata: Mapping[str, str] | None = None
    ) -> list[Taken]:
        """Upload at most 64 images of 20 MB together; what became of each, in their order.

        `metadata` is that of all those that are new. An image the service has already gets the tags as well.
        Raises Refused where it takes none of the batch.
        """
        entries = [
            models.ImageFileCreateEntry(name=one.name, contents=bytearray(one.data), tag_ids=list(one.tag_ids))
            for one in images
        ]
        batch = models.ImageFileCreateBatch(images=entries, metadata=dict(metadata) if metadata else None)
        answered = self._call(self._client.create_images_from_files, project, batch).images or []
        if len(answered) != len(entries):
            raise Refused(f"the service answered for {len(answered)} of {len(entries)} images: try again")
        return [_taken(one) for one in answered]

    def describe(self, project: str, image: str, record: Record, copied: Copied | None = None) -> bool:
        """Write the record into the image's metadata, and what was copied; whether it had room there."""
        metadata, whole = packed(record, copied)
        done = self._call(self._client.update_image_metadata, project, [image], metadata).images or []
        return whole and all(one.status == "OK" for one in done)

    def images_by_ids(self, project: str, ids: Sequence[str]) -> list[Kept]:
        """Those of the images, at most 256, that are there."""
        return [self._kept(one) for one in self._call(self._client.get_images_by_ids, project, image_ids=list(ids))]

    def delete(self, project: str, images: Sequence[str]) -> None:
        """Remove at most 256 images; trainings that used them keep them."""
        self._call(self._client.delete_images, project, image_ids=list(images))

    def tag(self, project: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Give images tags, as pairs of ids; those pairs that exceed what an image may have."""
        exceeded = list[tuple[str, str]]()
        for start in range(0, len(pairs), PAIRS):
            entries = [models.ImageTagCreateEntry(image_id=i, tag_id=t) for i, t in pairs[start : start + PAIRS]]
            made = self._call(self._client.create_image_tags, project, tags=entries)
            exceeded += [(str(one.image_id), str(one.tag_id)) for one in made.exceeded or []]
        return exceeded

    def untag_all(self, project: str, images: Sequence[str], tag_ids: Sequence[str]) -> None:
        """Take those tags, at most 20, from at most 64 images."""
        self._call(self._client.delete_image_tags, project, list(images), list(tag_ids))

    def untag(self, project: str, image: str, tag_ids: Sequence[str]) -> None:
        """Take tags from one image."""
        self._call(self._client.delete_image_tags, project, [image], list(tag_ids))

    def tag_counts(self, project: str) -> dict[str, int]:
        """How many images each tag has, by the tags' names."""
        return {tag.name: int(tag.image_count or 0) for tag in self._call(self._client.get_tags, project)}

    def labelled_since(self, project: str, moment: datetime | None) -> int:
        """How many images got a tag after that moment; without one, how many have a tag."""
        found = skip = 0
        while True:
            page = self._call(self._client.get_tagged_images, project, order_by="Oldest", take=PAGE, skip=skip)
            found += sum(
                moment is None or any(tag.created and tag.created > moment for tag in image.tags or [])
                for image in page
            )
            if len(page) < PAGE:
                return found
            skip += len(page)

    def train(self, project: str, *, advanced_hours: int = 0, force: bool = False) -> Iteration:
        """Begin a training, an advanced one of so many hours where they are given.

        Not tried again here, for it may have begun although the answer was lost: after Offline, look at `iterations`.
        """

        def begin() -> Any:
            kind = "Advanced" if advanced_hours else "Regular"
            return self._client.train_project(
                project, training_type=kind, reserved_budget_in_hours=advanced_hours, force_train=force
            )

        return _iteration(self._tried(begin, "train_project", tries=1))

    def iterations(self, project: str) -> list[Iteration]:
        """All trainings the service remembers, in no order to rely on."""
        return [_iteration(one) for one in self._call(self._client.get_iterations, project)]

    def iteration(self, project: str, id_: str) -> Iteration:
        """The training with that id."""
        return _iteration(self._call(self._client.get_iteration, project, id_))

    def delete_iteration(self, project: str, id_: str) -> None:
        """Forget a training and its model. Raises Refused for a published one."""
        self._call(self._client.delete_iteration, project, id_)

    def exports(self, project: str, iteration: str) -> list[ExportState]:
        """The exports that were asked for."""
        return [
            ExportState(
                one.platform, one.flavor or "", one.status, urljoin(self._endpoint, one.download_uri or "")
            )
            for one in self._call(self._client.get_exports, project, iteration)
        ]  # fmt: skip

    def export(self, project: str, iteration: str, platform: str, flavour: str) -> None:
        """Ask for an export. Asked twice, the service refuses."""
        self._call(self._client.export_iteration, project, iteration, platform, flavor=flavour or None)

    def _kept(self, image: Any) -> Kept:
        tags = image.tags or []
        found = Record(
            labels=tuple(Label(tag.tag_name, at=_time(tag.created)) for tag in tags),
            source=str(image.id),
            created=_time(image.created),
        )
        metadata: Mapping[str, str] = image.metadata or {}
        address = image.original_image_uri or image.resized_image_uri or ""
        tag_ids = frozenset(str(tag.tag_id) for tag in tags)
        return Kept(str(image.id), address, tag_ids, unpacked(metadata, found), metadata)

    def _call(self, call: Callable[..., Any], *values: Any, **named: Any) -> Any:
        return self._tried(lambda: call(*values, **named), call.__name__)


def _check_endpoint(endpoint: str) -> None:
    """The client makes a template of it, and would take it wrong or fail in ways that name nothing."""
    try:
        good = _ADDRESS.fullmatch(endpoint) is not None and urlsplit(endpoint).port != 0
    except ValueError:  # a port above 65535, half an IPv6 address
        good = False
    if not good:
        shown = endpoint.split("?")[0].rpartition("@")[2][:200]  # what is left out may be a key
        raise SettingsError(
            f"the endpoint {shown!r} is no address of a service: "
            "give one like https://NAME.cognitiveservices.azure.com or http://127.0.0.1:8088"
        )


def _taken(one: Any) -> Taken:
    if one.image is None and one.status in ("OK", "OKDuplicate"):
        return Taken("ErrorUnknown")
    return Taken(str(one.status), str(one.image.id) if one.image else "")


def _iteration(found: Any) -> Iteration:
    return Iteration(
        id=str(found.id),
        name=found.name,
        status=found.status or "",
        created=found.created,
        trained=found.trained_at,
        published=found.publish_name or "",
        exportable=found.exportable is not False,
        advanced=found.training_type == "Advanced",
        hours=found.reserved_budget_in_hours or 0,
        why=found.training_error_details or "",
    )


def _time(value: datetime | None) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else ""
