"""How wrong the answers are, and which way to push: one of many tags (softmax), or each tag by itself (sigmoid)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from trainer.learning.rows import Block, Span, Vector

Truth = npt.NDArray[np.bool_]
"""Which image has which tag, [images, tags]."""


class Loss(Protocol):
    """The weighted loss over some images."""

    def errors(self, logits: Block, first: int) -> Vector:
        """Loss of each tag [tags] (or of all in one [1]), of the images from `first` on; logits [images, views, tags].

        `logits` become the slopes of the loss in their place.
        """


class Softmax:
    """Each image has one tag. A tag's images weigh 1/sqrt(count) each: rare tags count more, yet not all tags alike."""

    def __init__(self, truth: Truth, spans: list[Span], views: int) -> None:
        self._labels = truth.argmax(axis=1)
        counts = _counts(truth, spans)
        by_tag = 1 / np.sqrt(np.maximum(counts, 1))
        self._weights = by_tag[self._labels] / (views * float((counts * by_tag).sum()))

    def errors(self, logits: Block, first: int) -> Vector:
        """As promised by `Loss`."""
        images, views, tags = logits.shape
        labels = np.repeat(self._labels[first : first + images], views)
        weights = np.repeat(self._weights[first : first + images], views)
        flat = logits.reshape(-1, tags)  # the same memory
        flat -= flat.max(axis=1, keepdims=True)
        nth = np.arange(len(labels))
        right = flat[nth, labels]
        np.exp(flat, out=flat)
        totals = flat.sum(axis=1)
        loss = float(weights @ (np.log(totals) - right))
        flat /= totals[:, None]
        flat[nth, labels] -= 1
        flat *= weights[:, None].astype(flat.dtype)
        return np.array([loss])


class Sigmoid:
    """Each image has any number of tags. For each tag those with it and those without weigh 1/sqrt(count) each."""

    def __init__(self, truth: Truth, spans: list[Span], views: int) -> None:
        self._truth = truth
        images = sum(end - start for start, end in spans)
        having = _counts(truth, spans)
        lacking = images - having
        with_it, without = 1 / np.sqrt(np.maximum(having, 1)), 1 / np.sqrt(np.maximum(lacking, 1))
        total = views * (having * with_it + lacking * without)
        self._with_it, self._without = with_it / total, without / total

    def errors(self, logits: Block, first: int) -> Vector:
        """As promised by `Loss`."""
        truth = self._truth[first : first + len(logits), None, :]
        weights = np.where(truth, self._with_it, self._without).astype(logits.dtype)
        # ln(1 + e^z) - z for those with the tag, without ever raising e to something large
        losses = np.maximum(logits, 0) - np.where(truth, logits, 0) + np.log1p(np.exp(-np.abs(logits)))
        np.copyto(logits, (1 / (1 + np.exp(-np.clip(logits, -80, 80))) - truth) * weights)
        total: Vector = (losses * weights).sum(axis=(0, 1), dtype=np.float64)
        return total


def _counts(truth: Truth, spans: list[Span]) -> Vector:
    counts = np.zeros(truth.shape[1])
    for start, end in spans:
        counts += truth[start:end].sum(axis=0)
    return counts
