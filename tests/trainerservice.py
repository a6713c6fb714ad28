"""A real trainer service in its own process, and the real SDK to talk to it; every word is held to the contract."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azure.cognitiveservices.vision.customvision.prediction import CustomVisionPredictionClient
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient
from azure.cognitiveservices.vision.customvision.training.models import ImageFileCreateBatch, ImageFileCreateEntry
from msrest.authentication import ApiKeyCredentials

from contract import checker
from demo.bananas import picture

KEY = "a training key"
PREDICTION_KEY = "a prediction key"
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"
INT8 = "ONNXInt8"
RIPENESS = {"green": 0.05, "brown": 0.95, "yellow": 0.5}


class Service:
    """`python -m trainer` on a free port; `lines` are its log so far."""

    def __init__(self, folder: Path, *flags: str, **environ: str) -> None:
        keys = {"TRAINER_TRAINING_KEY": KEY, "TRAINER_PREDICTION_KEY": PREDICTION_KEY}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer", "--data", str(folder), "--port", "0", *flags],
            stderr=subprocess.PIPE, text=True, env=os.environ | keys | environ,
        )  # fmt: skip
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(60) or self.process.poll() is not None:
            self.end(signal.SIGKILL)
            raise AssertionError("".join(self.lines))
        self.url = next(line for line in self.lines if "listening on" in line).split()[-1]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "listening on" in line:
                self._ready.set()
        self._ready.set()

    def end(self, signum: int = signal.SIGTERM) -> int:
        """End it; the exit code."""
        self.process.send_signal(signum)
        code = self.process.wait(20)
        self._reader.join(20)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@contextmanager
def service(folder: Path, *flags: str, **environ: str) -> Iterator[Service]:
    """A service until the block ends."""
    running = Service(folder, *flags, **environ)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end()


@contextmanager
def training_client(url: str, key: str = KEY) -> Iterator[CustomVisionTrainingClient]:
    """The unmodified SDK."""
    with CustomVisionTrainingClient(url, ApiKeyCredentials(in_headers={"Training-key": key})) as client:
        client.config.hooks = [checker()]
        yield client


@contextmanager
def prediction_client(url: str, key: str = PREDICTION_KEY) -> Iterator[CustomVisionPredictionClient]:
    """The unmodified SDK."""
    with CustomVisionPredictionClient(url, ApiKeyCredentials(in_headers={"Prediction-key": key})) as client:
        client.config.hooks = [checker()]
        yield client


def jpeg(tag: str, nth: int, size: int = 100) -> bytes:
    """A picture that goes with a tag."""
    return picture(6, nth, RIPENESS[tag], size).jpeg


def upload(client: CustomVisionTrainingClient, project: str, tag: str, tag_id: str, count: int = 5) -> list[str]:
    """Add pictures; their ids."""
    entries = [ImageFileCreateEntry(name=f"{tag}-{nth}.jpg", contents=jpeg(tag, nth)) for nth in range(count)]
    batch = ImageFileCreateBatch(images=entries, tag_ids=[tag_id])
    return [result.image.id for result in client.create_images_from_files(project, batch).images]


def trained(client: CustomVisionTrainingClient, project: str, iteration: str, seconds: float = 60) -> Any:
    """The iteration once it is no longer in training."""
    end = time.monotonic() + seconds
    while (found := client.get_iteration(project, iteration)).status == "Training":
        assert time.monotonic() < end, "the training does not end"
        time.sleep(0.1)
    return found


def exported(client: CustomVisionTrainingClient, project: str, iteration: str, seconds: float = 60) -> Any:
    """The export in 8 bits, once it is no longer under way."""
    end = time.monotonic() + seconds
    while True:
        (found,) = [one for one in client.get_exports(project, iteration) if one.flavor == INT8]
        if found.status != "Exporting":
            return found
        assert found.download_uri is None
        assert time.monotonic() < end, "the export does not end"
        time.sleep(0.1)
