"""Who is not reached is told in a few words, whichever library asked."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing

import aiohttp
import pytest
from rich.text import Text

from retrain import terminal
from retrain.compare.endpoints import edge_side, reach
from retrain.customvision import CustomVision
from retrain.devices.fleet import Fleet
from retrain.unreached import why_unreached
from ripeloop.errors import Offline


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_training_service_that_is_not_there_is_one_line() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with closing(CustomVision(url, "a key", lambda _: None)) as service, pytest.raises(Offline) as caught:
        service.projects("fruit")
    assert "connection refused" in str(caught.value)
    assert len(str(caught.value)) < 160
    assert "Pool" not in str(caught.value)


async def test_a_hub_that_is_not_there_is_one_line() -> None:
    connection = f"HostName=127.0.0.1:{free_port()};SharedAccessKeyName=iothubowner;SharedAccessKey={'A' * 43}="
    async with Fleet.open(connection) as fleet:
        with pytest.raises(Offline, match=r"cannot be reached: connection refused$"):
            await fleet.modules("line-1")


async def test_a_classifier_that_is_not_there_is_one_line() -> None:
    side = edge_side(f"http://127.0.0.1:{free_port()}")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(Offline, match=r"cannot be reached: connection refused$"):
            await reach(session, side, b"an image")


def test_the_reason_is_found_below_what_wraps_it() -> None:
    outer = RuntimeError("HTTPConnectionPool(host='x', port=9): Max retries exceeded with url: /?a=secret")
    for inner, words in (
        (socket.gaierror(-2, "Name or service not known"), "its name is not found"),
        (ConnectionResetError(104, "reset"), "the connection broke off"),
        (TimeoutError(), "no answer in time"),
        (ssl.SSLError(1, "[SSL] wrong version number"), "TLS is not agreed on"),
    ):
        outer.__cause__ = OSError("wrapped")
        outer.__cause__.__context__ = inner
        assert why_unreached(outer).startswith(words)
    assert why_unreached(ValueError("x" * 999)) == "x" * 200
    assert why_unreached(ValueError()) == "ValueError"


def test_a_table_in_a_pipe_keeps_to_the_columns_that_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    terminal.console().print(Text("word " * 40))
    monkeypatch.delenv("COLUMNS")
    terminal.console().print(Text("word " * 30))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines[:-1])) <= 80
    assert len(lines[-1]) == 149


def test_without_colours_there_is_no_code_at_all_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert terminal.console().color_system is not None
    monkeypatch.setenv("NO_COLOR", "1")
    console = terminal.console()
    with console.capture() as shown:
        console.print(Text("better", "bold green"))
    assert shown.get() == "better\n"
