"""The end of the demo: the account is asked for until both modules answer, and its table claims nothing untrue."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from rich.console import Console

from colours import picture, zipped
from demo.account import Account
from demo.camera import Answer, Shift
from demo.loop import Loop, opened
from demo.material import Material, Stream
from demo.pictures import Picture, find
from demo.system import CLASSIFIER, RUNTIME, SAMPLER, running
from demo.view import View, summary
from whole import plan_in

ONE = Picture(Path("one.jpg"), None)
LATE = 2.0  # seconds that the sampler comes to the hub after all was answered


def said(shift: Shift, account: Account) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(summary(shift, account))
    return console.export_text()


async def test_a_module_that_is_not_at_the_hub_yet_is_waited_for(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "cut.jpg").write_bytes(picture(form="JPEG")[:200])
    (images / "text.jpg").write_text("no image")
    plan = plan_in(tmp_path, zipped(tmp_path / "model.zip"))
    material = Material((Stream("", find(images)),), plan.model, None, "colours")
    async with running(plan, (RUNTIME, CLASSIFIER)) as system, opened(system) as fleet:
        with View(Console(file=io.StringIO())) as view:
            loop = asyncio.create_task(Loop(system, fleet, material, view, tmp_path / "work", 0).run())
            await asyncio.wait({loop}, timeout=LATE)
            await system.start(SAMPLER)
            told = await loop
    assert [answer.refusal[:3] for answer in told.day.answers] == ["400", "400"]
    assert (told.account.missing, told.account.kept) == (0, 0)


def test_where_nothing_was_answered_the_model_was_sure_of_nothing() -> None:
    shift = Shift(1)
    shift.note(Answer(ONE, "a", 10, 0.1, refusal="400 no image"))
    assert "the model was sure" not in said(shift, Account())
    assert "nothing was answered" in said(shift, Account())
    assert "req/s" not in said(shift, Account())
    shift.note(Answer(ONE, "b", 10, 0.1, "ripe", 0.99))
    assert "the model was sure of all" in said(shift, Account())
    assert "audit 1" in said(shift, Account(flagged={"audit": 1}))
