"""The sampler's bench in miniature: real parts, every figure there, and a miss is called one."""

from __future__ import annotations

from pathlib import Path

from bench.sampler import backlog, keeping
from bench.sampler.command import FIGURES, page, table_of


def test_every_figure_is_measured_and_a_page_tells_of_it(tmp_path: Path) -> None:
    figures = keeping.measure(20) | backlog.deciding(tmp_path / "outbox.db", 500)
    figures |= backlog.starting(tmp_path / "state", 50)
    uploads = {"upload_share_of_sdk", "upload_sdk_alone_per_second", "upload_per_second"}
    assert set(FIGURES) - set(figures) == uploads
    assert all(figures[name] > 0 for name in set(FIGURES) - uploads)
    told = page(table_of(figures | dict.fromkeys(uploads, 1.0)), 500, 50)
    assert "| to decide on one image |" in told
    assert "| images kept, by the clock |" in told


def test_a_figure_that_is_not_as_wanted_is_missed() -> None:
    good = dict.fromkeys(FIGURES, 1.0) | {"kept_per_cpu_second": 300.0}
    assert [row[3] for row in table_of(good).rows if row[2]] == ["met"] * 7
    bad = good | {"kept_per_cpu_second": 299.0, "start_seconds": 3.1, "upload_share_of_sdk": 0.79}
    assert sum(row[3] == "missed" for row in table_of(bad).rows) == 3
