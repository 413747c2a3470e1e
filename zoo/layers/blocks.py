"""Blocks that end or check every family."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from zoo.errors import UsageError


def classifier(x: keras.KerasTensor, num_classes: int, activation: str | None) -> keras.KerasTensor:
    """The last layer of a classifier: `probabilities` (softmax) or `logits` (no activation), float32 or better.

    Never less, whatever the precision policy is: half-precision probabilities do not sum to one, and other runtimes read
    a bfloat16 output as float16 without a word.
    """
    name = "logits" if activation is None else "probabilities"
    dtype = "float64" if keras.config.floatx() == "float64" else "float32"
    return layers.Dense(num_classes, activation=activation, dtype=dtype, name=name)(x)


def check_positive(**sizes: int | Sequence[int] | None) -> None:
    """Raises UsageError for the first size that is not a positive integer; None means "none" and passes."""
    for name, value in sizes.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        for number in values:
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise UsageError(
                    f"{name} is {value!r}; expected positive integers. Pass {name} with sizes of 1 or more."
                )
