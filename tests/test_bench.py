"""The bench: its servers do what they stand for, its numbers are those it says, and its report can be read."""

from __future__ import annotations

import io
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import machine
from bench.__main__ import main
from bench.bars import Bars, Series
from bench.classifier import command, flask2018, flask2024
from bench.classifier.command import Settings
from bench.classifier.flask_server import application
from bench.classifier.floor import Floor, Limit, with_libjpeg, with_pillow
from bench.classifier.images import Picture, picture, pictures
from bench.classifier.measures import FLAVOUR_OF, ONE_WORKER, Cell, Health, Outcome, Round, Soak
from bench.classifier.models import Flavour, agreement, drawn, of_folder
from bench.classifier.plan import AT, BIG, BURST, QUICK, USUAL, Plan
from bench.classifier.report import Report
from bench.classifier.servers import FLASK_2018, FLASK_2024, FP32, INT8
from bench.classifier.tables import Measured
from bench.classifier.targets import of_floor, targets, times_as_fast
from bench.load import Order, run
from bench.table import Table
from classifier.models.model import load
from classifier.pixels.imaging import OLD_CONTAINER, InputSpec, resized
from demo.bananas import draw
from demo.bananas import picture as banana
from ripeloop.errors import SettingsError
from trainer.learning.training import train

SIZES = ("224x224", USUAL, "1920x1080", BIG)


# what is posted


def test_pictures_are_jpegs_of_their_size_and_weight_and_always_the_same() -> None:
    made = pictures({(224, 224): 16, (640, 480): 66})
    for one, weight in zip(made, (16, 66), strict=True):
        with Image.open(io.BytesIO(one.jpeg)) as image:
            assert image.size == (one.width, one.height)
            assert (image.format, image.mode) == ("JPEG", "RGB")
            image.load()
        assert one.kilobytes == pytest.approx(weight, rel=0.05)
    assert picture(224, 224, 16) == made[0]


class _Answering(BaseHTTPRequestHandler):
    """Answers every image; every third with an error. Keeps connections where the class says HTTP/1.1."""

    seen: list[bytes]
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.seen.append(body)
            status = 503 if len(self.seen) % 3 == 0 else 200
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(version: str) -> Iterator[tuple[int, list[bytes]]]:
    """A server's port, and the bodies it was sent."""
    seen: list[bytes] = []
    handler = type("Handler", (_Answering,), {"seen": seen, "protocol_version": version})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1], seen
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_the_load_counts_answers_and_failures_and_sends_no_image_twice(tmp_path: Path, version: str) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(224, 224, 16).jpeg)
    with answering(version) as (port, bodies):
        order = Order(port, "/image", str(tmp_path / "a.jpg"), 4, seconds=30, warm_up=0, most=40, first=7_000)
        seen = run(order)
    assert seen.answers == 40
    assert len(seen.milliseconds) == 40
    assert seen.failures == {"503": len(bodies) // 3}
    assert len(set(bodies)) == len(bodies) >= 59
    assert all(len(body) == len(bodies[0]) for body in bodies)
    assert any(b"frame 0000007000" in body for body in bodies)
    with Image.open(io.BytesIO(bodies[-1])) as image:
        image.load()


def test_the_load_ends_in_time_and_leaves_the_warm_up_out(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not looked at")
    with answering("HTTP/1.1") as (port, bodies):
        seen = run(Order(port, "/image", str(tmp_path / "a.jpg"), 2, seconds=0.2, warm_up=0.4))
    assert 0.2 <= seen.seconds < 2
    assert 0 < seen.answers < 0.8 * len(bodies) * 2 / 3
    assert 0 < seen.own_cores <= 1.5


def test_a_server_that_never_answers_ends_the_load_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seen = run(Order(silent.getsockname()[1], "/healthz", seconds=0.1, warm_up=0, limit=0.2))
    assert seen.answers == 0
    assert seen.failures == {"no answer in time": 1}


# what is compared


@cache
def export() -> bytes:
    fruit = {tag: [banana(3, nth, at, 120).jpeg for nth in range(5)] for tag, at in (("green", 0.05), ("brown", 0.95))}
    return train(fruit).to_zip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.zip"
    path.write_bytes(export())
    return path


@pytest.mark.parametrize("server", [flask2018, flask2024])
def test_the_flask_servers_answer_as_the_classifier_does(file: Path, server: Any) -> None:
    ours, client = load(file), application(file, server.prepare).test_client()
    for ripeness in (0.02, 0.98):
        jpeg = banana(4, 1, ripeness, 224).jpeg
        for posted in ({"data": jpeg}, {"data": {"imageData": (io.BytesIO(jpeg), "a.jpg")}}):
            answer = client.post("/image", **posted).get_json()
            assert list(answer) == ["created", "id", "iteration", "predictions", "project"]
            own = {one.tag: one.probability for one in ours.predict(jpeg)}
            theirs = {one["tagName"]: one["probability"] for one in answer["predictions"]}
            assert list(theirs) == list(own)
            assert max(theirs, key=theirs.__getitem__) == max(own, key=own.__getitem__)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (2000, 1500)])
