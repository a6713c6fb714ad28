"""How programs end: one clear line, the right exit code, and a clean-up on SIGTERM."""

import json
import signal
import subprocess
import sys

PROGRAM = """
import asyncio, logging, sys
import click
from ripeloop.errors import HubLost, SettingsError
from ripeloop.process import log_options, run

async def program(end):
    logging.getLogger("test").info("started with %s", end)
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ending(end))
    finally:
        sys.stdout.write("cleaned up\\n")

async def ending(end):
    if end == "settings":
        raise SettingsError("set CLOUD_BLOBS; .env.template says what it is")
    if end == "hub":
        raise HubLost("the hub failed three times")
    if end == "bug":
        raise ZeroDivisionError("a bug")
    if end == "wait":
        await asyncio.sleep(30)

@click.command()
@click.option("--end")
@log_options
def main(end, log_level, log_json):
    run(program(end), log_level=log_level, log_json=log_json)

main(auto_envvar_prefix="PROGRAM")
"""


def started(*args, **env):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env or None,
    )


def ended(*args, **env):
    with started(*args, **env) as process:
        out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def test_a_missing_setting_is_one_line_and_exit_2():
    code, out, err = ended("--end", "settings", "--log-level", "error")
    assert code == 2
    assert err == "error: set CLOUD_BLOBS; .env.template says what it is\n"
    assert "cleaned up" in out


def test_a_lost_hub_ends_the_process_with_1_so_that_it_is_started_again():
    code, _, err = ended("--end", "hub")
    assert code == 1
    assert "the hub failed three times" in err


def test_a_bug_is_shown_whole():
    code, _, err = ended("--end", "bug")
    assert code == 1
    assert "ZeroDivisionError: a bug" in err


def test_sigterm_lets_the_program_clean_up_and_exits_0():
    for signum in (signal.SIGTERM, signal.SIGINT):
        with started("--end", "wait") as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signum)
            out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        assert out == "cleaned up\n"


def test_every_flag_is_an_environment_variable_and_logs_can_be_json():
    code, _, err = ended(PROGRAM_END="none", PROGRAM_LOG_JSON="1")
    assert code == 0
    line = json.loads(err)
    assert line["message"] == "started with none"
    assert line["level"] == "info"
    assert line["logger"] == "test"
