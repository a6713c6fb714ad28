"""`python -m classifier`: answers images over HTTP, alone or as a module of IoT Edge."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from aiohttp import web

from classifier import messages
from classifier.app import Options, application, is_our_fault
from classifier.candidate import Terms
from classifier.classify import Classifier
from classifier.fetch import FetchLimits
from classifier.guard import Limits as BodyLimits
from classifier.guard import OncePerMinute
from classifier.handoff import Bounds, Handoff
from classifier.imaging import MAX_SIDE
from classifier.live import Live
from classifier.memory import Memory
from classifier.messages import Predictions, answer_images
from classifier.metrics import Metrics
from classifier.model import Model, load
from classifier.rollout import Rollout, RolloutSettings
from classifier.room import MAX_PIXELS, Room
from classifier.settings import MAX_BODY, Settings, cores
from classifier.shelf import Shelf
from classifier.start import Sources, begin
from classifier.summary import Counts, post_summaries, status
from classifier.thresholds import Thresholds, follow
from classifier.url import Hosts, fetching
from ripeloop import process
from ripeloop.errors import BadModel, SettingsError
from ripeloop.hub import open_hub
from ripeloop.package import public_key
from ripeloop.prediction import format_time
from ripeloop.spool import Limits, Spool
from ripeloop.uncertainty import Policy

log = logging.getLogger("classifier")

Command = TypeVar("Command", bound=Callable[..., Any])

RECEIVED_AHEAD = 4  # times as many images may be on their way in as under way: cameras are slower than the model
STOP_SECONDS = 5.0  # for the answers under way when the process is asked to end


async def serve(settings: Settings) -> None:
    """Answer images until cancelled; then finish what is under way. Raises SettingsError, HubLost."""
    logging.captureWarnings(capture=True)  # Pillow warns of odd files
    logging.getLogger("aiohttp.server").addFilter(is_our_fault)
    logging.getLogger("asyncio").addFilter(OncePerMinute())
    loading = partial(load, threads=settings.workers, room=Room(settings.max_pixels))
    sources = Sources(Shelf(settings.models), settings.model, loading)
    model, memory = await _first_model(sources)
    log.info("model %s: %d tags (%s)", model.version, len(model.tags), ", ".join(model.tags[:10]))
    spool = _spool(settings)
    counts, thresholds = Counts(), Thresholds(settings.policy)

    live = Live(model)
    rollout = Rollout(live, sources, memory, settings.rollout)
    del model  # it may be swapped out, and then its memory is free

    async def tell_status(_: Any) -> tuple[int, Any]:
        usage = await asyncio.to_thread(_usage, spool) if spool else (0, 0)
        about = rollout.status() | {"tags": list(live.model.tags)}
        return 200, status(counts, about, usage, thresholds.policy.to_reported())

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
            tasks.create_task(follow(hub, thresholds))
            tasks.create_task(rollout.run(hub))
            tasks.create_task(post_summaries(hub, counts, lambda: classifier.model.version, settings.summary_seconds))
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
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS, keepalive_timeout=settings.idle_seconds)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
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


_SHARE = click.FloatRange(0, 1)
_FOLDER = click.Path(file_okay=False, path_type=Path)


def _option(name: str, default: Any, type_: Any, help_: str) -> Callable[[Command], Command]:
    return click.option(name, default=default, type=type_, show_default=True, show_envvar=True, help=help_)


@click.command()
@click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    show_envvar=True,
    help="A Custom Vision ONNX export: the zip, its folder or the .onnx file.",
)
@_option("--host", "0.0.0.0", str, "The address to listen on.")  # noqa: S104
@_option("--port", 8080, click.IntRange(0, 65535), "The port to listen on; 0 takes a free one and logs it.")
@click.option(
    "--spool",
    type=_FOLDER,
    show_envvar=True,
    help="The folder where uncertain images wait for the sampler. Without it none is kept.",
)
@_option("--spool-bytes", Limits().bytes, click.IntRange(min=1), "What the spool may hold, in bytes.")
@_option("--spool-images", Limits().images, click.IntRange(min=1), "What the spool may hold, in images.")
@_option("--state", "state", _FOLDER, "The folder for messages that must outlive the process.")
@_option("--max-body", MAX_BODY, click.IntRange(min=1), "The largest image taken, in bytes.")
@_option("--max-pixels", MAX_PIXELS, click.IntRange(1, MAX_SIDE**2), "The largest image taken, in pixels.")
@_option("--workers", 0, click.IntRange(0, 256), "Images classified at once; 0: one a core.")
@_option("--max-in-flight", 64, click.IntRange(min=1), "Images held at once; more are told to come again.")
@_option(
    "--idle-seconds",
    75.0,
    click.FloatRange(min=0, min_open=True),
    "Seconds after which a connection without a whole request is closed.",
)
@_option(
    "--handoff-wait",
    0.05,
    click.FloatRange(0, 10),
    "Seconds an answer waits for its uncertain image to be in the spool; 0 never waits.",
)
@_option("--summary-seconds", 60.0, click.FloatRange(min=0, min_open=True), "Seconds between summaries to the cloud.")
@_option("--min-confidence", Policy().min_confidence, _SHARE, "Keep images whose highest probability is below; 0: off.")
@_option("--min-margin", Policy().min_margin, _SHARE, "Keep images whose two best tags are closer; 0: off.")
@_option(
    "--max-entropy", Policy().max_entropy, click.FloatRange(min=0), "Keep images of higher entropy (nats); 0: off."
)
@_option("--audit-share", Policy().audit_share, _SHARE, "The share of all images kept whatever the model thought.")
@_option(
    "--url-hosts", "", str, "Hosts that images may be fetched from, as in cam1.local,cam2.local:8000; empty: none."
)
@click.option(
    "--url-private", is_flag=True, show_envvar=True, help="Let the hosts of --url-hosts have private addresses."
)
@_option("--prediction-key", "", str, "What requests must send as Prediction-Key; set it in the environment, unseen.")
@_option("--models", "models", _FOLDER, "The folder for models that the twin's model brings; made when it does.")
@_option("--model-key", "", str, "The Ed25519 public key, PEM or base64, that must have signed them; empty: none.")
@_option("--model-bytes", FetchLimits().bytes, click.IntRange(min=1), "The largest of them taken, in bytes.")
@_option(
    "--watch-seconds",
    RolloutSettings().watch_seconds,
    click.FloatRange(min=0),
    "Seconds that a new model is watched, from its first image on, and undone if it is worse; 0: not at all.",
)
@process.log_options
def main(log_level: str, log_json: bool, **options: Any) -> None:
    """Answer images as the exported Custom Vision container does, and keep the uncertain ones.

    Example: python -m classifier --model export.zip --port 8080, then
    curl --data-binary @picture.jpg http://localhost:8080/image

    The thresholds hold until the module twin says otherwise.
    """
    process.run(_run(options), log_level=log_level, log_json=log_json)


async def _run(options: dict[str, Any]) -> None:
    options["workers"] = options["workers"] or cores()
    options["spool_limits"] = Limits(options.pop("spool_bytes"), options.pop("spool_images"))
    names = ("min_confidence", "min_margin", "max_entropy", "audit_share")
    options["policy"] = Policy(**{name: options.pop(name) for name in names})
    hosts, private = options.pop("url_hosts"), options.pop("url_private")
    options["url_hosts"] = Hosts.parse(hosts, private=private) if hosts.strip() else None
    key = options.pop("model_key")
    limits = FetchLimits(bytes=options.pop("model_bytes"))
    terms = Terms(public_key(key) if key else None, limits)
    options["rollout"] = RolloutSettings(terms, options.pop("watch_seconds"))
    await serve(Settings(**options))


if __name__ == "__main__":
    main(auto_envvar_prefix="CLASSIFIER")
