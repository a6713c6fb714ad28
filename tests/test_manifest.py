"""`ripeloop manifest render`: a whole manifest, or what is missing. test_deployment.py compares it with Azure's."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from manifests.variables import read_env_file
from retrain.__main__ import main
from retrain.manifest.fill import chunks, fill
from retrain.manifest.rendered import read_manifest
from retrain.manifest.solution import user_of
from retrain.settings import NOT_AS_WANTED, USAGE

ROOT = Path(__file__).parents[1]
MODULES = ("classifier", "sampler")
OWN = {"BLOBS_KEY": base64.b64encode(secrets.token_bytes(64)).decode(), "CONTAINER_REGISTRY_PASSWORD": "my own"}


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    """A copy of what a manifest is made from, with secrets of its own."""
    place = tmp_path / "mine"
    for module in MODULES:
        (place / "modules" / module).mkdir(parents=True)
        for name in ("module.json", "Dockerfile"):
            shutil.copy(ROOT / "modules" / module / name, place / "modules" / module)
    for name in ("deployment.template.json", ".env.template"):
        shutil.copy(ROOT / name, place)
    write_env(place)
    return place


def write_env(place: Path, **values: str) -> None:
    """The .env of somebody who filled it in, with these values besides."""
    own = "".join(f"{name}={value}\n" for name, value in (OWN | values).items())
    (place / ".env").write_text((place / ".env.template").read_text() + own)


def render(place: Path, *flags: str, **environ: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith(("RIPELOOP_", "CLASSIFIER_", "SAMPLER_", "BLOBS_"))}
    template = str(place / "deployment.template.json")
    return CliRunner(env={**clean, **environ}).invoke(main, ["manifest", "render", template, *flags])


def modules_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_manifest(path)["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]
    return found


def test_it_is_written_where_deploy_looks_and_for_its_owner_alone(solution: Path) -> None:
    done = render(solution, "--platform", "arm64v8")
    assert done.exit_code == 0, done.output
    written = solution / "config" / "deployment.arm64v8.json"
    assert f"{written} is written: 3 modules (blobs, sampler, classifier), 4 routes" in done.output
    assert written.stat().st_mode & 0o777 == 0o600
    assert modules_of(written)["classifier"]["settings"]["image"] == "localhost:5000/ripeloop-classifier:0.1.0-arm64v8"
    assert "$schema-template" not in json.loads(written.read_text())


def test_another_version_another_registry_and_a_named_platform_are_in_the_image(solution: Path) -> None:
    described = solution / "modules" / "sampler" / "module.json"
    described.write_text(described.read_text().replace('"version": "0.1.0"', '"version": "0.2.0"'))
    template = solution / "deployment.template.json"
    template.write_text(template.read_text().replace("${MODULES.classifier}", "${MODULES.classifier.arm64v8}"))
    write_env(solution, CONTAINER_REGISTRY_SERVER="Fruit.AzureCR.io")
    assert render(solution, "--out", str(solution / "m.json")).exit_code == 0
    images = {name: module["settings"]["image"] for name, module in modules_of(solution / "m.json").items()}
    assert images["sampler"] == "fruit.azurecr.io/ripeloop-sampler:0.2.0-amd64"
    assert images["classifier"] == "fruit.azurecr.io/ripeloop-classifier:0.1.0-arm64v8"


def test_the_environment_goes_before_the_file(solution: Path) -> None:
    assert render(solution, CLASSIFIER_HOST_PORT="9000").exit_code == 0
    settings = modules_of(solution / "config" / "deployment.amd64.json")["classifier"]["settings"]
    options = json.loads("".join(settings[name] for name in sorted(settings) if name.startswith("createOptions")))
    assert options["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostPort": "9000"}]}


def test_a_value_with_quotes_stays_one_text(solution: Path) -> None:
    write_env(solution, CLASSIFIER_PREDICTION_KEY='a"b\\c')
    assert render(solution).exit_code == 0
    env = modules_of(solution / "config" / "deployment.amd64.json")["classifier"]["env"]
    assert env["CLASSIFIER_PREDICTION_KEY"]["value"] == 'a"b\\c'


def test_everything_unfilled_is_named_with_its_place_and_its_cure(solution: Path) -> None:
    lines = (solution / ".env").read_text().splitlines()
    gone = ("CLASSIFIER_MODEL=", "MODELS_VOLUME=")
    (solution / ".env").write_text("\n".join(line for line in lines if not line.startswith(gone)))
    shutil.rmtree(solution / "modules" / "sampler")
    done = render(solution)
    assert done.exit_code == USAGE
    unset = "modules.classifier.env.CLASSIFIER_MODEL.value: $CLASSIFIER_MODEL is not set: set CLASSIFIER_MODEL in .env"
    assert unset in done.output
    assert "HostConfig.Binds[1]: $MODELS_VOLUME is not set" in done.output
    assert "modules/sampler/module.json must be there and name the platform" in done.output
    assert not (solution / "config").exists()


def test_the_examples_secrets_are_refused_unless_it_is_for_a_laptop(solution: Path) -> None:
    shutil.copy(solution / ".env.template", solution / ".env")
    done = render(solution, "--json")
    assert done.exit_code == NOT_AS_WANTED
    told = json.loads(done.output)
    assert not told["sound"]
    assert told["written"] is None
    assert {finding["place"] for finding in told["findings"]} >= {".env"}
    assert "BLOBS_KEY is still the example's" in done.output
    assert "CONTAINER_REGISTRY_PASSWORD is still the example's" in done.output
    assert not (solution / "config").exists()
    done = render(solution, "--laptop")
    assert done.exit_code == 0
    assert "check it with --laptop, too" in done.stderr


def test_one_fault_is_told_once_and_a_check_says_what_a_laptop_takes(solution: Path) -> None:
    write_env(solution, BLOBS_KEY=read_env_file(solution / ".env.template")["BLOBS_KEY"])
    (line,) = render(solution).stderr.splitlines()
    assert "BLOBS_KEY is still the example's" in line
    written = solution / "config" / "deployment.amd64.json"
    assert render(solution, "--laptop").exit_code == 0
    check = ["manifest", "check", str(written)]
    done = CliRunner().invoke(main, check)
    assert (done.exit_code, "say --laptop" in done.stderr) == (NOT_AS_WANTED, True)
    assert CliRunner().invoke(main, [*check, "--laptop"]).exit_code == 0
    write_env(solution)
    assert render(solution, "--laptop").stderr == ""  # it holds no key that everybody knows


def test_a_manifest_that_is_not_sound_is_not_written_over_a_sound_one(solution: Path) -> None:
    assert render(solution).exit_code == 0
    before = (solution / "config" / "deployment.amd64.json").read_bytes()
    write_env(solution, CLASSIFIER_HOST_PORT="8883")
    done = render(solution)
    assert done.exit_code == NOT_AS_WANTED
    assert "classifier and edgeHub take the same port 8883/tcp" in done.output
    assert (solution / "config" / "deployment.amd64.json").read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda place: (place / ".env").unlink(), "copy .env.template to it and fill it in"),
        (lambda place: (place / "deployment.template.json").unlink(), "cannot read"),
        (lambda place: (place / "deployment.template.json").write_text("{"), "is not JSON"),
        (lambda place: (place / "modules/sampler/module.json").write_text("{}"), "lacks image"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_exit_2(solution: Path, spoil: Any, said: str) -> None:
    spoil(solution)
    done = render(solution)
    assert done.exit_code == USAGE
    assert said in done.output
    assert done.output.count("\n") == 1


def test_a_platform_nobody_builds_for_is_named(solution: Path) -> None:
    done = render(solution, "--platform", "riscv")
    assert done.exit_code == USAGE
    assert "no module.json knows the platform riscv: amd64, arm64v8" in done.output


def test_a_dockerfile_that_ends_as_root_and_a_context_that_is_not_there_are_refused(solution: Path) -> None:
    dockerfile = solution / "modules" / "sampler" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("USER 10001:10001", "USER root"))
    described = solution / "modules" / "classifier" / "module.json"
    described.write_text(described.read_text().replace('"../.."', '"../../nowhere"'))
    done = render(solution)
    assert done.exit_code == NOT_AS_WANTED
    assert "sampler/Dockerfile: ends as root" in done.output
    assert "classifier/module.json: contextPath ../../nowhere is no folder" in done.output


def test_the_user_that_counts_is_the_last_stages() -> None:
    assert user_of("FROM a\nUSER 5\nFROM b\n") == ""
    assert user_of("FROM a\nUSER root\nuser 10001:10001\n") == "10001"


def test_a_variable_of_the_environment_named_as_iot_edges_words_changes_nothing() -> None:
    template = {"modulesContent": {"$edgeHub": {"route": "FROM /* WHERE $body.a = 1 INTO $upstream"}}}
    filled = fill(template, {"upstream": "no", "edgeHub": "no", "body": "no"}, {})
    assert filled.manifest == template
    assert filled.unfilled == ()


def test_create_options_are_cut_where_a_twins_value_ends() -> None:
    cut = chunks("x" * 1025)
    assert {name: len(piece) for name, piece in cut.items()} == {
        "createOptions": 512, "createOptions01": 512, "createOptions02": 1,
    }  # fmt: skip
    assert chunks("") == {"createOptions": ""}
