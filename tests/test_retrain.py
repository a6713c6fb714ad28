"""The `ripeloop` command: how devices stand and what they sent, in words, JSON and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge import manifest
from retrain.__main__ import main
from retrain.devices.standing import AS_WANTED, NOT_REPORTED, Setting, Standing, leaves, settings
from retrain.devices.tables import show_arrived, show_standings
from retrain.manifest.rendered import read_manifest
from retrain.samples import Arrival, Arrived, arrived, folder_of
from retrain.settings import NOT_AS_WANTED, OFFLINE, USAGE
from ripeloop.blobs import Blob, open_blobs
from ripeloop.errors import SettingsError
from ripeloop.prediction import Flagged, Prediction, image_id
from sampler.sample import Sample

STEERED = {"keep": {"max_per_hour": 0}, "upload": {"on": True, "concurrency": 4}, "retention": {"uploaded_minutes": 60}}


def ripeloop(*arguments, **environ):
    """Run the command as a shell would; nothing of this process's settings reaches it."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("RIPELOOP_", "IOTHUB_", "SAMPLER_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "retrain", *arguments], env=clean | environ, capture_output=True, text=True, timeout=60
    )


def hub_of(edge):
    return {"IOTHUB_CONNECTION_STRING": edge.connection_string, "IOTHUB_CA_FILE": str(edge.ca_file)}


