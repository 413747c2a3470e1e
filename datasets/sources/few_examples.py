"""A few examples of each class, to measure what a model learns from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from zoo.datasets.data import Data
from zoo.datasets.raw import OF_SPLITS, Split
from zoo.errors import UsageError

_KEY = "label"
_SEED = 0


def few_of_each_class(data: Data, count: int) -> Data:
    """Returns a data set whose training and validation splits keep some examples of each class; the test split stays whole.

    They are drawn with a fixed seed, so the same data always gives the same examples.

    Args:
        data: a data set with one label per example.
        count: number of examples of each class in a split. Of a class with fewer, all are kept.

    Raises:
        UsageError: the number is not positive, or the data has no classes.

    Example:
        >>> data = few_of_each_class(zoo.datasets.load("digits"), 5)
        >>> data.splits["train"].num_examples
        50
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"examples_per_class is {count!r}; expected a whole number of at least 1. Pass 20, say.")
    if _KEY not in data.features or not data.class_names:
        raise UsageError(
            f"examples_per_class={count} needs data with one label per example; data set {data.name!r} is for "
            f"{', '.join(data.tasks)}. Leave examples_per_class out."
        )
    kept = {name: _few(part, count) if name in ("train", "validation") else part for name, part in data.splits.items()}
    return dataclasses.replace(
        data,
        splits=kept,
        arguments={**data.arguments, "examples_per_class": count},
        about={key: value for key, value in data.about.items() if key not in OF_SPLITS},
    )


def _few(split: Split, count: int) -> Split:
    labels = np.fromiter(split.column(_KEY).as_numpy_iterator(), np.int64)
    order = np.random.default_rng(_SEED).permutation(len(labels))
    wanted = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        wanted[order[labels[order] == label][:count]] = True
    with tf.device("CPU"):
        mask = tf.constant(wanted)

    def dataset(content: bool = False) -> tf.data.Dataset:
        whole = split.content() if content and split.content else split.dataset()
        return whole.enumerate().filter(lambda i, _: mask[i]).map(lambda _, example: example)

    kept = np.flatnonzero(wanted)
    return Split(dataset, len(kept), lambda: dataset(content=True), chosen=lambda places: split.at(kept[places]))
