"""What a project of the training service holds of our samples, by their ids and by the service's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from retrain.customvision import Kept

SENT = "reason"
"""A pair of metadata that every image sent from the samples has, and no image that came from elsewhere."""

ASKED = "asked"
"""A pair of metadata of an image that was sent only to learn whether it was there: killed then, it was left behind."""

_ID = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Held:
    """One image of the project: its id there, the ids of its tags, and whether it was sent from the samples."""

    image: str
    tag_ids: frozenset[str]
    sent: bool = True


class There:
    """The images of one project: listed once, then kept in step with what is done.

    `strangers`: some do not tell which image they are; any sample may be one of them. `left`: what asking left behind.
    """

    def __init__(self, images: Iterable[Kept] = ()) -> None:
        self._by_image: dict[str, Held] = {}
        self._by_sample: dict[str, str] = {}
        self.strangers = False
        self.left: list[str] = []
        sets: dict[frozenset[str], frozenset[str]] = {}
        for kept in images:
            if ASKED in kept.record.metadata and not kept.tag_ids and not kept.record.id:
                self.left.append(kept.id)
                continue
            self.strangers |= _ID.fullmatch(kept.record.id) is None
            ids = frozenset(map(sys.intern, kept.tag_ids))
            held = Held(kept.id, sets.setdefault(ids, ids), SENT in kept.record.metadata)
            self._by_image[kept.id] = held
            if kept.record.id:
                self._by_sample.setdefault(kept.record.id, kept.id)

    def __len__(self) -> int:
        return len(self._by_image)

    def knows(self, sample: str) -> bool:
        """An image there carries that sample's id."""
        return sample in self._by_sample

    def of(self, sample: str, image: str = "") -> Held | None:
        """The image of that sample: by the service's own id where the blob remembers one, else by the sample's."""
        return self._by_image.get(image) or self._by_image.get(self._by_sample.get(sample, ""))

    def put(self, sample: str, held: Held) -> None:
        """It is there now, with those tags."""
        self._by_image[held.image] = held
        self._by_sample[sample] = held.image

    def drop(self, image: str) -> None:
        """It is gone."""
        self._by_image.pop(image, None)