@contextmanager
def sampler(edge, folder):
    """A real sampler as a module of this edge runtime."""
    environ = os.environ | edge.environ("sampler")
    process = subprocess.Popen(
        [sys.executable, "-m", "sampler", "--spool", folder / "spool", "--state", folder / "state"],
        env=environ, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def until_it_ends_with(code, *arguments, **environ):
    end = time.monotonic() + 30
    while (done := ripeloop(*arguments, **environ)).returncode != code:
        assert time.monotonic() < end, (done.returncode, done.stdout, done.stderr)
    return done


def sent(device, image, reason="low_confidence", tag="ripe", hour=8):
    """A sample as the sampler names and describes it."""
    moment = datetime(2026, 11, 22, hour, tzinfo=UTC)
    flagged = Flagged(image_id(image), moment, reason, (Prediction(tag, 0.6),), "v1", "image/jpeg")
    return Sample.of(flagged, image, device=device, now=moment)


def listed(*samples):
    return [Blob(sample.blob, sample.size, sample.metadata()) for sample in samples]


def test_each_setting_is_compared_with_what_is_reported():
    found = settings(
        {"sampling": {"margin_below": 0.3, "confidence_below": 2, "audit_rate": 0.1}, "new": [1, 2], "empty": {}},
        {"sampling": {"margin_below": 0.3, "confidence_below": 0.8, "audit_rate": 0.02}, "new": [1],
         "refused": {"sampling": {"confidence_below": "must be between 0 and 1", "margin_below": None}, "more": {}}},
    )  # fmt: skip
    assert {setting.name: setting.verdict for setting in found} == {
        "sampling.margin_below": AS_WANTED,
        "sampling.confidence_below": "refused: must be between 0 and 1",
        "sampling.audit_rate": "differs",
        "new": "differs",
        "empty": NOT_REPORTED,
    }


def test_a_section_refused_as_a_whole_refuses_its_settings():
    found = settings({"sampling": {"margin_below": 0.3}}, {"refused": {"sampling": "must be an object"}})
    assert found[0].verdict == "refused: must be an object"


def test_numbers_equal_as_json_numbers_are():
    assert settings({"minutes": 60}, {"minutes": 60.0})[0].verdict == AS_WANTED


def test_true_is_not_one():
    assert settings({"on": True}, {"on": 1})[0].verdict == "differs"


def test_nested_values_have_dotted_names():
    assert dict(leaves({"a": {"b": 1, "c": {}}, "d": [2]})) == {"a.b": 1, "a.c": {}, "d": [2]}
    assert dict(leaves({})) == {}


def test_a_silent_module_is_not_as_wanted():
    assert not Standing("line-1", "sampler", answers=False).as_wanted
    assert Standing("line-1", "sampler", answers=True).as_wanted


def test_samples_are_counted_by_device_reason_and_tag():
    found = arrived(
        listed(
            sent("line-1", b"a"),
            sent("line-1", b"b", "audit", hour=9),
            sent("line-2", b"c", tag="reif & süß"),
        ),
        newest=2,
    )
    assert (found.images, found.bytes, found.strangers) == (3, 3, 0)
    assert found.devices == {"line-1": 2, "line-2": 1}
    assert found.reasons == {"low_confidence": 2, "audit": 1}
    assert found.tags == {"ripe": 2, "reif & süß": 1}
    assert [sample.reason for sample in found.newest] == ["audit", "low_confidence"]
    assert found.newest[0].captured_at.startswith("2026-11-22T09:00")


def test_blobs_that_are_no_samples_are_counted_apart():
    found = arrived([Blob("readme.txt", 1), Blob("line-1/2026/11/22/short.jpg", 1), *listed(sent("line-1", b"a"))])
    assert (found.images, found.strangers) == (1, 2)


@pytest.mark.parametrize("device", ["line-1", "a%b", "x:y=z@1", "what?", "a#b", ".dev", "a~b", "d$e", "#" * 120])
def test_the_folder_of_a_device_is_where_its_sampler_uploads(device):
    assert sent(device, b"a").blob.startswith(folder_of(device))
    if len(device) < 100:  # a longer one is cut
        assert arrived(listed(sent(device, b"a"))).devices == {device: 1}


async def test_samples_in_a_store_are_shown(tmp_path):
    one, other = sent("line-1", b"a"), sent("line-2", b"bc", "audit", tag="[red]")
    async with open_blobs(str(tmp_path), "samples") as blobs:
        await blobs.put(one.blob, b"a", one.metadata(), one.content_type)
        await blobs.put(other.blob, b"bc", other.metadata(), other.content_type)
    everything = ripeloop("samples", "--json", RIPELOOP_CLOUD_BLOBS=str(tmp_path))
    assert everything.returncode == 0, everything.stderr
    assert json.loads(everything.stdout)["devices"] == {"line-1": 1, "line-2": 1}
    assert everything.stderr == ""
    second = ripeloop("samples", "--cloud-blobs", str(tmp_path), "--device", "line-2")
    assert "1 samples, 2 bytes" in second.stdout
    assert "audit" in second.stdout
    assert "low_confidence" not in second.stdout
    assert other.blob in second.stdout
    assert "[red]" in second.stdout


ODD = "[red]a[/] :apple: [blink]"


def test_names_from_outside_are_shown_letter_by_letter(capsys):
    counts = {ODD: 1, "a\x1b[2Jb\rc": 2}
    show_arrived(
        Arrived(devices=counts, tags=counts, newest=[Arrival(ODD, 1, ODD, "", reason=ODD, tag=ODD, model=ODD)])
    )
    setting = Setting(ODD, [ODD], ODD, f"refused: {ODD}")
    show_standings([Standing(ODD, ODD, answers=False, note=ODD, settings=(setting,), counters={ODD: {ODD: ODD}})])
    shown = capsys.readouterr().out
    assert shown.count(ODD) == 2 + 4 + 3 + 4 + 3
    assert "\x1b" not in shown
    assert "\r" not in shown


@pytest.mark.parametrize("command", ["samples", "status", "deploy"])
def test_no_example_puts_a_key_where_others_see_it(command):
    text = " ".join(CliRunner().invoke(main, [command, "--help"]).stdout.split())
    example = text.partition("Example:")[2].partition("Options:")[0]
    assert "export RIPELOOP_" in example or command == "deploy"
    assert not re.search(r'--(hub|cloud-blobs) "?\$', example)
    assert "say it in the environment" in text


def test_a_store_that_is_away_is_offline():
    away = "DefaultEndpointsProtocol=http;BlobEndpoint=http://127.0.0.1:9/a;AccountName=a;AccountKey=YQ=="
    done = ripeloop("samples", SAMPLER_CLOUD_BLOBS=away)
    assert done.returncode == OFFLINE
    assert done.stderr.startswith("error: ")
    assert "YQ==" not in done.stderr


def test_a_store_that_cannot_be_is_a_wrong_setting():
    done = ripeloop("samples", "--cloud-blobs", "https://example.invalid/c")
    assert done.returncode == USAGE
    assert len(done.stderr.splitlines()) == 1


def test_without_a_hub_the_message_names_the_setting():
    done = ripeloop("status", "--device", "laptop")
    assert done.returncode == USAGE
    assert "RIPELOOP_HUB" in done.stderr


def test_a_hub_that_is_away_is_offline():
    gone = "HostName=127.0.0.1:9;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0"
    done = ripeloop("status", "--device", "laptop", "--hub", gone)
    assert done.returncode == OFFLINE
    assert "127.0.0.1:9 cannot be reached" in done.stderr
    assert "c2VjcmV0" not in done.stderr


def test_a_device_nobody_knows_is_said_so(edge):
    done = ripeloop("status", "--device", "elsewhere", **hub_of(edge))
    assert done.returncode == NOT_AS_WANTED
    assert "no such device, module or configuration" in done.stderr


def test_the_status_of_a_module_follows_it_from_absent_to_as_wanted_to_refusing(edge_factory, tmp_path):
    edge = edge_factory(manifest(desired={"sampler": STEERED}))
    asked = ("status", "--device", "laptop", "--module", "sampler")
    away = ripeloop(*asked, **hub_of(edge))
    assert away.returncode == OFFLINE
    assert "not connected" in away.stdout
    with sampler(edge, tmp_path):
        well = json.loads(until_it_ends_with(0, *asked, "--json", **hub_of(edge)).stdout)
        assert well[0]["asWanted"]
        assert well[0]["counters"]["waiting"] == 0
        assert {setting["verdict"] for setting in well[0]["settings"].values()} == {AS_WANTED}
        shown = ripeloop(*asked, **hub_of(edge))
        assert "laptop/sampler" in shown.stdout
        assert "keep.max_per_hour" in shown.stdout

        bad = tmp_path / "bad.json"
        bad.write_text(
            json.dumps(manifest(desired={"sampler": STEERED | {"upload": {"on": "maybe", "concurrency": 4}}}))
        )
        deployed = ripeloop("deploy", str(bad), "--device", "laptop", **hub_of(edge))
        assert deployed.returncode == 0, deployed.stderr
        verdict = ""
        end = time.monotonic() + 30
        while not verdict.startswith("refused"):
            refusing = ripeloop(*asked, "--json", **hub_of(edge))
            verdict = json.loads(refusing.stdout)[0]["settings"]["upload.on"]["verdict"]
            assert refusing.returncode == NOT_AS_WANTED
            assert time.monotonic() < end, verdict
        assert verdict == "refused: must be true or false, not 'maybe'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "no deployment manifest"),
        ('{"$schema-template": "4.0.0", "modulesContent": {}}', "is a template; render it first"),
        ('{"modulesContent": {"m": "$CLASSIFIER_MODEL", "n": "${MODULES.sampler}"}}', "$CLASSIFIER_MODEL, ${MODULES"),
    ],
)
def test_what_is_no_rendered_manifest_is_not_deployed(tmp_path, text, said):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_manifest(tmp_path / "m.json")
    assert said in str(caught.value)


def test_the_words_of_iot_edge_are_no_forgotten_variables(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps(manifest()))
    assert read_manifest(tmp_path / "m.json") == manifest()


@pytest.mark.parametrize("command", ["status", "samples", "deploy"])
def test_every_flag_can_be_set_in_the_environment_and_every_command_shows_an_example(command):
    found = main.commands[command]
    options = [option for option in found.params if isinstance(option, click.Option)]
    for option in options:
        variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar
        assert variables
        assert variables[0].startswith("RIPELOOP_"), option.name
    helped = CliRunner().invoke(main, [command, "--help"], prog_name="ripeloop")
    assert f"ripeloop {command} " in helped.stdout
    assert "Ends with 0" in helped.stdout


def test_the_command_is_installed_under_its_name():
    done = subprocess.run([Path(sys.executable).parent / "ripeloop", "--version"], capture_output=True, text=True)
    assert "ripeloop" in done.stdout
