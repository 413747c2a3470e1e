"""Layers for images: they scale the preprocessor's 0 to 1 to the range of published architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import layers, ops

from zoo.errors import UsageError, did_you_mean
from zoo.layers import blocks

Mode = Literal["caffe", "tf", "torch", "lite", "half", "bytes"]

# The ImageNet statistics of the published weights: red, green, blue, for images of 0 to 1. Caffe's are blue, green, red, for
# 0 to 255.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)


def scaled_input(mode: Mode, input_shape: Sequence[int], smallest: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the input `image`, and it as an architecture expects it, (batch, height, width, 3), after checking its shape.

    Args:
        mode: as in `ImageNetScaling`.
        input_shape: (height, width, 1 or 3).
        smallest: the smallest height and width that the architecture takes.

    Raises:
        UsageError: the shape is not that of an image, the image is too small, or has another number of channels.
    """
    blocks.check_image_shape(input_shape)
    height, width, channels = input_shape
    if min(height, width) < smallest:
        raise UsageError(
            f"An image of {height}x{width} is too small: the model needs at least {smallest}x{smallest}. Pass "
            f"input_shape=[{smallest}, {smallest}, {channels}], say."
        )
    inputs = keras.Input(tuple(input_shape), name="image")
    return inputs, ImageNetScaling(mode, name="scaling")(inputs)


@keras.saving.register_keras_serializable("zoo")
class ImageNetScaling(layers.Layer):
    """Scales images (batch, height, width, 1 or 3) of 0 to 1 to (batch, height, width, 3) as an architecture expects.

    Modes `caffe`, `tf` and `torch` are equal to `keras.applications.imagenet_utils.preprocess_input` on images of 0 to 255,
    after repeating grey for red, green and blue. It has no weights. It computes in float32 even with mixed precision, because
    bfloat16 cannot distinguish 255 levels.

    Args:
        mode: `caffe` (blue, green, red, 0 to 255 minus the mean), `tf` (-1 to 1), `torch` (minus the mean, divided by the
            standard deviation), `lite` (0 to 255 minus 127, divided by 128, as EfficientNet-Lite), `half` (0 to 255 divided
            by 128, minus 1, as EfficientNetV2-S to L) or `bytes` (0 to 255).

    Raises:
        UsageError: an unknown mode, or images that have neither one nor three channels.

    Example:
        >>> ImageNetScaling("tf")(keras.ops.ones((2, 8, 8, 1))).shape
        TensorShape([2, 8, 8, 3])
    """

    def __init__(self, mode: Mode, **kwargs: Any) -> None:
        super().__init__(**{"dtype": keras.config.floatx(), **kwargs})
        if mode not in get_args(Mode):
            raise UsageError(f"mode is {mode!r}. {did_you_mean(str(mode), get_args(Mode))}")
        self.mode = mode

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the channels and sets the factor and shift of each."""
        if input_shape[-1] not in (1, 3):
            raise UsageError(
                f"Images have {input_shape[-1]} channels; expected 1 (grey) or 3 (red, green, blue). Pass one of them."
            )
        factor, shift = {
            "caffe": (np.full(3, 255.0), -np.array(_CAFFE_MEAN)),
            "tf": (np.full(3, 2.0), np.full(3, -1.0)),
            "torch": (1 / np.array(_DEVIATION), -np.array(_MEAN) / np.array(_DEVIATION)),
            "lite": (np.full(3, 255 / 128), np.full(3, -127 / 128)),
            "half": (np.full(3, 255 / 128), np.full(3, -1.0)),
            "bytes": (np.full(3, 255.0), np.zeros(3)),
        }[self.mode]
        self._factor, self._shift = factor, shift

    def call(self, inputs: Any) -> Any:
        """Returns the scaled images, of the inputs' height and width."""
        images = ops.repeat(inputs, 3, axis=-1) if inputs.shape[-1] == 1 else inputs
        if self.mode == "caffe":
            images = ops.flip(images, axis=-1)
        return images * ops.convert_to_tensor(self._factor, images.dtype) + ops.convert_to_tensor(
            self._shift, images.dtype
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The inputs' shape with three channels."""
        return (*input_shape[:-1], 3)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable("zoo")
class Positions(layers.Layer):
    """Adds a trained vector for each position to (batch, tokens, channels), whose number of tokens is fixed.

    Args:
        deviation: standard deviation of the initial vectors.

    Example:
        >>> Positions()(keras.ops.zeros((2, 5, 8))).shape
        TensorShape([2, 5, 8])
    """

    def __init__(self, deviation: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deviation = deviation

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the vectors, (1, tokens, channels)."""
        initializer = keras.initializers.TruncatedNormal(stddev=self.deviation)
        self.embeddings = self.add_weight(shape=(1, *input_shape[1:]), initializer=initializer, name="embeddings")

    def call(self, inputs: Any) -> Any:
        """Returns the sums."""
        return inputs + ops.cast(self.embeddings, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "deviation": self.deviation}
