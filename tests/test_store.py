"""A mistyped store is a wrong setting in every command that opens one, and nothing is made of it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from azurite import Azurite
from retrain.__main__ import main
from retrain.store import missing, opened
from ripeloop.blobs import FolderBlobs, is_there, open_blobs
from ripeloop.errors import SettingsError
from trainerservice import KEY, Service, training_client

AZURITE_IN_SHORT = "UseDevelopmentStorage=true"
HUB = f"HostName=127.0.0.1;SharedAccessKeyName=iothubowner;SharedAccessKey={'A' * 43}="
SERVICE = ["--endpoint", "http://127.0.0.1:9", "--training-key", KEY, "--project", "fruit"]
COMMANDS = {
    "samples": ["samples"],
    "tag": ["tag", *SERVICE],
    "retrain": ["retrain", *SERVICE],
    "dry run": ["retrain", "--dry-run", *SERVICE],
    "reconcile": ["reconcile", "--device", "line-1", "--hub", HUB],
    "release": ["release", "model.zip", "--ring", "canary", "--hub", HUB],
    "rollback": ["rollback", "--ring", "canary", "--hub", HUB],
    "grant": ["credential", "grant", "line-1", "--hub", HUB],
}


def run(*words: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(main, words)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands are run; it holds a package to release, and nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.zip").write_bytes(b"a package")
    return tmp_path


def in_it(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("address", "words"),
    [("clowd", "there is no folder clowd in "), (AZURITE_IN_SHORT, "whole connection string"), ("model.zip", "a file")],
)
def test_a_mistyped_store_is_a_wrong_setting(here: Path, name: str, address: str, words: str) -> None:
    ended = run(*COMMANDS[name], RIPELOOP_CLOUD_BLOBS=address)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert "RIPELOOP_CLOUD_BLOBS" in ended.stderr
    assert in_it(here) == ["model.zip"]


async def test_a_folder_that_only_looks_like_a_connection_string_is_refused_though_it_is_there(here: Path) -> None:
    (here / AZURITE_IN_SHORT).mkdir()
    with pytest.raises(SettingsError, match="AccountKey="):
        async with opened(AZURITE_IN_SHORT, "samples"):
            pass
    (here / "site=north").mkdir()
    async with opened(str(here / "site=north"), "samples") as blobs:
        assert isinstance(blobs, FolderBlobs)


async def test_half_a_connection_string_names_what_is_missing_and_no_key() -> None:
    with pytest.raises(SettingsError, match=r"--cloud-blobs .*no AccountKey="):
        async with opened("DefaultEndpointsProtocol=https;AccountName=x", "samples"):
            pass
    for half in ("AccountKey=c2VjcmV0", "c2VjcmV0/c2VjcmV0=="):
        with pytest.raises(SettingsError) as refused:
            async with opened(half, "samples"):
                pass
        assert "c2Vj" not in str(refused.value)


@pytest.mark.parametrize("address", ["clowd", AZURITE_IN_SHORT])
def test_a_labelling_server_is_not_started_on_a_mistyped_store(here: Path, address: str) -> None:
    command = [sys.executable, "-m", "retrain", "label", "--port", "0", "--cloud-blobs", address]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=here)
    assert (ended.returncode, "RIPELOOP_CLOUD_BLOBS" in ended.stderr) == (2, True), ended.stderr
    assert in_it(here) == ["model.zip"]


@pytest.mark.parametrize("words", [["tag", "--create"], ["retrain"], ["retrain", "--dry-run"]])
def test_a_night_without_a_container_is_no_good_one(running: Service, here: Path, words: list[str]) -> None:
    (here / "cloud").mkdir()
    project = f"fruit-{uuid.uuid4().hex[:8]}"
    if words[0] == "retrain":
        with training_client(running.url) as client:
            client.create_project(project)
    service = ("--endpoint", running.url, "--training-key", KEY, "--project", project)
    ended = run(*words, *service, "--cloud-blobs", "cloud", "--container", "sampels", "--json")
    document = json.loads(ended.stdout)
    assert (ended.exit_code, document["exit"], document["kind"]) == (3, 3, "no_container")
    assert document["error"] == missing(str(here), "sampels")
    assert in_it(here) == ["cloud", "model.zip"]
    assert in_it(here / "cloud") == []
    if words[0] == "tag":  # nor is a project made
        with training_client(running.url) as client:
            assert project not in [one.name for one in client.get_projects()]


def test_a_wrong_project_is_told_before_a_container_that_may_come(running: Service, here: Path) -> None:
    service = ("--endpoint", running.url, "--training-key", KEY, "--project", "no such one")
    ended = run("retrain", *service, "--cloud-blobs", str(here))
    assert (ended.exit_code, "no such one" in ended.stderr) == (2, True)


def test_samples_says_that_there_is_no_container(here: Path) -> None:
    ended = run("samples", "--cloud-blobs", str(here), "--container", "sampels", "--json")
    warning = missing(str(here), "sampels")
    assert (ended.exit_code, json.loads(ended.stdout)["warning"]) == (0, warning)
    assert ended.stderr == f"warning: {warning}\n"
    (here / "samples").mkdir()
    assert json.loads(run("samples", "--cloud-blobs", str(here), "--json").stdout)["warning"] == ""


def test_a_sas_url_names_the_container_that_is_missing(azurite_cloud: Azurite) -> None:
    store = ["--cloud-blobs", azurite_cloud.sas_url("sampels", "rl"), "--api-version", azurite_cloud.api_version]
    ended = run("samples", *store, "--container", "samples", "--json")
    assert ended.exit_code == 0, ended.stderr
    warning = json.loads(ended.stdout)["warning"]
    assert "'sampels' does not exist" in warning
    assert "RIPELOOP_CLOUD_BLOBS" in warning
    assert "--container" not in warning


def test_a_rollback_makes_no_container_to_write_it_down_in(here: Path) -> None:
    ended = run(*COMMANDS["rollback"], "--cloud-blobs", str(here), "--models-container", "modles")
    assert (ended.exit_code, missing(str(here), "modles", "--models-container") in ended.stderr) == (2, True)
    assert in_it(here) == ["model.zip"]


async def test_a_look_makes_no_container_in_an_account(azurite_cloud: Azurite) -> None:
    name = f"c{uuid.uuid4().hex}"
    store = azurite_cloud.connection_string, name, azurite_cloud.api_version
    for _ in range(2):
        async with opened(*store) as blobs:
            assert not await is_there(blobs)
    async with open_blobs(*store) as blobs:
        await blobs.put("line-1/a.png", b"a")
    async with opened(*store) as blobs:
        assert await is_there(blobs)


async def test_a_labelling_server_that_ran_before_starts_without_its_disk(here: Path) -> None:
    async with opened(str(here / "disk"), "samples", away=True) as blobs:
        assert isinstance(blobs, FolderBlobs)
