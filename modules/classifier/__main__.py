"""`python -m classifier`: answers images over HTTP, alone or as a module of IoT Edge."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from aiohttp import web

from classifier.models.cores import cores
from classifier.models.model import Model, load
from classifier.models.providers import CPU, parse
from classifier.numbers.metrics import Metrics
from classifier.numbers.summary import Counts, post_summaries, status
from classifier.numbers.thresholds import Thresholds, follow
from classifier.pixels.decoding import MAX_SIDE
from classifier.pixels.freed import give_back, keep_little
from classifier.pixels.quiet import keep_quiet
from classifier.pixels.room import MAX_PIXELS, Room
from classifier.rollout.fetch import FetchLimits
from classifier.rollout.live import Live
from classifier.rollout.memory import Memory
from classifier.rollout.rollout import Rollout, RolloutSettings
from classifier.rollout.shelf import Shelf
from classifier.rollout.start import Sources, begin
from classifier.serving import messages
from classifier.serving.app import Options, application, is_our_fault
from classifier.serving.classify import Classifier
from classifier.serving.guard import Limits as BodyLimits
from classifier.serving.guard import OncePerMinute
from classifier.serving.handoff import Bounds, Handoff
from classifier.serving.messages import Predictions, answer_images
from classifier.serving.url import Hosts, fetching
from classifier.settings import EXACT, FAST, MAX_BODY, Settings
from ripeloop import process
from ripeloop.errors import BadModel, SettingsError
from ripeloop.hub import open_hub
from ripeloop.package import public_key
from ripeloop.prediction import format_time
from ripeloop.sampling import AUDIT_RATE, MOST_ENTROPY, THRESHOLDS
from ripeloop.spool import Limits, Spool
from ripeloop.uncertainty import Policy

log = logging.getLogger("classifier")

Command = TypeVar("Command", bound=Callable[..., Any])

RECEIVED_AHEAD = 4  # times as many images may be on their way in as under way: cameras are slower than the model
READ_AHEAD = 256 * 1024  # bytes, as many as asyncio reads at once: with less it stops reading after each time
STOP_SECONDS = 5.0  # for the answers under way when the process is asked to end


async def serve(settings: Settings) -> None:
    """Answer images until cancelled; then finish what is under way. Raises SettingsError, HubLost."""
    keep_quiet()
    logging.getLogger("aiohttp.server").addFilter(is_our_fault)
    logging.getLogger("asyncio").addFilter(OncePerMinute())
    keep_little()
    loading = partial(
        load,
        threads=settings.workers,
        room=Room(settings.max_pixels),
        fast=settings.decode == FAST,
        providers=settings.providers,
    )
    sources = Sources(Shelf(settings.models), settings.model, loading, settings.model_key)
    model, memory = await _first_model(sources)
    log.info("model %s: %d tags (%s)", model.version, len(model.tags), ", ".join(model.tags[:10]))
    await sources.beside(give_back)
    spool = _spool(settings)
    counts, thresholds = Counts(), Thresholds(settings.policy)

    live = Live(model)
    rollout = Rollout(live, sources, memory, settings.rollout)
    del model  # it may be swapped out, and then its memory is free

    async def tell_status(_: Any) -> tuple[int, Any]:
        usage = await asyncio.to_thread(_usage, spool) if spool else (0, 0)
        about = rollout.status() | {"tags": list(live.model.tags)}
        return 200, status(counts, live.model, about, usage, thresholds.of(live.model))

    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(
            open_hub(
                os.environ,
                mailbox=settings.state / "mailbox.db",
                inputs=[messages.INPUT],
                methods={"status": tell_status, "rollback": rollout.rollback},
            )
        )
        handoff = Handoff(spool, hub, counts, Bounds(wait=settings.handoff_wait)) if spool else None
        if handoff:
            await stack.enter_async_context(handoff.running())
        classifier = Classifier(
            live,
            counts,
            thresholds,
            handoff,
            workers=settings.workers,
            max_in_flight=settings.max_in_flight,
        )
        stack.callback(classifier.close)
        fetch = None
        if settings.url_hosts is not None:
            fetch = await stack.enter_async_context(fetching(settings.url_hosts, max_bytes=settings.max_body))
        predictions = Predictions(hub)
        metrics = Metrics(classifier, counts, predictions, spool)
        limits = BodyLimits(settings.max_body, count=RECEIVED_AHEAD * settings.max_in_flight)
        options = Options(limits, metrics, settings.prediction_key, fetch, predictions)
        await stack.enter_async_context(_listening(application(classifier, options), settings))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(hub, thresholds, lambda: live.model))
            tasks.create_task(rollout.run(hub))
            tasks.create_task(post_summaries(hub, counts, lambda: live.model, settings.summary_seconds))
            tasks.create_task(messages.follow(hub, predictions))
            tasks.create_task(predictions.run())
            for _ in range(settings.workers):
                tasks.create_task(answer_images(hub, classifier, predictions, metrics.messages))


async def _first_model(sources: Sources) -> tuple[Model, Memory]:
    try:
        return await sources.beside(begin, sources, format_time(datetime.now(UTC)))
    except BadModel as error:
        raise SettingsError(f"--model: {error}") from error
    except OSError as error:
        raise SettingsError(f"--models {sources.shelf.folder} cannot be used: {error.strerror or error}") from error


@asynccontextmanager
async def _listening(app: web.Application, settings: Settings) -> AsyncIterator[None]:
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=STOP_SECONDS / 2,  # aiohttp waits so long for the answers, and again for what it cancelled
        keepalive_timeout=settings.idle_seconds,
        read_bufsize=READ_AHEAD,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except UnicodeError:  # what the system's resolver makes of a name with an empty or a very long part
            raise SettingsError(f"--host {settings.host} is neither an address nor a name") from None
        except OSError as error:
            raise SettingsError(_why_not_listening(settings, error)) from error
        for address in runner.addresses:
            log.info("listening on http://%s:%d", *address[:2])
        yield
    finally:
        await runner.cleanup()


def _why_not_listening(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {settings.port} is in use: choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {settings.port} may not be opened by this user: choose one above 1023 with --port"
    return f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"


def _spool(settings: Settings) -> Spool | None:
    if settings.spool is None:
        log.info("without --spool no image is kept")
        return None
    try:
        return Spool(settings.spool, settings.spool_limits)
    except OSError as error:
        raise SettingsError(f"--spool {settings.spool} cannot be used: {error.strerror or error}") from error


def _usage(spool: Spool) -> tuple[int, int]:
    """The bytes and the images that wait; a folder that somebody removed is made again."""
    try:
        return spool.usage()
    except FileNotFoundError:
        log.warning("the spool %s was gone with what waited in it; it is made again", spool.folder)
    try:
        spool.aside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("cannot make the spool: %s", error)
    return 0, 0


class _Range(click.FloatRange):
    """A range of numbers, of which nan and infinity are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_SHARE = _Range(0, 1)