def test_the_server_of_2018_prepares_images_as_the_containers_of_its_time_did(size: tuple[int, int]) -> None:
    image = draw(5, 0.5, 300).resize(size)
    wanted = resized(image, InputSpec(224, 224, crop=OLD_CONTAINER, resize=OLD_CONTAINER))
    np.testing.assert_allclose(flask2018.prepare(image, 224), wanted, atol=0.51)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (224, 224), (1001, 999)])
def test_the_server_of_2024_cuts_the_middle_of_the_shorter_side(size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    short = min(size)
    left, top = (size[0] - short) // 2, (size[1] - short) // 2
    pixels[top : top + short, left : left + short] = 200
    prepared = flask2024.prepare(Image.fromarray(pixels), 224)
    assert prepared.shape == (224, 224, 3)
    assert (prepared[2:-2, 2:-2] == 200).all()


def test_both_quick_decoders_give_the_picture_the_model_sees() -> None:
    jpeg = picture(640, 480, 66).jpeg
    with Image.open(io.BytesIO(jpeg)) as image:
        wanted = np.asarray(image.resize((224, 224), Image.Resampling.BOX), np.float32).transpose(2, 0, 1) / 255
    for way in (with_pillow, with_libjpeg):
        tensor = way(jpeg)
        assert tensor.shape == (1, 3, 224, 224)
        assert np.abs(tensor[0] - wanted).mean() < 0.03


# what is measured


def test_the_floor_is_the_cores_over_decoding_and_model() -> None:
    floor = Floor(2, decode=1.0, model={"fp32": 9.0, "int8": 4.0}, alone={}, together={})
    assert floor.rate("fp32") == 200
    assert floor.rate("int8") == 400


def test_the_floor_is_measured_part_by_part(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        models = {"fp32": archive.read("model.onnx")}
    floor = Limit(models, cores=2).measure(picture(224, 224, 16).jpeg, 0.05)
    assert 0 < floor.decode < floor.model["fp32"]
    assert floor.alone["fp32"] > 0
    assert floor.together["fp32"] > 0


def cell(rate: float, p99: float = 60, peak: float = 150) -> Cell:
    return Cell(rate, p50=40, p99=p99, peak_mb=peak, server_ms=8, client_ms=0.3, failures=0)


def one_round(share: float = 0.95, *, noise: float = 1.0) -> Round:
    """A round where the classifier reaches that share of each floor; `noise` slows everything alike."""
    floors, cells = {}, dict[tuple[str, str, int], Cell]()
    for size, decode in zip(SIZES, (0.2, 1.2, 4.0, 17.0), strict=True):
        run_ms = {"fp32": 9.0 * noise, "int8": 4.0 * noise}
        decoding = decode * noise
        together = {name: 1900 / (one + decoding) for name, one in run_ms.items()}
        floors[size] = Floor(2, decoding, run_ms, run_ms, together)
        for concurrency in (1, AT, BURST):
            for server, part in ((FP32, share), (INT8, share), (FLASK_2024, 0.15)):
                cells[server, size, concurrency] = cell(part * floors[size].rate(FLAVOUR_OF[server]))
        cells[FLASK_2018, size, AT] = cell(1.7 / noise)
    return Round(floors, cells, (0.99, 1.0), 1.0, {FP32: 7.0, ONE_WORKER: 11.0}, others=0.01)


def outcome(*rounds: Round) -> Outcome:
    return Outcome(rounds or (one_round(),), Health(1.0, 6.0, 200), Soak(1000, tuple([150.0] * 10)))


def test_shares_are_taken_within_a_round_so_that_noise_cancels() -> None:
    seen = outcome(one_round(0.9), one_round(0.9, noise=3.0), one_round(0.9, noise=1.4))
    for size in SIZES:
        assert of_floor(seen, FP32, size, AT) == pytest.approx(0.9)
        assert of_floor(seen, INT8, size, AT, "int8") == pytest.approx(0.9)
        assert times_as_fast(seen, FP32, FLASK_2024, size) == pytest.approx(6)
    one_bad = outcome(one_round(0.9), one_round(0.5), one_round(0.95))
    assert of_floor(one_bad, FP32, USUAL, AT) == pytest.approx(0.9)
    assert of_floor(seen, FLASK_2018, "99x99", AT) is None
    assert times_as_fast(seen, FP32, FLASK_2018, "99x99") is None


def missed(seen: Outcome) -> list[str]:
    return [one.what for one in targets(seen) if not one.met]


def test_targets_are_met_or_missed_by_the_numbers() -> None:
    assert missed(outcome()) == ["classifier, 4032x3024: times the container of 2018"]
    slower = missed(outcome(one_round(0.88)))
    assert "classifier, 640x480: of the fp32 floor" in slower
    assert "classifier, 1920x1080: of the fp32 floor" not in slower
    assert any("memory gained" in one for one in missed(replace(outcome(), soak=Soak(10, tuple(range(10))))))
    assert any("healthz" in one for one in missed(replace(outcome(), health=Health(1, 21, 9))))
    assert any("flagged" in one for one in missed(outcome(replace(one_round(), kept=0.5))))
    late, heavy = one_round(), one_round()
    cells = {key: replace(one, p99=81.0) for key, one in late.cells.items()}
    assert len([one for one in missed(outcome(replace(late, cells=cells))) if "p99 / p50" in one]) == 2
    cells = {key: replace(one, peak_mb=251.0) for key, one in heavy.cells.items()}
    assert len([one for one in missed(outcome(replace(heavy, cells=cells))) if "memory with 32" in one]) == 2
    flagging = replace(one_round(), flagging=(0.9, 0.93), lone={FP32: 12.0, ONE_WORKER: 11.0})
    assert len([one for one in missed(outcome(flagging)) if "flagged" in one or "one at a time" in one]) == 2


def test_memory_that_warms_up_is_flat_and_memory_that_grows_is_not() -> None:
    assert Soak(10, (100, 150, 150, 151, 150, 150, 150, 150, 151, 150)).growth < 1
    assert Soak(10, tuple(100 + 2 * n for n in range(10))).growth == 14


def test_a_loaded_machine_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LOADED", -1.0)
    monkeypatch.setattr(command, "LOADED", -1.0)
    monkeypatch.setattr(command, "WAIT_SECONDS", 0.0)
    ended = CliRunner().invoke(main, ["classifier"])
    assert ended.exit_code == 2
    assert "of the cores; stop them, or measure nevertheless with --anyway" in ended.stderr


def test_pictures_of_ones_own_must_be_enough(tmp_path: Path) -> None:
    for tag, count in (("a", 10), ("b", 9)):
        (tmp_path / tag).mkdir()
        for nth in range(count):
            (tmp_path / tag / f"{nth}.jpg").write_bytes(b"%d" % nth)
    with pytest.raises(SettingsError, match="two tags with 10 pictures each"):
        of_folder(tmp_path)
    (tmp_path / "b" / "9.jpg").write_bytes(b"9")
    assert {tag: len(files) for tag, files in of_folder(tmp_path).items()} == {"a": 10, "b": 10}
    assert [len(files) for files in drawn(2).values()] == [2, 2, 2]


# what is told


def report(seen: Outcome) -> Report:
    flavours = {
        name: Flavour(name, Path("x.zip"), b"", megabytes, (True, name == "fp32"), ((0.9, 0.1), (0.2, 0.8)))
        for name, megabytes in (("fp32", 13.5), ("int8", 3.8))
    }
    sides = [tuple(map(int, size.split("x"))) for size in SIZES]
    measured = Measured(Plan(), [Picture(w, h, bytes(16_000)) for w, h in sides], flavours, seen)
    here = machine.this_machine(["onnxruntime", "flask"])
    return Report(here, datetime(2026, 11, 22, tzinfo=UTC), "make bench REPORT=docs", "9 pictures", measured)


def test_the_page_says_what_was_measured_where_and_how_to_do_it_again() -> None:
    seen = outcome(one_round(), one_round(), one_round())
    page, wanted = report(seen).page(), len(targets(seen))
    text = " ".join(page.split())
    for words in (
        "```sh make bench REPORT=docs ```",
        "2026-11-22",
        f"{machine.this_machine([]).cores} cores",
        "onnxruntime 1.",
        "3 times",
        f"**{wanted - 1} of {wanted} targets were met**",
        "| 640x480 | classifier | 186 | 186 | 186 | 0.95 | 0.95 |",
        "| 640x480 | container of 2018 | - | 1.7 | - | 0.009 | 0.009 |",
        "trained on 9 pictures",
        "| int8 | 3.8 | 50.0% | -50.0% ± 35.4% | 2 | 100.0% | 0.000 |",
    ):
        assert words in text
    for line in page.splitlines():
        assert len(line) <= 120 or line.startswith("|")
        assert line.count("|") in (0, *range(3, 20)), line
    assert socket.gethostname() not in page
    assert str(Path.home()) not in page


def test_a_page_from_a_busy_machine_says_so_loudly() -> None:
    assert "too much" not in report(outcome()).page()
    assert "**Other programs used 45% of the cores" in report(outcome(replace(one_round(), others=0.45))).page()


def test_the_picture_holds_every_number_in_words_and_stays_inside_its_frame() -> None:
    root = ET.fromstring(report(outcome()).svg())
    width, height = (float(number) for number in root.attrib["viewBox"].split()[2:])
    told = root.attrib["aria-label"]
    for words in (
        "container of 2018: 224 x 224 0.008",
        "classifier: 224 x 224 0.95",
        "classifier, int8: 224 x 224 2.08",
    ):
        assert words in told
    bars = [
        one for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("rx") == "2" and one.get("y") != "80"
    ]
    assert len(bars) == 16
    for one in bars:
        x, y, wide, high = (float(one.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 < x < x + wide < width
        assert 120 <= y < y + high < height


def test_a_server_that_was_not_measured_has_no_bar() -> None:
    bars = Bars("t", "n", ["a", "b"], [Series("one", [1.0, None]), Series("two", [0.5, 0.25])], "line").svg()
    assert bars.count('rx="2"') == 3 + 2  # and the two in the legend
    assert "one: a 1.00." in bars


def test_a_table_is_aligned_on_a_terminal_and_marked_up_on_a_page() -> None:
    table = Table(["name", "ms"], [["one", "5"], ["eleven", "12"]])
    assert table.plain().splitlines() == ["name    ms", "one      5", "eleven  12"]
    assert table.markdown().splitlines()[1] == "| --- | ---: |"


@pytest.mark.slow
@pytest.mark.timeout(300)  # six servers and two trainings: twenty seconds, and minutes where the cores are taken
def test_a_whole_run_in_miniature_ends_in_a_report(tmp_path: Path) -> None:
    plan = replace(
        QUICK,
        seconds=0.2,
        warm_up=0.05,
        part_seconds=0.02,
        health_seconds=0.3,
        soak=40,
        drawn=10,
        sizes={(640, 480): 66},
        concurrencies=(AT,),
        slow_answers=2,
    )
    made = command.run(Settings(plan, None, None, anyway=True, command="make bench"))
    assert "times the container of 2018" in made.terminal()
    assert FLASK_2018 in made.page()
    (only,) = made.measured.outcome.rounds
    assert {key[0] for key in only.cells} == {FP32, INT8, FLASK_2024, FLASK_2018}
    assert only.kept == 1
    assert not any(one.failures for one in only.cells.values())
    assert made.measured.outcome.soak.requests == 40
    assert agreement(*made.measured.flavours.values()).same_tag > 0.8
