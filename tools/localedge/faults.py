"""Faults that can be switched on, to see what modules make of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ripeloop.errors import Refused

SIGN: Final = ("ok", "fail", "hang")


@dataclass(slots=True)
class Faults:
    """The switches; without a fault all is as at the start."""

    connack: int | None = None
    """Answer every CONNECT with this code, 1 to 5; 0 and None: as it should be."""
    puback: bool = True
    """False: store messages, but never acknowledge them."""
    sign: str = "ok"
    """The workload API's sign: `ok`, `fail` with 500, or `hang`."""
    silent: bool = False
    """Keep sockets open, read nothing, answer nothing: a runtime that hangs."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def switch(self, wanted: Mapping[str, Any]) -> None:
        """Change the switches named, and none where one has a wrong value. Raises Refused."""
        valid = {
            "connack": lambda value: value is None or (type(value) is int and 0 <= value <= 5),
            "puback": lambda value: isinstance(value, bool),
            "sign": lambda value: value in SIGN,
            "silent": lambda value: isinstance(value, bool),
        }
        for name, value in wanted.items():
            if name not in valid or not valid[name](value):
                raise Refused(f"{name} {value!r} is no fault; there are connack 0-5, puback, sign ok|fail|hang, silent")
        for name, value in wanted.items():
            setattr(self, name, value)
        self._changed.set()
        self._changed = asyncio.Event()

    async def until_sign_answers(self) -> None:
        """Wait while the workload API's sign hangs."""
        while self.sign == "hang":
            await self._changed.wait()

    def as_json(self) -> dict[str, Any]:
        """The switches as they stand."""
        return {"connack": self.connack, "puback": self.puback, "sign": self.sign, "silent": self.silent}
