"""Every program: its help reads well, and each of its flags is an environment variable too."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import bench.__main__
import classifier.__main__
import demo.__main__
import localedge.__main__
import retrain.__main__
import sampler.__main__
import trainer.__main__

PROGRAMS = {
    "BENCH": bench.__main__.main,
    "CLASSIFIER": classifier.__main__.main,
    "DEMO": demo.__main__.main,
    "LOCALEDGE": localedge.__main__.main,
    "RIPELOOP": retrain.__main__.main,
    "SAMPLER": sampler.__main__.main,
    "TRAINER": trainer.__main__.main,
}
README = Path(__file__).parents[1] / "README.md"
# their values decide what else is read, or they end the program at once
NO_SETTING = {"help", "version"}


def commands(command, context):
    """The command and those below it, each with its context."""
    yield context
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, click.Context(below, info_name=name, parent=context))


def every(prefix):
    settings = PROGRAMS[prefix].context_settings | {"auto_envvar_prefix": prefix}
    yield from commands(PROGRAMS[prefix], click.Context(PROGRAMS[prefix], info_name=prefix.lower(), **settings))


def options():
    return [
        pytest.param(context, option, id=f"{context.command_path} {option.opts[0]}")
        for prefix in PROGRAMS
        for context in every(prefix)
        for option in context.command.params
        if isinstance(option, click.Option) and option.name not in NO_SETTING
    ]


@pytest.mark.parametrize(("context", "option"), options())
def test_a_flag_is_an_environment_variable_and_its_help_and_errors_say_which(context, option):
    prefix = context.find_root().info_name.upper()
    for named in (option.get_help_record(context)[1], option.get_error_hint(context)):
        assert "env var:" in named
        assert prefix in named
    assert option.help, "a flag without a word of meaning"


@pytest.mark.parametrize("prefix", PROGRAMS)
def test_the_help_of_a_command_has_an_example_and_no_marks(prefix):
    for context in every(prefix):
        text = context.get_help()
        assert "\\b" not in text
        if not getattr(context.command, "commands", {}):
            assert "Example" in text, f"{context.command_path} has no example"


@pytest.mark.parametrize("program", ["bench", "classifier", "demo", "localedge", "sampler", "trainer", "retrain"])
def test_a_program_starts_by_its_name_and_tells_of_itself(program):
    environ = {**os.environ, "COLUMNS": "100"}
    told = subprocess.run(
        [sys.executable, "-m", program, "--help"], capture_output=True, text=True, timeout=60, check=True, env=environ
    )
    assert told.stdout.startswith("Usage: ")
    assert told.stderr == ""


def typed():
    """The lines of the README's shell blocks that start a program of ours, each with what was exported before it."""
    exported, lines = {}, []
    for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["export"]:
                exported |= dict(word.split("=", 1) for word in words[1:])
            elif words:
                lines.append((words, dict(exported)))
    return lines


def test_the_readme_says_how_to_enter_the_environment_before_its_first_command():
    first = [words[:2] for words, _ in typed()]
    assert first.index([".", ".venv/bin/activate"]) == min(
        nth for nth, (name, *_) in enumerate(first) if name in (".", "python", "ripeloop")
    )


def test_every_command_of_the_readme_can_be_typed_as_it_stands(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    tried = 0
    for words, exported in typed():
        if words[0] != "ripeloop" and words[:2] != ["python", "-m"]:
            continue
        name, *rest = words[2:] if words[0] == "python" else words
        prefix, context = name.upper(), None
        command = PROGRAMS[prefix]
        while rest and rest[0] in getattr(command, "commands", {}):
            context = click.Context(command, info_name=name, parent=context, auto_envvar_prefix=prefix)
            name, *rest = rest
            command = command.commands[name]
        with monkeypatch.context() as environ:
            for variable, value in exported.items():
                environ.setenv(variable, value)
            command.make_context(name, rest, parent=context, auto_envvar_prefix=prefix).close()
        tried += 1
    assert tried >= 8
