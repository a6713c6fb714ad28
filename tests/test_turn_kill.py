"""A turn that is killed at every place where it changes something comes to the same end as one that never was."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge import Edge
from hubs import OF_THE_SDK, reported
from retrain.data.dataset import Record, unpacked
from retrain.judging.curve import read
from retrain.turn.past import HISTORY, MODEL, folder_of
from retrain.turn.state import State
from retrain.turn.tag.use import Use
from retrain.turn.turn import STATE, run_turn
from ripeloop.blobs import open_blobs
from ripeloop.package import sha256_of
from trainerservice import COMPACT, service, training_client
from turns import put_samples, taking_models, told

pytestmark = [pytest.mark.slow, *OF_THE_SDK]

SAMPLES = 70
MOST_RUNS = 150


async def test_killed_anywhere_it_comes_to_the_same_end(edge: Edge, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        await put_samples(folder, 0, SAMPLES)
    with trained_by(tmp_path, "killed", "whole") as (url, client):
        async with taking_models(edge, tmp_path / "1.db") as versions:
            places = await run_to_the_end(edge, url, killed)
        async with taking_models(edge, tmp_path / "2.db", "sampler"):
            turn = await run_turn(told(url, whole, "whole", edge, "sampler"))
            assert turn.outcome == "released"
        assert await end_of(client, "killed", killed) == await end_of(client, "whole", whole)
    assert len(set(versions)) == 1
    model = (await reported(edge, "classifier"))["model"]
    assert (model["version"], model["sha256"]) == (versions[0], sha256_of(folder_of(killed / "work", 1) / MODEL))
    assert {place.split(": ")[0] for place in places} >= {"tag", "train", "export", "judge", "package", "release"}
    assert {"train: after train_project", "export: after export_iteration", "release: after PATCH at the hub"} <= places


async def test_killed_while_it_waits_for_the_training_it_waits_on(edge: Edge, tmp_path: Path) -> None:
    await put_samples(tmp_path, 0, SAMPLES)
    places = ["train: after noting iteration"]
    with trained_by(tmp_path, "killed") as (url, client):
        assert await run_to_the_end(edge, url, tmp_path, only=places, only_until="train") == set(places)
        (project,) = client.get_projects()
        assert [one.status for one in client.get_iterations(project.id)] == ["Completed"]
    with State.open(tmp_path / "work" / STATE, str) as state:
        noted = state.turn(1).steps["train"]
        assert noted.notes["iteration"] == noted.result["iteration"]


@contextmanager
def trained_by(folder: Path, *projects: str) -> Iterator[tuple[str, Any]]:
    """A trainer with such projects: its address, and a client."""
    with service(folder / "trainer") as trainer, training_client(trainer.url) as client:
        for project in projects:
            client.create_project(project, domain_id=COMPACT, classification_type="Multiclass")
        yield trainer.url, client


async def run_to_the_end(edge: Edge, endpoint: str, folder: Path, **more: Any) -> set[str]:
    """Run and be killed until a run ends by itself; where it was killed."""
    document = {"endpoint": endpoint, "folder": str(folder), "project": "killed", "hub": edge.connection_string,
                "hub_ca": str(edge.ca_file), **more}  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(document))
    program = Path(__file__).with_name("turnkills.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), str(folder / "settings.json"), str(folder / "places"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    said = ""
    try:
        for _ in range(MOST_RUNS):
            process.stdin.write(b"again\n")
            said = (await process.stdout.readline()).decode().strip()
            if not said.startswith("killed"):
                break
    finally:
        process.stdin.close()
        await process.wait()
    # killed once it was done, the next run finds nothing to do
    assert said in ("released", "nothing to do", "stopped after train")
    return set((folder / "places").read_text().splitlines())


def tags_of(image: Any) -> tuple[str, ...]:
    return tuple(sorted(tag.tag_name for tag in image.tags))


async def end_of(client: Any, name: str, folder: Path) -> dict[str, Any]:
    """All that a turn leaves behind, but for ids and times."""
    (project,) = [one.id for one in client.get_projects() if one.name == name]
    images = client.get_images(project, take=256)
    iterations = client.get_iterations(project)
    exports = [one.status for iteration in iterations for one in client.get_exports(project, iteration.id)]
    async with open_blobs(str(folder / "cloud"), "samples") as blobs:
        uses = {blob.name: use.kind async for blob in blobs.list() if (use := Use.of(blob.metadata)) is not None}
    async with open_blobs(str(folder / "cloud"), "models") as blobs:
        stored = [blob.name.split("/")[0] async for blob in blobs.list()]
    with State.open(folder / "work" / STATE, str) as state:
        turns = [(turn.number, turn.outcome, sorted(turn.steps)) for turn in state.turns()]
        judged = dict(state.turn(1).result("judge") or {}) | {"candidate": ""}
        tagged = {key: (state.turn(1).result("tag") or {})[key] for key in ("training", "holdout", "labels")}
    return {
        "images": sorted((unpacked(image.metadata, Record()).id, tags_of(image)) for image in images),
        "tags": sorted((tag.name, tag.image_count) for tag in client.get_tags(project)),
        "iterations": [one.status for one in iterations],
        "exports": exports,
        "uses": uses,
        "stored": Counter(stored)["packages"],
        "turns": turns,
        "judged": judged,
        "tagged": tagged,
        "files": sorted(path.name for path in folder_of(folder / "work", 1).iterdir()),
        "history": [(turn.labels, turn.accuracy) for turn in read(folder / "work" / HISTORY)],
    }
