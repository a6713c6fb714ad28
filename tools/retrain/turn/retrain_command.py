"""The command `ripeloop retrain`: what it is told, and how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from classifier.settings import FAST
from retrain.ending import told
from retrain.judging.commands import MODEL, SHARE, decode_option, packing_options, rule_options
from retrain.judging.judge import Rule
from retrain.release.commands import MODELS, plan_of, plan_options
from retrain.settings import Hub, cloud_options, endpoint_options, hub_options_if_any, json_option, project_option
from retrain.shown import percent, plain
from retrain.turn import past
from retrain.turn.outcome import ACCEPTABLE, exit_code, word_for
from retrain.turn.settings import Judging, Packing, Service, Store, TurnSettings
from retrain.turn.state import Turn
from retrain.turn.steps import STEPS
from retrain.turn.tag.tagging import Plan as TagPlan
from retrain.turn.train.exporting import HOUR
from retrain.turn.train.train_command import order_options, policy_options
from retrain.turn.train.waiting import Pace
from retrain.turn.train.worth import Order, TrainPolicy
from retrain.turn.turn import Ahead, look_ahead, run_turn
from ripeloop.bloblease import LEASED, LOST
from ripeloop.errors import Offline, Refused, SettingsError

ENDS = "Ends with 0: the model is released (or packed, without --hub), or there is nothing to do; 1: it is not \
released: the verdict, a failed training, devices that undid it; 2: wrong usage or settings; 3: somebody cannot be \
reached, is waited for, or another run is at it. Run it again whenever it ended, or was killed: it goes on."

ACCEPTED = {word_for(verdict): verdict for verdict in ACCEPTABLE}

Answer = TypeVar("Answer")


def _option(flag: str, envvar: str, help_: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(flag, envvar=f"RIPELOOP_{envvar}", show_envvar=True, help=help_, **more)


@click.command("retrain", epilog=ENDS)
@endpoint_options
@project_option
@cloud_options
@hub_options_if_any
@_option("--work", "WORK", "The folder that remembers the turns; keep it from run to run.", default="retrain-work",
         type=click.Path(file_okay=False, path_type=Path))  # fmt: skip
@_option("--holdout-share", "HOLDOUT_SHARE", "Share of newly labelled samples that is never trained on.",
         default=TagPlan().holdout_share, type=click.FloatRange(0, 0.9))  # fmt: skip
@policy_options
@order_options
@_option("--force", "TRAIN_FORCE", "Train although it is not worth it, and even if nothing changed.", is_flag=True)
@_option("--wait-hours", "TRAIN_WAIT_HOURS", "Wait for a training for so many hours.", default=6.0,
         type=click.FloatRange(0))  # fmt: skip
@_option("--keep", "KEEP_ITERATIONS", "An iteration's id that is never deleted to make room; may be given more than "
         "once.", multiple=True, metavar="ID")  # fmt: skip
@_option("--export-wait-minutes", "EXPORT_WAIT_MINUTES", "Wait for an export for so many minutes.",
         default=HOUR.seconds / 60, type=click.FloatRange(0))  # fmt: skip
@_option("--int8", "INT8", "Export in 8 bits. Only our own trainer can.", is_flag=True)
@_option("--active", "ACTIVE", "The model that answers now, while devices are told of none: an export or a package.",
         type=MODEL)  # fmt: skip
@rule_options
@decode_option
@_option("--accept", "ACCEPT", "Release on this verdict, too; may be given more than once. The turn that ended last "
         "with it goes on.", multiple=True, type=click.Choice(list(ACCEPTED)))  # fmt: skip
@_option("--first-accuracy", "FIRST_ACCURACY", "Release the first model of all without --accept first, if it is right "
         "about this share of the holdout for sure.", type=SHARE)  # fmt: skip
@packing_options
@_option("--models-container", "MODELS_CONTAINER", "The container of the packages, or the folder in the folder.",
         default=MODELS)  # fmt: skip
@plan_options
@_option("--late-days", "LATE_DAYS", "Devices of the ring of --then that have not reported are waited for so many "
         "days; then the turn ends as released, and they get the model when they are back.", default=3.0,
         type=click.FloatRange(0))  # fmt: skip
@_option("--keep-turns", "KEEP_TURNS", "Keep the files of so many turns; those released last stay anyway.", default=5,
         type=click.IntRange(1))  # fmt: skip
@_option("--only-until", "ONLY_UNTIL", "Stop after this step; the next run goes on from there.",
         type=click.Choice(list(STEPS)))  # fmt: skip
@_option("--give-up", "GIVE_UP", "End the turn that is open as it is, and begin another.", is_flag=True)
@_option("--take-lease", "TAKE_LEASE", "Take the lease from whoever has it, who then stops.", is_flag=True)
@_option("--dry-run", "DRY_RUN", "Only tell what would be done.", is_flag=True)
@json_option
def retrain_command(*, dry_run: bool, as_json: bool, **given: Any) -> None:
    """From labels to a better model on every device: one turn, as a scheduled job.

    Labelled samples are tagged, a model is trained where that is worth it, judged on the holdout against the one that
    answers now, packed, and released if it is better. Killed at any point and run again, it goes on where it was.

    \b
    Example:
      export RIPELOOP_CLOUD_BLOBS="$STORAGE" RIPELOOP_TRAINING_KEY=… RIPELOOP_HUB="$IOT_HUB_CONNECTION_STRING"
      export RIPELOOP_ENDPOINT=https://fruit.cognitiveservices.azure.com RIPELOOP_PROJECT=fruit
      export RIPELOOP_RING=canary RIPELOOP_THEN=all
      ripeloop retrain
      ripeloop retrain --dry-run
      ripeloop retrain --accept same --json
    """
    settings = settings_of(given)
    if dry_run:
        ahead = told(_in_our_words(look_ahead(settings)))
        click.echo(json.dumps(ahead.to_json(), indent=2) if as_json else _words(ahead))
        return
    turn = told(_in_our_words(run_turn(settings, lambda line: click.echo(line, err=True))))
    if as_json:
        click.echo(json.dumps(document(turn, settings.work), indent=2))
    else:
        _show(turn, settings.work)
    sys.exit(exit_code(turn.outcome))


def document(turn: Turn, work: Path) -> dict[str, Any]:
    """The turn for a program: also its verdict, the field's accuracy of the active model, and where its files are."""
    said = turn.result("judge") or {}
    report = past.folder_of(work, turn.number) / past.REPORT
    about = {"verdict": said.get("verdict", ""), "field": said.get("field")}
    about |= {"report": str(report) if report.is_file() else "", "exit": exit_code(turn.outcome)}
    return turn.to_json() | about


