"""Other looks at an image: the same for the same name, and still an image."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.learning.augment import MIRRORED, MORE_VIEWS, PLAIN, VIEWS, view


def image() -> np.ndarray:
    return np.random.default_rng(0).random((1, 3, 32, 32), np.float32)


def test_the_plain_view_is_the_image_and_the_mirrored_one_its_mirror_image() -> None:
    assert VIEWS == (PLAIN, MIRRORED)
    assert view(image(), PLAIN).tobytes() == image().tobytes()
    assert (view(image(), MIRRORED)[..., ::-1] == image()).all()


@pytest.mark.parametrize("name", MORE_VIEWS)
def test_a_view_is_another_image_and_the_same_again(name: str) -> None:
    before = image()
    seen = view(before, name)
    assert (seen.shape, seen.dtype) == (before.shape, np.float32)
    assert 0 <= seen.min() < seen.max() <= 1
    assert seen.tobytes() == view(image(), name).tobytes()
    assert all((seen != view(before, other)).any() for other in (*VIEWS, *MORE_VIEWS) if other != name)
    assert before.tobytes() == image().tobytes()


def test_a_closer_look_enlarges_and_keeps_what_is_flat() -> None:
    flat = np.full((1, 3, 16, 16), 0.25, np.float32)
    np.testing.assert_allclose(view(flat, "closer-2"), flat, atol=1e-6)
    slope = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (1, 3, 64, 64))
    steps = np.diff(view(slope, "closer-2")[0, 0, 0])
    assert steps[8:-8].mean() == pytest.approx((1 / 63) * 0.85, rel=0.15)


def test_a_name_nobody_knows_is_an_error() -> None:
    with pytest.raises((KeyError, ValueError)):
        view(image(), "upside-down")
