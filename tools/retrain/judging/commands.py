"""The commands `ripeloop judge` and `ripeloop package`: what they are told, and how they end."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from classifier.models.model import load
from classifier.rollout.wanted import MAX_VERSION
from classifier.settings import EXACT, FAST
from retrain.judging import curve, holdout
from retrain.judging.answers import ask
from retrain.judging.holdout import LeftOut
from retrain.judging.judge import BETTER, Contender, Judgement, Rule, judge
from retrain.judging.report.page import write_report
from retrain.judging.verdict import show_judgement, show_package
from retrain.package import lineage
from retrain.package.packaging import Built, Order, build, judged_digest, model_sha256, provenance_of
from retrain.package.signing import others_can_read, private_key
from retrain.settings import NOT_AS_WANTED, USAGE, json_option
from ripeloop.errors import RipeloopError, SettingsError
from ripeloop.package import MAX_GOLDEN, sign

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
MODEL = click.Path(exists=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
TO_WRITE = click.Path(dir_okay=False, path_type=Path)
SHARE = click.FloatRange(0, 1)


def _option(flag: str, help_: str, envvar: str | None = None, **more: Any) -> Callable[[Any], Any]:
    name = envvar or flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, envvar=f"RIPELOOP_{name}", show_envvar=True, help=help_, **more)


holdout_option = _option(
    "--holdout",
    "Labelled images that no model was trained on, DIR/<tag>/*.jpg. DIR/manifest.jsonl may tell which are audit "
    'samples: {"file": "ripe/1.jpg", "reason": "audit"}.',
    type=FOLDER,
    required=True,
    metavar="DIR",
)
decode_option = _option(
    "--decode",
    "How images are decoded: as the devices' --decode says.",
    type=click.Choice([FAST, EXACT]),
    default=FAST,
)


def rule_options(command: Any) -> Any:
    """Add what a verdict needs: --min-images, --min-per-tag, --tag-loss and --chance."""
    usual = Rule()
    for option in (
        _option("--chance", "How likely an accident may be before it counts as none.", type=SHARE,
                default=usual.chance),
        _option("--tag-loss", "A tag found so much less often makes a model worse.", type=SHARE,
                default=usual.tag_loss),
        _option("--min-per-tag", "Nor are fewer of one tag.", type=click.IntRange(0), default=usual.min_per_tag),
        _option("--min-images", "Fewer images are not enough to call a model better.", type=click.IntRange(1),
                default=usual.min_images),
    ):  # fmt: skip
        command = option(command)
    return command


def packing_options(command: Any) -> Any:
    """Add what goes in beside the model, and who signs: --key, --golden, --golden-images and --wrong-unflagged."""
    for option in (
        _option("--wrong-unflagged", "The share of all images that may be answered wrong without being flagged; from "
                "it follows the confidence below which images are flagged.", type=SHARE, default=0.02),
        _option("--golden-images", "At most so many golden images.", type=click.IntRange(1, MAX_GOLDEN), default=32),
        _option("--golden", "Images that are golden ones in any case, such as some of each camera.", type=FOLDER,
                metavar="DIR"),
        _option("--key", "The private Ed25519 key that vouches for it, as PEM. Without one it is not signed.",
                "SIGNING_KEY", type=FILE, metavar="PRIVATE.pem"),
    ):  # fmt: skip
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Two models, the holdout, the rule, and where the report goes."""

    active: Path
    candidate: Path
    holdout: Path
    rule: Rule
    fast: bool
    report: Path | None
    history: Path | None
    labels: int | None


@dataclass(frozen=True, slots=True)
class PackageSettings:
    """An export, what shall go in beside it, and who vouches for it."""

    export: Path
    out: Path
    holdout: Path
    golden: Path | None
    golden_images: int
    wrong_unflagged: float
    fast: bool
    key: Path | None
    version: str | None
    lineage: Path | None
    judged: Path | None


@click.command(epilog="Ends with 0: better; 1: same, worse or not enough data; 2: nothing was judged.")
@_option("--active", "The model that answers now: an export or a package.", type=MODEL, required=True)
@_option("--candidate", "The model that may take its place.", type=MODEL, required=True)
@holdout_option
@rule_options
@decode_option
@_option("--report", "Write the whole of it as one HTML file, with the images that changed.", type=TO_WRITE)
@_option(
    "--history",
    'Earlier turns for the learning curve, a JSON object a line: {"labels": 120, "accuracy": 0.87, "version": "3"}.',
    type=FILE,
)
@_option("--labels", "How many labels the candidate learned from, for the curve.", type=click.IntRange(1))
@json_option
def judge_command(*, as_json: bool, decode: str, min_images: int, min_per_tag: int, tag_loss: float, chance: float,
                  **given: Any) -> None:  # fmt: skip
    """Is the candidate better than the active model? Both answer the same holdout, as a device would.

    The verdict is `better`, `same`, `worse` or `not enough data`, by a rule that the report spells out.

    \b
    Example:
      ripeloop judge --active now.zip --candidate new.zip --holdout holdout/ --report report.html
      ripeloop judge --active now.zip --candidate new.zip --holdout holdout/ --json > judged.json
    """
    rule = Rule(min_images, min_per_tag, tag_loss, chance)
    with _told():
        found = judged(JudgeSettings(rule=rule, fast=decode == FAST, **given))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_judgement(found)
    if found.verdict != BETTER:
        sys.exit(NOT_AS_WANTED)


