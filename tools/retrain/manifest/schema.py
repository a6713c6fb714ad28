"""The schema of a deployment manifest, $edgeAgent 1.1 and $edgeHub 1.1 to 1.3, as IoT Edge 1.6 reads it."""

from __future__ import annotations

from retrain.manifest.shape import Shape, anything, named, record, scalar, text, text_or, whole, words

CHUNK = 512
"""Characters of create options in one value; longer ones go on in createOptions01 and so on."""

_LARGEST = 4_294_967_295

_DOCKER = words("docker")
_STATUS = words("running", "stopped")
_RESTART = words("always", "on-unhealthy", "on-failure", "never")
_PULL = words("on-create", "never")
_ORDER = whole(0, _LARGEST)
_ENV = named(r"[^+#$\s.]+", "no +, #, $, dot or space", record({"value": scalar}))
# as edgeAgent reads it: a tag or a digest, never both
_IMAGE = text(
    r"([^/\s]*/)*[^/:\s]+(:[^/:\s]+)?", "an image, as in registry/name:tag or registry/name@sha256:…, not both at once"
)
_SETTINGS = record({"image": _IMAGE}, others=(r"createOptions([0-9]{2})?", text(most=CHUNK)))

_CREDENTIALS = named(
    r"[^.$# ]+",
    "no dot, $, # or space",
    record({"username": text(), "password": text(), "address": text(r"\S+", "an address without spaces")}),
)
_RUNTIME = record(
    {
        "type": _DOCKER,
        "settings": record(
            {}, {"minDockerVersion": text(), "loggingOptions": text(), "registryCredentials": _CREDENTIALS}
        ),
    }
)
_EDGE_AGENT = record({"type": _DOCKER, "settings": _SETTINGS}, {"env": _ENV, "imagePullPolicy": _PULL})
_EDGE_HUB = record(
    {"type": _DOCKER, "settings": _SETTINGS, "status": _STATUS, "restartPolicy": _RESTART},
    {"env": _ENV, "imagePullPolicy": _PULL, "startupOrder": _ORDER},
)
_MODULE = record(
    {"type": _DOCKER, "settings": _SETTINGS, "status": _STATUS, "restartPolicy": _RESTART},
    {"version": text(), "env": _ENV, "imagePullPolicy": _PULL, "startupOrder": _ORDER},
)
_AGENT = record(
    {
        "schemaVersion": words("1.1"),
        "runtime": _RUNTIME,
        "systemModules": record({"edgeAgent": _EDGE_AGENT, "edgeHub": _EDGE_HUB}),
        "modules": named(r"[A-Za-z0-9_-]+", "letters, digits, _ and -", _MODULE),
    }
)

_ROUTE = text_or(
    record(
        {"route": text(r"(?s).+", "a text that is not empty")},
        {"priority": whole(0, 9), "timeToLiveSecs": whole(0, _LARGEST)},
    )
)
_KEPT = record(
    {"timeToLiveSecs": whole(-1, _LARGEST)}, {"storeLimits": record({}, {"maxSizeBytes": whole(-1, 2**63 - 1)})}
)
_HUB = record(
    {"schemaVersion": words("1.2", "1.3", "1.1"), "routes": named(r"[^.$# ]+", "no dot, $, # or space", _ROUTE)},
    {"storeAndForwardConfiguration": _KEPT, "mqttBroker": record({}, others=(".*", anything))},
)


def _section(desired: Shape) -> Shape:
    return record({"properties.desired": desired})


MANIFEST: Shape = record(
    {
        "modulesContent": record(
            {"$edgeAgent": _section(_AGENT), "$edgeHub": _section(_HUB)},
            others=(r"[^$].*", _section(record({}, others=(r"(?s).*", anything)))),
        )
    }
)
