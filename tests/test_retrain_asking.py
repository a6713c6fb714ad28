"""The commands to one device's sampler: against a real sampler, the local edge runtime and Azurite."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from azurite import Azurite
from edge import EdgeFactory
from retrain.__main__ import main
from retrain.devices.reconcile import compare, ids_in
from retrain.devices.tables import show_reconciled
from retrain.settings import NOT_AS_WANTED, OFFLINE, USAGE
from ripeloop.blobs import Blob, open_blobs
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Spool
from test_retrain import hub_of, ripeloop, sampler, until_it_ends_with

COMMANDS = [["reconcile"], ["why"], ["pause"], ["resume"], ["flush"], ["credential", "grant"]]


def test_both_sides_are_compared_id_by_id() -> None:
    states = {"a": "uploaded", "b": "uploaded", "c": "waiting", "d": "set_aside", "e": "evicted", "f": "waiting"}
    found = compare(states, {"a": 1, "c": 1, "d": 1, "e": 2, "x": 1})
    assert found.device == {"uploaded": 2, "waiting": 2, "set_aside": 1, "evicted": 1}
    assert found.cloud == 6
    assert (found.missing, found.unknown, found.given_up) == (["b"], ["x"], ["d", "e"])
    assert (found.twice, found.under_way) == (["e"], ["c"])
    assert not found.same
    assert compare({"a": "uploaded", "c": "waiting"}, {"a": 1, "c": 1}).same
    assert compare({}, {}).same


def test_only_blobs_that_a_sampler_named_are_compared() -> None:
    id_ = "a" * 64
    listed = [Blob(f"line-1/2026/11/22/{id_}.jpg", 1), Blob(f"line-1/2026/11/23/{id_}.jpg", 1), Blob("line-1/x.txt", 1)]
    assert ids_in(listed) == {id_: 2}


def test_what_differs_is_named_and_the_rest_counted(capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"{n:064x}" for n in range(30)]
    show_reconciled(compare(dict.fromkeys(ids, "uploaded"), {"x": 1}))
    shown = capsys.readouterr().out
    assert "30 uploaded, says the device, but not in the cloud" in shown
    assert ids[19] in shown
    assert ids[20] not in shown
    assert "and 10 more" in shown
    assert "both sides agree" not in shown
    show_reconciled(compare({"a": "uploaded"}, {"a": 1}))
    assert "both sides agree" in capsys.readouterr().out


async def test_a_credential_is_granted_and_both_sides_are_reconciled(
    edge_factory: EdgeFactory, tmp_path: Path, azurite_cloud: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPLER_CLOUD_API_VERSION", azurite_cloud.api_version)
    edge, container = edge_factory(), f"c{uuid.uuid4().hex}"
    spool = Spool(tmp_path / "spool")
    for n in range(5):
        image = b"\xff\xd8\xff%d" % n
        spool.put(Flagged(image_id(image), datetime.now(UTC), "audit", (Prediction("ripe", 0.5),)), image)
    cloud = {
        "RIPELOOP_CLOUD_BLOBS": azurite_cloud.connection_string,
        "RIPELOOP_CONTAINER": container,
        "RIPELOOP_API_VERSION": azurite_cloud.api_version,
    }
    environ, device = hub_of(edge) | cloud, ("--device", "laptop")

    def run(*arguments: str, code: int = 0) -> str:
        done = ripeloop(*arguments, **environ)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert azurite_cloud.key not in done.stdout + done.stderr
        assert "sig=" not in done.stdout + done.stderr
        return str(done.stdout + done.stderr)

    assert "not connected" in run("why", *device, code=OFFLINE)
    with sampler(edge, tmp_path):
        await asyncio.to_thread(lambda: until_it_ends_with(0, "resume", *device, **environ))
        assert "no cloud is set" in run("why", *device)
        assert "laptop may create images in" in run("credential", "grant", "laptop", "--hours", "2")
        end = asyncio.get_running_loop().time() + 20
        while json.loads(run("reconcile", *device, "--json"))["device"] != {"uploaded": 5}:
            assert asyncio.get_running_loop().time() < end

        async with open_blobs(azurite_cloud.connection_string, container, azurite_cloud.api_version) as blobs:
            names = [blob.name async for blob in blobs.list()]
            assert len(names) == 5
            await blobs.delete(names[0])
            await blobs.put(f"laptop/2026/11/22/{'0' * 64}.jpg", b"from elsewhere")
        found = json.loads(run("reconcile", *device, "--json", code=NOT_AS_WANTED))
        assert found["missing"] == [Path(names[0]).stem]
        assert found["unknown"] == ["0" * 64]

        assert "uploads nothing until" in run("pause", *device, "--reason", "backup [red]")
        spool.put(Flagged(image_id(b"late"), datetime.now(UTC), "audit", (Prediction("ripe", 0.5),)), b"late")
        while "backup [red]" not in run("why", *device):
            assert asyncio.get_running_loop().time() < end + 30
        assert "paused" in run("flush", *device, code=NOT_AS_WANTED)
        assert "no longer paused" in run("resume", *device)
        assert "uploads now" in run("flush", *device, "--set-aside")

        environ["RIPELOOP_CONTAINER"] = "no"  # two letters: no container may be called so
        assert "container" in run("credential", "grant", "laptop", code=USAGE)
        environ["RIPELOOP_CLOUD_BLOBS"] = str(tmp_path)
        assert "account's key" in run("credential", "grant", "laptop", code=USAGE)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_flag_can_be_set_in_the_environment_and_every_command_shows_an_example(command: list[str]) -> None:
    found: click.Command = main
    for word in command:
        assert isinstance(found, click.Group)
        found = found.commands[word]
    for option in found.params:
        if isinstance(option, click.Option):
            variables = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or [])
            assert variables
            assert variables[0].startswith("RIPELOOP_"), option.name
    shown = CliRunner().invoke(main, [*command, "--help"], prog_name="ripeloop").stdout
    assert f"ripeloop {' '.join(command)} " in shown.partition("Example:")[2]
    assert "Ends with 0" in shown
