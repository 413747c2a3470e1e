"""Layers for sequences: positions, and pooling without padding.

Every layer respects Keras's mask (batch, steps), true for real steps: padding never affects an output.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.errors import UsageError


def within(values: tf.Tensor, max_length: int) -> tf.Tensor:
    """Returns (batch, steps, ...) unchanged, after a check of the number of steps at run time.

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
        max_length: maximum number of steps; a longer sequence is an error.

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
class LearnedPositions(layers.Layer):
    """Adds a learned vector of the position to (batch, steps, dim).

    Args:
        max_length: maximum number of steps; a longer sequence is an error.
        stddev: standard deviation of the first values.

    Example:
        >>> LearnedPositions(max_length=50)(keras.ops.zeros((1, 10, 64))).shape
        TensorShape([1, 10, 64])
    """

    def __init__(self, max_length: int, stddev: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_length, self.stddev = max_length, stddev
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the table (max_length, dim)."""
        start = keras.initializers.RandomNormal(stddev=self.stddev)
        shape = (self.max_length, int(input_shape[-1] or 0))
        self.embeddings = self.add_weight(shape=shape, initializer=start, name="embeddings")

    def call(self, inputs: Any, positions: Any = None) -> Any:
        """Returns the sum, of the inputs' shape.

        Args:
            inputs: (batch, steps, dim).
            positions: int (batch, steps), the place of each step; None for 0, 1, ...
        """
        if positions is not None:
            return inputs + ops.take(self.embeddings, positions, axis=0)
        inputs = within(inputs, self.max_length)
        return inputs + self.embeddings[: ops.shape(inputs)[1]]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "max_length": self.max_length, "stddev": self.stddev}


@keras.saving.register_keras_serializable("zoo")
class MaskedMean(layers.Layer):
    """Mean over the real steps of (batch, steps, dim): (batch, dim)."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mean; zeros for a sequence without real steps."""
        if mask is None:
            return ops.mean(inputs, axis=1)
        weights = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
        return ops.sum(inputs * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the output has no steps."""
