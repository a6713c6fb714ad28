"""What proves to IoT Hub that a request comes from one who holds the key. Pure: the clock comes in as an argument."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import quote

from ripeloop.errors import SettingsError

WANTED = ("HostName", "SharedAccessKeyName", "SharedAccessKey")
EXAMPLE = "HostName=NAME.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=..."


@dataclass(frozen=True, slots=True)
class HubKey:
    """A connection string of IoT Hub: whom to ask (a host name, with a port or without) and by what right."""

    host: str
    policy: str
    key: bytes

    @classmethod
    def from_connection_string(cls, text: str) -> HubKey:
        """Raises SettingsError, which never repeats the key."""
        parts = dict(part.split("=", 1) for part in text.strip().split(";") if "=" in part)
        missing = [name for name in WANTED if not parts.get(name)]
        if missing:
            raise SettingsError(f"the hub's connection string lacks {', '.join(missing)}; it looks like {EXAMPLE}")
        try:
            key = base64.b64decode(parts["SharedAccessKey"], validate=True)
        except binascii.Error:
            raise SettingsError("SharedAccessKey in the hub's connection string is not base64; copy it whole") from None
        return cls(parts["HostName"], parts["SharedAccessKeyName"], key)

    def token(self, expires: int) -> str:
        """The value of the Authorization header, good until `expires` (seconds since 1970)."""
        resource = quote(self.host, safe="")
        digest = hmac.new(self.key, f"{resource}\n{expires}".encode(), hashlib.sha256).digest()
        signature = quote(base64.b64encode(digest), safe="")
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={expires}&skn={quote(self.policy, safe='')}"
