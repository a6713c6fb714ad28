"""What the service says no with: Custom Vision's own codes, and the HTTP status each of them has."""

from __future__ import annotations

from typing import Any

from ripeloop.errors import RipeloopError

# Custom Vision's codes begin with what kind of trouble it is
_STATUS = {
    "BadRequest": 400,
    "Forbidden": 403,
    "NotFound": 404,
    "Conflict": 409,
    "UnsupportedMediaType": 415,
    "ErrorServerTimeOut": 504,
    "ErrorPredictionServiceUnavailable": 503,
    "Error": 500,
}


class Problem(RipeloopError):
    """A request that Custom Vision would answer with `code`; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return next(status for prefix, status in _STATUS.items() if self.code.startswith(prefix))

    def to_json(self) -> dict[str, Any]:
        """The body, as the service itself answers."""
        return {"code": self.code, "message": str(self)}


class GatewayProblem(RipeloopError):
    """What the gateway before the service refuses: a wrong key, an unknown address, too many calls."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    def to_json(self) -> dict[str, Any]:
        """The body, as the gateway answers: one level deeper than the service's."""
        return {"error": {"code": str(self.status), "message": str(self)}}


def not_found(kind: str, id_: str) -> Problem:
    """Nothing of that kind, such as Project or Tag, has that id."""
    return Problem(f"NotFound{kind}", f"{kind} {id_} is not found: list them to see which there are")
