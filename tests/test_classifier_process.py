"""`python -m classifier` as a real process: alone, killed, stopped, and under the local edge runtime."""

from __future__ import annotations

import asyncio
import io
import re
import resource
import shutil
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from colours import picture, unsure_picture, zipped
from ripeloop.hub import IN_EDGE
from ripeloop.prediction import image_id
from ripeloop.spool import Spool

HURRIED = """
from classifier import __main__

__main__.STOP_SECONDS = 0.2
__main__.main()
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(zipped(tmp_path / "export.zip"))


async def post(session: aiohttp.ClientSession, url: str, image: bytes) -> int:
    async with session.post(f"{url}/image", data=image) as response:
        await response.read()
        return response.status


async def test_it_serves_alone_and_stops_when_asked(start: Any, model: str, tmp_path: Path) -> None:
    classifier = start("--model", model, "--state", str(tmp_path / "state"))
    url = classifier.url()
    async with aiohttp.ClientSession() as session:
        assert await post(session, url, picture()) == 200
        assert await post(session, url, b"no image") == 400
        async with session.get(f"{url}/healthz") as response:
            assert response.status == 200
    assert classifier.end() == 0
    assert classifier.log.count("alone") == 1
    assert classifier.log.count("without --spool no image is kept") == 1
    assert "Traceback" not in classifier.log
    assert not (tmp_path / "state").exists()


async def test_a_full_disk_costs_no_camera_its_answer(start: Any, model: str, tmp_path: Path) -> None:
    edge = dict.fromkeys(IN_EDGE, "x") | {"IOTEDGE_WORKLOADURI": "unix:///nowhere.sock"}
    fresh, used = tmp_path / "fresh", tmp_path / "used"
    before = start("--model", model, "--state", str(used), environ=edge)
    before.url()
    assert before.end() == 0
    for state in (fresh, used):
        options = ("--state", str(state), "--spool", str(tmp_path / "spool"), "--summary-seconds", "0.1")
        classifier = start("--model", model, *options, environ=edge)
        resource.prlimit(classifier.process.pid, resource.RLIMIT_FSIZE, (0, 0))  # no file may hold a byte
        url = classifier.url()
        async with aiohttp.ClientSession() as session:
            for n in range(5):
                assert await post(session, url, unsure_picture(n)) == 200
                await asyncio.sleep(0.1)
        assert classifier.end() == 0
        assert "Traceback" not in classifier.log
        assert classifier.log.count("memory alone") == 1, classifier.log


async def test_kill_9_right_after_the_answers_loses_none_of_the_uncertain_images(
    start: Any, model: str, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    classifier = start("--model", model, "--spool", str(spool), "--handoff-wait", "5")
    url = classifier.url()
    answered: set[str] = set()
    numbers = iter(range(10_000))

    async def camera(session: aiohttp.ClientSession) -> None:
        while True:
            image = unsure_picture(next(numbers))
            try:
                if await post(session, url, image) == 200:
                    answered.add(image_id(image))
            except aiohttp.ClientError:
                return
            if len(answered) == 80:
                classifier.process.send_signal(signal.SIGKILL)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(camera(session) for _ in range(4)))
    assert classifier.wait() == -signal.SIGKILL
    assert len(answered) >= 80
    left = Spool(spool)
    assert answered <= set(left.ids())
    for id_ in left.ids():
        record, image = left.take(id_)
        assert image_id(image) == record.id == id_


async def test_stopping_waits_for_the_answers_under_way(start: Any, model: str) -> None:
    classifier = start("--model", model, "--workers", "1")
    url = classifier.url()
    async with aiohttp.ClientSession() as session:
        images = [picture(size=(2500, 2500 + n)) for n in range(6)]  # all of them in a fraction of STOP_SECONDS
        answers = [asyncio.create_task(post(session, url, image)) for image in images]
        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        classifier.process.send_signal(signal.SIGTERM)
        assert await asyncio.gather(*answers) == [200] * 6
    assert classifier.wait() == 0


async def test_an_image_that_takes_long_does_not_keep_the_process_from_ending(
    start: Any, model: str, tmp_path: Path
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (6900, 6900), "red").save(out, "JPEG", progressive=True)
    whole = out.getvalue()
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    slow = whole[:-2] + scan * 89 + whole[-2:]  # each goes over the whole picture: seconds in all
    spool = tmp_path / "spool"
    options = ("--workers", "2", "--spool", str(spool), "--max-pixels", str(6900 * 6900))
    classifier = start("--model", model, *options, program=("-c", HURRIED))
    url = classifier.url()
    async with aiohttp.ClientSession() as session:
        stuck = asyncio.create_task(post(session, url, slow))
        await asyncio.sleep(0.3)
        assert await post(session, url, unsure_picture(1)) == 200
        classifier.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(classifier.wait) == 0
        with pytest.raises(aiohttp.ClientError):
            await stuck
    assert Spool(spool).ids() == [image_id(unsure_picture(1))]


async def test_odd_and_damaged_images_write_nothing_into_the_log(start: Any, model: str) -> None:
    fax, tags = io.BytesIO(), io.BytesIO()
    Image.effect_noise((300, 300), 90).convert("1").save(fax, "TIFF", compression="group4")
    damaged = bytearray(fax.getvalue())
    for at in range(len(damaged) // 2, len(damaged), 40):
        damaged[at] ^= 0x55
    Image.new("L", (8, 8)).save(tags, "TIFF", tiffinfo={65000 + n: "x" * 200 for n in range(50)})
    lying = tags.getvalue().replace((201).to_bytes(4, "little"), (2**31).to_bytes(4, "little"))
    assert lying != tags.getvalue()
    classifier = start("--model", model)
    url = classifier.url()
    said = len(classifier.log)
    async with aiohttp.ClientSession() as session:
        for image in (damaged, lying):
            for n in range(3):
                assert await post(session, url, bytes(image) + bytes(n)) in {200, 400}
    assert classifier.end() == 0
    assert [line for line in classifier.log[said:].splitlines() if not re.match(r"\d{4}-", line)] == []
    assert not re.search("TIFF|Tag|Fax|PIL", classifier.log[said:])


async def test_a_connection_without_a_whole_request_is_closed(start: Any, model: str) -> None:
    url = start("--model", model, "--idle-seconds", "0.5").url()
    for sent in (b"", b"POST /image HT", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /he"):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(sent)
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_four_huge_grey_pictures_at_once_fit_into_the_container(start: Any, model: str) -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((6300, 6300), 0x8040, np.uint16)).save(out, "PNG")
    classifier = start("--model", model, "--workers", "2")
    url = classifier.url()
    async with aiohttp.ClientSession() as session:
        assert await asyncio.gather(*(post(session, url, out.getvalue()) for _ in range(4))) == [200] * 4
        assert await post(session, url, picture(size=(6400, 6400))) == 400
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{classifier.process.pid}/status").read_text())
    assert peak
    assert int(peak[1]) < 450 * 1024


async def test_every_flag_is_also_an_environment_variable(start: Any, model: str, tmp_path: Path) -> None:
    names = {
        "CLASSIFIER_MODEL": model,
        "CLASSIFIER_SPOOL": str(tmp_path / "spool"),
        "CLASSIFIER_CONFIDENCE_BELOW": "0",
        "CLASSIFIER_MARGIN_BELOW": "0",
        "CLASSIFIER_AUDIT_RATE": "1",
        "CLASSIFIER_LOG_JSON": "true",
        "CLASSIFIER_MAX_BODY": "5000",
    }
    classifier = start(environ=names)
    url = classifier.url()
    async with aiohttp.ClientSession() as session:
        assert await post(session, url, picture()) == 200
        assert await post(session, url, bytes(5001)) == 413
    assert classifier.end() == 0
    assert Spool(tmp_path / "spool").take(image_id(picture()))[0].reason == "audit"
    assert all(line.startswith("{") for line in classifier.log.splitlines())


def test_what_is_wrong_with_the_settings_is_one_clear_line(start: Any, model: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "gap").mkdir()
    (tmp_path / "gap" / "model.onnx").write_text("x")
    (tmp_path / "gap" / "labels.txt").write_text("\nred\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = {
            ("--model", str(tmp_path / "none.zip")): f"error: --model: there is no model at {tmp_path / 'none.zip'}",
            ("--model", str(tmp_path / "gap")): f"error: --model: {tmp_path / 'gap'}: line 1 of labels.txt is empty",
            ("--model", str(tmp_path / "file")): "is no zip, no folder and no .onnx file",
            ("--model", model, "--port", port): f"port {port} is in use: choose another with --port",
            ("--model", model, "--host", "a..b"): "--host a..b is neither an address nor a name",
            ("--model", model, "--host", "a" * 64): "is neither an address nor a name",
            ("--model", model, "--spool", str(tmp_path / "file" / "spool")): "--spool",
            ("--model", model, "--workers", "9", "--max-in-flight", "3"): "--max-in-flight 3",
            (): "Missing option '--model' (env var: 'CLASSIFIER_MODEL')",
            ("--model", model, "--margin-below", "2"): "'--margin-below' (env var: 'CLASSIFIER_MARGIN_BELOW')",
        }
        processes = {arguments: start(*arguments) for arguments in cases}
        for arguments, process in processes.items():
            assert process.wait() == 2, process.log
            lines = [line for line in process.log.splitlines() if line.lower().startswith("error")]
            assert len(lines) == 1, process.log
            assert cases[arguments] in lines[0]
            assert "Traceback" not in process.log


async def test_under_the_edge_runtime_it_flags_tells_and_obeys(
    start: Any, model: str, tmp_path: Path, edge: Any
) -> None:
    folders = ["--spool", str(tmp_path / "spool"), "--state", str(tmp_path / "state")]
    classifier = start("--model", model, *folders, "--summary-seconds", "0.3", environ=edge.environ("classifier"))
    url = classifier.url()
    await edge.until(lambda state: "classifier" in state["connected"])
    async with aiohttp.ClientSession() as session:
        for n in range(3):
            assert await post(session, url, unsure_picture(n)) == 200
    await edge.until(lambda state: sum(n for name, n in state["queues"].items() if "sampler" in name) > 0)

    twin = "/twins/laptop/modules/classifier"
    tags = [{"tag": "red", "confidence_below": 0.95}, {"tag": "so, so.", "entropy_above": -1}]
    sampling = {"confidence_below": 0, "margin_below": 0, "audit_rate": 9, "tags": tags}
    assert (await edge.service("PATCH", twin, {"properties": {"desired": {"sampling": sampling}}}))[0] == 200
    reported = await reported_with(edge, twin, "margin_below", 0)
    assert reported["sampling"]["confidence_below"] == 0
    assert reported["sampling"]["audit_rate"] == 0.02
    assert reported["sampling"]["tags"] == tags[:1]
    refused = reported["refused"]["sampling"]
    assert refused.keys() == {"audit_rate", "tags"}
    assert "between 0 and 1" in refused["audit_rate"]
    assert refused["tags"] == "so, so.: entropy_above must be between 0 and 1000, not -1"
    assert reported["model"]["tags"] == 3

    _, answer = await edge.service("POST", f"{twin}/methods", {"methodName": "status", "responseTimeoutInSeconds": 10})
    assert answer["status"] == 200
    assert answer["payload"]["flagged"].get("low_confidence", 0) + answer["payload"]["flagged"].get("audit", 0) == 3
    assert answer["payload"]["spool"]["images"] == 3
    shutil.rmtree(tmp_path / "spool")
    for _ in range(2):
        method = {"methodName": "status", "responseTimeoutInSeconds": 10}
        _, answer = await edge.service("POST", f"{twin}/methods", method)
        assert answer["payload"]["spool"] == {"bytes": 0, "images": 0}
    (first, *_) = await edge.arrived(1)
    assert (first["module"], first["output"]) == ("classifier", "summary")
    assert classifier.end() == 0
    assert "alone" not in classifier.log
    assert classifier.log.count("it is made again") == 1
    assert (tmp_path / "spool").is_dir()


async def reported_with(edge: Any, twin: str, field: str, value: float) -> Any:
    """The reported properties, once their policy holds the value."""
    async with asyncio.timeout(15):
        while True:
            reported = (await edge.service("GET", twin))[1]["properties"]["reported"]
            if reported.get("sampling", {}).get(field) == value:
                return reported
            await asyncio.sleep(0.05)