def settings_of(given: dict[str, Any]) -> TurnSettings:
    """The options, by their names, as one turn's settings. Raises UsageError for what does not go together."""

    def take(*names: str) -> list[Any]:
        return [given.pop(name) for name in names]

    hub, hub_ca, decode = take("hub", "hub_ca", "decode")
    if not hub and (where := [flag for flag in ("ring", "device", "then") if given[flag]]):
        raise click.UsageError(
            f"--{where[0]} says where the model goes, and no hub is named: set RIPELOOP_HUB, or, to pack only, leave "
            f"--{where[0]} out (RIPELOOP_{'RELEASE_DEVICE' if where[0] == 'device' else where[0].upper()})"
        )
    try:
        settings = {
            "service": Service(*take("endpoint", "training_key", "project")),
            "store": Store(*take("cloud_blobs", "container", "models_container", "api_version")),
            "hub": Hub(hub, hub_ca) if hub else None,
            "tagging": TagPlan(given.pop("holdout_share")),
            "policy": TrainPolicy(*take("min_new", "min_tagged", "min_hours", "most_trainings", "most_hours")),
            "order": Order(*take("advanced", "budget_hours", "force")),
            "training": Pace(seconds=given.pop("wait_hours") * 3600),
            "exporting": Pace(seconds=given.pop("export_wait_minutes") * 60),
            "judging": Judging(
                rule=Rule(*take("min_images", "min_per_tag", "tag_loss", "chance")),
                accept=frozenset(ACCEPTED[word] for word in given.pop("accept")),
                first_accuracy=given.pop("first_accuracy"), active=given.pop("active"), fast=decode == FAST,
            ),
            "packing": Packing(*take("key", "golden", "golden_images", "wrong_unflagged")),
            "late_after": timedelta(days=given.pop("late_days")),
            "keep": given.pop("keep_turns"),
            "keep_iterations": frozenset(given.pop("keep")),
            "only_until": given.pop("only_until") or "",
        }  # fmt: skip
        own = {name: given.pop(name) for name in ("work", "int8", "give_up", "take_lease")}
        return TurnSettings(**settings, **own, release=plan_of(**given) if hub else None)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


async def _in_our_words(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Who has the lease is gone some time later; a disk that fails is a setting."""
    try:
        return await work
    except Refused as error:
        if error.kind in (LEASED, LOST):
            raise Offline(str(error), kind=error.kind) from error
        raise
    except OSError as error:
        raise SettingsError(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}") from error


def _words(ahead: Ahead) -> str:
    samples = f"{ahead.new_samples} samples are newly labelled"
    if ahead.turn is not None:
        return f"turn {ahead.turn} would go on with the step {ahead.step}; {samples}"
    return f"a turn would begin; {samples}; " + (f"no training: {ahead.why_not}" if ahead.why_not else "it would train")


def _show(turn: Turn, work: Path) -> None:
    """How it ended, in a few lines."""
    about = document(turn, work)
    field = about["field"]
    click.echo(f"turn {turn.number}: {turn.outcome or 'not ended, the next run goes on'}")
    if turn.why:
        click.echo(plain(turn.why))
    if field and field["of"]:
        click.echo(
            f"in the field the active model is right about {percent(field['share'])} of images "
            f"({percent(field['low'])} to {percent(field['high'])}, of {field['of']} audit samples)"
        )
    if about["report"]:
        click.echo(f"report: {about['report']}")
