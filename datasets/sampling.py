"""Draws raw test examples, on which an artifact is compared with the model and its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.datasets.batches import rectangular
from zoo.datasets.interface import Examples, Sample
from zoo.datasets.preprocessing.base import Preprocessor

COUNT = 1_000
BYTES = 64 << 20


def draw_sample(
    dataset: tf.data.Dataset,
    num_examples: int,
    whole: bool,
    preprocessor: Preprocessor,
    targets: Sequence[str],
    accepts: Callable[[Mapping[str, Any]], bool],
    known: Examples,
) -> Sample | None:
    """Draws at most 1,000 random examples, and at most 64 MiB. The draw is the same every time.

    Args:
        dataset: raw examples.
        num_examples: how many there are.
        whole: whether the dataset is the whole split.
        preprocessor: turns the examples into requests.
        targets: the keys of the targets.
        accepts: whether an example can be sent as a request.
        known: examples from whose size the number that fits is estimated.
    """
    each = sum(_bytes(values) for values in known.requests.values()) / max(1, len(next(iter(known.requests.values()))))
    count = int(min(COUNT, num_examples, BYTES // max(1.0, each)))
    chosen = np.sort(np.random.default_rng(0).permutation(num_examples)[:count])
    numbers = tf.constant(chosen)
    raw = dataset.enumerate().filter(lambda i, _: tf.reduce_any(i == numbers)).map(lambda _, example: example)
    examples = [example for example in raw.as_numpy_iterator() if accepts(example)]
    if not examples:
        return None
    order = np.random.default_rng(1).permutation(len(examples))  # so that the first n are a random sample too
    examples = [examples[i] for i in order]
    right = {name: rectangular([example[name] for example in examples]) for name in targets}
    return Sample(preprocessor.to_requests(examples), right, whole)


def _bytes(values: np.ndarray) -> int:
    return sum(map(len, values.ravel().tolist())) if values.dtype == object else values.nbytes
