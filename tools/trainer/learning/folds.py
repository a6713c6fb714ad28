"""Which images are judged together, by a fit that has not seen them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.learning.losses import Truth

FOLDS = 4

Places = npt.NDArray[np.intp]


def folds_of(truth: Truth, rng: np.random.Generator, folds: int = FOLDS) -> Places:
    """The fold of each image, from 0: each tag is spread evenly over all folds, the rarest first.

    No more folds than the rarest tag has images, and never less than two.
    """
    counts = truth.sum(axis=0)
    folds = max(2, min(folds, int(counts[counts > 0].min(initial=folds))))
    fold = np.full(len(truth), -1, np.intp)
    in_all = np.zeros(folds, int)
    for tag in np.argsort(counts, kind="stable"):
        has = truth[:, tag]
        in_tag = np.bincount(fold[has & (fold >= 0)], minlength=folds)
        _spread(rng.permutation(np.flatnonzero(has & (fold < 0))), fold, in_tag, in_all)
    _spread(rng.permutation(np.flatnonzero(fold < 0)), fold, np.zeros(folds, int), in_all)
    return fold


def in_fold_order(folds: Places, rng: np.random.Generator) -> Places:
    """The images by fold, and mixed within each: the beginning of a fold is a fair sample of it."""
    mixed = rng.permutation(len(folds))
    return mixed[np.argsort(folds[mixed], kind="stable")]


def _spread(images: Places, fold: Places, in_tag: Places, in_all: Places) -> None:
    """Put each image where its tag is fewest, and there where all are fewest."""
    for image in images:
        where = int(np.lexsort((in_all, in_tag))[0])
        fold[image] = where
        in_tag[where] += 1
        in_all[where] += 1
