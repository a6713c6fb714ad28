"""Parts of the trainer's service alone: the filter language, figures, links, limits, hostile images."""

from __future__ import annotations

import io
import re
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifier.pixels.room import Room
from ripeloop.errors import SettingsError
from trainer.api import filters
from trainer.api.gate import Calls, is_loopback
from trainer.api.links import Links
from trainer.errors import GatewayProblem, Problem
from trainer.learning import figures
from trainer.state.domains import COMPACT
from trainer.state.exports import DONE, EXPORTING, INTERRUPTED, Export, Exports
from trainer.state.files import EVALUATION, INT8, MODEL, MODEL_INT8, PLAIN, Files
from trainer.state.images import Asked, Images
from trainer.state.iterations import FAILED, Iterations
from trainer.state.ledger import Ledger, Order
from trainer.state.predictions import Answered, Predictions, Query
from trainer.state.projects import Projects, Wanted
from trainer.state.store import Store
from trainer.state.sweep import sweep
from trainer.state.tags import Tags
from trainer.state.uploads import Upload, Uploads


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "trainer.db")
    yield opened
    opened.close()


def png(shade: int, width: int = 12, height: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), shade).save(buffer, "PNG")
    return buffer.getvalue()


def fill(store: Store, folder: Path, kind: str = "Multiclass") -> str:
    """A project with five images of each of two tags."""
    project = Projects(store).create(Wanted("p", kind=kind)).id
    for nth, name in enumerate(("a", "b")):
        tag = Tags(store).create(project, name, None, "Regular").id
        uploads = [Upload("", png(50 * nth + shade), (tag,)) for shade in range(5)]
        assert all(one.status == "OK" for one in Uploads(store, Files(folder), Room()).add(project, uploads))
    return project


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("metadata=key1 eq 'value1' and key2 ne 'value2'", ("key1", "value1", "key2", "value2")),
        ("METADATA = a eq 'x' or b eq 'y' AND c ne ''", ("a", "x", "b", "y", "c", "")),
        ("metadata=(a eq 'it''s' or 'two words' eq 'y') and c eq 'z'", ("a", "it's", "two words", "y", "c", "z")),
    ],
)
def test_a_filter_becomes_a_condition_whose_values_are_never_sql(text: str, values: tuple[str, ...]) -> None:
    condition = filters.parse(text)
    assert condition.values == values
    assert condition.sql.count("?") == len(values)
    assert not any(value in condition.sql for value in values if len(value) > 3)


def test_and_binds_closer_than_or() -> None:
    def shape(text: str) -> str:
        return re.sub(r"EXISTS \(SELECT.*? = \?\)", "x", filters.parse(text).sql)

    assert shape("metadata=a eq '1' or b eq '2' and c ne '3'") == "(x OR (x AND NOT x))"
    assert shape("metadata=(a eq '1' or b eq '2') and c eq '3'") == "((x OR x) AND x)"


@pytest.mark.parametrize(
    "text",
    ["", "key eq 'v'", "metadata=", "metadata=k eq v", "metadata=k is 'v'", "metadata=k eq 'v' and",
     "metadata=(k eq 'v'", "metadata=k eq 'v')", "metadata=k eq 'v' l eq 'w'", "metadata=k eq 'v",
     "metadata=" + "(" * 3000,
     "metadata=" + " or ".join(["k eq 'v'"] * 51)],
)  # fmt: skip
def test_a_filter_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="metadata=key1 eq 'value1'") as caught:
        filters.parse(text)
    assert (caught.value.status, caught.value.code) == (400, "BadRequestInvalid")


def test_the_order_of_images_with_the_same_probability_is_no_precision() -> None:
    alike = np.full(40, 0.5, np.float32)
    first = np.arange(40) < 20
    assert figures.average_precision(alike, first) == figures.average_precision(alike, ~first) == 0.5
    some = np.array([0.9, 0.5, 0.5, 0.1], np.float32)
    assert figures.average_precision(some, np.array([True, True, False, False])) == pytest.approx((1 + 2 / 3) / 2)


def test_figures_count_answers_at_the_threshold() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    truth = np.array([[True, False], [True, False], [False, True], [False, True]])
    evaluation = figures.Evaluation(probabilities, np.array([0, 0, 1, 1]), truth)
    first = figures.of_tag(evaluation, 0, 0.5)
    assert (first.precision, first.recall) == (pytest.approx(2 / 3), 1.0)
    assert first.average_precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert first.precision_deviation == pytest.approx(0.5)  # one fold has 1, the other 0
    everything = figures.of_all(evaluation, 0.5)
    assert (everything.precision, everything.recall) == (0.75, 0.75)
    strict = figures.of_all(evaluation, 0.85)
    assert (strict.precision, strict.recall) == (1.0, 0.25)
    assert figures.of_all(evaluation, 1.0).precision == 0.0


