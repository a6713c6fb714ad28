"""What each module has subscribed to. azure-iot-device does not subscribe again, so this must survive everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from localedge.database import Database


class Sessions:
    """MQTT sessions on disk: topic filters by module."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def load(self, module: str) -> dict[str, int] | None:
        """The filters of a module's session with their quality of service; None where it has no session."""
        rows = self._db.read("SELECT filters FROM session WHERE module = ?", (module,))
        if not rows:
            return None
        filters: dict[str, int] = json.loads(rows[0][0])
        return filters

    def save(self, module: str, filters: Mapping[str, int]) -> asyncio.Future[None]:
        """Keep the filters; done when they are on disk."""
        return self._db.write("INSERT OR REPLACE INTO session VALUES (?, ?)", [(module, json.dumps(filters))])

    def drop(self, module: str) -> None:
        """Forget the session."""
        self._db.write("DELETE FROM session WHERE module = ?", [(module,)])
