"""A training of the service and the model it made, and that model's exports, as the service tells of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

COMPLETED, FAILED = "Completed", "Failed"
DONE, EXPORTING = "Done", "Exporting"


@dataclass(frozen=True, slots=True)
class Iteration:
    """One training; `published` is the name it answers by, `why` the reason where it failed, `hours` its budget."""

    id: str
    name: str
    status: str
    created: datetime
    trained: datetime | None = None
    published: str = ""
    exportable: bool = True
    advanced: bool = False
    hours: int = 0
    why: str = ""

    @property
    def completed(self) -> bool:
        """Whether it has a model."""
        return self.status == COMPLETED

    @property
    def failed(self) -> bool:
        """Whether it never will."""
        return self.status == FAILED

    @property
    def running(self) -> bool:
        """Whether its end is to come: any status but the two that end it, for the service may know more words."""
        return not self.completed and not self.failed


@dataclass(frozen=True, slots=True)
class ExportState:
    """One export of an iteration. The address needs no key and may hold a signature: it is never shown."""

    platform: str
    flavour: str
    status: str
    address: str = field(default="", repr=False)


def newest_completed(iterations: Iterable[Iteration]) -> Iteration | None:
    """The one trained last, whatever order the service tells them in."""
    return max((one for one in iterations if one.completed), key=lambda one: one.trained or one.created, default=None)
