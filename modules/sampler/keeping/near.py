"""How near the nearest recent image of the same camera looks. In memory, bounded; the index knows it again at start."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from datetime import datetime, timedelta

PAIRS = 64  # of a camera and a tag; the one not seen for longest is forgotten
LOOKS = 1000  # of one pair: comparing with all of them takes a fifth of a millisecond

Look = tuple[datetime, int, str]


class Recent:
    """The looks of recently kept images. What has no `dhash` is like nothing; other tags are other things.

    Two images whose likeliest tags differ are never near-duplicates: seen alike, but judged differently, they are worth
    a label each.
    """

    def __init__(self) -> None:
        self._looks: OrderedDict[tuple[str, str], deque[Look]] = OrderedDict()

    def add(self, id_: str, dhash: str, camera: str, tag: str, at: datetime) -> None:
        """Remember one kept image."""
        if not dhash:
            return
        looks = self._looks.setdefault((camera, tag), deque(maxlen=LOOKS))
        looks.append((at, int(dhash, 16), id_))
        self._looks.move_to_end((camera, tag))
        if len(self._looks) > PAIRS:
            self._looks.popitem(last=False)

    def forget(self, ids: Iterable[str]) -> None:
        """These images are not kept any longer, and nothing is a duplicate of what is gone."""
        gone = set(ids)
        if not gone:
            return
        for key, looks in self._looks.items():
            self._looks[key] = deque((look for look in looks if look[2] not in gone), maxlen=LOOKS)

    def nearest(self, dhash: str, camera: str, tag: str, at: datetime, minutes: float) -> int | None:
        """The bits between this look and the nearest of those within `minutes` of `at`; None without any."""
        found = self.nearest_look(dhash, camera, tag, at, minutes)
        return None if found is None else found[0]

    def nearest_look(self, dhash: str, camera: str, tag: str, at: datetime, minutes: float) -> tuple[int, str] | None:
        """The same bits, and the id of that nearest image."""
        looks = self._looks.get((camera, tag))
        if not dhash or not looks:
            return None
        window, mine = timedelta(minutes=minutes), int(dhash, 16)
        near = (((look ^ mine).bit_count(), id_) for when, look, id_ in looks if abs(when - at) <= window)
        return min(near, default=None)
