"""A trainer service of each test file's own, the SDK's client of it, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from azure.cognitiveservices.vision.customvision.training import CustomVisionTrainingClient

from retrain.customvision import CustomVision
from trainerservice import KEY, Service, service, training_client


@pytest.fixture(scope="module")
def trainer_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds all the service knows."""
    return tmp_path_factory.mktemp("trainer")


@pytest.fixture(scope="module")
def running(trainer_data: Path) -> Iterator[Service]:
    """The service."""
    with service(trainer_data) as one:
        yield one


@pytest.fixture(scope="module")
def sdk(running: Service) -> Iterator[CustomVisionTrainingClient]:
    """The SDK's own client."""
    with training_client(running.url) as client:
        yield client


@pytest.fixture
def cloud(running: Service) -> Iterator[CustomVision]:
    """The service as the `ripeloop` command sees it."""
    with closing(CustomVision(running.url, KEY)) as one:
        yield one