@click.command(epilog="Ends with 0: the package is written and passed a device's own checks; 2: nothing was written.")
@click.argument("export", type=FILE)
@holdout_option
@_option("--out", "The package to write.", "PACKAGE_OUT", type=TO_WRITE, required=True, metavar="FILE.zip")
@packing_options
@decode_option
@_option("--version-name", "What the twin shall call it, where not the iteration's id.", metavar="NAME")
@_option(
    "--lineage",
    "Where the model came from, a JSON object: projectId, tagIds (by tag), samples (the ids it was trained on).",
    type=FILE,
)
@_option("--judged", "The JSON report of `ripeloop judge` about this export; its verdict and hash go in.", type=FILE)
@json_option
def package_command(*, as_json: bool, decode: str, version_name: str | None, **given: Any) -> None:
    """Make EXPORT a model package that devices can check: golden images, thresholds, figures, lineage and signature.

    What it prints goes into the desired property `model` of the classifier's twin, with the url to fetch it from.

    \b
    Example:
      openssl genpkey -algorithm ed25519 -out private.pem
      ripeloop package export.zip --holdout holdout/ --key private.pem --out model.zip
    """
    settings = PackageSettings(fast=decode == FAST, version=version_name, **given)
    with _told():
        built, signature = packed(settings)
    wanted = {"version": settings.version or built.version, "sha256": built.sha256} | (
        {"signature": signature} if signature else {}
    )
    if as_json:
        click.echo(json.dumps(wanted | built.to_json(), indent=2))
    else:
        show_package(built, wanted)


def judged(settings: JudgeSettings) -> Judgement:
    """What `ripeloop judge` finds; the report is written. Raises BadModel, SettingsError, OSError."""
    if settings.report is not None:
        settings.report.parent.mkdir(parents=True, exist_ok=True)  # better now than after the work
    models = [load(path, fast=settings.fast) for path in (settings.active, settings.candidate)]
    found = holdout.find(settings.holdout)
    turns = [] if settings.history is None else curve.read(settings.history)
    with _progress("asking both models", len(found.cases)) as seen:
        asked = ask(models, found.cases, seen)
    saw = lineage.trained_on(provenance_of(settings.active)) | lineage.trained_on(provenance_of(settings.candidate))
    unseen = [one for one in asked.answered if one.id not in saw]
    known = [LeftOut(one.case.name, "one of the models was trained on it") for one in asked.answered if one.id in saw]
    active, candidate = (
        Contender(model.version, model_sha256(path), model.tags)
        for model, path in zip(models, (settings.active, settings.candidate), strict=True)
    )
    judgement = judge(active, candidate, unseen, settings.rule, (*found.left_out, *asked.left_out, *known))
    if settings.labels is not None and judgement.images:
        accuracy = judgement.candidate.figures.accuracy
        turns.append(curve.Turn(settings.labels, accuracy.hits / accuracy.of, candidate.version))
    if settings.report is not None:
        write_report(settings.report, judgement, turns)
    return judgement


def packed(settings: PackageSettings) -> tuple[Built, str]:
    """The package and its signature, empty without a key. Raises BadModel, SettingsError, OSError."""
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    name = settings.version
    if name is not None and not (0 < len(name) <= MAX_VERSION and name.isascii() and name.isprintable()):
        raise SettingsError(
            f"the version name must be 1 to {MAX_VERSION} ASCII characters: no twin takes {name[:50]!r}"
        )
    key = None if settings.key is None else private_key(settings.key)  # before the work: it may be the wrong file
    if settings.key is not None and others_can_read(settings.key):
        click.echo(f"warning: others can read the key {settings.key}; chmod 600 it", err=True)
    lines = {} if settings.lineage is None else lineage.read(settings.lineage)
    verdict = None
    if settings.judged is not None:
        report = lineage.json_object(settings.judged, "the judge's report")
        verdict = judged_digest(report, hashlib.sha256(settings.judged.read_bytes()).hexdigest(), settings.export)
    found = holdout.find(settings.holdout)
    always = () if settings.golden is None else holdout.images_in(settings.golden)
    order = Order(settings.golden_images, always, settings.wrong_unflagged, settings.fast, lines, verdict)
    with _progress("asking the model", len(found.cases)) as seen:
        built = build(settings.export, found, settings.out, order, seen)
    return built, "" if key is None else sign(built.sha256, key)


@contextmanager
def _progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:  # a log has no bars
        task = progress.add_task(doing, total=total)
        yield lambda count: progress.update(task, completed=count)


@contextmanager
def _told() -> Iterator[None]:
    """A file or a setting that cannot be used is one line and an exit code."""
    try:
        yield
    except (RipeloopError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(USAGE)