def test_uncertainty_is_a_share_of_the_most_there_could_be() -> None:
    assert figures.uncertainty([0.25] * 4, multilabel=False) == pytest.approx(1)
    assert figures.uncertainty([1.0, 0.0], multilabel=False) == pytest.approx(0, abs=1e-9)
    assert figures.uncertainty([0.5, 0.5], multilabel=True) == pytest.approx(1)
    assert figures.uncertainty([1.0], multilabel=False) == 0


def test_a_link_is_for_one_path_and_a_while() -> None:
    now = [1000.0]
    links = Links(b"secret", lambda: now[0])
    path, _, query = links.signed("/files/a", 60).partition("?")
    until, signature = (part.partition("=")[2] for part in query.split("&"))
    assert links.allows(path, until, signature)
    assert not links.allows("/files/b", until, signature)
    assert not links.allows(path, str(int(until) + 1), signature)
    assert not Links(b"another").allows(path, until, signature)
    assert not links.allows(path, "é", "\udcff")
    now[0] += 61
    assert not links.allows(path, until, signature)
    token = links.token("p")
    assert (links.of_token(token), links.of_token(token[:-4]), links.of_token("é")) == ("p", None, None)


def test_calls_are_let_through_at_their_rate() -> None:
    now = [0.0]
    calls = Calls(2, lambda: now[0])
    calls.check()
    calls.check()
    with pytest.raises(GatewayProblem) as caught:
        calls.check()
    assert (caught.value.status, caught.value.retry_after) == (429, 1)
    now[0] += 0.5
    calls.check()


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("trainer.local", False), ("192.168.1.5", False), ("", False)],
)  # fmt: skip
def test_only_loopback_is_this_very_computer(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_a_project_has_twenty_iterations_at_most_failed_ones_too(store: Store, tmp_path: Path) -> None:
    project, ledger = fill(store, tmp_path), Ledger(store, Files(tmp_path))
    for _ in range(20):
        ledger.failed(ledger.begin(project, Order()).id, "of a test")
    with pytest.raises(Problem) as caught:
        ledger.begin(project, Order(force=True))
    assert caught.value.code == "BadRequestExceedIterationPerProjectLimit"
    iterations = Iterations(store, Files(tmp_path))
    assert {one.status for one in iterations.all(project)} == {FAILED}
    iterations.delete(project, iterations.all(project)[0].id)
    assert ledger.begin(project, Order()).name == "Iteration 21"


def test_what_was_in_training_has_failed_after_a_restart(store: Store, tmp_path: Path) -> None:
    project, ledger = fill(store, tmp_path), Ledger(store, Files(tmp_path))
    begun = ledger.begin(project, Order())
    assert [one.id for one in ledger.interrupted()] == [begun.id]
    assert not ledger.completed(begun.id, [], 1.0)
    found = Iterations(store, Files(tmp_path)).get(project, begun.id)
    assert (found.status, found.why) == (FAILED, "the trainer ended while it was training: train again")


def test_a_deleted_image_stays_with_the_iteration_that_learnt_from_it(store: Store, tmp_path: Path) -> None:
    files = Files(tmp_path)
    project = fill(store, tmp_path)
    images, ledger = Images(store, files), Ledger(store, files)
    iteration = ledger.begin(project, Order()).id
    victim = images.find(project, Asked())[0].id
    images.delete(project, [victim], all_iterations=False)
    assert images.count(project, Asked()) == 9
    assert images.count(project, Asked(iteration=iteration)) == 10
    assert files.image(project, victim).exists()
    ledger.failed(iteration, "of a test")
    Iterations(store, files).delete(project, iteration)
    assert not files.image(project, victim).exists()


def test_hostile_images_are_refused_without_being_unpacked(store: Store, tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def bomb(width: int, height: int) -> bytes:
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        body = zlib.compress(bytes(1_000_000))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

    project = Projects(store).create(Wanted("p")).id
    hostile = [bomb(60_000, 60_000), bomb(10_000, 10_000), png(1)[:40], b"GIF89a" + bytes(100), b"%!PS\n" * 9]
    results = Uploads(store, Files(tmp_path), Room()).add(project, [Upload("", one) for one in hostile])
    assert [one.status for one in results] == [*["ErrorImageDimensions"] * 2, *["ErrorImageFormat"] * 3]
    assert not list((tmp_path / "projects").rglob("*.*"))


def test_files_that_no_row_speaks_of_are_swept_and_others_are_not(store: Store, tmp_path: Path) -> None:
    files, project = Files(tmp_path), fill(store, tmp_path)
    lost = "00000000-0000-0000-0000-000000000007"
    files.keep(project, lost, b"of a killed process")
    files.keep(lost, lost, b"of a deleted project")
    (files.iteration(project, lost)).mkdir(parents=True)
    assert sweep(store, files) == 3
    left = [path for path in (tmp_path / "projects").rglob("*") if path.is_file()]
    assert len(left) == 10
    assert sweep(store, files) == 0


def test_stored_predictions_are_forgotten_after_a_month(store: Store, tmp_path: Path) -> None:
    files, project = Files(tmp_path), Projects(store).create(Wanted("p")).id
    predictions = Predictions(store, files)
    now = datetime(2026, 11, 22, tzinfo=UTC)
    for nth, created in enumerate(("2026-10-22T00:00:00.000000Z", "2026-10-24T00:00:00.000000Z")):
        id_ = f"00000000-0000-0000-0000-00000000000{nth}"
        predictions.keep(Answered(id_, project, id_, id_, created, []), b"image")
    assert predictions.expire(now - timedelta(days=2)) == 0
    assert predictions.expire(now) == 1
    assert [one.id[-1] for one in predictions.find(project, Query()).answers] == ["1"]
    assert len(list(files.project(project).rglob("0000*"))) == 1


def test_an_export_in_8_bits_is_under_way_until_it_is_done_or_has_failed(store: Store, tmp_path: Path) -> None:
    files = Files(tmp_path)
    project, ledger, exports = fill(store, tmp_path), Ledger(store, files), Exports(store, files)
    Projects(store).update(project, Wanted(domain=COMPACT))
    iteration = ledger.begin(project, Order()).id
    assert ledger.completed(iteration, [], 1.0)
    home = files.iteration(project, iteration)
    home.mkdir(parents=True)
    (home / MODEL).touch()
    with pytest.raises(Problem, match="its files are gone; train again"):
        exports.make(project, iteration, "ONNX", INT8)
    for damaged in (b"", b"PK damaged"):
        (home / EVALUATION).write_bytes(damaged)
        with pytest.raises(Problem, match="figures are damaged"):
            exports.make(project, iteration, "ONNX", INT8)
    figures.save(home / EVALUATION, np.full((10, 2), 0.5), None)
    assert exports.make(project, iteration, "ONNX", INT8) is False
    with pytest.raises(Problem, match="already queued"):
        exports.make(project, iteration, "ONNX", INT8)
    assert exports.interrupted() == [iteration]
    assert exports.all(project, iteration) == [Export(iteration, INT8, FAILED, INTERRUPTED)]
    assert exports.failures(project) == {iteration: INTERRUPTED}
    assert exports.under_way(iteration, INT8) is None
    assert exports.make(project, iteration, "ONNX", INT8) is False
    found = exports.under_way(iteration, INT8)
    assert found is not None
    assert [(one.status, one.why) for one in exports.all(project, iteration)] == [(EXPORTING, None)]
    (home / MODEL_INT8).touch()
    exports.done(iteration, INT8)
    assert exports.make(project, iteration, "ONNX", PLAIN) is True
    assert [(one.flavor, one.status) for one in exports.all(project, iteration)] == [(INT8, DONE), (PLAIN, DONE)]
    (home / MODEL_INT8).unlink()  # a file that is gone is made again
    assert exports.make(project, iteration, "ONNX", INT8) is False
    (home / MODEL_INT8).touch()
    exports.failed(iteration, INT8, "a reason")
    assert exports.make(project, iteration, "ONNX", INT8) is True  # killed between the file and the row
    assert exports.path(project, iteration, MODEL_INT8) == home / MODEL_INT8
    assert exports.path(project, iteration, "../../trainer.db") is None


def test_who_looks_does_not_wait_for_a_long_change(store: Store) -> None:
    projects = Projects(store)
    known = projects.create(Wanted("known")).id
    with store.change() as change:
        change.run("UPDATE projects SET name = 'half done'")
        assert projects.get(known).name == "known"  # would wait for ever
    assert projects.get(known).name == "half done"


def test_a_full_disk_is_told_of_each_image(store: Store, tmp_path: Path) -> None:
    project = Projects(store).create(Wanted("p")).id
    (tmp_path / "projects").write_text("in the way")
    results = Uploads(store, Files(tmp_path), Room()).add(project, [Upload("", png(1))])
    assert [one.status for one in results] == ["ErrorStorage"]


def test_exports_of_an_older_trainers_file_are_done(tmp_path: Path) -> None:
    Store(tmp_path / "trainer.db").close()
    with sqlite3.connect(tmp_path / "trainer.db") as connection:
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = '_exports_that_take_time'")
        for column in ("status", "why"):
            connection.execute(f"ALTER TABLE exports DROP COLUMN {column}")
        connection.execute("INSERT INTO exports VALUES ('i', '', 'then')")
    connection.close()
    again = Store(tmp_path / "trainer.db")
    assert again.row("SELECT status, why FROM exports") == {"status": DONE, "why": None}
    again.close()


def test_a_newer_trainers_file_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path / "trainer.db").close()
    with sqlite3.connect(tmp_path / "trainer.db") as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('trainer', 'n', '')"
        )
    connection.close()
    with pytest.raises(SettingsError, match="a newer trainer"):
        Store(tmp_path / "trainer.db")
    (tmp_path / "damaged.db").write_bytes(b"not a database" * 100)
    with pytest.raises(SettingsError, match="put back from a backup"):
        Store(tmp_path / "damaged.db")
