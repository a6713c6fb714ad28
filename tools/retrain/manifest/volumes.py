"""What must outlive a container: the folders of our own modules, the spool they share, and edge hub's messages."""

from __future__ import annotations

from collections.abc import Iterator

from retrain.manifest.deployed import Deployed
from retrain.manifest.finding import Finding

SPOOL = "/spool"
FOLDERS = {"ripeloop-classifier": (SPOOL, "/models", "/state"), "ripeloop-sampler": (SPOOL, "/state")}
"""By the image's name: the folders its Dockerfile makes for volumes."""


def volumes(found: Deployed) -> Iterator[Finding]:
    """Folders that have no volume, and a classifier and a sampler that do not share one spool."""
    ours = {module.name: module for module in found.modules if module.image_name in FOLDERS and not module.wrong}
    sources: dict[str, str] = {}
    for name, module in ours.items():
        mounted = {target: source for source, target in module.binds}
        for folder in FOLDERS[module.image_name]:
            if folder not in mounted:
                yield Finding(
                    module.options_place, f"{name} has no volume at {folder}: what is there goes with the container"
                )
        if SPOOL in mounted:
            sources[name] = mounted[SPOOL]
    if len(set(sources.values())) > 1:
        told = ", ".join(f"{name} {source}" for name, source in sources.items())
        place = ours[max(sources)].options_place
        yield Finding(
            place, f"the modules do not share the spool ({told}), so no image ever leaves: give both one volume"
        )
    yield from _hub(found)


def _hub(found: Deployed) -> Iterator[Finding]:
    hub = found.module("edgeHub")
    if hub is None or hub.wrong:
        return
    folder = hub.env.get("StorageFolder", "")
    if not folder or folder.rstrip("/") not in [target for _, target in hub.binds]:
        yield Finding(
            hub.options_place,
            "edgeHub has no volume at its StorageFolder: messages that wait for a network go with the container",
        )
