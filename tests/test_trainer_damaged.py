"""A training process that left something else than a training fails its training, and nothing more."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifier.pixels.room import Room
from sampling import until
from trainer.learning import figures
from trainer.runs import settled
from trainer.runs.child import Child
from trainer.runs.settled import Damaged, Settled
from trainer.runs.trainings import Trainings
from trainer.state.domains import COMPACT
from trainer.state.exports import Exports
from trainer.state.files import EVALUATION, INT8, RESULT, Files
from trainer.state.iterations import COMPLETED, FAILED, TRAINING, Iteration, Iterations
from trainer.state.ledger import Ledger, Order
from trainer.state.projects import Projects, Wanted
from trainer.state.store import Store
from trainer.state.tags import Tags
from trainer.state.uploads import Upload, Uploads

# a training process that says what nobody understands, and leaves what it finds in a folder
PROGRAM = """
import shutil, sys
for line in ('{"what": "x", "done": "many", "of": null}', '{"what": 1}', '[]', '{'):
    print(line)
shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)
"""

DAMAGED = {
    "cut short": b'{"tags": ["',
    "empty": b"",
    "no text": b"\xff\xfe\x00\x00",
    "deep": b"[" * 100_000,
    "another kind": b'["a", "b"]',
    "no tags": b"{}",
    "a text for tags": b'{"tags": "ab"}',
    "numbers for tags": b'{"tags": [1, 2]}',
    "nothing for tags": b'{"tags": null}',
    "of another training": b'{"tags": ["a", "b"]}',
    "no choice": b'{"tags": ["a", "b"], "choice": [1, 2]}',
}


class Bench:
    """Trainings at work, whose process leaves what `left` holds."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.left = folder / "left" / RESULT
        self.left.parent.mkdir()
        figures.save(self.left.with_name(EVALUATION), np.full((10, 2), 0.5), None)
        self.files = Files(folder)
        self.ledger = Ledger(store, self.files)
        self.exports = Exports(store, self.files)
        program = Child(("-c", PROGRAM, str(self.left.parent)))
        self.trainings = Trainings(self.ledger, self.exports, self.files, child=program)
        self.iterations = Iterations(store, self.files)
        self.project = Projects(store).create(Wanted("p", domain=COMPACT, kind="Multiclass")).id
        self.tags = [Tags(store).create(self.project, name, None, "Regular").id for name in ("a", "b")]
        for nth, tag in enumerate(self.tags):
            uploads = [Upload("", png(50 * nth + shade), (tag,)) for shade in range(5)]
            assert all(one.status == "OK" for one in Uploads(store, self.files, Room()).add(self.project, uploads))

    async def trained(self) -> Iteration:
        """A training, seen to its end."""
        begun = await self.trainings.begin(self.project, Order(force=True))
        await until(lambda: self.iterations.get(self.project, begun.id).status != TRAINING)
        return self.iterations.get(self.project, begun.id)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = Store(tmp_path / "trainer.db")
    made = Bench(tmp_path, store)
    running = asyncio.create_task(made.trainings.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    store.close()


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (12, 12), shade).save(buffer, "PNG")
    return buffer.getvalue()


async def test_a_damaged_result_fails_its_training_with_a_reason_and_the_next_one_is_trained(bench: Bench) -> None:
    for damage in ("cut short", "another kind", "of another training"):
        bench.left.write_bytes(DAMAGED[damage])
        found = await bench.trained()
        assert (found.status, (found.why or "")[:29], (found.why or "")[-11:]) == (
            FAILED,
            "what the training settled on ",
            "train again",
        ), damage
        await until(lambda: not bench.files.job(found.id).exists())  # noqa: B023 - within its turn
    bench.left.write_text(json.dumps({"tags": bench.tags[::-1]}))
    found = await bench.trained()
    assert (found.status, found.why) == (COMPLETED, None)


async def test_a_result_that_is_damaged_later_fails_the_8_bit_export_alone(bench: Bench) -> None:
    bench.left.write_text(json.dumps({"tags": bench.tags}))
    found = await bench.trained()
    (bench.files.iteration(bench.project, found.id) / RESULT).write_bytes(DAMAGED["another kind"])
    await bench.trainings.export(bench.project, found.id, "ONNX", INT8)
    await until(lambda: bench.exports.failures(bench.project))
    assert "names no tags: train again" in bench.exports.failures(bench.project)[found.id]
    assert (await bench.trained()).status == COMPLETED


@pytest.mark.parametrize("damage", DAMAGED)
def test_no_damage_to_what_was_settled_on_surprises_its_reader(tmp_path: Path, damage: str) -> None:
    (tmp_path / RESULT).write_bytes(DAMAGED[damage])
    with pytest.raises(Damaged, match="train again"):
        settled.check_tags(settled.read(tmp_path), ["b", "c"])


def test_what_was_settled_on_is_read_as_it_was_written(tmp_path: Path) -> None:
    for one in (Settled(("b", "a"), (("plain", "mirrored"), (1.0, 2.0, 1.0))), Settled(("a",))):
        one.write(tmp_path)
        assert settled.read(tmp_path) == one
        settled.check_tags(one, sorted(one.tags))
    with pytest.raises(Damaged, match="cannot be read"):
        settled.read(tmp_path / "nowhere")
