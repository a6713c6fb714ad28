"""One earlier run is kept beside the new one, whenever somebody pulls the plug."""

from __future__ import annotations

from pathlib import Path

from demo.earlier import report_of, set_aside


def ran(run: Path, report: str) -> None:
    (run / "cloud").mkdir(parents=True)
    (run / "cloud" / "banana.jpg").write_text(report)
    (run / "report.html").write_text(report)


def there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.iterdir()}


def test_the_run_before_is_kept_and_the_one_before_that_goes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert set_aside(run) is None
    ran(run, "first")
    assert set_aside(run) == tmp_path / "run.before"
    ran(run, "second")
    before = set_aside(run)
    assert before is not None
    report = report_of(before)
    assert report is not None
    assert report.read_text() == (before / "cloud" / "banana.jpg").read_text() == "second"
    assert there(tmp_path) == {"run.before"}


def test_a_demo_that_was_killed_anywhere_leaves_a_folder_that_the_next_can_use(tmp_path: Path) -> None:
    run, before = tmp_path / "run", tmp_path / "run.before"
    ran(run, "second")
    ran(before, "first")
    (before / "report.html").unlink()  # killed while the older one was removed
    assert set_aside(run) == before
    assert (before / "report.html").read_text() == "second"
    assert set_aside(run) == before, "killed before the new one began: the earlier one is still there"
    run.mkdir()  # killed before there was a report
    assert set_aside(run) == before
    assert report_of(before) is None
    assert there(tmp_path) == {"run.before"}


def test_a_link_to_elsewhere_is_moved_and_removed_but_never_followed(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "demo"
    ran(elsewhere, "mine")
    folder.mkdir()
    run = folder / "run"
    run.symlink_to(elsewhere)
    assert set_aside(run) == folder / "run.before"
    assert not run.exists()
    ran(run, "next")
    set_aside(run)
    assert not (folder / "run.before").is_symlink()
    assert (elsewhere / "report.html").read_text() == "mine"
