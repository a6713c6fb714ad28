"""Fixtures live beside what they start: `azurite.py` a blob server, `edge.py` the local edge runtime."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# hundreds of programs are started, by tests and by those programs: what one has compiled, the others read
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as trainings have it: threads wait for each other on few cores
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".cache" / "bytecode"))

# a table's width is what the test says; readline, which pytest imports, tells every program that there are 80 columns
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: programs would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["azurite", "desks", "edge", "hubs", "program", "rollouts", "sampling", "serving", "trainers"]

SERVERS = {"azurite_cloud", "azurite_device", "chromium", "edge", "edge_factory"}
PROGRAMS = {
    "test_bench",
    "test_bench_sampler",
    "test_bench_sampling",
    "test_classifier_process",
    "test_demo",
    "test_demo_end",
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


# half a minute and more, the longest first: begun late, one of them would keep one worker busy while the others rest
LONGEST = [
    "test_demo",
    "test_sampler_faults",
    "test_hub_trouble",
    "test_loop",
    "test_turn",
    "test_localedge",
    "test_label_page",
    "test_sampler_process",
    "test_dockerfiles",
    "test_label_look",
    "test_turn_export",
    "test_bench",
    "test_loop_kills",
    "test_release",
    "test_release_fleet",
]


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # it goes by the number of tests in a file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What starts servers or whole programs is slow; `-m "not slow"` leaves it out."""
    if hasattr(config, "workerinput"):
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())) or item.path.stem in PROGRAMS:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What all tests import stays; to look through it for garbage again and again takes half a second each time."""
    gc.collect()
    gc.freeze()


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
