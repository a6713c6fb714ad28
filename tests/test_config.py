"""`ripeloop.toml`, the environment and flags: who goes before whom, and what is refused."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from retrain.__main__ import main
from retrain.config import settings_of
from retrain.config_command import env_example, toml_example

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in settings_of(main):
        for name in setting.variables:
            monkeypatch.delenv(name, raising=False)


def run(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(main, words, env=environ)


def held(**environ: str) -> dict[str, tuple[Any, str]]:
    """What `ripeloop config` says of each setting."""
    result = run("config", "--json", **environ)
    assert result.exit_code == 0, result.output
    return {one["setting"]: (one["value"], one["from"]) for one in json.loads(result.stdout)["settings"]}


def sample(folder: str) -> None:
    place = Path(folder) / "samples" / "line-1" / "2026" / "11" / "22"
    place.mkdir(parents=True)
    (place / f"{'0a' * 32}.jpg").write_bytes(b"an image")


def counted(*words: str, **environ: str) -> int:
    """How many images `ripeloop samples` finds where it was told to look; in `empty` none."""
    Path("empty/samples").mkdir(parents=True, exist_ok=True)
    result = run(*words, "samples", "--json", **environ)
    assert result.exit_code == 0, result.output
    return int(json.loads(result.stdout)["images"])


def test_the_file_is_asked_after_the_environment_and_that_after_a_flag() -> None:
    sample("filled")
    Path("ripeloop.toml").write_text('cloud-blobs = "filled"\n')
    assert counted() == 1
    assert counted(RIPELOOP_CLOUD_BLOBS="empty") == 0
    result = run("samples", "--json", "--cloud-blobs", "filled", RIPELOOP_CLOUD_BLOBS="empty")
    assert json.loads(result.stdout)["images"] == 1


def test_the_table_of_a_command_goes_before_the_top() -> None:
    sample("filled")
    Path("ripeloop.toml").write_text('cloud-blobs = "filled"\n[samples]\ncloud-blobs = "empty"\n')
    assert counted() == 0


def test_the_file_may_lie_elsewhere() -> None:
    sample("filled")
    Path("other.toml").write_text('cloud-blobs = "filled"\n')
    assert counted("--config", "other.toml") == 1
    assert counted(RIPELOOP_CONFIG="other.toml") == 1
    assert run("samples", "--config", "missing.toml").exit_code == 2


def test_where_releases_go_hides_no_device_from_status() -> None:
    Path("ripeloop.toml").write_text('ring = "canary"\n')
    context = main.make_context("ripeloop", ["status"])
    assert (context.default_map or {})["retrain"] == {"ring": "canary"}
    assert isinstance(context.command, click.Group)
    environ = {"RIPELOOP_RING": "canary", "RIPELOOP_THEN": "all", "RIPELOOP_HUB": "HostName=h"}

    def shown(*words: str) -> object:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            below = main.commands["status"].make_context("status", [*words], parent=context)
            return below.params["ring"]

    assert shown() == "all"
    assert shown("--ring", "canary") == "canary"
    context.close()


def test_the_settings_of_the_group_itself_come_from_the_file_too() -> None:
    Path("ripeloop.toml").write_text('log-level = "chatty"\n')
    result = run("samples", "--cloud-blobs", "empty")
    assert (result.exit_code, "'chatty' is not one of" in result.output) == (2, True)


def test_a_command_below_a_command_has_a_table_of_its_own() -> None:
    Path("ripeloop.toml").write_text('[dataset.export]\nto = "fruit"\nformat = "coco"\n')
    assert held() == {
        "dataset.export.to": ("fruit", "ripeloop.toml"),
        "dataset.export.format": ("coco", "ripeloop.toml"),
    }


def test_the_same_variable_is_the_same_setting_in_every_command() -> None:
    Path("ripeloop.toml").write_text('endpoint = "http://127.0.0.1:8088"\n')
    context = main.make_context("ripeloop", ["config"])
    assert context.default_map is not None
    assert context.default_map["dataset"]["import"] == {"endpoint": "http://127.0.0.1:8088"}
    assert context.default_map["trainer"]["clone"] == {"endpoint": "http://127.0.0.1:8088"}  # its flag is --from
    context.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("endpiont = 1\n", "no setting and no command 'endpiont': did you mean 'endpoint'?"),
        ("[judge]\nmin-image = 1\n", "[judge] knows no setting 'min-image': did you mean 'min-images'?"),
        ("[juge]\nchance = 0.1\n", "'juge': did you mean 'judge'?"),
        ("[dataset.exprot]\nto = 'x'\n", "[dataset] knows no setting 'exprot': did you mean 'export'?"),
        ("[judge.chance]\nx = 1\n", "judge.chance is a setting, not a table"),
        ("min-images = [1, 2]\n", "min-images takes one value, not a list"),
        ("min-images = 2026-11-22\n", "must be a text in quotes, a number, true or false"),
        ("min-images = true\n", "min-images must be a text in quotes or a number"),
        ("work = false\n", "work must be a text in quotes or a number"),
        ("min-images = 2.5\n", "min-images: '2.5' is not a valid int"),
        ("min-images = 0\n", "min-images: 0 is not in the range"),
        ("json = 5\n", "json: '5' is not a valid boolean"),
        ('accept = "nearly"\n', "accept: 'nearly' is not one of"),
        ('accept = ["same", "nearly"]\n', "accept: 'nearly' is not one of"),
        ("zzz = 1\n", "`ripeloop config --example toml` prints all there are"),
        ("endpoint = \n", "cannot be read"),
    ],
)
def test_what_no_command_takes_is_refused_with_the_nearest_right_name(text: str, said: str) -> None:
    Path("ripeloop.toml").write_text(text)
    result = run("samples", "--cloud-blobs", "empty")
    assert result.exit_code == 2
    assert said in result.output


def test_a_number_may_be_a_name_and_one_value_a_list() -> None:
    sample("5")
    Path("ripeloop.toml").write_text('cloud-blobs = 5\nwork = 5\naccept = "same"\nproject = 7\njson = true\n')
    assert counted() == 1
    context = main.make_context("ripeloop", ["config"])
    assert context.default_map is not None
    assert context.default_map["retrain"] | {"accept": ["same"], "work": "5"} == context.default_map["retrain"]
    command = main.get_command(context, "retrain")
    assert command is not None
    words = ["--endpoint", "http://127.0.0.1:1", "--training-key", "k"]
    inside = command.make_context("retrain", words, parent=context)
    assert (inside.params["accept"], inside.params["work"], inside.params["project"]) == (("same",), Path("5"), "7")
    inside.close()
    context.close()


@pytest.mark.parametrize(
    ("line", "variable"),
    [
        ('training-key = "a secret"', "RIPELOOP_TRAINING_KEY"),
        ('[compare]\nkey = "a secret"', "RIPELOOP_PREDICTION_KEY"),
        ('hub = "HostName=h;SharedAccessKeyName=n;SharedAccessKey=a secret"', "RIPELOOP_HUB"),
        ('cloud-blobs = "https://a.blob.core.windows.net/c?sv=1&sig=a secret"', "RIPELOOP_CLOUD_BLOBS"),
        ('base-url = "https://a.blob.core.windows.net/c?sv=1&sig=a secret"', "RIPELOOP_BASE_URL"),
    ],
)
def test_a_key_is_refused_with_the_way_that_is_right_and_not_repeated(line: str, variable: str) -> None:
    Path("ripeloop.toml").write_text(line + "\n")
    result = run("config")
    assert result.exit_code == 2
    assert f"set {variable} in the environment instead" in result.output
    assert "a secret" not in result.output


def test_config_tells_where_each_setting_comes_from_and_hides_secrets() -> None:
    Path("ripeloop.toml").write_text('project = "fruit"\nendpoint = "http://a"\n[judge]\nmin-images = 40\n')
    found = held(RIPELOOP_ENDPOINT="http://b", RIPELOOP_TRAINING_KEY="a secret", IOTHUB_CONNECTION_STRING="HostName=h")
    assert found == {
        "endpoint": ("http://b", "environment RIPELOOP_ENDPOINT"),
        "hub": ("(hidden)", "environment IOTHUB_CONNECTION_STRING"),
        "judge.min-images": (40, "ripeloop.toml"),
        "project": ("fruit", "ripeloop.toml"),
        "training-key": ("(hidden)", "environment RIPELOOP_TRAINING_KEY"),
    }
    assert "a secret" not in run("config", "--all", RIPELOOP_TRAINING_KEY="a secret").output


def test_the_example_is_a_file_that_is_taken_once_its_settings_are_filled_in() -> None:
    lines = "\n".join(toml_example(main))
    assert tomllib.loads(lines).keys() >= {"judge", "package"}
    settings = re.sub(r"^#(?=[\w-]+ = (?!\"\"))", "", lines, flags=re.MULTILINE)
    Path("ripeloop.toml").write_text(settings)
    names = set(held())
    assert {"endpoint", "min-images", "samples.newest"} <= names
    assert not {"training-key", "compare.key", "hub"} & names


def test_the_example_is_taken_with_every_line_of_it_even_where_it_says_nothing() -> None:
    whole = re.sub(r"^#(?=[\w-]+ = )", "", "\n".join(toml_example(main)), flags=re.MULTILINE)
    Path("ripeloop.toml").write_text(whole)
    ended = run("config", "--all")
    assert ended.exit_code == 0, ended.output
    Path("ripeloop.toml").write_text('[config]\nexample = ""\n')  # as an empty variable: not set
    assert "the file" in run("config").output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('min-images = "many"', "'many' is no number: write a whole number from 1 on"),
        ('chance = "often"', "'often' is no number: write a number from 0 to 1"),
    ],
)
def test_a_word_for_a_number_is_told_the_numbers_there_are(line: str, words: str) -> None:
    Path("ripeloop.toml").write_text(f"{line}\n")
    ended = run("config")
    assert (ended.exit_code, words in ended.output) == (2, True), ended.output


def test_all_that_is_not_set_is_told_at_once_wherever_the_rest_is_set() -> None:
    Path("ripeloop.toml").write_text('project = "fruit"\n')
    told = run("retrain", "--cloud-blobs", "cloud")
    assert told.exit_code == 2
    assert told.stderr.split("these are not set:\n")[1].splitlines() == [
        "  '--endpoint' (env var: 'RIPELOOP_ENDPOINT')",
        "  '--training-key' (env var: 'RIPELOOP_TRAINING_KEY')",
    ]
    assert "Missing option '--training-key'" in run("retrain", "--cloud-blobs", "x", "--endpoint", "http://x").stderr
    assert "'PACKAGE'\n  '--hub'" in run("release", "--cloud-blobs", "cloud").stderr
    assert "'--endpoint'" in run("dataset", "export").stderr  # of a command below a command, too


def test_no_two_settings_of_one_command_have_one_name() -> None:
    seen: set[tuple[Any, ...]] = set()
    for setting in settings_of(main):
        for name in {setting.flag, setting.name}:
            assert (*setting.path, name) not in seen
            seen.add((*setting.path, name))


def test_the_variable_we_name_is_the_one_that_is_read() -> None:
    for setting in settings_of(main):
        context: click.Context = click.Context(main, info_name="ripeloop", **main.context_settings)
        for word in setting.path:
            assert isinstance(context.command, click.Group)
            context = click.Context(context.command.commands[word], info_name=word, parent=context)
        record = setting.option.get_help_record(context)
        assert record is not None
        assert all(f"{name}" in record[1].replace("\n", " ") for name in setting.variables)


def test_the_template_of_the_environment_names_every_setting_with_its_default() -> None:
    template = (ROOT / ".env.template").read_text().splitlines()
    missing = [line for line in env_example(main) if line.startswith("#RIPELOOP_") and line not in template]
    assert missing == [], "`ripeloop config --example env` prints them"


def test_each_variable_has_one_line_of_meaning_above_it() -> None:
    lines = list(env_example(main))
    for meaning, variable in zip(lines[::2], lines[1::2], strict=True):
        assert re.fullmatch(r"# [A-Z`].*[.!?)]", meaning), meaning
        assert re.fullmatch(r"#RIPELOOP_[A-Z0-9_]+=.*", variable), variable
    assert "#RIPELOOP_MODULE=classifier sampler" in lines
    assert len(set(lines[1::2])) == len(lines) // 2


def test_a_command_has_no_setting_named_as_a_command_below_it() -> None:
    """Else a table and a setting would be one name."""
    for setting in settings_of(main):
        command: Any = main
        for word in setting.path:
            command = command.commands[word]
        if isinstance(command, click.Group):
            assert setting.flag not in command.commands
