"""Fixtures live beside what they start: `azurite.py` a blob server, `edge.py` the local edge runtime."""

import logging
import os
import sys
from collections.abc import Iterator

import pytest

pytest_plugins = ["azurite", "desks", "edge", "hubs", "program", "rollouts", "sampling", "serving", "trainers"]

SERVERS = {"azurite_cloud", "azurite_device", "chromium", "edge", "edge_factory"}
PROGRAMS = {
    "test_bench",
    "test_bench_sampler",
    "test_bench_sampling",
    "test_classifier_process",
    "test_demo",
    "test_dockerfiles",
    "test_label_server",
    "test_loop",
    "test_loop_kills",
    "test_release",
    "test_retrain_asking",
    "test_rollout_process",
    "test_sampler_faults",
    "test_sampler_process",
    "test_trainer_api",
    "test_trainer_api_int8",
    "test_trainer_api_process",
    "test_trainer_api_refusals",
    "test_trainer_int8",
    "test_turn",
    "test_turn_export",
    "test_turn_kill",
    "test_turn_tag",
    "test_turn_tag_killed",
    "test_turn_train",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts servers or whole programs is slow; `-m "not slow"` leaves it out."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())) or item.path.stem in PROGRAMS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that runs in the test's own process tells the whole process what to log."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in root.handlers:
        if type(handler) is logging.StreamHandler and handler not in handlers:
            root.removeHandler(handler)


_ended = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_ended] = int(exitstatus)


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End now: Python would wait for the threads of azure-iot-device, and one whose hub was killed may never end."""
    if _ended in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_ended])
