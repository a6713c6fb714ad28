"""Images on their way into a project: batches the service takes, and every status it may answer with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from retrain.customvision import CustomVision, NewImage, Taken
from retrain.data.dataset import Record
from retrain.turn.tag.deciding import NEVER, Step
from retrain.turn.tag.facts import Fact
from retrain.turn.tag.there import ASKED, SENT
from ripeloop.errors import Denied, NotFound, Refused

BATCH = 64
BATCH_BYTES = 20 * 1024 * 1024 * 3 // 4  # they travel as Base64
UNTAG_TAGS = 20

OK, DUPLICATE = "OK", "OKDuplicate"
NOT_REMOVED = "NotRemoved"
FULL = "ErrorLimitExceed"
OTHER_TAGS = frozenset({"ErrorTagLimitExceed", "ErrorNegativeAndRegularTagOnSameImage"})
"""Perhaps the service has the image already, with tags that do not go with ours."""

WHY: Mapping[str, str] = {
    "ErrorSource": "the service could not read what was sent: it is sent again with the next turn",
    "ErrorImageFormat": "the service takes JPEG, PNG, BMP and GIF, and this is none that it can read",
    "ErrorImageSize": "the service takes images of at most 6 MB",
    "ErrorImageDimensions": "the service takes images up to 10,240 pixels a side and 25 times as long as wide",
    "ErrorStorage": "the service could not store it: it is sent again with the next turn",
    "ErrorLimitExceed": "the project is full: delete images there, or go on in a new project",
    "ErrorTagLimitExceed": "the image has as many tags as the project lets one have: label it with fewer",
    "ErrorRegionLimitExceed": "the image has too many regions: the project must be one for classification",
    "ErrorNegativeAndRegularTagOnSameImage": "an image of none of the tags cannot have another tag: label it anew",
    "ErrorInvalidTag": "a tag was deleted from the project meanwhile: the next turn makes it again",
    "ErrorUnknown": "the service does not say why; perhaps a tag was deleted meanwhile: the next turn tries again",
}

Sized = TypeVar("Sized", bound=Step)


def why(status: str) -> str:
    """What a status of the service means, and what to do."""
    return WHY.get(status, "the service has no other word for it: the next turn tries again")


def is_worth_another_try(status: str) -> bool:
    """Whether the same image may be taken later."""
    return status not in NEVER and status not in OTHER_TAGS


def batches(steps: Iterable[Sized]) -> Iterator[list[Sized]]:
    """As few batches as their order allows, none with more than 64 images or 20 MB."""
    batch, size = list[Sized](), 0
    for step in steps:
        if batch and (len(batch) == BATCH or size + step.fact.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(step)
        size += step.fact.size
    if batch:
        yield batch


def record_of(fact: Fact) -> Record:
    """What an image's metadata in the project tells of the sample."""
    words = {"device": fact.device, "captured": fact.captured, SENT: fact.reason or "unknown"}
    return Record(id=fact.id, metadata={name: word for name, word in words.items() if word})


def upload(
    service: CustomVision, project: str, images: Sequence[NewImage], metadata: Mapping[str, str] | None = None
) -> list[Taken]:
    """What became of each image. One that the service cannot even read stops no other. Raises Offline, Denied."""
    try:
        taken = service.add_all(project, images, metadata)
    except (Denied, NotFound):
        raise
    except Refused as error:
        if len(images) == 1:
            return [Taken(str(error))]
        half = len(images) // 2
        halves = (images[:half], images[half:])
        return [one for some in halves for one in upload(service, project, some, metadata)]
    return [
        _without_tags(service, project, image, one) if one.status in OTHER_TAGS else one
        for image, one in zip(images, taken, strict=True)
    ]


def ask(service: CustomVision, project: str, images: Sequence[NewImage]) -> list[Taken]:
    """Whether the project has these images, given without tags; it has no more of them afterwards.

    `DUPLICATE`, with the id there: it has; `OK`: it lacks the image or never takes it; another status: nobody knows.
    Raises Offline, Denied.
    """
    taken = upload(service, project, images, {ASKED: "1"})
    new = [one.id for one in taken if one.status == OK]
    failed = delete(service, project, new) if new else {}
    return [
        Taken(NOT_REMOVED, one.id) if one.id in failed
        else Taken(OK) if one.id in new or one.status in NEVER
        else one
        for one in taken
    ]  # fmt: skip


def retag(
    service: CustomVision, project: str, images: Mapping[str, tuple[frozenset[str], frozenset[str]]]
) -> dict[str, str]:
    """Give images, by their ids, the tags they should have in place of those they have; why not, by those that failed.

    Raises Offline, Denied.
    """
    failed: dict[str, str] = {}
    surplus: dict[frozenset[str], list[str]] = {}
    for image, (had, wanted) in images.items():
        if had - wanted:
            surplus.setdefault(had - wanted, []).append(image)
    for tags, ids in surplus.items():
        for some in _chunks(sorted(tags), UNTAG_TAGS):
            for those in _chunks(ids, BATCH):
                failed |= _untag(service, project, those, some)
    pairs = [
        (image, tag) for image, (had, wanted) in images.items() if image not in failed for tag in sorted(wanted - had)
    ]
    return failed | _tag(service, project, pairs)


def delete(service: CustomVision, project: str, images: Sequence[str]) -> dict[str, str]:
    """Remove images; why not, by those that failed. One that is gone already is removed. Raises Offline, Denied."""
    try:
        service.delete(project, images)
    except Denied:
        raise
    except (Refused, NotFound) as error:
        if len(images) > 1:
            half = len(images) // 2
            return delete(service, project, images[:half]) | delete(service, project, images[half:])
        return {} if isinstance(error, NotFound) else {images[0]: str(error)}
    return {}


def _without_tags(service: CustomVision, project: str, image: NewImage, taken: Taken) -> Taken:
    """The image as the service has it already; one that is new is too much with its tags, and goes again."""
    (again,) = service.add_all(project, [NewImage(image.name, image.data)], {ASKED: "1"})
    if again.status == OK:
        service.delete(project, [again.id])
    return again if again.status == DUPLICATE else taken


def _untag(service: CustomVision, project: str, images: list[str], tags: list[str]) -> dict[str, str]:
    try:
        service.untag_all(project, images, tags)
    except Denied:
        raise
    except (Refused, NotFound) as error:
        if len(images) == 1:
            return {images[0]: str(error)}
        return {id_: why for one in images for id_, why in _untag(service, project, [one], tags).items()}
    return {}


def _tag(service: CustomVision, project: str, pairs: list[tuple[str, str]]) -> dict[str, str]:
    try:
        return {image: WHY["ErrorTagLimitExceed"] for image, _ in service.tag(project, pairs)}
    except Denied:
        raise
    except (Refused, NotFound) as error:
        if len({image for image, _ in pairs}) == 1:
            return {pairs[0][0]: str(error)}
        failed: dict[str, str] = {}
        for image in dict.fromkeys(image for image, _ in pairs):
            failed |= _tag(service, project, [pair for pair in pairs if pair[0] == image])
        return failed


def _chunks(words: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(words), size):
        yield words[start : start + size]
