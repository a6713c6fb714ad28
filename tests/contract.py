"""Custom Vision's own description of its API, where ../shared is there, to hold what is said against."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import requests

CONTRACTS = Path(__file__).parent.parent.parent / "shared" / "contracts"
FILES = {"training": "training-v3.4-preview.json", "prediction": "prediction-v3.1.json"}

# words that the contract leaves open (modelAsString) and the trainer adds
_OURS = {"ExportFlavor": ["ONNXInt8"]}

_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("uuid")
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value))


@_FORMATS.checks("date-time")
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z", value))


class Contract:
    """The description of one API, by its swagger file."""

    def __init__(self, path: Path) -> None:
        self._described = json.loads(path.read_bytes())
        base = re.escape(self._described["basePath"])
        self._operations = [
            (re.compile(base + re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) + "$"), method.upper(), operation)
            for path, methods in self._described["paths"].items()
            for method, operation in methods.items()
        ]
        # a fixed path before one with an id in its place
        self._operations.sort(key=lambda one: one[0].pattern.count("[^/]+"))

    @property
    def operations(self) -> set[str]:
        """The names of all operations."""
        return {operation["operationId"] for _, _, operation in self._operations}

    def check(self, response: requests.Response) -> None:
        """Fails where the request or its response is not as described."""
        request = response.request
        address = urlsplit(request.url or "")
        operation = next(
            found
            for pattern, method, found in self._operations
            if method == request.method and pattern.match(address.path.removesuffix("/"))
        )
        _check_query(operation, dict(parse_qsl(address.query, keep_blank_values=True)))
        for parameter in operation["parameters"]:
            kind = str(request.headers.get("Content-Type", ""))
            if parameter["in"] == "body" and request.body and "json" in kind:
                self._check(json.loads(request.body), parameter["schema"], strict=False)
        described = operation["responses"].get(str(response.status_code), operation["responses"]["default"])
        schema = described.get("schema")
        if schema is None:
            assert response.content == b"", f"{operation['operationId']} answers nothing"
        elif schema.get("type") != "file":
            self._check(response.json(), schema, strict=True)

    def _check(self, value: Any, schema: Mapping[str, Any], *, strict: bool) -> None:
        jsonschema.validate(value, self._plain(schema, strict=strict), format_checker=_FORMATS)

    def _plain(self, schema: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
        """JSON Schema for swagger's own form; `strict`: nothing may be there that is not described."""
        if "$ref" in schema:
            return self._plain(self._described["definitions"][schema["$ref"].rpartition("/")[2]], strict=strict)
        plain: dict[str, Any] = {}
        if "type" in schema:
            never_null = schema.get("x-nullable") is False
            plain["type"] = schema["type"] if never_null else [schema["type"], "null"]
        for name in ("format", "minimum", "maximum", "minItems", "maxItems"):
            if name in schema:
                plain[name] = schema[name]
        if "enum" in schema:
            plain["enum"] = [*schema["enum"], *_OURS.get(schema.get("x-ms-enum", {}).get("name"), ()), None]
        if "items" in schema:
            plain["items"] = self._plain(schema["items"], strict=strict)
        if "properties" in schema:
            plain["properties"] = {name: self._plain(one, strict=strict) for name, one in schema["properties"].items()}
            plain["additionalProperties"] = not strict
            plain["required"] = schema.get("required", [])
        elif isinstance(schema.get("additionalProperties"), dict):
            plain["additionalProperties"] = self._plain(schema["additionalProperties"], strict=strict)
        return plain


def _check_query(operation: Mapping[str, Any], query: Mapping[str, str]) -> None:
    known = {parameter["name"]: parameter for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert set(query) <= set(known), f"{operation['operationId']} has no {set(query) - set(known)}"
    missing = {name for name, parameter in known.items() if parameter.get("required")} - set(query)
    assert not missing, f"{operation['operationId']} needs {missing}"


def checker() -> Any:
    """A hook for requests' sessions that holds what passes against the contract; does nothing without ../shared."""
    if not CONTRACTS.is_dir():
        return lambda response, *_args, **_kwargs: response
    contracts = {kind: Contract(CONTRACTS / name) for kind, name in FILES.items()}

    def check(response: requests.Response, *_args: Any, **_kwargs: Any) -> requests.Response:
        kind = urlsplit(response.request.url or "").path.split("/")[3]
        gateway = response.status_code in (401, 403, 404, 429) and "error" in response.json()
        if not gateway:
            contracts[kind].check(response)
        return response

    return check
