"""Last layers and argument checks of all model families."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from zoo.errors import UsageError, did_you_mean


def classifier(
    x: keras.KerasTensor, num_classes: int, activation: str | None, initializer: Any = "glorot_uniform"
) -> keras.KerasTensor:
    """The last layer: `probabilities` (softmax, or sigmoid for several labels at once), `logits` (no activation) or `values`
    (linear: numbers to predict).

    It is always float32 or better, with any precision policy. Half-precision probabilities do not sum to one, and other
    runtimes silently read a bfloat16 output as float16.
    """
    name, dtype = output_name(num_classes, activation), output_dtype()
    layer = layers.Dense(num_classes, activation=activation, kernel_initializer=initializer, dtype=dtype, name=name)
    return layer(x)


def output_name(num_classes: int, activation: str | None) -> str:
    """Returns the last layer's name for an activation: `probabilities`, `logits` or `values`.

    Raises:
        UsageError: another activation, or classes of which there are fewer than two.
    """
    check_positive(num_classes=num_classes)
    names = {"softmax": "probabilities", "sigmoid": "probabilities", None: "logits", "linear": "values"}
    if activation not in names:
        raise UsageError(
            f"classifier_activation is {activation!r}. Pass 'softmax' for probabilities, 'sigmoid' for those of several "
            "labels, None for logits, or 'linear' for numbers."
        )
    if num_classes == 1 and activation != "linear":
        raise UsageError("num_classes is 1: the output would always be the same. Pass at least 2.")
    return names[activation]


def output_dtype() -> str:
    """Returns the dtype of last layers, float32 or better."""
    return "float64" if keras.config.floatx() == "float64" else "float32"


def check_positive(**sizes: int) -> None:
    """Raises UsageError for the first size that is not a positive integer."""
    for name, value in sizes.items():
        if not _is_positive(value):
            raise UsageError(
                f"{name} is {value!r}; expected a whole number of at least 1. Pass {name}=10, or int(...) of a NumPy number."
            )


def check_each_positive(**sizes: Sequence[int]) -> None:
    """Raises UsageError for the first argument that is not a list or tuple of positive integers. It may be empty."""
    for name, values in sizes.items():
        if not isinstance(values, (list, tuple)) or not all(_is_positive(value) for value in values):
            raise UsageError(
                f"{name} is {values!r}; expected whole numbers of at least 1. Pass a list, {name}=[32, 64]."
            )


def check_input_shape(input_shape: Sequence[int]) -> None:
    """Raises UsageError unless `input_shape` is a list or tuple of at least one positive integer."""
    if not isinstance(input_shape, (list, tuple)) or not input_shape or not all(map(_is_positive, input_shape)):
        raise UsageError(
            f"input_shape is {input_shape!r}; expected the fixed sizes of one example. "
            "Pass input_shape=(784,) or (28, 28, 1), say."
        )


def check_image_shape(input_shape: Sequence[int]) -> None:
    """Raises UsageError unless `input_shape` is (height, width, channels)."""
    shape = input_shape if isinstance(input_shape, (list, tuple)) else ()
    if len(shape) != 3 or not all(_is_positive(size) for size in shape):
        raise UsageError(
            f"input_shape is {input_shape!r}; expected (height, width, channels). Pass input_shape=(28, 28, 1), say."
        )


def check_fraction(**fractions: float) -> None:
    """Raises UsageError for the first value that is not a number of at least 0 and below 1."""
    for name, value in fractions.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise UsageError(f"{name} is {value!r}; expected a fraction. Pass at least 0 and less than 1.")


def check_factor(**factors: float) -> None:
    """Raises UsageError for the first value that is not a number above 0 and below 100."""
    for name, value in factors.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 100:
            raise UsageError(f"{name} is {value!r}; expected a factor above 0. Pass {name}=1.0, say.")


def check_divides(num_heads: int, **channels: int) -> None:
    """Raises UsageError unless `num_heads` divides every number of channels."""
    for name, value in channels.items():
        if value % num_heads:
            raise UsageError(
                f"{name}={value} is not divisible by num_heads={num_heads}. Pass a multiple of {num_heads}."
            )


def check_activation(**activations: str) -> None:
    """Raises UsageError for the first name that is not a Keras activation."""
    for name, value in activations.items():
        try:
            known = isinstance(value, str) and keras.activations.get(value) is not None
        except ValueError:
            known = False
        if not known:
            names = [n for n in vars(keras.activations) if n.islower() and n not in ("get", "serialize", "deserialize")]
            raise UsageError(f"{name} is {value!r}. {did_you_mean(str(value), names)}")


def numbered(model: keras.Model, name: str) -> list[Any]:
    """Returns the layers `NAME_1`, `NAME_2`, ... of a model in the order of their numbers.

    Raises:
        UsageError: the model has no such layer.
    """
    found = {int(m[1]): layer for layer in model.layers if (m := re.fullmatch(rf"{name}_(\d+)", layer.name))}
    if not found:
        raise UsageError(f"Model {model.name!r} has no layer {name}_1. Pass a model from zoo.build.")
    return [found[number] for number in sorted(found)]


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
