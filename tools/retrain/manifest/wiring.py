"""How the modules of a manifest hang together: routes, the order they start in, their desired properties."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from manifests.limits import check, check_size
from manifests.routes import UPSTREAM, Route, endpoint, parse, segments
from retrain.manifest.deployed import HUB_PLACE, Deployed, Module, place_of
from retrain.manifest.finding import Finding
from ripeloop.errors import Refused, SettingsError

UNCERTAIN, SUMMARY = "uncertain", "summary"
SENDS = {"ripeloop-classifier": (UNCERTAIN, SUMMARY), "ripeloop-sampler": (SUMMARY,)}
"""By the image's name: the outputs a deployment is no good without."""
LAST = 4_294_967_295  # edgeAgent's default


def routes(found: Deployed) -> Iterator[Finding]:
    """Routes that edge hub would not read, or whose modules do not exist or start too late."""
    for name, spec in found.routes.items():
        place = HUB_PLACE / "routes" / name
        try:
            route = parse(name, spec)
        except SettingsError as error:
            yield Finding(place, str(error))
            continue
        for module, role in _modules_of(route):
            if found.module(module) is None:
                yield Finding(place, f"route {name}: its {role} {module} is no module of this deployment")
        yield from _started(found, route)


def untaken(found: Deployed) -> Iterator[Finding]:
    """What our modules send and no route takes where it belongs: images to a sampler, summaries to the cloud."""
    samplers = [endpoint(one.name, UNCERTAIN).lower() for one in found.modules if one.image_name == "ripeloop-sampler"]
    taking = list(_readable(found))
    for module in found.modules:
        for output in SENDS.get(module.image_name, ()):
            path = f"/messages/modules/{module.name}/outputs/{output}"
            sinks = {route.endpoint.lower() for route in taking if segments(path)[: len(route.source)] == route.source}
            if output == SUMMARY and UPSTREAM not in sinks:
                lost = "its counters never reach the cloud; send it INTO $upstream"
            elif output == UNCERTAIN and samplers and not sinks & set(samplers):
                lost = "the sampler finds its images only when it looks by itself, late; send it to its input uncertain"
            else:
                continue
            yield Finding(HUB_PLACE / "routes", f"no route takes {path}: {lost}", serious=False)


def order(found: Deployed) -> Iterator[Finding]:
    """Modules that start before what they need, or that stay away once they end."""
    hub = found.module("edgeHub")
    if hub is None:
        return
    hubs = _order(hub)
    for module in found.modules:
        if module.restart == "never":
            yield Finding(
                module.place, f"{module.name} stays away once it ends (restartPolicy never): say always", serious=False
            )
        if module.is_system:
            continue
        if _order(module) < hubs:
            yield Finding(module.place, f"{module.name} starts before edgeHub (startupOrder {module.order} before "
                                        f"{hub.order}): give edgeHub 0")  # fmt: skip
        if module.status == "stopped":
            yield Finding(module.place, f"{module.name} has status stopped: it will not run", serious=False)


def limits(found: Deployed) -> Iterator[Finding]:
    """Desired properties that IoT Hub would refuse, those of the system modules included."""
    for name, desired in found.desired.items():
        try:
            check_size(desired)
            if not name.startswith("$"):  # their names hold what the schema says
                check(desired)
        except Refused as error:
            yield Finding(place_of(name), str(error))
        if not name.startswith("$") and found.module(name) is None:
            yield Finding(place_of(name), f"{name} is no module of this deployment: nobody would read this")
        for key in _nulls(desired):
            yield Finding(place_of(name) / key, "is null: a twin cannot hold that; leave it out")


def _readable(found: Deployed) -> Iterator[Route]:
    for name, spec in found.routes.items():
        with suppress(SettingsError):
            yield parse(name, spec)


def _modules_of(route: Route) -> Iterator[tuple[str, str]]:
    if (source := _source(route)) is not None:
        yield source, "source"
    if route.endpoint != UPSTREAM:
        yield route.endpoint.partition("/")[0], "sink"


def _source(route: Route) -> str | None:
    """The one module whose messages it takes; None where it takes those of many."""
    return route.source[2] if route.source[:2] == ("messages", "modules") and len(route.source) > 2 else None


def _started(found: Deployed, route: Route) -> Iterator[Finding]:
    source, sink = found.module(_source(route) or ""), found.module(route.endpoint.partition("/")[0])
    if source is not None and sink is not None and _order(sink) > _order(source):
        yield Finding(
            HUB_PLACE / "routes" / route.name,
            f"route {route.name}: {sink.name} starts after {source.name}, its sender: give it a lower startupOrder",
            serious=False,
        )


def _order(module: Module) -> int:
    return LAST if module.order is None else module.order


def _nulls(desired: object) -> Iterator[str]:
    if isinstance(desired, dict):
        for key, value in desired.items():
            if value is None:
                yield key
            for below in _nulls(value):
                yield f"{key}.{below}"
