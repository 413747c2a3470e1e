"""The exponential moving average of the weights (EMA), which is evaluated and exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.training.adaptations.contract import Adaptation, register_adaptation


@register_adaptation
class MovingAverage(Adaptation):
    """Keeps a moving average of every weight that trains, with momentum `ema_momentum`."""

    fields = ("ema_momentum",)

    def build(self, weights: Sequence[keras.Variable]) -> Sequence[Sequence[keras.Variable]]:
        """Makes an average for each weight."""
        self.evaluated = [
            keras.Variable(_value_of(v), shape=v.shape, dtype=v.dtype, trainable=False, name="average") for v in weights
        ]
        return [[average] for average in self.evaluated]

    def after_step(self, weight: tf.Variable, number: int, own: Sequence[tf.Variable], step: tf.Tensor) -> None:
        """Moves the average; it starts at the weights after the first step, as in Keras."""
        (average,) = own
        momentum = tf.where(tf.equal(step, 0), 0.0, self.config.ema_momentum)
        momentum = tf.cast(momentum, weight.dtype)
        average.assign(momentum * average + (1 - momentum) * weight)


def _value_of(variable: keras.Variable) -> Any:
    return lambda shape, dtype: tf.cast(tf.convert_to_tensor(variable.value), dtype)
