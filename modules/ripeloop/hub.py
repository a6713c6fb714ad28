"""The edge hub as the modules see it, and the one place that knows azure-iot-device."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from azure.iot.device import exceptions as sdk
from azure.iot.device.aio import IoTHubModuleClient
from azure.iot.device.common.auth.sastoken import SasTokenError
from azure.iot.device.common.pipeline.pipeline_exceptions import PipelineNotRunning
from azure.iot.device.common.transport_exceptions import ConnectionDroppedError, UnauthorizedError
from azure.iot.device.iothub.models.message import Message as SdkMessage
from azure.iot.device.iothub.models.methods import MethodRequest, MethodResponse

from ripeloop.alone import Alone
from ripeloop.beside import beside
from ripeloop.edgehub import EdgeHub
from ripeloop.errors import Offline, Refused, RipeloopError, SettingsError
from ripeloop.link import Ears, HubLimits, LinkBroken, Message, Method, TimedOut
from ripeloop.mailbox import Mailbox

__all__ = ["Alone", "EdgeHub", "Hub", "HubLimits", "Message", "Method", "open_hub"]

log = logging.getLogger(__name__)

T = TypeVar("T")

IN_EDGE = (
    "IOTEDGE_IOTHUBHOSTNAME",
    "IOTEDGE_DEVICEID",
    "IOTEDGE_MODULEID",
    "IOTEDGE_GATEWAYHOSTNAME",
    "IOTEDGE_MODULEGENERATIONID",
    "IOTEDGE_WORKLOADURI",
    "IOTEDGE_APIVERSION",
)
IN_DEBUGGER = ("EdgeHubConnectionString", "EdgeModuleCACertificateFile")

ENVIRONMENT = threading.Lock()


class Hub(Protocol):
    """The edge hub as the modules see it."""

    device: str
    """The IoT Edge device's id; the host's name where the module runs alone."""

    async def send(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        """One message to `output`, acknowledged by the hub when this returns. Raises Offline, TooLarge."""

    async def post(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        """As `send`, but returns once the message is on disk: it is delivered at least once, later if need be.

        Its `message_id` stays the same over all deliveries. Raises TooLarge, SpoolFull.
        """

    def messages(self, input_: str) -> AsyncIterator[Message]:
        """What routes bring to `input_`, for ever. A wake-up: the reader may miss one when the process dies."""

    def desired(self) -> AsyncIterator[dict[str, Any]]:
        """The whole desired section of the twin: once at the start, then after each change and each reconnect."""

    async def report(self, patch: Mapping[str, Any]) -> None:
        """Change reported properties; kept and sent again when offline, the newest value of a key wins."""


@asynccontextmanager
async def open_hub(
    environ: Mapping[str, str],
    *,
    mailbox: Path,
    inputs: Sequence[str] = (),
    methods: Mapping[str, Method] | None = None,
    limits: HubLimits = HubLimits(),
) -> AsyncIterator[Hub]:
    """The hub of this IoT Edge environment, or `Alone` where there is none. Never waits for the hub to be there.

    `mailbox` is the SQLite file of posted messages. Raises SettingsError at once, and HubLost out of the `async with`
    when only a new process helps.
    """
    device = _device(environ)
    if device is None:
        missing = next(name for name in IN_EDGE if not environ.get(name))
        log.warning("no IoT Edge environment (%s is not set): this module runs alone, nothing is sent", missing)
        yield Alone(socket.gethostname())
        return
    box = await asyncio.to_thread(Mailbox, mailbox)
    try:
        hub = EdgeHub(
            device, box, lambda ears: _SdkLink(environ, ears, limits), inputs=inputs, methods=methods, limits=limits
        )
        async with beside(hub.run()):
            yield hub
    finally:
        box.close()


class _SdkLink:
    """A Link: one client of the SDK, with a thread and an event loop of its own.

    Much of the SDK blocks without a limit: making a client, setting a handler, its `run_in_executor` calls. What hangs
    here hangs alone, and never takes the threads in which the modules work.
    """

    def __init__(self, environ: Mapping[str, str], ears: Ears, limits: HubLimits) -> None:
        self._environ = environ
        self._ears = ears
        self._limits = limits
        self._client: Any = None
        self._closed = False
        self._ours = asyncio.get_running_loop()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_note)
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    @property
    def connected(self) -> bool:
        return self._client is not None and bool(self._client.connected)

    async def open(self) -> None:
        try:
            await self._do(self._create, self._limits.create)
        except TimedOut as error:  # the thread that waits there is lost, so this must not go on for ever
            raise LinkBroken(f"the workload API does not answer: {error}") from error
        except OSError as error:
            raise Offline(f"the workload API cannot be asked: {error}") from error
        except ValueError as error:
            if isinstance(error.__cause__, SasTokenError):
                raise Offline(f"the workload API does not sign: {error.__cause__.__cause__}") from error
            raise SettingsError(f"the IoT Edge environment is not usable: {error}") from error
        try:
            await self._do(self._attach, self._limits.connect)
        except sdk.ClientError as error:
            raise LinkBroken(f"cannot connect: {error} {error.__cause__!r}") from error

    async def send(self, output: str, id_: str, body: bytes, properties: Mapping[str, str]) -> None:
        message = SdkMessage(body, message_id=id_)  # type: ignore[no-untyped-call]
        message.custom_properties = dict(properties)
        if _is_json(body):  # routes look into the body of these only
            message.content_type, message.content_encoding = "application/json", "utf-8"
        await self._ask(self._client.send_message_to_output, message, output)

    async def twin(self) -> dict[str, Any]:
        twin: dict[str, Any] = await self._ask(self._client.get_twin)
        return twin

    async def report(self, patch: Mapping[str, Any]) -> None:
        await self._ask(self._client.patch_twin_reported_properties, dict(patch))

    async def close(self) -> None:
        self._closed = True
        ended = asyncio.Event()
        ending = asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
        ending.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        ending.add_done_callback(lambda _: self._in_ours(ended.set))
        try:
            await asyncio.wait_for(ended.wait(), self._limits.close)
        except TimeoutError:
            # it waits for paho's thread, which may be dead, or for a connect that hangs
            log.warning("the SDK did not end within %g s; its threads are left to themselves", self._limits.close)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _do(self, action: Callable[..., Awaitable[T]], limit: float, *args: Any) -> T:
        """What `action` returns, run in the link's own loop. Raises TimedOut, Offline, LinkBroken, ClientError."""

        async def run() -> T:
            return await action(*args)

        if self._closed:
            raise Offline("this connection to the edge hub is closed")
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), self._loop))
        try:
            async with asyncio.timeout(limit):  # wait_for of Python 3.11 loses a cancellation when the answer comes
                return await future
        except TimeoutError as error:
            raise TimedOut(f"no answer within {limit:g} s") from error
        except AWAY as error:
            raise Offline(f"{error}") from error
        except sdk.CredentialError as error:
            raise LinkBroken(f"the edge hub refuses our token: {error}") from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Offline("the connection to the edge hub was closed meanwhile") from None

    async def _ask(self, action: Callable[..., Awaitable[T]], *args: Any) -> T:
        """As `_do`, for a request on the open link. Raises Refused."""
        try:
            return await self._do(action, self._limits.request, *args)
        except (sdk.ClientError, ValueError) as error:
            raise _request_error(error) from error

    async def _create(self) -> None:
        with _environment(self._environ):
            self._client = IoTHubModuleClient.create_from_edge_environment(
                sastoken_ttl=self._limits.token,
                keep_alive=self._limits.keep_alive,
                connection_retry=False,  # a link that dropped is replaced, see supervisor.py
                ensure_desired_properties=False,  # done by us, and theirs waits for ever
            )

    async def _attach(self) -> None:
        await asyncio.wrap_future(_threaded(self._set_handlers))

    def _set_handlers(self) -> None:
        """Each setter subscribes and the first one connects: connecting before loses what the hub has stored for us."""
        self._client.on_connection_state_change = self._on_change
        self._client.on_background_exception = self._on_background_exception
        self._client.on_message_received = self._on_message
        self._client.on_method_request_received = self._on_method
        self._client.on_twin_desired_properties_patch_received = self._on_patch

    # The handlers are coroutines, as the SDK calls these in order; it calls functions in four threads at once.

    async def _on_change(self) -> None:
        self._in_ours(self._ears.on_change)

    async def _on_background_exception(self, error: Exception) -> None:
        if isinstance(error, SasTokenError | UnauthorizedError):
            self._in_ours(self._ears.on_end, LinkBroken(f"the SDK has given up: {error!r}"))
        elif isinstance(error, ConnectionDroppedError):  # a renewed token drops the connection, too, but not with this
            self._in_ours(self._ears.on_end, Offline("the connection to the edge hub was lost"))
        else:
            log.debug("the SDK reports %r", error)

    async def _on_message(self, message: Any) -> None:
        properties = {key: value or "" for key, value in message.custom_properties.items()}
        self._in_ours(self._ears.on_message, message.input_name, Message(message.data, properties))

    async def _on_method(self, request: MethodRequest) -> None:
        async def answer(status: int, payload: Any) -> None:
            response = MethodResponse.create_from_method_request(request, status, payload)
            await self._ask(self._client.send_method_response, response)

        self._in_ours(self._ears.on_method, request.name, request.payload, answer)

    async def _on_patch(self, patch: dict[str, Any]) -> None:
        self._in_ours(self._ears.on_patch, patch)

    def _in_ours(self, call: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # the program ended, and its loop with it
            self._ours.call_soon_threadsafe(self._hear, call, args)

    def _hear(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        if not self._closed or call not in (self._ears.on_change, self._ears.on_end):
            call(*args)

    async def _shut_down(self) -> None:
        if self._client is not None:
            try:
                await self._client.shutdown()
            except sdk.ClientError:  # it was half connected; now it is not
                await self._client.shutdown()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


AWAY = (
    sdk.ConnectionFailedError,
    sdk.ConnectionDroppedError,
    sdk.NoConnectionError,
    sdk.OperationCancelled,
    sdk.OperationTimeout,
    PipelineNotRunning,
)
"""What the SDK raises when the hub is away, or when the link is closed while it is in use."""


def _request_error(error: Exception) -> RipeloopError:
    """A request that failed on a good link: the hub's own trouble (429, 5xx) passes, all else is the request's."""
    cause = error.__cause__
    status = str(cause).rpartition(" ")[2] if isinstance(cause, sdk.ServiceError) else ""
    if status == "429" or status.startswith("5"):
        return Offline(f"the edge hub has trouble of its own: {cause}")
    return Refused(f"{cause or error!r}")


def _device(environ: Mapping[str, str]) -> str | None:
    """The device of this IoT Edge environment, None without one. Raises SettingsError for half a one."""
    if all(environ.get(name) for name in IN_EDGE):
        return environ["IOTEDGE_DEVICEID"]
    if not all(environ.get(name) for name in IN_DEBUGGER):
        return None
    connection, ca_file = (environ[name] for name in IN_DEBUGGER)
    fields = dict(field.split("=", 1) for field in connection.split(";") if "=" in field)
    missing = {"HostName", "DeviceId", "ModuleId", "SharedAccessKey", "GatewayHostName"} - fields.keys()
    if missing:
        raise SettingsError(f"EdgeHubConnectionString lacks {', '.join(sorted(missing))}")
    if not Path(ca_file).is_file():
        raise SettingsError(f"EdgeModuleCACertificateFile names {ca_file}, and there is no such file")
    return fields["DeviceId"]


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """The SDK reads os.environ and nothing else: let it find `environ` there."""
    if environ is os.environ:
        yield
        return
    with ENVIRONMENT:
        before = {name: os.environ.get(name) for name in (*IN_EDGE, *IN_DEBUGGER)}
        _put({name: environ.get(name) for name in before})
        try:
            yield
        finally:
            _put(before)


def _put(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _threaded(call: Callable[[], T]) -> Future[T]:
    """As an executor does, but in a daemon thread: at exit Python waits for an executor's, and this may never end."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - handed on, not answered
            future.set_exception(error)
        else:
            future.set_result(result)

    future.set_running_or_notify_cancel()  # from here on it cannot be cancelled, only abandoned
    threading.Thread(target=run, name="hub", daemon=True).start()
    return future


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Late answers to requests that were given up already."""
    log.debug("in the loop of the SDK: %s", context.get("message"))
