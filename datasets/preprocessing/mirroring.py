"""Whether mirrored images keep their classes: a method on pixels is trained on images and scored on mirrored ones."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from zoo.pixels import as_row

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData, Split

_MOST = 1_000
"""Examples of each split that are compared."""
_FEWEST = 30
_LOSS, _ERRORS = 0.05, 2
"""The accuracy on mirrored images may be lower by this and by this many standard errors."""


@dataclasses.dataclass(frozen=True)
class Mirrored:
    """A comparison of the validation images with their mirror images.

    Attributes:
        accuracy: accuracy of an SVM on pixels, which is trained on training images.
        mirrored: its accuracy on the same validation images, mirrored left to right.
        keeps: whether mirrored images keep their classes.

    Example:
        >>> Mirrored(0.99, 0.34, False).keeps
        False
    """

    accuracy: float
    mirrored: float
    keeps: bool

    def __str__(self) -> str:
        figures = f"accuracy {self.mirrored:.4f} on mirrored validation images, {self.accuracy:.4f} on the others"
        kept = "mirrored images may be used" if self.keeps else "mirrored images are not used"
        return f"An SVM on pixels has {figures}: {kept} for training"


def compare_mirrored(data: RawData) -> Mirrored | None:
    """Returns the comparison for data with images and one label each; None if it has too few validation images.

    The method must recognise more images than the most frequent class has, or else the comparison shows nothing.

    Example:
        >>> compare_mirrored(zoo.datasets.load("digits")).keeps
        False
    """
    from sklearn.svm import SVC

    if data.splits["validation"].num_examples < _FEWEST:
        return None
    rows, _, labels = _read(data.splits["train"])
    known, mirror, expected = _read(data.splits["validation"])
    if len(np.unique(labels)) < 2:
        return None
    center = rows.mean(axis=0)
    method = SVC(C=10.0).fit(rows - center, labels)
    right = method.predict(known - center) == expected
    also = method.predict(mirror - center) == expected
    count, frequent = len(expected), np.bincount(expected).max() / len(expected)
    lost = right.astype(float) - also
    recognises = right.mean() > frequent + _ERRORS * np.sqrt(frequent * (1 - frequent) / count)
    keeps = recognises and lost.mean() <= min(_LOSS, _ERRORS * lost.std() / np.sqrt(count))
    return Mirrored(float(right.mean()), float(also.mean()), bool(keeps))


def _read(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a sample of a split, always the same one: pixels, float32 (examples, pixels), those of the mirror images, and
    labels, int64. No other image is decoded, if the source can read examples by their numbers."""
    chosen = np.sort(np.random.default_rng(0).permutation(split.num_examples)[:_MOST])

    def reduced(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image = example["image"]
        return as_row({"image": image})["image"], as_row({"image": image[:, ::-1]})["image"], example["label"]

    examples = split.pick(chosen).dataset().map(reduced, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    rows, mirrored, labels = zip(*examples.as_numpy_iterator(), strict=True)
    return np.stack(rows).astype(np.float32), np.stack(mirrored).astype(np.float32), np.array(labels, np.int64)
