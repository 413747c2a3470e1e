"""Layers for series and windows: missing values, convolutions and pooling without padding.

Every layer respects Keras's mask (batch, steps), true for real steps: padding never affects an output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from zoo.errors import UsageError


def check_series_shape(input_shape: Any) -> tuple[int | None, int]:
    """Returns `input_shape` as a tuple; raises UsageError unless it is (steps or None, channels)."""
    shape = tuple(input_shape) if isinstance(input_shape, (list, tuple)) else ()
    sizes = [size for i, size in enumerate(shape) if not (i == 0 and size is None)]
    if len(shape) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in sizes):
        raise UsageError(
            f"input_shape is {input_shape!r}; expected (steps or None, channels). Pass input_shape=(None, 4), say."
        )
    return shape


def known_input(known_shape: Any) -> list[Any]:
    """Returns the input `known` of a forecaster, what is known in advance of each step; nothing for None.

    Raises:
        UsageError: `known_shape` is not (horizon, features).
    """
    if known_shape is None:
        return []
    shape = tuple(known_shape) if isinstance(known_shape, (list, tuple)) else ()
    if len(shape) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in shape):
        raise UsageError(
            f"known_shape is {known_shape!r}; expected (horizon, features). Pass known_shape=(24, 3), say, or leave it out."
        )
    return [keras.Input(shape, name="known")]


def _full_precision() -> str:
    """Returns the dtype for values that must stay exact with a mixed precision policy."""
    return "float64" if keras.config.floatx() == "float64" else "float32"


@keras.saving.register_keras_serializable("zoo")
class FillMissing(layers.Layer):
    """Replaces NaN in (batch, steps, channels) by 0. Its mask marks the real steps.

    Steps after the last one with any value are padding. NaN before that is a missing value and becomes 0, which is the mean
    of a standardised channel. A series without any value counts as one step of missing values, so that every output is
    finite.

    Example:
        >>> series = keras.ops.array([[[1.0], [float("nan")], [3.0], [float("nan")]]])
        >>> FillMissing()(series)[0, :, 0].numpy().tolist(), FillMissing().compute_mask(series).numpy().tolist()
        ([1.0, 0.0, 3.0, 0.0], [[True, True, True, False]])
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Returns the values, of the inputs' shape and dtype."""
        return ops.where(ops.isnan(inputs), ops.zeros_like(inputs), inputs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns bool (batch, steps); the first step is always real."""
        known = ops.any(ops.logical_not(ops.isnan(inputs)), axis=-1)
        ones = ops.ones_like(known, dtype="int32")
        numbers = ops.cumsum(ones, axis=1)  # 1, 2, ...: a symbolic tensor has no length to count to
        last = ops.max(ops.where(known, numbers, ones), axis=1, keepdims=True)
        return ops.less_equal(numbers, last)


@keras.saving.register_keras_serializable("zoo")
class MaskedConv1D(layers.Conv1D):
    """Keras's Conv1D with zeros for padded steps in every window. It passes the mask on.

    Keras's layer reads the values on padding, such as the vector of token 0, and drops the mask. With
    `padding="same"` and stride 1, steps keep their positions.

    Example:
        >>> MaskedConv1D(4, 3, padding="same")(keras.ops.ones((2, 5, 3))).shape
        TensorShape([2, 5, 4])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns (batch, steps, filters). The values on padding are undefined."""
        if mask is not None:
            inputs = ops.where(ops.expand_dims(mask, -1), inputs, ops.zeros_like(inputs))
        return super().call(inputs)


@keras.saving.register_keras_serializable("zoo")
class AttentionWeights(layers.Layer):
    """Softmax over the real steps of scores (batch, steps, heads): weights of the same shape, exactly 0 on padding.

    It is always float32 or better, so that the weights of a long sequence sum to one. Without real steps all weights are 0.

    Example:
        >>> AttentionWeights()(keras.ops.zeros((1, 4, 1)))[0, :, 0].numpy().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", _full_precision())
        super().__init__(**kwargs)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the weights."""
        if mask is None:
            return ops.softmax(inputs, axis=1)
        real = ops.expand_dims(mask, -1)
        # The largest real score becomes 0, so no exponential overflows, and one of them is 1.
        highest = ops.max(ops.where(real, inputs, -3e38), axis=1, keepdims=True)
        powers = ops.exp(ops.where(real, inputs - highest, 0.0)) * ops.cast(real, inputs.dtype)
        return powers / ops.maximum(ops.sum(powers, axis=1, keepdims=True), 1e-30)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the weights are 0 on padding."""


@keras.saving.register_keras_serializable("zoo")
class MeanHead(layers.Layer):
    """Mean over the heads of weights (batch, steps, heads): one readable weight per step, (batch, steps).

    Example:
        >>> MeanHead()(keras.ops.ones((1, 2, 4))).numpy().tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", _full_precision())
        super().__init__(**kwargs)

    def call(self, inputs: Any) -> Any:
        """Returns the mean."""
        return ops.mean(inputs, axis=-1)


@keras.saving.register_keras_serializable("zoo")
class WeightedSum(layers.Layer):
    """Weighted sums over the steps of (batch, steps, dim), one per head, concatenated: (batch, heads * dim).

    Example:
        >>> WeightedSum()([keras.ops.ones((1, 4, 3)), keras.ops.ones((1, 4)) / 4]).numpy().tolist()
        [[1.0, 1.0, 1.0]]
    """

    def call(self, inputs: Sequence[Any]) -> Any:
        """Returns the sums. `inputs` are the values, and the weights of one head (batch, steps) or several (..., heads)."""
        values, *parts = inputs
        weights = ops.concatenate([w if len(w.shape) == 3 else ops.expand_dims(w, -1) for w in parts], axis=-1)
        sums = ops.einsum("bsd,bsh->bhd", values, ops.cast(weights, values.dtype))
        return ops.reshape(sums, (-1, weights.shape[-1] * values.shape[-1]))

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the output has no steps."""


@keras.saving.register_keras_serializable("zoo")
class MaskedMax(layers.Layer):
    """Largest value of every channel over the real steps of (batch, steps, dim): (batch, dim); 0 without a real step.

    Example:
        >>> MaskedMax()(keras.ops.ones((1, 4, 3))).numpy().tolist()
        [[1.0, 1.0, 1.0]]
    """

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the maximum."""
        if mask is None:
            return ops.max(inputs, axis=1)
        real = ops.expand_dims(mask, -1)
        highest = ops.max(ops.where(real, inputs, ops.full_like(inputs, -3e38)), axis=1)
        return ops.where(ops.any(real, axis=1), highest, ops.zeros_like(highest))

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the output has no steps."""
