"""Groups of look-alikes: exact, bounded, the same every time."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.pixels.dhash import dhash
from retrain.label.asking.lookalikes import MOST, Alike, Looks, group_of, groups

HASHES = st.integers(0, 2**256 - 1).map(lambda bits: f"{bits:064x}")


def flipped(hash_: str, bits: int, seed: int = 0) -> str:
    """`hash_` with so many bits turned over."""
    value = int(hash_, 16)
    for place in random.Random(seed).sample(range(256), bits):
        value ^= 1 << place
    return f"{value:064x}"


PEAR = "5a" * 32
APPLE = flipped(PEAR, 128)


def test_a_group_holds_what_looks_like_its_seed_nearest_first():
    rows = [("far", APPLE), ("b", flipped(PEAR, 9)), ("seed", PEAR), ("a", flipped(PEAR, 3)), ("c", flipped(PEAR, 24))]
    found = group_of(("seed", PEAR), [*rows, ("out", flipped(PEAR, 25))])
    assert found == [Alike("seed", 0), Alike("a", 3), Alike("b", 9), Alike("c", 24)]


def test_images_without_a_hash_are_like_nothing():
    assert group_of(("seed", ""), [("a", PEAR), ("b", "")]) == [Alike("seed", 0)]
    assert group_of(("seed", PEAR), [("a", ""), ("b", "no hash"), ("c", "+" * 64)]) == [Alike("seed", 0)]
    assert list(groups([("a", ""), ("b", "x")])) == []


def test_a_group_is_never_larger_than_one_look_takes_in():
    rows = [(f"{nth:03}", PEAR) for nth in range(130)]
    assert [one.id for one in group_of(rows[7], rows)] == ["007", *(f"{nth:03}" for nth in range(MOST) if nth != 7)]
    assert [len(one) for one in groups(rows)] == [48, 48, 34]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([PEAR, APPLE, "0" * 64]), st.integers(0, 20)), max_size=60))
def test_every_image_is_in_one_group_and_alike_to_its_seed(looks):
    rows = [(str(nth), flipped(look, bits, nth)) for nth, (look, bits) in enumerate(looks)]
    by_id = dict(rows)
    found = list(groups(rows, most=5))
    assert sorted(one.id for group in found for one in group) == sorted(by_id)
    for group in found:
        assert len(group) <= 5
        seed = int(by_id[group[0].id], 16)
        assert [one.distance for one in group] == [(seed ^ int(by_id[one.id], 16)).bit_count() for one in group]
        assert max(one.distance for one in group) <= 24
    assert found == list(groups(rows, most=5))


@settings(max_examples=40)
@given(HASHES, st.lists(HASHES, max_size=30), st.integers(0, 256))
def test_the_nearest_are_those_a_slow_count_finds(seed, others, distance):
    rows = [(str(nth), hash_) for nth, hash_ in enumerate(others)]
    slow = sorted((((int(seed, 16) ^ int(hash_, 16)).bit_count(), int(id_)) for id_, hash_ in rows))
    fast = Looks(rows).near(seed, distance, 1000)
    assert [(one.distance, int(one.id)) for one in fast] == [one for one in slow if one[0] <= distance]


def test_groups_are_made_as_they_are_asked_for():
    """Of a hundred thousand the first is there at once: all would be a hundred thousand comparisons with all."""
    numbers = np.random.default_rng(7).bytes(32 * 100_000).hex()
    rows = [(str(nth), numbers[nth * 64 : nth * 64 + 64]) for nth in range(100_000)]
    assert next(groups(rows)) == [Alike("0", 0)]


@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_pictures_of_the_same_thing_with_a_camera_s_noise_are_alike(noise):
    chance = np.random.default_rng(3)
    thing, other = (np.kron(chance.random((3, 8, 8)), np.ones((28, 28))).astype(np.float32)[None] for _ in range(2))
    again = (thing + chance.normal(0, noise, thing.shape)).astype(np.float32)
    hashes = [dhash(image, full_range=False) for image in (thing, again, other)]
    assert len(group_of(("thing", hashes[0]), [("other", hashes[2])])) == 1
    near = Looks([("again", hashes[1])]).near(hashes[0], 256)
    assert near[0].distance < Looks([("other", hashes[2])]).near(hashes[0], 256)[0].distance
