"""What failed for a cause outside the package is tried again once that may be gone; a bad package is not."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from classifier.models.model import Model, load
from colours import picture
from depot import Depot, expected, packed
from ripeloop.package import GoldenSet, sign
from rollouts import LIMITS, Site, site
from sampling import until

OURS = Ed25519PrivateKey.generate()


@dataclass
class Trouble:
    """A wish that cannot be met now. `bad` are the settings while it cannot, `good` those after `mend`."""

    wanted: dict[str, Any]
    words: str
    bad: dict[str, Any]
    good: dict[str, Any]
    mend: Callable[[], object] = int


def short_of_memory(path: Path) -> Model:
    if path.name != "first.zip":
        raise MemoryError
    return load(path, threads=1)


def troubles(folder: Path, depot: Depot) -> dict[str, Trouble]:
    made = packed(depot.folder / "v2.zip", "v2")
    there, later = made | {"url": depot.url("v2.zip")}, folder / "usb.zip"
    signed = there | {"signature": sign(made["sha256"], OURS)}
    key, other = OURS.public_key(), Ed25519PrivateKey.generate().public_key()
    return {
        "missing": Trouble(
            made | {"path": str(later)}, "there is no file", {}, {}, lambda: shutil.copy(depot.folder / "v2.zip", later)
        ),
        "too large": Trouble(there, "--model-bytes", {"limits": replace(LIMITS, bytes=100)}, {}),
        "another key": Trouble(signed, "public key", {"key": other}, {"key": key}),
        "404": Trouble(made | {"url": depot.url("v2.zip")}, "404", {}, {}),
        "short of memory": Trouble(there, "MemoryError", {"loading": short_of_memory}, {}),
    }


@asynccontextmanager
async def failed(folder: Path, first: Path, trouble: Trouble) -> AsyncIterator[Site]:
    async with site(folder, first, **trouble.bad) as here:
        here.want(trouble.wanted)
        reason = (await here.until("failed"))["reason"]
        assert trouble.words in reason
        assert "tried again when this module restarts" in reason
        yield here


@pytest.mark.parametrize("name", ["missing", "too large", "another key", "404", "short of memory"])
async def test_a_cause_outside_the_package_is_forgotten_at_a_restart(
    tmp_path: Path, first: Path, depot: Depot, name: str
) -> None:
    trouble = troubles(tmp_path, depot)[name]
    depot.statuses = [404] if name == "404" else []
    async with failed(tmp_path, first, trouble) as here:
        here.want(trouble.wanted)  # the twin is told again, as after each loss of the hub
        here.want({})
        await here.until("active")
        assert here.rollout.states.count("failed") == 1
    trouble.mend()
    async with site(tmp_path, first, **trouble.good) as here:
        here.want(trouble.wanted)
        assert (await here.until("watching"))["version"] == "v2"


async def test_a_wish_that_is_removed_has_not_failed_and_set_again_is_tried_again(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    trouble = troubles(tmp_path, depot)["missing"]
    async with failed(tmp_path, first, trouble) as here:
        here.want({})
        standing = await here.until("active")
        assert (standing["version"], standing["wanted"], standing["reason"]) == ("first", None, None)
        trouble.mend()
        here.want(trouble.wanted)
        assert (await here.until("watching"))["version"] == "v2"


async def test_a_disk_that_failed_is_tried_again(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.shelf.folder.write_bytes(b"not mounted yet")
        here.want(wanted)
        assert "the folder of --models" in (await here.until("failed"))["reason"]
        here.shelf.folder.unlink()
        here.want({})
        await here.until("active")
        here.want(wanted)
        assert (await here.until("watching"))["version"] == "v2"


async def test_a_bad_package_stays_refused_until_its_attempt_is_raised(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    golden = GoldenSet((expected(picture("red"), red=0.1, green=0.8, blue=0.1),))
    wanted = packed(depot.folder / "v2.zip", "v2", golden=golden) | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.want(wanted)
        reason = (await here.until("failed"))["reason"]
        assert "golden image 1" in reason
        assert reason.endswith("not tried again until model.attempt is raised")
        here.want({})
        await here.until("active")
        here.want(wanted)
        assert (await here.until("failed"))["reason"] == reason  # the reason of then, not a new try
    async with site(tmp_path, first) as here:
        here.want(wanted)
        assert (await here.until("failed"))["reason"] == reason
        await until(lambda: getattr(here.rollout, "states", []))
        assert here.rollout.states == ["failed"]
        here.want(wanted | {"attempt": 1})
        await here.until("loading")
    assert len(depot.requests) == 2
