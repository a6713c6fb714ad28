"""Logs go to stderr, a line an event; as JSON where a machine reads them."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from ripeloop.prediction import format_time


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the error's text where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line = {
            "time": format_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(level: str = "info", *, as_json: bool = False) -> None:
    """Send all logs of this process to stderr, from `level` (debug, info, warning, error) up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # the SDK logs every disconnect at warning with a traceback; hub.py says it once, in words
    for noisy in ("azure", "paho", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
