"""Layers for series whose features are shares of convolutions above thresholds, as in MiniRocket."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zoo import minirocket
from zoo.layers.series import FillMissing

_SOFTNESS = 0.1
"""Width of a threshold in standard deviations of a kernel's outputs. A hard threshold would turn the rounding errors of
another runtime into visible differences."""
_CONSTANT = 1e-6
_DILATIONS = 8
_EXAMPLES = 16
"""Examples whose outputs with one dilation give the thresholds."""
_MOST_COLUMNS = 2_000
"""Steps times thresholds of a kernel that are compared at once, which bounds the memory."""


@keras.saving.register_keras_serializable("zoo")
class FillGaps(FillMissing):
    """Replaces NaN in (batch, steps, channels) by the previous value, at the beginning by the next one, and by 0 in a channel
    without a value. Its mask marks the real steps, as that of `FillMissing`.

    Args:
        steps: the longest gap that is filled; longer ones become 0.

    Example:
        >>> FillGaps(4)(keras.ops.array([[[1.0], [float("nan")], [3.0], [float("nan")]]]))[0, :, 0].numpy().tolist()
        [1.0, 1.0, 3.0, 3.0]
    """

    def __init__(self, steps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, inputs: Any) -> Any:
        """Returns the values, of the inputs' shape and dtype."""
        x = self._spread(inputs, forward=True)
        x = self._spread(x, forward=False)
        return ops.where(ops.isnan(x), ops.zeros_like(x), x)

    def _spread(self, x: Any, forward: bool) -> Any:
        """Copies known values into gaps, in steps of 1, 2, 4, ..., which fills gaps of any length in few operations."""
        size = 1
        while size <= self.steps:
            gap = (size, 0) if forward else (0, size)
            moved = ops.pad(x, ((0, 0), gap, (0, 0)), constant_values=float("nan"))
            moved = moved[:, :-size] if forward else moved[:, size:]
            x = ops.where(ops.isnan(x), moved, x)
            size *= 2
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable("zoo")
class LastSteps(layers.Layer):
    """The last real steps of (batch, steps, channels): (batch, count, channels). A shorter series is extended by its first
    value.

    Args:
        count: number of steps.

    Example:
        >>> LastSteps(3)(keras.ops.array([[[1.0], [2.0]]]))[0, :, 0].numpy().tolist()
        [1.0, 1.0, 2.0]
    """

    def __init__(self, count: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = count

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the steps."""
        real = ops.ones_like(inputs[..., 0], dtype="int32") if mask is None else ops.cast(mask, "int32")
        last = ops.sum(real, axis=1, keepdims=True)
        places = ops.maximum(last - self.count + ops.arange(self.count), 0)
        return ops.take_along_axis(inputs, ops.expand_dims(places, -1), axis=1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: all steps are real."""

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int, int]:
        """(batch, count, channels)."""
        return (input_shape[0], self.count, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable("zoo")
class RocketFeatures(layers.Layer):
    """Shares of convolutions above thresholds, of (batch, steps, channels) without NaN: float32 (batch, features). Nothing is
    trained.

    The 84 kernels of MiniRocket are applied with up to eight dilations. Beyond both ends a series keeps its first and last
    value. A threshold is soft: its share rises from 0 to 1 over a tenth of the standard deviation of the kernel's outputs.
    Steps that the mask excludes do not count; they must have the last value, as those of `FillGaps` do.

    Args:
        length: steps of the longest series, which limits the dilations.
        num_features: number of features, rounded down to a multiple of 84 for each dilation.
        differences: whether it takes the differences of neighbouring steps instead of the values.

    The channels of each kernel, and the examples that give the thresholds, are drawn with Python's random numbers, which
    `keras.utils.set_random_seed` seeds.

    Example:
        >>> RocketFeatures(length=9, num_features=200)(keras.ops.ones((2, 20, 1))).shape
        TensorShape([2, 168])
    """

    def __init__(self, length: int, num_features: int = 5_000, differences: bool = False, **kwargs: Any) -> None:
        super().__init__(**{"dtype": keras.config.floatx(), **kwargs})
        self.length, self.num_features, self.differences = length, num_features, differences
        most = max(1, min(_DILATIONS, num_features // len(minirocket.KERNELS)))
        self.dilations = [dilation for dilation, _ in minirocket.dilations(length, most * len(minirocket.KERNELS))]
        self.count = max(1, num_features // (len(minirocket.KERNELS) * len(self.dilations)))

    def build(self, input_shape: Any) -> None:
        """Creates the channels of the kernels, their inverse widths and their thresholds."""
        channels, kernels, dilations = int(input_shape[-1]), len(minirocket.KERNELS), len(self.dilations)
        generator = np.random.default_rng(random.getrandbits(32))
        chosen = np.stack([minirocket.chosen_channels(channels, generator) for _ in range(dilations)])
        self.channels = self.add_weight(
            name="channels", shape=chosen.shape, initializer=lambda *_, **__: chosen, trainable=False
        )
        self.scales = self.add_weight(name="scales", shape=(dilations, kernels), initializer="ones", trainable=False)
        shape = (dilations, kernels, self.count)
        self.offsets = self.add_weight(name="offsets", shape=shape, initializer="zeros", trainable=False)

    def set_thresholds(self, series: Any) -> None:
        """Sets the thresholds of each kernel to quantiles of its outputs for one training example.

        Args:
            series: the examples, (batch, steps, channels) without NaN.
        """
        generator = np.random.default_rng(random.getrandbits(32))
        padded = self._padded(series)
        steps, kernels = series.shape[1], np.arange(len(minirocket.KERNELS))
        places = minirocket.quantiles(len(self.dilations) * self.count).reshape(len(self.dilations), -1)
        scales, offsets = [], []
        for number in range(len(self.dilations)):
            drawn = generator.integers(0, len(series), _EXAMPLES)
            whole = np.asarray(self._outputs(ops.take(padded, drawn, axis=0), number)).reshape(_EXAMPLES, steps, -1)
            own = whole[kernels % _EXAMPLES, :, kernels]  # (84, steps)
            width = _SOFTNESS * whole.std(axis=(0, 1))
            scale = np.where(width > _CONSTANT, 1 / np.maximum(width, _CONSTANT), 1.0)
            scales.append(scale)
            offsets.append(0.5 - np.quantile(own, places[number], axis=1).T * scale[:, np.newaxis])
        self.scales.assign(np.stack(scales))
        self.offsets.assign(np.stack(offsets))

    def _padded(self, inputs: Any) -> Any:
        """Returns the values or their differences, with as many further steps at both ends as the kernels reach."""
        reach = (minirocket.WIDTH - 1) // 2 * self.dilations[-1]
        parts = [ops.repeat(inputs[:, :1], reach + 1, axis=1), inputs, ops.repeat(inputs[:, -1:], reach, axis=1)]
        x = ops.concatenate(parts, axis=1)
        return x[:, 1:] - x[:, :-1] if self.differences else x[:, 1:]

    def _outputs(self, padded: Any, number: int) -> Any:
        """Returns the outputs of all kernels with a dilation, (batch, steps, 84)."""
        dilation, reach = self.dilations[number], (minirocket.WIDTH - 1) // 2
        unused = reach * (self.dilations[-1] - dilation)
        kernels = ops.convert_to_tensor(minirocket.KERNELS.T[:, np.newaxis], padded.dtype) * self.channels[number]
        x = padded[:, unused : -unused or None]
        return ops.conv(x, kernels, dilation_rate=dilation, padding="valid")

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the shares."""
        real = ops.ones_like(inputs[..., 0]) if mask is None else ops.cast(mask, inputs.dtype)
        real = ops.expand_dims(real / ops.sum(real, axis=1, keepdims=True), 1)  # (batch, 1, steps)
        padded = self._padded(inputs)
        at_once = max(1, _MOST_COLUMNS // self.length)
        found = []
        for number in range(len(self.dilations)):
            whole = ops.expand_dims(self._outputs(padded, number) * self.scales[number], -1)
            for start in range(0, self.count, at_once):
                above = ops.clip(whole + self.offsets[number, :, start : start + at_once], 0.0, 1.0)
                columns = len(minirocket.KERNELS) * (min(start + at_once, self.count) - start)
                rows = ops.reshape(above, (-1, ops.shape(above)[1], columns))
                found.append(ops.matmul(real, rows)[:, 0])
        return ops.concatenate(found, axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the output has no steps."""

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        """(batch, features)."""
        return (input_shape[0], len(minirocket.KERNELS) * len(self.dilations) * self.count)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        given = {"length": self.length, "num_features": self.num_features, "differences": self.differences}
        return {**super().get_config(), **given}


@keras.saving.register_keras_serializable("zoo")
class SeriesStatistics(layers.Layer):
    """Simple statistics of (batch, steps, channels) over the real steps: float32 (batch, 6 x channels + 1).

    For every channel the mean, the standard deviation, the smallest, the largest, the first and the last value; then the
    logarithm of the number of steps.

    Example:
        >>> SeriesStatistics()(keras.ops.ones((2, 5, 3))).shape
        TensorShape([2, 19])
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": keras.config.floatx(), **kwargs})

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the statistics."""
        real = ops.ones_like(inputs[..., :1]) if mask is None else ops.cast(ops.expand_dims(mask, -1), inputs.dtype)
        count = ops.sum(real, axis=1)
        mean = ops.sum(inputs * real, axis=1) / count
        spread = ops.sum(ops.square(inputs - mean[:, None]) * real, axis=1) / count
        low = ops.min(inputs * real + 1e9 * (1.0 - real), axis=1)
        high = ops.max(inputs * real - 1e9 * (1.0 - real), axis=1)
        is_last = real - ops.concatenate([real[:, 1:], ops.zeros_like(real[:, :1])], axis=1)
        last = ops.sum(inputs * is_last, axis=1)
        parts = [mean, ops.sqrt(spread + 1e-8), low, high, inputs[:, 0], last, ops.log(count)]
        return ops.concatenate(parts, axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the output has no steps."""

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        """(batch, 6 x channels + 1)."""
        return (input_shape[0], 6 * input_shape[-1] + 1)
