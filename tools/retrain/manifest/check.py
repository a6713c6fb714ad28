"""All that is wrong with a manifest, at once."""

from __future__ import annotations

from collections.abc import Iterator

from retrain.manifest import containers, microsofts, wiring
from retrain.manifest.deployed import deployed
from retrain.manifest.fill import variables
from retrain.manifest.finding import Finding, Place, without_repeats
from retrain.manifest.schema import MANIFEST
from retrain.manifest.told import told
from retrain.manifest.volumes import volumes


def check(manifest: object, *, laptop: bool = False) -> list[Finding]:
    """What is wrong, in the manifest's own order within each kind. `laptop`: the example's keys are all right."""
    return without_repeats(_all(manifest, laptop=laptop))


def _all(manifest: object, *, laptop: bool) -> Iterator[Finding]:
    yield from MANIFEST(manifest, Place())
    for place, name in variables(manifest):
        yield Finding(place, f"still holds the variable {name}: render the template again with it set")
    found = deployed(manifest)
    yield from wiring.routes(found)
    yield from wiring.untaken(found)
    yield from wiring.order(found)
    yield from volumes(found)
    yield from containers.containers(found)
    yield from microsofts.runtime(found)
    yield from microsofts.images(found)
    yield from microsofts.blobs(found, laptop=laptop)
    yield from wiring.limits(found)
    yield from told(found)
