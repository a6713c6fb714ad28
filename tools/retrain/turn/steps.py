"""The steps of a turn. Each may be killed anywhere and done again: what it did already, it finds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from retrain.iteration import Iteration
from retrain.judging import curve
from retrain.judging.commands import JudgeSettings, PackageSettings, judged, packed
from retrain.judging.judge import FIRST, NOT_ENOUGH, SAME, Judgement
from retrain.judging.report.page import write_report
from retrain.package.packaging import model_sha256
from retrain.turn import past
from retrain.turn.outcome import FAILED, GOOD, NOTHING, PACKAGED, Done, Verdict
from retrain.turn.releasing import check_places, find_active, release_package, wanted_of
from retrain.turn.settings import Judging, Told
from retrain.turn.state import Turn
from retrain.turn.tag.heldout import fetch_holdout
from retrain.turn.tag.tagging import tag
from retrain.turn.train.exporting import EXPORT_FAILED, fetch_export
from retrain.turn.train.training import NO_ITERATION, facts_of, train
from retrain.turn.train.worth import worth_training
from retrain.turn.work import Step, Work, now_and_then, write_json
from ripeloop.errors import BadModel, NotFound, Refused, SettingsError, TrainingFailed


async def tag_samples(work: Work) -> Done:
    """Labelled samples into the project, and the holdout out of it."""
    seen = now_and_then(work.told)
    tagged = await tag(
        work.samples, work.service, work.project, work.settings.tagging,
        lambda what, done, total: seen(f"tag: {what}, {done} of {total}"),
    )  # fmt: skip
    about = await asyncio.to_thread(work.service.about, work.project)
    tag_ids = {one.name: one.id for one in about.tags}
    write_json(work.folder / past.LINEAGE, {"projectId": work.project, "tagIds": tag_ids, "samples": tagged.ids})
    result = tagged.to_json() | {"labels": len(tagged.ids) + tagged.others}
    words = (
        f"{result['labels']} images to train on, {result['holdoutSamples']} held out; now {tagged.added} added, "
        f"{tagged.retagged} with other tags, {tagged.removed} taken away, {len(tagged.refused)} refused"
    )
    return Done(result, words)


async def train_project(work: Work) -> Done:
    """One training, if it is worth it: that is asked once a turn."""
    settings, notes = work.settings, work.turn.steps["train"].notes
    if not notes.get("decided"):
        if why := await why_not_train(work):
            return Done({}, why, NOTHING, why)
        # a hub, a device or a model that is not there is found before a training is paid for
        await check_places(settings)
        await find_active(settings, work.state.turns(), await wanted_of(settings))
        work.state.note(work.number, "train", decided=True)
    earlier = [turn for turn in work.state.turns() if turn.number != work.number]
    trainings = {str((turn.result("train") or {}).get("iteration")): turn for turn in reversed(earlier)}
    try:
        trained = await train(
            work.service, work.project, settings.order, pace=settings.training,
            keep=settings.keep_iterations | _in_use(earlier), ours=str(notes.get("iteration", "")),
            began=lambda id_: work.state.note(work.number, "train", iteration=id_), told=_training(work.told),
        )  # fmt: skip
    except TrainingFailed as error:
        return Done({}, str(error), FAILED, str(error))
    one = trained.iteration
    result = {"iteration": one.id, "name": one.name, "seconds": round(trained.seconds, 1)}
    before = trainings.get(one.id)
    if before is not None and before.outcome != FAILED:
        why = f"nothing changed since {one.name}, which turn {before.number} had: it ended as {before.outcome!r}"
        return Done(result, why, NOTHING, why)
    return Done(result, f"{one.name} ({one.id}) is trained")


async def export_model(work: Work) -> Done:
    """The export of that iteration."""
    iteration, out = str(work.result("train")["iteration"]), work.folder / past.EXPORT
    again = bool(work.turn.steps["export"].notes.get("again"))
    while True:
        try:
            fetched = await fetch_export(
                work.service, work.project, iteration, out, int8=work.settings.int8, again=again,
                replace=True, pace=work.settings.exporting,
            )  # fmt: skip
        except NotFound as error:
            if error.kind != NO_ITERATION:
                raise
            why = f"iteration {iteration} was deleted in the project before it was exported: the next turn trains again"
            return Done({}, why, FAILED, why)
        except BadModel as error:
            return Done({}, str(error), FAILED, str(error))
        except Refused as error:
            if error.kind != EXPORT_FAILED:
                raise
            if again:
                return Done({}, str(error), FAILED, str(error))
            again = True
            work.state.note(work.number, "export", again=True)
        else:
            return Done({"bytes": out.stat().st_size, "flavour": fetched.flavour}, f"{out}")


async def fetch_the_holdout(work: Work) -> Done:
    """The images to judge on, on this disk."""
    negative = str(work.result("tag").get("negative", "Negative"))
    seen = now_and_then(work.told)
    found = await fetch_holdout(
        work.samples, past.holdout_of(work.settings.work), negative,
        lambda done, total: seen(f"holdout: {done} of {total} images"),
    )  # fmt: skip
    audits = sum(case.audit for case in found.cases)
    result = {"images": len(found.cases), "audits": audits, "left_out": len(found.left_out)}
    return Done(result, f"{len(found.cases)} images, of which {audits} were kept by lot")


async def judge_models(work: Work) -> Done:
    """The candidate and the active model on the same images."""
    if not work.result("holdout").get("images"):
        why = "There is no image to judge on: label more."
        return Done(_judgement_of(NOT_ENOUGH, [why], 0.0), f"{NOT_ENOUGH}: {why}")
    wanted = await wanted_of(work.settings)
    active = await find_active(work.settings, work.state.turns(), wanted)
    try:
        await asyncio.to_thread(model_sha256, work.folder / past.EXPORT)
    except BadModel as error:
        return Done({}, str(error), FAILED, str(error))
    found = await asyncio.to_thread(_judged, work, active)
    accuracy, field = found.candidate.figures.accuracy, found.active.field
    write_json(work.folder / past.JUDGED, found.to_json())
    if accuracy.value is not None:
        past.add_to_history(
            work.settings.work / past.HISTORY, work.result("tag")["labels"], accuracy.value, found.candidate.version
        )
    result = _judgement_of(found.verdict, found.because, accuracy.low) | {
        "wanted": wanted,
        "images": found.images,
        "accuracy": accuracy.to_json(),
        "active": None if active is None else {"version": found.active.version, "from": active.source,
                                               "accuracy": found.active.figures.accuracy.to_json()},
        "field": None if active is None else field.to_json(),
        "candidate": found.candidate.version,
    }  # fmt: skip
    words = f"{found.verdict}: {' '.join(found.because)}"
    if active is not None and field.of:
        words += f" In the field the active model is right about {field.low:.0%} to {field.high:.0%}."
    return Done(result, words)


async def decide(work: Work) -> Done:
    """Release it or not."""
    settings, said = work.settings.judging, work.result("judge")
    verdict = Verdict(said["verdict"], tuple(said["because"]), said["at_least"])
    if on := verdict.goes_on(settings.accept, settings.first_accuracy):
        return Done({"on": on}, on)
    why = verdict.refusal(settings.first_accuracy)
    return Done({"on": ""}, f"not released. {why}", verdict.verdict, why)


async def package_model(work: Work) -> Done:
    """The export with all that a device checks and a person asks for."""
    packing, folder = work.settings.packing, work.folder
    order = PackageSettings(
        export=folder / past.EXPORT, out=folder / past.MODEL, holdout=past.holdout_of(work.settings.work),
        golden=packing.golden, golden_images=packing.golden_images, wrong_unflagged=packing.wrong_unflagged,
        fast=work.settings.judging.fast, key=packing.key, version=None, lineage=folder / past.LINEAGE,
        judged=folder / past.JUDGED if (folder / past.JUDGED).is_file() else None,
    )  # fmt: skip
    try:
        built, signature = await asyncio.to_thread(packed, order)
    except (BadModel, SettingsError) as error:  # its settings were looked at before: this is the model or the holdout
        return Done({}, str(error), FAILED, str(error))
    result = {"version": built.version, "sha256": built.sha256, "signature": signature, "golden": built.golden}
    signed = "signed" if signature else "not signed"
    if work.settings.hub is None:
        why = f"{built.path} is ready; without --hub nothing is released"
        return Done(result, f"{why} ({signed})", PACKAGED, why)
    return Done(result, f"{built.path}, {signed}, with {built.golden} golden images")


async def release_model(work: Work) -> Done:
    """To the devices, ring by ring."""
    beaten = str(work.result("judge").get("wanted", ""))
    began = datetime.fromisoformat(work.turn.steps["release"].began)
    return await release_package(
        work.settings, work.folder / past.MODEL, work.result("package"), beaten, work.told, began=began
    )


STEPS: Mapping[str, Step] = {
    "tag": tag_samples,
    "train": train_project,
    "export": export_model,
    "holdout": fetch_the_holdout,
    "judge": judge_models,
    "decide": decide,
    "package": package_model,
    "release": release_model,
}


async def why_not_train(work: Work) -> str:
    """Why a training is not worth it now; empty where it is."""
    settings, tagged = work.settings, work.result("tag")
    if settings.order.force:
        return ""
    facts = await facts_of(work.service, work.project)
    reason = worth_training(facts, settings.policy, settings.order, datetime.now(UTC))
    return reason or too_few_to_judge(settings.judging, tagged["holdoutSamples"], tagged["holdout"], tagged["training"])


def too_few_to_judge(judging: Judging, images: int, held: Mapping[str, int], tags: Iterable[str]) -> str:
    """Why nobody could judge a model trained now, so that it is not worth its price; empty where one could. Pure."""
    rule = judging.rule
    if NOT_ENOUGH in judging.accept:
        return ""
    if images < rule.min_images:
        return f"the holdout has {images} labelled images, {rule.min_images} wanted: label more"
    few = sorted(tag for tag in tags if held.get(tag, 0) < rule.min_per_tag)
    if few:
        return f"the holdout has fewer than {rule.min_per_tag} images of {', '.join(few[:5])}: label more"
    return ""


def _judged(work: Work, active: past.Active | None) -> Judgement:
    """As `ripeloop judge`; the first model of all is looked at beside itself."""
    settings, folder = work.settings.judging, work.folder
    history = work.settings.work / past.HISTORY
    export, labels = folder / past.EXPORT, int(work.result("tag")["labels"]) or None
    order = JudgeSettings(
        active=export if active is None else active.path, candidate=export,
        holdout=past.holdout_of(work.settings.work), rule=settings.rule, fast=settings.fast,
        report=None if active is None else folder / past.REPORT,
        history=history if history.is_file() else None, labels=labels,
    )  # fmt: skip
    found = judged(order)
    if active is None:
        if found.verdict == SAME:
            found = replace(found, verdict=FIRST, because=("There is no model yet that it could be better than.",))
        write_report(folder / past.REPORT, found, curve.read(history) if history.is_file() else ())
    return found


def _judgement_of(verdict: str, because: Any, at_least: float) -> dict[str, Any]:
    return {"verdict": verdict, "because": list(because), "at_least": at_least}


def _in_use(turns: list[Turn]) -> frozenset[str]:
    """The iterations that devices may run, or go back to: of the two turns released or packed last."""
    released = [turn for turn in turns if turn.outcome in GOOD][:2]
    return frozenset(str((turn.result("train") or {}).get("iteration", "")) for turn in released)


def _training(told: Told) -> Callable[[Iteration, float], None]:
    """Says once that a training is under way: how long it takes, the log tells."""
    said = set[str]()

    def hear(one: Iteration, _: float) -> None:
        if one.running and one.id not in said:
            said.add(one.id)
            told(f"train: waiting for {one.name} ({one.id})")

    return hear
