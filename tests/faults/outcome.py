"""Where every flagged image of one scenario ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Outcome:
    """`dropped` counts, with a reason, what is not in the cloud; `duplicated` is in it twice, `lost` nobody counted.

    `said` are the kinds of trouble that the device told of meanwhile, `disagrees` says where the sampler's own counters
    do not add up or differ from the cloud's listing, `skipped` why nothing was tried, `note` what else was seen.
    """

    fault: str
    rounds: int
    flagged: int
    uploaded: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    duplicated: int = 0
    damaged: int = 0
    seconds: float = 0.0
    said: frozenset[str] = frozenset()
    disagrees: str = ""
    skipped: str = ""
    note: str = ""

    @property
    def lost(self) -> int:
        """Flagged images that are neither in the cloud nor counted with a reason."""
        return self.flagged - self.uploaded - sum(self.dropped.values())

    @property
    def good(self) -> bool:
        """Every flagged image is in the cloud exactly once, or counted with a reason; and the counters say the same."""
        return self.lost == self.duplicated == self.damaged == 0 and not self.disagrees
