"""The order of the examples in an epoch, and the batches that are drawn again in each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch


def permuted(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the numbers of examples in the order of an epoch, int64 (count,): 8 bytes of memory for each.

    Example:
        >>> permuted(4, seed=0, epoch=0)
        array([2, 0, 1, 3])
    """
    return np.random.default_rng([seed, epoch]).permutation(count)


def shuffled(
    rows: Batch, seed: int, epoch: int, batch_size: int, group_by_length: bool, paired: str | None = None
) -> np.ndarray:
    """Returns the numbers of a split's examples, int64 (examples,), in an order that depends only on (seed, epoch).

    Args:
        rows: the split's inputs, targets and weights.
        seed: seed of the run.
        epoch: number of the epoch.
        batch_size: examples per batch.
        group_by_length: whether a batch holds sequences of similar length.
        paired: name of a target whose equal values stand next to each other, two by two. Values that are left over are at
            the end.

    Example:
        >>> rows = {"x": tf.zeros([4, 2])}, {"y": tf.zeros([4])}, {}
        >>> shuffled(rows, seed=0, epoch=0, batch_size=2, group_by_length=False)
        array([2, 0, 1, 3])
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(next(iter(rows[0].values()))))
    if paired is not None:
        pairs, rest = _pairs(order, rows[1][paired].numpy())
        number = generator.permutation(len(pairs))
        if group_by_length:
            lengths = _lengths(rows[0])[pairs].sum(axis=1)
            number = _grouped(number, lengths, max(1, batch_size // 2), generator)
        return np.concatenate([pairs[number].ravel(), rest])
    return _grouped(order, _lengths(rows[0]), batch_size, generator) if group_by_length else order


def _pairs(order: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of examples with equal values, (pairs, 2), and the examples that are left over, from a shuffled order."""
    order = order[np.argsort(values[order], kind="stable")]
    _, start, count = np.unique(values[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(start, count)
    is_paired = place < np.repeat(count // 2 * 2, count)
    return order[is_paired].reshape(-1, 2), order[~is_paired]


def redrawn(batches: tf.data.Dataset, redraw: Callable[..., Any], seed: int, epoch: int, start: int) -> tf.data.Dataset:
    """Returns batches that a preprocessor draws again. They depend only on the seed, the epoch and the batch's number.

    Args:
        batches: (inputs, targets, weights), in their order.
        redraw: the preprocessor's method. It takes these and a key, int64 (2,).
        seed: seed of the run.
        epoch: number of the epoch.
        start: number of the first batch in the epoch.

    Example:
        >>> batches = redrawn(batches, MaskedTextPreprocessor(vocabulary, 128).redraw, seed=0, epoch=3, start=0)
    """
    state = tf.constant(np.random.SeedSequence([seed, epoch, 1]).generate_state(1)[0], tf.int64)

    @tf.autograph.experimental.do_not_convert
    def draw(number: tf.Tensor, batch: Batch) -> Batch:
        return redraw(*batch, key=tf.stack([state, number]))

    return batches.enumerate(start).map(draw, num_parallel_calls=2, deterministic=True)


def _lengths(inputs: Mapping[str, tf.Tensor]) -> np.ndarray:
    """The number of real elements of each example: from its input `padding_mask`, or else from all of its inputs."""
    # With a mask, zeros in the other inputs are not padding: the type of the first segment is 0.
    parts = [inputs["padding_mask"]] if "padding_mask" in inputs else inputs.values()
    columns = [part.numpy() for part in parts]
    real = [~np.isnan(part) if part.dtype.kind == "f" else part != 0 for part in columns]
    return np.sum([part.reshape(len(part), -1).sum(axis=1) for part in real], axis=0)


def _grouped(order: np.ndarray, lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> np.ndarray:
    """Sorts a shuffled order by length within stretches of 50 batches, and shuffles the full batches again."""
    stretch = 50 * batch_size
    parts = [order[i : i + stretch] for i in range(0, len(order), stretch)]
    order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    full = len(order) // batch_size
    batches = order[: full * batch_size].reshape(full, batch_size)
    return np.concatenate([batches[generator.permutation(full)].ravel(), order[full * batch_size :]])
