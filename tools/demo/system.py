"""The local edge runtime, the two modules and the trainer as real processes, started, killed and started again."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from ripeloop.errors import Offline, Refused, SettingsError

RUNTIME, CLASSIFIER, SAMPLER, TRAINER = "localedge", "classifier", "sampler", "trainer"
MQTT_PORT = 8883  # azure-iot-device knows no other
PR_SET_PDEATHSIG = 1
START_SECONDS = 60.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Training:
    """The trainer service: its folder, its port and its key, which is never shown."""

    data: Path
    port: int
    key: str = field(repr=False)

    @property
    def url(self) -> str:
        """What clients call the endpoint."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start and where its state goes; `cloud` and `local` are addresses that `ripeloop.blobs` takes.

    Without `training` no trainer is started.
    """

    deployment: Path
    env_file: Path
    model: Path
    logs: Path
    cloud: str
    local: str
    gateway: str = "127.0.0.1"
    port: int = 8080
    hub_port: int = 8484
    extra: Mapping[str, str] = field(default_factory=dict)
    training: Training | None = None

    def with_model(self, model: Path) -> Plan:
        """The same with another model."""
        return replace(self, model=model)

    def check_ports(self) -> None:
        """Raise SettingsError where another program has a port, with one command that gets around all of it."""
        taken = [
            (host, port, f"{flag} {other}")
            for host, port, flag, other in (
                (self.gateway, MQTT_PORT, "--gateway", "127.0.0.2" if self.gateway == "127.0.0.1" else "127.0.0.3"),
                ("127.0.0.1", self.port, "--port", str(self.port + 1)),
                (self.gateway, self.hub_port, "--hub-port", str(self.hub_port + 1)),
                *(("127.0.0.1", one.port, "--trainer-port", str(one.port + 1)) for one in (self.training,) if one),
            )
            if not _is_free(host, port)
        ]
        if taken:
            which = " and ".join(f"port {port} on {host}" for host, port, _ in taken)
            way_out = " ".join(flags for *_, flags in taken)
            raise SettingsError(
                f"{which} {'is' if len(taken) == 1 else 'are'} in use; stop the program that has it, or run "
                f"`.venv/bin/python -m demo {way_out}`"
            )


class System:
    """The processes; each may be killed and started again, and finds its own state."""

    def __init__(self, plan: Plan, state: Path) -> None:
        self.plan = plan
        self.state = state
        self._running: dict[str, asyncio.subprocess.Process] = {}

    @property
    def classifier_url(self) -> str:
        """Where a camera posts, without a path."""
        return f"http://127.0.0.1:{self.plan.port}"

    @property
    def spool(self) -> Path:
        """The folder the two modules share."""
        return self.state / "spool"

    def settings_of(self, program: str) -> dict[str, str]:
        """The connection settings the runtime wrote: for a module's name its own, for `hub` the service's."""
        place = self.state / "edge" / ("hub.env" if program == "hub" else f"modules/{program}.env")
        return _read_env(place)

    async def start(self, name: str) -> None:
        """Start one process and return once it does its work. Raises SettingsError with its last words."""
        self.plan.logs.mkdir(parents=True, exist_ok=True)
        with (self.plan.logs / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", name, env=self._environ(name),
                stdout=asyncio.subprocess.PIPE if name == RUNTIME else asyncio.subprocess.DEVNULL,
                stderr=log, start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self._running[name] = process
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._until_ready(name, process)
        except TimeoutError:
            await self.kill(name)
            raise SettingsError(f"{name} was not ready within {START_SECONDS:.0f} s; see {self._log(name)}") from None

    async def kill(self, name: str) -> None:
        """End one process at once, as a power cut or the kernel would: SIGKILL."""
        process = self._running.pop(name)
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def stop(self) -> None:
        """Ask all processes to end, the runtime last, and kill those that do not."""
        for name in (TRAINER, CLASSIFIER, SAMPLER, RUNTIME):
            process = self._running.pop(name, None)
            if process is None or process.returncode is not None:
                continue
            process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def check(self) -> None:
        """Raise Refused if a process ended by itself."""
        for name, process in self._running.items():
            if process.returncode is not None:
                raise Refused(f"{name} ended by itself with exit code {process.returncode}; see {self._log(name)}")

    async def _until_ready(self, name: str, process: asyncio.subprocess.Process) -> None:
        if name == RUNTIME:
            await self._until_it_says_so(name, process)
        elif name == CLASSIFIER:
            await self._until_it_answers(name, process, f"{self.classifier_url}/healthz")
        elif name == TRAINER and self.plan.training is not None:
            await self._until_it_answers(name, process, f"{self.plan.training.url}/healthz")

    async def _until_it_says_so(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None or not await process.stdout.readline():
            await process.wait()
            raise self._last_words(name)

    async def _until_it_answers(self, name: str, process: asyncio.subprocess.Process, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            while process.returncode is None:
                try:
                    async with session.get(url) as response:
                        if response.ok:
                            return
                except aiohttp.ClientConnectionError:  # not listening yet
                    pass
                await asyncio.sleep(0.05)
        raise self._last_words(name)

    def _environ(self, name: str) -> dict[str, str]:
        plan, state = self.plan, self.state
        training = plan.training or Training(Path(), 0, "")
        mine: dict[str, str] = {
            RUNTIME: {
                "LOCALEDGE_DEPLOYMENT": str(plan.deployment),
                "LOCALEDGE_ENV_FILE": str(plan.env_file),
                "LOCALEDGE_STATE": str(state / "edge"),
                "LOCALEDGE_GATEWAY": plan.gateway,
                "LOCALEDGE_HUB_PORT": str(plan.hub_port),
            },
            CLASSIFIER: {
                "CLASSIFIER_MODEL": str(plan.model),
                "CLASSIFIER_HOST": "127.0.0.1",
                "CLASSIFIER_PORT": str(plan.port),
                "CLASSIFIER_SPOOL": str(self.spool),
                "CLASSIFIER_STATE": str(state / "classifier"),
                "CLASSIFIER_MODELS": str(state / "models"),
            },
            SAMPLER: {
                "SAMPLER_SPOOL": str(self.spool),
                "SAMPLER_STATE": str(state / "sampler"),
                "SAMPLER_LOCAL_BLOBS": plan.local,
                "SAMPLER_CLOUD_BLOBS": plan.cloud,
            },
            TRAINER: {
                "TRAINER_DATA": str(training.data),
                "TRAINER_PORT": str(training.port),
                "TRAINER_TRAINING_KEY": training.key,
            },
        }[name]
        base = {k: v for k, v in os.environ.items() if not k.startswith(("IOTEDGE_", "EdgeHub"))}
        return base | (self.settings_of(name) if name in (CLASSIFIER, SAMPLER) else {}) | mine | dict(plan.extra)

    def _log(self, name: str) -> Path:
        return self.plan.logs / f"{name}.log"

    def _last_words(self, name: str) -> SettingsError:
        lines = self._log(name).read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return SettingsError(f"{name} ended: {lines[-1].removeprefix('error: ')}")


@asynccontextmanager
async def running(plan: Plan, order: tuple[str, ...] = (RUNTIME, SAMPLER, CLASSIFIER)) -> AsyncIterator[System]:
    """The processes, started in `order`, then the trainer of the plan, ended on leaving; till then their state is kept.

    The state lies in a short temporary folder, because the path of a unix socket may have 107 bytes only.
    """
    plan.check_ports()
    state = Path(tempfile.mkdtemp(prefix="ripeloop-"))
    system = System(plan, state)
    try:
        for name in (*order, *((TRAINER,) if plan.training else ())):
            await system.start(name)
        yield system
    finally:
        await system.stop()
        shutil.rmtree(state, ignore_errors=True)


async def until(fact: str, holds: Callable[[], Awaitable[bool]], seconds: float, poll: float = 0.1) -> None:
    """Wait until `await holds()` is true. Raises Offline naming the fact that never came true."""
    try:
        async with asyncio.timeout(seconds):
            while not await holds():  # noqa: ASYNC110  (another process decides: there is no event)
                await asyncio.sleep(poll)
    except TimeoutError:
        raise Offline(f"after {seconds:.0f} s it is still not so that {fact}") from None


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise SettingsError(
                    f"{host} is no address of this computer; --gateway takes one of 127.0.0.0/8"
                ) from None
            return False
    return True


def _die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone: nothing is left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _read_env(path: Path) -> dict[str, str]:
    """The settings in a file of `export NAME='value'` lines."""
    words = shlex.split(path.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)
