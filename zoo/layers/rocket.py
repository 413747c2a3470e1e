"""Layers for series whose features are shares of convolutions above thresholds, as in MiniRocket."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zoo import minirocket
from zoo.layers.sequences import within
from zoo.layers.series import FillMissing

_SOFTNESS = 0.1
"""Width of a threshold in standard deviations of a kernel's outputs. A hard threshold would turn the rounding errors of
another runtime into visible differences."""
_CONSTANT = 1e-6
_MOST_DISTANCES = 500
_EXAMPLES, _PARTS = 16, 16
"""Examples whose outputs with one dilation give the thresholds; parts of a series whose means are statistics."""
_MOST_TIMES = 20
"""A series may have so many times the steps of the longest training series."""
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
    """MiniRocket's features: shares of convolutions above thresholds, of (batch, steps, channels) without NaN: float32
    (batch, features). Nothing is trained.

    The 84 kernels are applied with growing dilations. Every other kernel uses only windows within the series, the others have
    zeros beyond both ends. A threshold is soft: its share rises from 0 to 1 over a tenth of the standard deviation of the
    kernel's outputs. Steps that the mask excludes do not affect the output.

    The channels of each kernel, and the examples that give the thresholds, are drawn with Python's random numbers, which
    `keras.utils.set_random_seed` seeds.

    Args:
        length: steps of the longest series, which limits the dilations.
        num_features: number of features, rounded down to a multiple of 84.

    Example:
        >>> RocketFeatures(length=9, num_features=200)(keras.ops.ones((2, 20, 1))).shape
        TensorShape([2, 168])
    """

    def __init__(self, length: int, num_features: int = 9_996, **kwargs: Any) -> None:
        super().__init__(**{"dtype": keras.config.floatx(), **kwargs})
        self.length, self.num_features = length, num_features
        self.plan = minirocket.dilations(length, num_features)
        # For each dilation the kernels in the order of the layer: first those that use all steps.
        self._orders = [np.argsort(~minirocket.is_padded(i), kind="stable") for i in range(len(self.plan))]

    def build(self, input_shape: Any) -> None:
        """Creates the channels of the kernels, their inverse widths and their thresholds."""
        channels, kernels = int(input_shape[-1]), len(minirocket.KERNELS)
        generator = np.random.default_rng(random.getrandbits(32))
        chosen = np.stack([minirocket.chosen_channels(channels, generator) for _ in self.plan])
        self.channels = self.add_weight(
            name="channels", shape=chosen.shape, initializer=lambda *_, **__: chosen, trainable=False
        )
        shape = (len(self.plan), kernels)
        self.scales = self.add_weight(name="scales", shape=shape, initializer="ones", trainable=False)
        shape = (kernels, sum(count for _, count in self.plan))
        self.offsets = self.add_weight(name="offsets", shape=shape, initializer="zeros", trainable=False)

    def set_thresholds(self, series: Any, mask: Any) -> None:
        """Sets the thresholds of each kernel to quantiles of its outputs for one training example.

        Args:
            series: the examples, (batch, steps, channels) without NaN.
            mask: their real steps, bool (batch, steps).
        """
        generator = np.random.default_rng(random.getrandbits(32))
        series, lengths = np.asarray(series) * np.asarray(mask)[..., np.newaxis], np.asarray(mask).sum(axis=1)
        places, start = minirocket.quantiles(self.offsets.shape[1]), 0
        scales, offsets = [], []
        for number, (dilation, count) in enumerate(self.plan):
            drawn = generator.integers(0, len(series), _EXAMPLES)
            whole = np.asarray(self._outputs(ops.convert_to_tensor(series[drawn]), number))
            found = np.zeros((len(minirocket.KERNELS), count))
            deviations = np.zeros(len(minirocket.KERNELS))
            for kernel in range(len(minirocket.KERNELS)):
                one = whole[kernel % _EXAMPLES, : lengths[drawn[kernel % _EXAMPLES]], kernel]
                used = one if kernel < len(minirocket.KERNELS) // 2 else minirocket.valid(one, dilation)
                found[kernel] = np.quantile(used, places[start : start + count])
                deviations[kernel] = whole[..., kernel].std()
            width = _SOFTNESS * deviations
            scale = np.where(width > _CONSTANT, 1 / np.maximum(width, _CONSTANT), 1.0)
            scales.append(scale)
            offsets.append(0.5 - found * scale[:, np.newaxis])
            start += count
        self.scales.assign(np.stack(scales))
        self.offsets.assign(np.concatenate(offsets, axis=1))

    def _outputs(self, x: Any, number: int) -> Any:
        """Returns the outputs of all kernels with a dilation, (batch, steps, 84), in the order of the layer."""
        dilation, order = self.plan[number][0], self._orders[number]
        reach = (minirocket.WIDTH - 1) // 2 * dilation
        kernels = minirocket.KERNELS[order].T[:, np.newaxis]
        weights = ops.convert_to_tensor(kernels, x.dtype) * ops.cast(self.channels[number], x.dtype)
        x = ops.pad(x, ((0, 0), (reach, reach), (0, 0)))
        return ops.conv(x, weights, dilation_rate=dilation, padding="valid")

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the shares."""
        inputs = within(inputs, _MOST_TIMES * self.length)  # memory grows with the steps
        real = ops.ones_like(inputs[..., 0]) if mask is None else ops.cast(mask, inputs.dtype)
        x = inputs * ops.expand_dims(real, -1)
        whole_mean = ops.expand_dims(real / ops.sum(real, axis=1, keepdims=True), 1)  # (batch, 1, steps)
        half, at_once = len(minirocket.KERNELS) // 2, max(1, _MOST_COLUMNS // self.length)
        found, start = [], 0
        for number, (dilation, count) in enumerate(self.plan):
            inner = _inner(real, (minirocket.WIDTH - 1) // 2 * dilation)
            outputs = ops.expand_dims(self._outputs(x, number) * self.scales[number], -1)
            for first in range(start, start + count, at_once):
                end = min(first + at_once, start + count)
                above = ops.clip(outputs + self.offsets[:, first:end], 0.0, 1.0)
                rows = ops.reshape(above, (-1, ops.shape(above)[1], 2 * half * (end - first)))
                cut = half * (end - first)
                found += [ops.matmul(whole_mean, rows[..., :cut])[:, 0], ops.matmul(inner, rows[..., cut:])[:, 0]]
            start += count
        return ops.concatenate(found, axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the output has no steps."""

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        """(batch, features)."""
        return (input_shape[0], len(minirocket.KERNELS) * sum(count for _, count in self.plan))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "length": self.length, "num_features": self.num_features}


def _inner(real: Any, reach: int) -> Any:
    """Returns weights of sum 1 of the steps whose windows lie within the series, (batch, 1, steps); of all real steps if the
    series is too short."""
    padded = ops.pad(real, ((0, 0), (reach, reach)))
    inner = padded[:, : -2 * reach] * padded[:, 2 * reach :]
    inner = ops.where(ops.max(inner, axis=1, keepdims=True) > 0, inner, real)
    return ops.expand_dims(inner / ops.sum(inner, axis=1, keepdims=True), 1)


@keras.saving.register_keras_serializable("zoo")
class RandomFourier(layers.Layer):
    """Random Fourier features of (batch, features), float32 (batch, units): their products approximate a Gaussian kernel.
    Nothing is trained.

    Source: Rahimi and Recht, Random features for large-scale kernel machines, NeurIPS 2007. They are drawn with Python's
    random numbers, which `keras.utils.set_random_seed` seeds.

    Args:
        units: number of features.

    Example:
        >>> RandomFourier(8)(keras.ops.ones((2, 5))).shape
        TensorShape([2, 8])
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": keras.config.floatx(), **kwargs})
        self.units = units

    def build(self, input_shape: Any) -> None:
        """Creates directions and phases."""
        generator = np.random.default_rng(random.getrandbits(32))
        drawn = generator.normal(size=(input_shape[-1], self.units)) / input_shape[-1] ** 0.5
        phases = generator.uniform(0, 2 * np.pi, self.units)
        self.kernel = self.add_weight(
            name="kernel", shape=drawn.shape, initializer=lambda *_, **__: drawn, trainable=False
        )
        self.bias = self.add_weight(
            name="bias", shape=phases.shape, initializer=lambda *_, **__: phases, trainable=False
        )

    def adapt(self, rows: np.ndarray) -> None:
        """Scales the directions to standardised features whose kernel is exp(-2) at the median squared distance.

        Args:
            rows: features of training examples, (examples, features).
        """
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(deviation > _CONSTANT, 1 / np.maximum(deviation, _CONSTANT), 0.0)
        scaled = ((rows - mean) * scale)[:_MOST_DISTANCES]
        squares = np.square(scaled).sum(axis=1)
        distances = squares[:, np.newaxis] + squares - 2 * scaled @ scaled.T
        median = float(np.median(distances[np.triu_indices(len(scaled), 1)])) if len(scaled) > 1 else 1.0
        kernel = np.asarray(self.kernel) * scale[:, np.newaxis] * 2 * (rows.shape[1] / max(median, _CONSTANT)) ** 0.5
        self.kernel.assign(kernel)
        self.bias.assign(np.asarray(self.bias) - mean @ kernel)

    def call(self, inputs: Any) -> Any:
        """Returns the features."""
        return ops.cos(ops.matmul(inputs, self.kernel) + self.bias)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
class SeriesStatistics(layers.Layer):
    """Simple statistics of (batch, steps, channels) over the real steps: float32 (batch, 22 x channels + 1).

    For every channel the mean, the standard deviation, the smallest, the largest, the first and the last value, and the means
    of sixteen parts of equal length; then the logarithm of the number of steps.

    Example:
        >>> SeriesStatistics()(keras.ops.ones((2, 5, 3))).shape
        TensorShape([2, 67])
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
        steps = ops.expand_dims(ops.cumsum(ops.ones_like(inputs[..., 0]), axis=1), 1)  # (batch, 1, steps): 1, 2, ...
        size = ops.expand_dims(count, -1) / _PARTS  # (batch, 1, 1)
        ends = size * ops.reshape(ops.arange(1, _PARTS + 1, dtype=inputs.dtype), (1, -1, 1))
        overlap = ops.minimum(steps, ends) - ops.maximum(steps - 1.0, ends - size)
        means = ops.matmul(ops.maximum(overlap, 0.0) / size, inputs * real)  # (batch, parts, channels)
        means = ops.reshape(means, (-1, _PARTS * inputs.shape[-1]))
        parts = [mean, ops.sqrt(spread + 1e-8), low, high, inputs[:, 0], last, means, ops.log(count)]
        return ops.concatenate(parts, axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the output has no steps."""

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        """(batch, 22 x channels + 1)."""
        return (input_shape[0], (6 + _PARTS) * input_shape[-1] + 1)
