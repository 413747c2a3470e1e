"""Layers for sequences: positions, encoder blocks, pooling that leaves padding out.

Every layer honours Keras's mask (batch, steps), true where a step is real: what is padded never changes an answer.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.errors import UsageError
from zoo.layers import dot_product


def within(values: tf.Tensor, max_length: int) -> tf.Tensor:
    """Returns (batch, steps, ...) unchanged, behind a check, when it runs, of a number of steps that is not known before.

    Raises:
        InvalidArgumentError: there are more steps than `max_length`.

    Example:
        >>> within(keras.ops.zeros((2, 10, 64)), max_length=50).shape
        TensorShape([2, 10, 64])
    """
    if values.shape[1] is not None:
        return values
    steps = tf.shape(values)[1]
    longer = f"A sequence is longer than max_length={max_length}. Pass at most as many steps."
    with tf.control_dependencies([tf.debugging.Assert(steps <= max_length, [longer, steps])]):
        return tf.identity(values)


@keras.saving.register_keras_serializable("zoo")
class PositionalEncoding(layers.Layer):
    """Adds sine and cosine of the position to (batch, steps, dim), so that order matters to attention.

    Channel 2i holds sin(position / 10000^(2i/dim)), channel 2i + 1 the cosine. No weights. Source: Vaswani et al.,
    Attention is all you need, 2017, section 3.5.

    Args:
        max_length: longest sequence; a longer one is an error.

    Example:
        >>> PositionalEncoding(max_length=50)(keras.ops.zeros((1, 10, 64))).shape
        TensorShape([1, 10, 64])
    """

    def __init__(self, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_length = max_length
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Computes the table (max_length, dim)."""
        dim = int(input_shape[-1] or 0)
        rates = 10_000.0 ** (-(np.arange(dim) // 2 * 2) / dim)
        angles = np.arange(self.max_length)[:, np.newaxis] * rates
        self._table = np.where(np.arange(dim) % 2 == 0, np.sin(angles), np.cos(angles))

    def call(self, inputs: Any) -> Any:
        """Returns the sum, of the inputs' shape and dtype."""
        steps = inputs.shape[1]
        if steps is not None and steps > self.max_length:
            raise UsageError(
                f"A sequence of {steps} steps is longer than max_length={self.max_length}. Pass a larger one."
            )
        inputs = within(inputs, self.max_length)
        return inputs + ops.convert_to_tensor(self._table, inputs.dtype)[: ops.shape(inputs)[1]]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "max_length": self.max_length}


@keras.saving.register_keras_serializable("zoo")
class EncoderBlock(layers.Layer):
    """Self-attention and a feed-forward net, each with dropout, residual connection and layer normalisation after it.

    Padded steps are never attended to. Source: Vaswani et al., Attention is all you need, 2017, section 3.1.

    Args:
        num_heads: attention heads; the inputs' channels must divide by it.
        feed_forward_dim: units of the inner dense layer.
        dropout: fraction dropped from attention's and the feed-forward net's outputs.

    Example:
        >>> EncoderBlock(num_heads=8, feed_forward_dim=512)(keras.ops.zeros((2, 10, 64))).shape
        TensorShape([2, 10, 64])
    """

    def __init__(self, num_heads: int, feed_forward_dim: int, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads, self.feed_forward_dim, self.dropout = num_heads, feed_forward_dim, dropout
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the layers for the inputs' channels."""
        dim = int(input_shape[-1] or 0)
        if dim % self.num_heads:
            raise UsageError(f"embedding_dim={dim} does not divide by num_heads={self.num_heads}. Pass one that does.")
        self.attention = layers.MultiHeadAttention(self.num_heads, dim // self.num_heads, dtype=self.dtype_policy)
        self.attention_norm = layers.LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy)
        self.inner = layers.Dense(self.feed_forward_dim, activation="relu", dtype=self.dtype_policy)
        self.outer = layers.Dense(dim, dtype=self.dtype_policy)
        self.feed_forward_norm = layers.LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy)
        self.attention_dropout = layers.Dropout(self.dropout, dtype=self.dtype_policy)
        self.feed_forward_dropout = layers.Dropout(self.dropout, dtype=self.dtype_policy)
        self.attention.build(input_shape, input_shape)
        self.attention_norm.build(input_shape)
        self.inner.build(input_shape)
        self.outer.build((*input_shape[:-1], self.feed_forward_dim))
        self.feed_forward_norm.build(input_shape)

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Returns (batch, steps, dim)."""
        x = self.attention_norm(
            inputs + self.attention_dropout(self._attend(inputs, mask, training), training=training)
        )
        # As rows: only then does TensorFlow add the bias and cut at zero inside the product.
        fed = ops.reshape(self.outer(self.inner(ops.reshape(x, (-1, x.shape[-1])))), ops.shape(x))
        return self.feed_forward_norm(x + self.feed_forward_dropout(fed, training=training))

    def _attend(self, inputs: Any, mask: Any, training: bool | None) -> Any:
        """What `self.attention` computes, with one product for queries, keys and values."""
        parts = (self.attention.query_dense, self.attention.key_dense, self.attention.value_dense)
        dim, rows = inputs.shape[-1], ops.reshape(inputs, (-1, inputs.shape[-1]))
        kernel = ops.concatenate([ops.reshape(part.kernel, (dim, dim)) for part in parts], axis=1)
        bias = ops.concatenate([ops.reshape(part.bias, (dim,)) for part in parts], axis=0)
        batch, steps = ops.shape(inputs)[0], ops.shape(inputs)[1]
        split = ops.reshape(ops.matmul(rows, kernel) + bias, (batch, steps, 3, self.num_heads, dim // self.num_heads))
        queries, keys, values = ops.unstack(ops.transpose(split, (2, 0, 3, 1, 4)))
        reachable = (
            None if mask is None else ops.expand_dims(mask, (1, 2))
        )  # (batch, 1, 1, steps): which keys may be read
        read = ops.transpose(dot_product.attend(queries, keys, values, reachable, training), (0, 2, 1, 3))
        output = self.attention.output_dense
        return ops.reshape(
            ops.matmul(ops.reshape(read, (-1, dim)), ops.reshape(output.kernel, (dim, dim))) + output.bias,
            ops.shape(inputs),
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "feed_forward_dim": self.feed_forward_dim,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("zoo")
class MaskedMean(layers.Layer):
    """Mean over the real steps of (batch, steps, dim): (batch, dim)."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mean; zeros where a sequence has no real step."""
        if mask is None:
            return ops.mean(inputs, axis=1)
        weights = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
        return ops.sum(inputs * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """The steps are gone, and the mask with them."""
