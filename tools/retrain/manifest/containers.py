"""What a container may do on the device: its user, its ports, its folders, its memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

from retrain.manifest.deployed import Deployed, Module
from retrain.manifest.finding import Finding, Place

LEAST_MEMORY = 32 * 1024 * 1024
_PORT = re.compile(r"(?P<number>[0-9]{1,5})(/(?P<kind>tcp|udp|sctp))?")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
_FORBIDDEN = ("/", "/etc", "/proc", "/sys", "/dev", "/var/run/docker.sock", "/run/docker.sock")
_ANY_HOST = ("", "0.0.0.0", "::")  # noqa: S104 addresses in a manifest, nothing listens on them here


class _Published(NamedTuple):
    module: str
    place: Place
    address: str
    port: str
    kind: str


def containers(found: Deployed) -> Iterator[Finding]:
    """What is wrong with the create options of any module, and between two of them."""
    for module in found.modules:
        yield from module.wrong
        if module.wrong:
            continue
        yield from _rights(module)
        yield from _binds(module)
        if not module.is_system:
            yield from _limits(module)
    published = []
    for module in found.modules:
        for port in _published(module):
            if isinstance(port, Finding):
                yield port
            else:
                published.append(port)
    for one, other in combinations(published, 2):
        if (one.port, one.kind) == (other.port, other.kind) and _meet(one.address, other.address):
            yield Finding(
                other.place,
                f"{other.module} and {one.module} take the same port {one.port}/{one.kind}: change one of them",
            )


def _rights(module: Module) -> Iterator[Finding]:
    place, host = module.options_place, module.host
    user = str(module.options.get("User", ""))
    if user.partition(":")[0] in ("root", "0"):
        yield Finding(
            place, f"{module.name} runs as User {user}: leave it out, the image names a user that is not root"
        )
    if host.get("Privileged"):
        yield Finding(place, f"{module.name} is Privileged, which is root on the device: leave it out")
    if added := host.get("CapAdd"):
        yield Finding(place, f"{module.name} adds rights (CapAdd {added}): leave it out, or say why", serious=False)
    if module.is_system:
        return
    options = host.get("SecurityOpt")
    if not isinstance(options, list) or "no-new-privileges" not in options:
        yield Finding(place, f'{module.name} may gain rights: add "SecurityOpt": ["no-new-privileges"]', serious=False)
    if not module.is_microsofts and host.get("CapDrop") != ["ALL"]:
        yield Finding(
            place, f'{module.name} keeps rights of root it does not need: add "CapDrop": ["ALL"]', serious=False
        )


def _limits(module: Module) -> Iterator[Finding]:
    place, memory = module.options_place, module.host.get("Memory")
    if memory is None and module.is_microsofts:
        pass  # what their images need is theirs to say
    elif not isinstance(memory, int) or isinstance(memory, bool) or memory < LEAST_MEMORY:
        yield Finding(place, f"{module.name} has no HostConfig.Memory of {LEAST_MEMORY} bytes or more: one leak would "
                             f"take the device down; it has {memory!r}")  # fmt: skip
    log = module.host.get("LogConfig")
    config = log.get("Config") if isinstance(log, dict) else None
    if not isinstance(config, dict) or not config.get("max-size"):
        yield Finding(
            place, f"{module.name}'s log may fill the disk: set HostConfig.LogConfig.Config max-size", serious=False
        )


def _binds(module: Module) -> Iterator[Finding]:
    place, seen = module.options_place, set[str]()
    binds = module.host.get("Binds") or []
    for bind in binds if isinstance(binds, list) else [binds]:
        parts = bind.split(":") if isinstance(bind, str) else []
        if len(parts) not in (2, 3) or not parts[1].startswith("/"):
            yield Finding(place, f"{module.name}: the bind {bind!r} is not SOURCE:/FOLDER or SOURCE:/FOLDER:ro")
            continue
        source, target = parts[0], parts[1].rstrip("/") or "/"
        if not source.startswith("/") and not _VOLUME.fullmatch(source):
            yield Finding(
                place, f"{module.name}: {source!r} is neither a volume's name nor a folder that begins with /"
            )
        if (source.rstrip("/") or "/") in _FORBIDDEN:
            yield Finding(
                place, f"{module.name} mounts {source} of the device, which gives it the device: use a volume"
            )
        if target in seen:
            yield Finding(place, f"{module.name} mounts two things at {target}")
        seen.add(target)


def _published(module: Module) -> Iterator[_Published | Finding]:
    place, bindings = module.options_place, module.host.get("PortBindings") or {}
    if not isinstance(bindings, dict):
        yield Finding(place, f"{module.name}: PortBindings must be an object")
        return
    for inside, outside in bindings.items():
        parts = _PORT.fullmatch(inside)
        if parts is None or not _is_port(parts["number"]):
            yield Finding(place, f"{module.name}: {inside!r} in PortBindings is no port of the container, as in 80/tcp")
            continue
        for one in outside if isinstance(outside, list) else [outside]:
            port = one.get("HostPort") if isinstance(one, dict) else None
            if not isinstance(port, str) or not _is_port(port):
                yield Finding(place, f"{module.name}: HostPort of {inside} must be a port from 1 to 65535 as a text, "
                                     f"not {_shown(port)}")  # fmt: skip
            else:
                yield _Published(
                    module.name, place, str(one.get("HostIp") or ""), str(int(port)), parts["kind"] or "tcp"
                )


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 1 <= int(text) <= 65535


def _meet(one: str, other: str) -> bool:
    return one == other or one in _ANY_HOST or other in _ANY_HOST


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)