_FOLDER = click.Path(file_okay=False, path_type=Path)


def _option(name: str, default: Any, type_: Any, help_: str) -> Callable[[Command], Command]:
    return process.option(name, default=default, type=type_, show_default=True, help=help_)


@click.command()
@process.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    help="A Custom Vision ONNX export: the zip, its folder or the .onnx file.",
)
@_option("--host", "0.0.0.0", str, "The address to listen on.")  # noqa: S104
@_option("--port", 8080, click.IntRange(0, 65535), "The port to listen on; 0 takes a free one and logs it.")
@process.option(
    "--spool",
    type=_FOLDER,
    help="The folder where uncertain images wait for the sampler. Without it none is kept.",
)
@_option("--spool-bytes", Limits().bytes, click.IntRange(min=1), "What the spool may hold, in bytes.")
@_option("--spool-images", Limits().images, click.IntRange(min=1), "What the spool may hold, in images.")
@_option("--state", "state", _FOLDER, "The folder for messages that must outlive the process.")
@_option("--max-body", MAX_BODY, click.IntRange(min=1), "The largest image taken, in bytes.")
@_option(
    "--max-pixels", MAX_PIXELS, click.IntRange(1, MAX_SIDE**2), "The largest image taken, in pixels as it is decoded."
)
@_option(
    "--decode",
    FAST,
    click.Choice([FAST, EXACT]),
    "How large JPEGs are decoded: fast at a half, a quarter or an eighth of their size, exact as the cloud does.",
)
@_option(
    "--providers",
    CPU,
    str,
    "What the model runs on: cpu, cuda, tensorrt or openvino, or several in order of preference.",
)
@_option("--workers", 0, click.IntRange(0, 256), "Images classified at once; 0: one a core this container may use.")
@_option("--max-in-flight", 64, click.IntRange(min=1), "Images held at once; more are told to come again.")
@_option(
    "--idle-seconds",
    75.0,
    _Range(min=0, min_open=True),
    "Seconds after which a connection without a whole request is closed.",
)
@_option(
    "--handoff-wait",
    0.05,
    _Range(0, 10),
    "Seconds an answer waits for its uncertain image to be in the spool; 0 never waits.",
)
@_option("--summary-seconds", 60.0, _Range(min=0, min_open=True), "Seconds between summaries to the cloud.")
@_option(
    "--confidence-below", Policy().confidence_below, _SHARE, "Keep images whose highest probability is below; 0: off."
)
@_option("--margin-below", Policy().margin_below, _SHARE, "Keep images whose two best tags are closer; 0: off.")
@_option(
    "--entropy-above", Policy().entropy_above, _Range(0, MOST_ENTROPY), "Keep images of higher entropy (nats); 0: off."
)
@_option("--audit-rate", Policy().audit_rate, _SHARE, "Share of all images kept whatever the model thought; 0: off.")
@_option(
    "--url-hosts", "", str, "Hosts that images may be fetched from, as in cam1.local,cam2.local:8000; empty: none."
)
@process.option(
    "--url-private",
    is_flag=True,
    help="Let the hosts of --url-hosts have private addresses.",
)
@_option("--prediction-key", "", str, "What requests must send as Prediction-Key; set it in the environment, unseen.")
@_option("--models", "models", _FOLDER, "The folder for models that the twin's model brings; made when it does.")
@_option("--model-key", "", str, "The Ed25519 public key, PEM or base64, that must have signed them; empty: none.")
@_option("--model-bytes", FetchLimits().bytes, click.IntRange(min=1), "The largest of them taken, in bytes.")
@_option(
    "--watch-seconds",
    RolloutSettings().watch_seconds,
    _Range(min=0),
    "Seconds that a new model is watched, from its first image on, and undone if it is worse; 0: not at all.",
)
@process.log_options
def main(log_level: str, log_json: bool, **options: Any) -> None:
    """Answer images as the exported Custom Vision container does, and keep the uncertain ones.

    Example: python -m classifier --model export.zip --port 8080, then
    curl --data-binary @picture.jpg http://localhost:8080/image

    The thresholds hold until the model's package or, before all, the module twin says otherwise.
    """
    process.run(_run(options), log_level=log_level, log_json=log_json)


async def _run(options: dict[str, Any]) -> None:
    options["workers"] = options["workers"] or cores()
    options["providers"] = parse(options["providers"])
    options["spool_limits"] = Limits(options.pop("spool_bytes"), options.pop("spool_images"))
    options["policy"] = Policy(**{name: options.pop(name) for name in (*THRESHOLDS, AUDIT_RATE)})
    hosts, private = options.pop("url_hosts"), options.pop("url_private")
    options["url_hosts"] = Hosts.parse(hosts, private=private) if hosts.strip() else None
    key = options.pop("model_key")
    limits = FetchLimits(bytes=options.pop("model_bytes"))
    options["model_key"] = public_key(key) if key else None
    options["rollout"] = RolloutSettings(limits, options.pop("watch_seconds"))
    await serve(Settings(**options))


if __name__ == "__main__":
    main(auto_envvar_prefix="CLASSIFIER")
