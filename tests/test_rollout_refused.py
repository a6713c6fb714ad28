"""What must never answer: other bytes, no signature, other answers, no model, no wish at all; and why is told."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from classifier.models.model import Model, load
from classifier.rollout.memory import NOT_AGAIN
from colours import files, picture, zipped
from depot import Depot, expected, packed
from ripeloop.package import GoldenSet, public_key, sha256_of, sign
from rollouts import site
from sampling import until


async def test_the_bytes_must_be_those_that_were_asked_for(tmp_path: Path, first: Path, depot: Depot) -> None:
    packed(depot.folder / "v2.zip", "v2")
    async with site(tmp_path, first) as here:
        here.want({"version": "v2", "sha256": "ab" * 32, "url": depot.url("v2.zip")})
        failed = await here.until("failed")
        assert "its SHA-256 is" in failed["reason"]
        assert (failed["version"], failed["wanted"]) == ("first", "v2")
        assert here.files() == {"rollout.json"}
        await here.ask(1)


async def test_only_packages_signed_for_this_device_are_taken(tmp_path: Path, first: Path, depot: Depot) -> None:
    mine, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    key = public_key(base64.b64encode(mine.public_key().public_bytes_raw()).decode())
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first, key=key) as here:
        here.want(wanted)
        assert "is not signed" in (await here.until("failed"))["reason"]
        here.want(wanted | {"signature": sign(wanted["sha256"], other)})
        async with asyncio.timeout(10):
            while "does not fit" not in str((await here.until("failed"))["reason"]):
                pass
        assert depot.requests == []
        here.want(wanted | {"signature": sign(wanted["sha256"], mine)})
        assert (await here.until("watching"))["version"] == "v2"


async def test_a_model_that_answers_otherwise_here_never_answers(tmp_path: Path, first: Path, depot: Depot) -> None:
    golden = GoldenSet((expected(picture("red"), red=0.1, green=0.8, blue=0.1),))
    wanted = packed(depot.folder / "v2.zip", "v2", golden=golden) | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.want(wanted)
        reason = (await here.until("failed"))["reason"]
        assert reason.startswith("golden image 1 of 1: expected is green with 0.800, the model says red")
        assert (await here.classifier.classify(picture())).model.version == "first"


async def test_a_detector_or_no_zip_at_all_is_refused_with_the_reason(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    zipped(depot.folder / "od.zip", files(DomainType="ObjectDetection"))
    (depot.folder / "text.zip").write_bytes(b"hello")
    async with site(tmp_path, first) as here:
        for name, words in (("od.zip", "detector"), ("text.zip", "no zip")):
            wanted = {"version": name, "sha256": sha256_of(depot.folder / name), "path": str(depot.folder / name)}
            here.want(wanted)
            async with asyncio.timeout(10):
                while words not in str((await here.until("failed"))["reason"]):
                    pass
        assert here.files() == {"rollout.json"}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("v2", "must be an object"),
        ({"version": "v2"}, "model.sha256"),
        ({"version": "v2", "sha256": "ab" * 32}, "one of the two"),
        ({"version": "v2", "sha256": "ab" * 32, "path": "/x", "attempt": True}, "model.attempt"),
        ({"version": "v2", "sha256": "ab" * 32, "path": "/x", "attempt": 0}, "model.attempt"),
        ({"version": "v2", "sha256": "ab" * 32, "url": "http://a/x", "path": "/x"}, "one of the two"),
        ({"version": "v2", "sha256": "ab" * 32, "url": "file:///etc/passwd"}, "http or https"),
        ({"version": "v2", "sha256": "ab" * 32, "path": "model.zip"}, "absolute"),
        ({"version": "", "sha256": "ab" * 32, "url": "http://a/x"}, "model.version"),
        ({"version": 2, "sha256": "ab" * 32, "url": "http://a/x"}, "model.version must be a string"),
        ({"version": "2", "sha256": "ab" * 32, "path": "/a\ud800b"}, "model.path must be one line"),
        ({"version": "2", "sha256": "ab" * 32, "path": "/a\nERROR forged"}, "model.path must be one line"),
        (
            {"version": "2", "sha256": "ab" * 32, "path": "/a", "signature": "\ud800"},
            "model.signature must be one line",
        ),
    ],
)
async def test_a_wish_that_is_none_is_refused(tmp_path: Path, first: Path, section: Any, words: str) -> None:
    async with site(tmp_path, first) as here:
        here.want(section)
        assert words in (await here.until("failed"))["reason"]
        here.want(None)
        assert (await here.until("active"))["version"] == "first"
        assert not here.shelf.folder.exists()


async def test_what_nobody_foresaw_ends_the_candidate_alone(
    tmp_path: Path, first: Path, depot: Depot, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(path: Path) -> Model:
        return load(path, threads=1) if path == first else load(path, threads=1 // 0)

    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first, loading=broken) as here:
        here.want(wanted)
        reason = (await here.until("failed"))["reason"]
        assert reason == "it cannot be prepared (ZeroDivisionError); the log tells more" + NOT_AGAIN
        await here.ask(1)
        assert "Traceback" in caplog.text
    async with site(tmp_path, first, loading=broken) as here:
        here.want(wanted)
        await here.ask(1)
        assert (await here.until("failed"))["wanted"] == "v2"


async def test_a_reason_is_one_line_of_whole_characters(
    tmp_path: Path, first: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = files()
    manifest = json.loads(content["cvexport.manifest"]) | {"DomainType": "\ud800\n2026-11-22 ERROR forged" + "x" * 900}
    path = zipped(tmp_path / "odd.zip", content | {"cvexport.manifest": json.dumps(manifest).encode()})
    async with site(tmp_path, first) as here:
        here.want({"version": "v2", "sha256": sha256_of(path), "path": str(path)})
        reason = (await here.until("failed"))["reason"]
    assert reason.isprintable()
    assert len(reason) == 300
    assert "\n2026" not in caplog.text


async def test_a_typo_in_the_address_fails_once_and_for_all_starts(tmp_path: Path, first: Path) -> None:
    for _ in range(2):
        async with site(tmp_path, first) as here:
            here.want({"version": "2", "sha256": "ab" * 32, "url": "https://store..blob.test/m.zip"})
            failed = await here.until("failed")
            assert "host name that cannot be" in failed["reason"]
            assert failed["version"] == "first"
            await here.ask(1)


async def test_a_malformed_wish_is_told_for_as_long_as_the_twin_asks_for_it(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    wanted = packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")}
    async with site(tmp_path, first) as here:
        here.want(wanted)
        await here.until("watching")
        here.want(wanted | {"sha256": "zz"})
        await here.until("failed")
        await here.ask(1)
        await until(lambda: here.shelf.read().trial is None)  # the watch of v2 is over
        told = here.rollout.status()
        assert (told["version"], told["state"], told["wanted"]) == ("v2", "failed", None)
        assert "model.sha256" in told["reason"]
        here.want({})
        assert (await here.until("active"))[
            "reason"
        ] == "watched over 1 images only: too few to judge its latency and what it flags"
