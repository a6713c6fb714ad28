"""The demo's model: made once, whole whoever makes it, and with something left to learn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from classifier.models.model import Model, load
from demo.bananas import TAGS, picture, random_picture
from demo.starter import ensure_bad_model, ensure_drawn, ensure_hurried_model, ensure_model_of, ensure_starter_model
from ripeloop.errors import SettingsError
from trainer.learning.features import BadTrainingImage

MAKE = """
import sys
from pathlib import Path
from demo.starter import ensure_starter_model
print(ensure_starter_model(Path(sys.argv[1])))
"""
FRESH_SEED = 11


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_starter_model(tmp_path_factory.mktemp("starter"))


@pytest.fixture
def own(tmp_path: Path) -> dict[str, list[Path]]:
    """Six pictures of each of two tags, as files."""
    files: dict[str, list[Path]] = {"green": [], "brown": []}
    for tag, ripeness in (("green", 0.05), ("brown", 0.95)):
        for nth in range(6):
            files[tag].append(tmp_path / f"{tag}{nth}.jpg")
            files[tag][-1].write_bytes(picture(6, nth, ripeness, 100).jpeg)
    return files


def untouched(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_ino


def accuracy_and_doubt(model: Model, count: int) -> tuple[float, float]:
    """Of fresh bananas: the share answered right, and the share answered with less than 0.8."""
    right = unsure = 0
    for nth in range(count):
        drawn = random_picture(FRESH_SEED, nth)
        best = max(model.predict(drawn.jpeg), key=lambda one: one.probability)
        right += best.tag == drawn.tag
        unsure += best.probability < 0.8
    return right / count, unsure / count


def test_the_starter_is_better_than_chance_and_weak_on_purpose(starter: Path) -> None:
    model = load(starter)
    assert set(model.tags) == set(TAGS)
    accuracy, unsure = accuracy_and_doubt(model, 40)
    assert 0.6 < accuracy < 0.95  # by chance 0.33
    assert 0.05 < unsure < 0.6  # something to flag, and not everything


def test_the_model_made_in_a_hurry_is_seldom_sure_and_the_bad_one_is_worse(tmp_path: Path) -> None:
    hurried, unsure = accuracy_and_doubt(load(ensure_hurried_model(tmp_path)), 30)
    bad, unsure_too = accuracy_and_doubt(load(ensure_bad_model(tmp_path)), 30)
    assert bad < 0.4 < hurried < 0.8
    assert min(unsure, unsure_too) > 0.8  # by this a device sees that it is bad, once there is a better one


def test_the_starter_brings_the_figures_of_its_validation(starter: Path) -> None:
    validation = load(starter).validation
    assert validation is not None
    assert {one.tag for one in validation.tags} == set(TAGS)
    assert validation.images == 15


def test_the_second_run_makes_nothing(starter: Path) -> None:
    before, told = untouched(starter), list[tuple[int, int]]()
    assert ensure_starter_model(starter.parent, lambda *progress: told.append(progress)) == starter
    assert untouched(starter) == before
    assert not told


def test_two_runs_at_once_end_with_one_whole_file(tmp_path: Path, starter: Path) -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {run.communicate(timeout=100)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    (made,) = tmp_path.iterdir()
    assert said == {str(made)}
    # the last bits of a training depend on how the numbers lie in memory; what the model says does not
    image = random_picture(7, 0).jpeg
    for one, other in zip(load(made).predict(image), load(starter).predict(image), strict=True):
        assert one.tag == other.tag
        assert one.probability == pytest.approx(other.probability, abs=0.01)


def test_the_users_own_pictures_become_a_model_once_and_other_pictures_another(
    tmp_path: Path, own: dict[str, list[Path]]
) -> None:
    told: list[tuple[int, int]] = []
    made = ensure_model_of(own, tmp_path / "models", lambda *progress: told.append(progress))
    assert load(made).tags == ("brown", "green")
    assert told == [(done, 12) for done in range(1, 13)]
    before = untouched(made)
    assert ensure_model_of(dict(reversed(own.items())), tmp_path / "models") == made
    own["green"][0].write_bytes(picture(6, 99, 0.1, 100).jpeg)
    assert ensure_model_of(own, tmp_path / "models") != made
    assert untouched(made) == before


def test_a_picture_that_cannot_be_used_is_told(tmp_path: Path, own: dict[str, list[Path]]) -> None:
    own["green"][2].write_text("not an image")
    with pytest.raises(BadTrainingImage, match="not an image"):
        ensure_model_of(own, tmp_path / "models")
    own["green"][2].unlink()
    with pytest.raises(SettingsError, match=r"green2\.jpg cannot be read"):
        ensure_model_of(own, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_drawn_pictures_lie_in_folders_by_tag_and_are_drawn_once(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = ensure_drawn(tmp_path, 12, lambda *progress: told.append(progress))
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.jpg"))
    drawn = [random_picture(2, nth) for nth in range(12)]
    assert files == sorted(Path(one.tag, one.name) for one in drawn)
    assert all((folder / one.tag / one.name).read_bytes() == one.jpeg for one in drawn)
    assert told == [(done, 12) for done in range(1, 13)]
    before = untouched(folder)
    assert ensure_drawn(tmp_path, 12) == folder
    assert untouched(folder) == before
    assert list(tmp_path.iterdir()) == [folder]
