"""Scaled dot-product attention with few passes over its largest tensor, (batch, heads, steps, steps).

On a CPU that tensor does not fit in the caches, and every pass over it takes as long as a matrix product. So the padding
mask is part of the product that computes the scores, and a custom gradient needs one pass between its products. It consists
of core TensorFlow ops.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def attend(
    queries: Any, keys: Any, values: Any, reachable: Any = None, training: bool | None = None, kept: Any = None
) -> tf.Tensor:
    """Returns the attention output softmax(queries keys^T / sqrt(dim)) values.

    Args:
        queries: (batch, heads, steps, dim).
        keys: (batch, heads, key steps, dim).
        values: (batch, heads, key steps, dim).
        reachable: bool (batch or 1, 1, steps or 1, key steps), true if a query may read a key; None if all may. A query that
            may read no key reads all keys equally.
        training: whether to use the custom gradient, which has no second derivative.
        kept: (batch, heads, steps, key steps), dropout factors of the weights, of the queries' dtype: 0 or 1 / (1 - rate).
            None without dropout.

    Returns:
        (batch, heads, steps, dim), of the queries' dtype.

    Example:
        >>> import keras
        >>> attend(keras.ops.ones((1, 2, 5, 4)), keras.ops.ones((1, 2, 7, 4)), keras.ops.ones((1, 2, 7, 4))).shape
        TensorShape([1, 2, 5, 4])
    """
    queries = queries * queries.shape[-1] ** -0.5
    if training:
        return tf.custom_gradient(lambda q, k, v: _with_gradient(q, k, v, reachable, kept))(queries, keys, values)
    weights = _weights(queries, keys, reachable)
    return tf.matmul(weights if kept is None else weights * kept, values)


def _weights(queries: tf.Tensor, keys: tf.Tensor, reachable: Any) -> tf.Tensor:
    """Returns the softmax over the keys, computed in float32 or better, exactly 0 for keys that may not be read."""
    least = tf.constant(-6e4 if queries.dtype == tf.float16 else -1e9, queries.dtype)
    if reachable is not None and reachable.shape[2] == 1:
        # An additional channel, 1 in every query and 0 or `least` in the keys, adds the mask without a separate pass.
        # No slice with a new axis, because LiteRT cannot convert a slice that adds a last axis.
        blocked = tf.transpose(tf.where(reachable, tf.zeros_like(least), least), [0, 1, 3, 2])
        blocked = tf.broadcast_to(blocked, tf.shape(keys[..., :1]))
        keys = tf.concat([keys, blocked], axis=-1)
        queries = tf.concat([queries, tf.ones_like(queries[..., :1])], axis=-1)
        reachable = None
    scores = tf.matmul(queries, keys, transpose_b=True)
    if reachable is not None:
        scores = tf.where(reachable, scores, least)
    if queries.dtype in (tf.float16, tf.bfloat16):
        return tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32)), queries.dtype)
    return tf.nn.softmax(scores)


def _with_gradient(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, reachable: Any, kept: Any) -> Any:
    weights = _weights(queries, keys, reachable)
    counted = weights if kept is None else weights * kept
    read = tf.matmul(counted, values)

    def gradient(d_read: tf.Tensor) -> Any:
        # The softmax's gradient is weights * (d_weights - sum(weights * d_weights)), and that sum is read . d_read. With
        # dropout this holds too, because the same factors multiply the weights and d_weights.
        mean = tf.reduce_sum(d_read * read, axis=-1, keepdims=True)
        d_weights = tf.matmul(d_read, values, transpose_b=True)
        d_scores = weights * ((d_weights if kept is None else d_weights * kept) - mean)
        # The large tensor is the right operand, so that it is not transposed.
        d_keys = tf.matmul(queries, d_scores, transpose_a=True)
        d_values = tf.matmul(d_read, counted, transpose_a=True)
        return once(tf.matmul(d_scores, keys), tf.transpose(d_keys, [0, 1, 3, 2]), tf.transpose(d_values, [0, 1, 3, 2]))

    return read, gradient


@tf.custom_gradient
def once(*gradients: tf.Tensor) -> Any:
    """Returns gradients unchanged, but has no derivative, because they were computed from values treated as constants.

    Raises:
        NotImplementedError: a gradient of these gradients is computed.

    Example:
        >>> once(tf.ones(3), tf.zeros(2))[0].shape
        TensorShape([3])
    """

    def no_derivative(*_: tf.Tensor) -> Any:
        raise NotImplementedError(
            "Second derivatives of this layer are not available in training. Call it with training=False."
        )

    return tuple(tf.identity(g) for g in gradients), no_derivative
