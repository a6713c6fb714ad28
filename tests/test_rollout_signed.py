"""What stands on the shelf is verified again at every start: its bytes, and who signed them."""

from __future__ import annotations

import asyncio
import base64
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from colours import files
from depot import Depot, packed
from ripeloop.package import public_key, sha256_of, sign
from rollouts import site

MINE, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def key_of(owner: Ed25519PrivateKey) -> Ed25519PublicKey:
    return public_key(base64.b64encode(owner.public_key().public_bytes_raw()).decode())


def signed(depot: Depot, version: str, owner: Ed25519PrivateKey = MINE) -> dict[str, Any]:
    package = packed(depot.folder / f"{version}.zip", version)
    return package | {"url": depot.url(f"{version}.zip"), "signature": sign(package["sha256"], owner)}


async def rolled_out(folder: Path, first: Path, *versions: dict[str, Any], key: Any = None) -> None:
    async with site(folder, first, key=key or key_of(MINE), watch=0) as here:
        for wanted in versions:
            here.want(wanted)
            while (await here.until("active"))["version"] != wanted["version"]:
                pass


async def test_a_signed_model_needs_no_network_at_the_next_start(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = signed(depot, "v2")
    await rolled_out(tmp_path, first, wanted)
    async with site(tmp_path, first, key=key_of(MINE)) as here:
        assert (await here.until("active"))["version"] == "v2"
        assert here.files() == {"rollout.json", f"{wanted['sha256']}.zip", f"{wanted['sha256']}.sig"}


@pytest.mark.parametrize("harm", ["bytes", "no signature", "another's signature", "no text", "a folder"])
async def test_what_was_changed_on_the_disk_gives_way_to_the_next_good_one_and_is_mended(
    tmp_path: Path, first: Path, depot: Depot, harm: str
) -> None:
    two, three = signed(depot, "v2"), signed(depot, "v3")
    await rolled_out(tmp_path, first, two, three)
    package, signature = (tmp_path / "models" / f"{three['sha256']}.{end}" for end in ("zip", "sig"))
    match harm:
        case "bytes":
            package.write_bytes(package.read_bytes()[:-1] + b"x")
        case "another's signature":
            signature.write_text(sign(three["sha256"], OTHER))
        case "no text":
            signature.write_bytes(b"\xff\x00" * 40)
        case _:
            signature.unlink()
            if harm == "a folder":
                signature.mkdir()
    words = {"bytes": "its SHA-256 is", "no signature": "is not signed", "a folder": "cannot read the signature"}
    async with site(tmp_path, first, key=key_of(MINE), watch=0) as here:
        reported = await here.until("rolled_back")
        assert (reported["version"], reported["wanted"]) == ("v2", "v3")
        assert reported["reason"].startswith("could not be loaded at the start: v3: ")
        assert words.get(harm, "does not fit") in reported["reason"]
        if harm != "a folder":
            here.want(three)
            assert (await here.until("watching"))["version"] == "v3"
            assert here.shelf.signature(three["sha256"]) == three["signature"]


async def test_another_key_leaves_the_operators_own_model(tmp_path: Path, first: Path, depot: Depot) -> None:
    await rolled_out(tmp_path, first, signed(depot, "v2"), signed(depot, "v3"))
    async with site(tmp_path, first, key=key_of(OTHER), watch=0) as here:
        reported = await here.until("rolled_back")
        assert reported["version"] == "first"  # --model needs no signature
        assert "does not fit" in reported["reason"]
        here.want(signed(depot, "v4", OTHER))
        assert (await here.until("watching"))["version"] == "v4"


async def test_a_key_that_comes_later_finds_the_signature_kept(tmp_path: Path, first: Path, depot: Depot) -> None:
    wanted = signed(depot, "v2")
    unsigned = {name: value for name, value in wanted.items() if name != "signature"}
    async with site(tmp_path, first, watch=0) as here:
        here.want(unsigned)
        while (await here.until("active"))["version"] != "v2":
            pass
        assert here.shelf.signature(wanted["sha256"]) == ""
        here.want(wanted)  # it answers already
        async with asyncio.timeout(10):
            while True:
                if here.shelf.signature(wanted["sha256"]):
                    break
                await asyncio.sleep(0.01)
    async with site(tmp_path, first, key=key_of(MINE)) as here:
        assert (await here.until("active"))["version"] == "v2"
        here.want(wanted | {"signature": sign(wanted["sha256"], OTHER)})  # a wrong one takes no good one's place
        here.want("nonsense")
        await here.until("failed")
    async with site(tmp_path, first, key=key_of(MINE)) as here:
        assert (await here.until("active"))["version"] == "v2"


@pytest.mark.parametrize("harm", ["slip", "absolute", "bomb", "golden bomb", "many files"])
async def test_a_hostile_package_writes_nothing_and_fills_nothing(
    tmp_path: Path, first: Path, depot: Depot, harm: str
) -> None:
    package = depot.folder / "evil.zip"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in files().items():
            if (name, harm) != ("model.onnx", "bomb"):
                archive.writestr(name, data)
        match harm:
            case "slip":
                archive.writestr("../../slipped", b"x")
            case "absolute":
                archive.writestr(str(tmp_path / "slipped"), b"x")
            case "bomb":
                with archive.open("model.onnx", "w", force_zip64=True) as member:
                    for _ in range(600):
                        member.write(bytes(1 << 20))
            case "golden bomb":
                archive.writestr("golden.json", '{"images": [{"file": "golden/b", "predictions": []}]}')
                archive.writestr("golden/b", bytes(50 << 20))
            case "many files":
                for number in range(2000):
                    archive.writestr(f"{number}.txt", b"x")
    before = {path for path in tmp_path.rglob("*") if "models" not in path.parts}
    async with site(tmp_path, first) as here:
        here.want({"version": "evil", "sha256": sha256_of(package), "path": str(package)})
        reason = (await here.until("failed"))["reason"]
        await here.ask(1)
    words = {"slip": "outside", "absolute": "outside", "many files": "holds 2005 files"}
    assert words.get(harm, "unpacks to") in reason
    assert {path for path in tmp_path.rglob("*") if "models" not in path.parts} == before
    assert {path.name for path in (tmp_path / "models").rglob("*")} == {"rollout.json"}
