"""What a SAS in a blob address allows and until when. Pure; it never shows the signature."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Sas:
    """The rights in their letters and the time in which they hold; None where the SAS does not say."""

    permissions: str = ""
    starts: datetime | None = None
    expires: datetime | None = None

    @classmethod
    def in_address(cls, address: str) -> Sas | None:
        """The SAS in a container's URL or a connection string; None where it holds none."""
        if not re.search(r"(?:[?&]|SharedAccessSignature=(?:[^;]*&)?)sig=", address):
            return None
        return cls(_field(address, "sp"), _moment(_field(address, "st")), _moment(_field(address, "se")))

    @property
    def create_only(self) -> bool:
        """It may create blobs, and nothing else."""
        return self.permissions == "c"


def _field(address: str, name: str) -> str:
    found = re.search(rf"(?:[?&]|SharedAccessSignature=(?:[^;]*&)?){name}=([^&;]+)", address)
    return unquote(found[1]) if found else ""


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
