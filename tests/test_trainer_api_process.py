"""The trainer's service as a process: what it will not start with, and what survives when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient

from demo.bananas import picture
from trainerservice import (
    COMPACT,
    INT8,
    KEY,
    PREDICTION_KEY,
    Service,
    exported,
    jpeg,
    service,
    trained,
    training_client,
    upload,
)


def started(*flags: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "trainer", *map(str, flags)],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | environ,
    )  # fmt: skip


def two_tags(sdk: CustomVisionTrainingClient, images: int = 5) -> Any:
    project = sdk.create_project("fruit", domain_id=COMPACT, classification_type="Multiclass")
    for name in ("green", "brown"):
        upload(sdk, project.id, name, sdk.create_tag(project.id, name).id, images)
    return project


def test_without_a_key_other_computers_are_not_let_in(tmp_path: Path) -> None:
    ended = started("--data", tmp_path, "--host", "0.0.0.0")
    assert ended.returncode == 2
    assert "--host 0.0.0.0 lets other computers in: set TRAINER_TRAINING_KEY" in ended.stderr


def test_it_says_which_setting_is_missing(tmp_path: Path) -> None:
    assert "set --data (TRAINER_DATA)" in started().stderr
    (tmp_path / "file").touch()
    ended = started(TRAINER_DATA=str(tmp_path / "file"))
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "cannot be used" in ended.stderr


def test_one_folder_has_one_trainer_and_a_port_one_program(tmp_path: Path) -> None:
    with service(tmp_path / "one") as running:
        assert "another trainer works in" in started("--data", tmp_path / "one", "--port", "0").stderr
        port = running.url.rpartition(":")[2]
        assert "cannot listen on" in started("--data", tmp_path / "two", "--port", port).stderr


def test_keys_never_reach_the_log(tmp_path: Path) -> None:
    with service(tmp_path, "--log-level", "debug") as running:
        with training_client(running.url) as sdk:
            sdk.get_projects()
        requests.get(f"{running.url}/customvision/v3.3/training/x?key={KEY}", headers={"Training-Key": "n"}, timeout=20)
        assert running.end() == 0
    assert KEY not in "".join(running.lines)
    assert PREDICTION_KEY not in "".join(running.lines)


def test_without_a_key_no_page_of_a_browser_gets_in(tmp_path: Path) -> None:
    with service(tmp_path, TRAINER_TRAINING_KEY="", TRAINER_PREDICTION_KEY="") as running:
        url = f"{running.url}/customvision/v3.3/training/projects"
        assert requests.get(url, timeout=20).json() == []
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            assert requests.post(f"{url}?name=a", headers=headers, timeout=20).status_code == 403


def test_too_many_calls_are_told_when_to_come_again(tmp_path: Path) -> None:
    with service(tmp_path, "--calls-per-second", "2") as running:
        url = f"{running.url}/customvision/v3.3/training/projects"
        answers = [requests.get(url, headers={"Training-Key": KEY}, timeout=20) for _ in range(6)]
        told = next(answer for answer in answers if answer.status_code == 429)
        assert told.headers["Retry-After"] == "1"
        assert told.json()["error"]["code"] == "429"
        time.sleep(1)
        with training_client(running.url) as sdk:
            assert sdk.get_projects() == []


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as running, training_client(running.url) as sdk:
        project = two_tags(sdk)
        iteration = trained(sdk, project.id, sdk.train_project(project.id).id)
        sdk.export_iteration(project.id, iteration.id, "ONNX")
        link = sdk.get_exports(project.id, iteration.id)[0].download_uri
        running.end(signal.SIGKILL)
    with service(tmp_path) as running, training_client(running.url) as sdk:
        assert sdk.get_iteration(project.id, iteration.id).status == "Completed"
        assert sdk.get_tagged_image_count(project.id) == 10
        assert sdk.get_iteration_performance(project.id, iteration.id).recall == 1.0
        again = running.url + link[link.index("/files/") :]
        assert len(requests.get(again, timeout=20).content) > 1_000_000


def test_a_kill_in_the_middle_of_uploads_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    running = Service(tmp_path)
    with training_client(running.url) as sdk:
        project = sdk.create_project("fruit")
    pictures = [picture(5, nth, 0.5, 60).jpeg for nth in range(60)]
    acknowledged: list[str] = []
    enough = threading.Event()

    def add(nth: int) -> None:
        url = f"{running.url}/customvision/v3.3/training/projects/{project.id}/images"
        answer = requests.post(url, data=pictures[nth], headers={"Training-Key": KEY}, timeout=20)
        acknowledged.append(answer.json()["images"][0]["image"]["id"])
        if len(acknowledged) >= 10:
            enough.set()

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(add, nth) for nth in range(60)]
        assert enough.wait(60)
        running.end(signal.SIGKILL)
    cut = [future for future in futures if isinstance(future.exception(), requests.ConnectionError)]
    assert cut
    with service(tmp_path) as running, training_client(running.url) as sdk:
        there = sdk.get_images(project.id, take=256)
        assert set(acknowledged) <= {image.id for image in there}
        for image in there:
            assert requests.get(image.original_image_uri, timeout=20).content in pictures
        files = [path for path in (tmp_path / "projects" / project.id / "images").rglob("*") if path.is_file()]
        assert {path.name for path in files} == {image.id for image in there}
        assert all(one.status.startswith("OK") for one in sdk.create_images_from_data(project.id, pictures[0]).images)


def test_a_training_that_is_killed_with_the_service_has_failed_with_a_reason(tmp_path: Path) -> None:
    running = Service(tmp_path)
    with training_client(running.url) as sdk:
        project = two_tags(sdk)
        iteration = sdk.train_project(project.id)
        child = wait_for_child(running.process.pid)
        running.end(signal.SIGKILL)
    wait_for_end(child)  # nobody is there to take what it would make
    with service(tmp_path) as running, training_client(running.url) as sdk:
        found = sdk.get_iteration(project.id, iteration.id)
        assert (found.status, found.training_error_details[:18]) == ("Failed", "the trainer ended ")
        assert trained(sdk, project.id, sdk.train_project(project.id).id).status == "Completed"
    assert not (tmp_path / "jobs").exists() or not any((tmp_path / "jobs").iterdir())


def test_an_export_that_is_killed_with_the_service_has_failed_and_can_be_asked_for_again(tmp_path: Path) -> None:
    running = Service(tmp_path)
    with training_client(running.url) as sdk:
        project = two_tags(sdk).id
        iteration = trained(sdk, project, sdk.train_project(project).id).id
        sdk.export_iteration(project, iteration, "ONNX", flavor=INT8)
        child = wait_for_child(running.process.pid)
        running.end(signal.SIGKILL)
    wait_for_end(child)
    with service(tmp_path) as running, training_client(running.url) as sdk:
        assert exported(sdk, project, iteration).status == "Failed"
        page = requests.get(running.url, auth=("", KEY), timeout=20).text
        assert "the trainer ended while it was exporting: export again" in page
        sdk.export_iteration(project, iteration, "ONNX", flavor=INT8)
        assert exported(sdk, project, iteration).status == "Done"
        assert sdk.get_iteration(project, iteration).status == "Completed"
        assert "while it was exporting" not in requests.get(running.url, auth=("", KEY), timeout=20).text
    assert not any((tmp_path / "jobs").iterdir())


def test_a_training_that_goes_wrong_fails_its_iteration_and_not_the_service(tmp_path: Path) -> None:
    with service(tmp_path) as running, training_client(running.url) as sdk:
        project = two_tags(sdk)
        iteration = sdk.train_project(project.id)
        os.kill(wait_for_child(running.process.pid), signal.SIGKILL)
        found = trained(sdk, project.id, iteration.id)
        assert (found.status, "unexpectedly (-9)" in found.training_error_details) == ("Failed", True)
        image = sdk.get_images(project.id, take=1)[0].id
        (tmp_path / "projects" / project.id / "images" / image[:2] / image).write_bytes(jpeg("green", 0)[:100])
        found = trained(sdk, project.id, sdk.train_project(project.id).id)
        assert (found.status, image in found.training_error_details) == ("Failed", True)


def test_a_training_process_ends_with_the_service_that_began_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "request.json")  # nobody ever writes it
    with subprocess.Popen([sys.executable, "-m", "trainer.runs.job", str(tmp_path)], stdin=subprocess.PIPE) as job:
        try:
            assert job.stdin is not None
            job.stdin.close()
            assert job.wait(60) == 3
        finally:
            job.kill()


def wait_for_child(parent: int) -> int:
    """The id of the training process, once there is one."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise AssertionError("no training process was started")


def wait_for_end(process: int) -> None:
    end = time.monotonic() + 20
    while Path(f"/proc/{process}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{process}").exists()
