"""Lengths, last values, means and deviations of series with missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData


def lengths(series: tf.Tensor) -> tf.Tensor:
    """Counts the steps of each series up to its last one with any value, int32 (batch,), at least 1.

    Example:
        >>> lengths(tf.constant([[[1.0], [float("nan")], [2.0], [float("nan")]]])).numpy().tolist()
        [3]
    """
    known = tf.reduce_any(~tf.math.is_nan(series), axis=-1)
    numbers = tf.range(1, tf.shape(series)[1] + 1)
    return tf.maximum(tf.reduce_max(tf.where(known, numbers, 0), axis=1), 1)


def latest(values: tf.Tensor, places: tf.Tensor, otherwise: np.float32) -> tf.Tensor:
    """Returns the last known value at or before each place, (batch, places), of values (batch, steps); or another number."""
    steps = tf.range(tf.shape(values)[1])
    known = ~tf.math.is_nan(values)[:, tf.newaxis] & (steps <= places[..., tf.newaxis])
    found = tf.reduce_max(tf.where(known, steps, -1), axis=-1)
    chosen = tf.gather(values, tf.maximum(found, 0), axis=1, batch_dims=1)
    return tf.where(found >= 0, chosen, otherwise)


def longest(data: RawData) -> int:
    """Steps of the longest series of any split. It only affects the estimate of memory."""
    steps = data.features["series"].shape[0]
    if steps is not None:
        return max(steps, 1)
    counts = (
        split.dataset().map(lambda example: tf.shape(example["series"])[0]).reduce(1, tf.maximum)
        for split in data.splits.values()
    )
    return int(max(int(count) for count in counts))


def measure(train: tf.data.Dataset, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel in float64, without NaN, in one pass.

    Batches are merged as in Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983. Plain sums of
    squares would cancel for a channel far from zero.
    """
    count, mean, squares = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    for batch in train.padded_batch(256, [None, channels], np.float32("nan")).as_numpy_iterator():
        values = batch.reshape(-1, channels).astype(np.float64)
        if np.isinf(values).any():
            channel = int(np.isinf(values).any(axis=0).argmax())
            raise UsageError(
                f"The training split holds an infinite value in channel {channel}. Pass NaN where a value is missing."
            )
        real = ~np.isnan(values)
        new = real.sum(axis=0)
        some = np.maximum(new, 1)
        batch_mean = np.where(real, values, 0.0).sum(axis=0) / some
        batch_squares = np.where(real, (values - batch_mean) ** 2, 0.0).sum(axis=0)
        total = np.maximum(count + new, 1)
        shift = batch_mean - mean
        squares += batch_squares + shift**2 * count * new / total
        mean += shift * new / total
        count += new
    deviations = np.sqrt(squares / np.maximum(count, 1))
    # For a constant such as 0.1 the result is not exactly 0, because of rounding.
    deviations[deviations <= 1e-7 * np.abs(mean)] = 1.0
    return tuple(mean.tolist()), tuple(deviations.tolist())
