"""Does the cloud hold what a device says it uploaded? Pure: both sides' listings come in as arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from retrain.samples import Arrival
from ripeloop.blobs import Blob

UPLOADED = "uploaded"
WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Both sides' counts, and the ids that differ."""

    device: Mapping[str, int] = field(default_factory=dict)
    """How many samples the device has in each state."""
    cloud: int = 0
    missing: Sequence[str] = ()
    """The device says uploaded, and the cloud has not got them."""
    unknown: Sequence[str] = ()
    """The cloud has them, and the device does not know them: perhaps its index was lost."""
    given_up: Sequence[str] = ()
    """The cloud has them, and the device set them aside or evicted them."""
    twice: Sequence[str] = ()
    """The cloud has them under two names."""
    under_way: Sequence[str] = ()
    """The cloud has them, and the device will notice: no difference."""

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return not (self.missing or self.unknown or self.given_up or self.twice)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "same": self.same,
            "device": dict(self.device),
            "cloud": self.cloud,
            "missing": list(self.missing),
            "unknown": list(self.unknown),
            "given_up": list(self.given_up),
            "twice": list(self.twice),
            "under_way": list(self.under_way),
        }


def ids_in(blobs: Iterable[Blob]) -> Counter[str]:
    """How often each image is in a listing; blobs that no sampler named do not count."""
    return Counter(PurePosixPath(blob.name).stem for blob in blobs if Arrival.from_blob(blob) is not None)


def compare(states: Mapping[str, str], cloud: Mapping[str, int]) -> Reconciled:
    """The device's state of each id beside the number of its copies in the cloud."""
    held = {id_: states.get(id_, "") for id_ in sorted(cloud)}
    return Reconciled(
        device=dict(sorted(Counter(states.values()).items())),
        cloud=sum(cloud.values()),
        missing=[id_ for id_, state in sorted(states.items()) if state == UPLOADED and id_ not in cloud],
        unknown=[id_ for id_, state in held.items() if not state],
        given_up=[id_ for id_, state in held.items() if state not in ("", UPLOADED, WAITING)],
        twice=[id_ for id_ in held if cloud[id_] > 1],
        under_way=[id_ for id_, state in held.items() if state == WAITING],
    )
