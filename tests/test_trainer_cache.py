"""Features are made once an image, and a cache that is lost costs time alone."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

import lite0
from demo.bananas import picture
from ripeloop.errors import SettingsError
from trainer.learning.augment import MIRRORED, MORE_VIEWS, PLAIN, VIEWS
from trainer.learning.backbone import FEATURE_COUNT
from trainer.learning.cache import FILE, FeatureCache, forget_others
from trainer.learning.features import Source, extract


class Read:
    """Images that count how often they are read."""

    def __init__(self, count: int) -> None:
        self.reads = 0
        self.sources = [Source(f"image-{nth}", lambda nth=nth: self._read(nth)) for nth in range(count)]  # type: ignore[misc]

    def _read(self, nth: int) -> bytes:
        self.reads += 1
        return picture(3, nth, 0.4, 60).jpeg


def features(read: Read, cache: FeatureCache, views: tuple[str, ...] = VIEWS) -> np.ndarray:
    return np.stack(list(extract(read.sources, lite0.extractor(), views=views, cache=cache)))


def test_an_image_is_looked_at_once_in_each_view(tmp_path: Path) -> None:
    read = Read(5)
    with FeatureCache(tmp_path) as cache:
        first = features(read, cache)
        assert (first.shape, read.reads) == ((5, 2, FEATURE_COUNT), 5)
        assert features(read, cache).tobytes() == first.tobytes()
        assert read.reads == 5
    with FeatureCache(tmp_path) as cache:
        more = features(read, cache, (PLAIN, MIRRORED, MORE_VIEWS[0]))
    assert read.reads == 10
    assert more[:, :2].tobytes() == first.tobytes()


def test_to_read_known_features_the_cores_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, asked = Read(20), list[None]()
    row = np.ones(FEATURE_COUNT, np.float16)

    def counted() -> int:  # which takes longer than to read the features of an image
        asked.append(None)
        return 2

    monkeypatch.setattr("trainer.learning.features.cores", counted)
    with FeatureCache(tmp_path) as cache:
        for source in read.sources:
            cache.put(lite0.extractor().version, source.id, dict.fromkeys(VIEWS, row))
        assert features(read, cache).shape == (20, 2, FEATURE_COUNT)
    assert (read.reads, len(asked)) == (0, 1)


def test_another_backbone_is_another_version(tmp_path: Path) -> None:
    row = np.ones(FEATURE_COUNT, np.float16)
    with FeatureCache(tmp_path) as cache:
        cache.put("one", "image", {PLAIN: row})
        assert cache.get("other", "image", VIEWS) == {}
        assert list(cache.get("one", "image", VIEWS)) == [PLAIN]


def test_what_is_forgotten_is_made_again(tmp_path: Path) -> None:
    read = Read(3)
    with FeatureCache(tmp_path) as cache:
        features(read, cache)
    forget_others(tmp_path, ["image-0", "image-2", "never seen", "image-0"])
    forget_others(tmp_path / "nowhere", ["image-1"])
    assert not (tmp_path / "nowhere").exists()
    with FeatureCache(tmp_path) as cache:
        features(read, cache)
    assert read.reads == 4


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_a_damaged_cache_begins_again_empty(tmp_path: Path, damage: bytes) -> None:
    with FeatureCache(tmp_path) as cache:
        features(Read(1), cache)
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / FILE).write_bytes(damage)
    with FeatureCache(tmp_path) as cache:
        assert features(Read(1), cache).shape == (1, 2, FEATURE_COUNT)


def test_a_cache_of_another_form_begins_again_empty(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("CREATE TABLE features(something TEXT)")
    db.commit()
    db.close()
    with FeatureCache(tmp_path) as cache:
        assert cache.get("one", "image", VIEWS) == {}


def test_a_folder_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="cannot hold features"):
        FeatureCache(tmp_path / "file" / "cache")


def test_few_images_are_in_memory_at_once() -> None:
    held, most = 0, 0

    def read(nth: int) -> bytes:
        nonlocal held, most
        held += 1
        most = max(most, held)
        return picture(3, nth % 4, 0.4, 60).jpeg

    sources = [Source(str(nth), lambda nth=nth: read(nth)) for nth in range(40)]  # type: ignore[misc]
    for nth, _ in enumerate(extract(sources, lite0.extractor(), workers=2)):
        held -= 1
        if nth == 0:
            time.sleep(1)  # whoever fits is slow
    assert most < 15
