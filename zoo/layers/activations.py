"""Activations of Transformer blocks, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def gelu(x: Any) -> tf.Tensor:
    """Returns x times the normal distribution function of x, of the inputs' shape and dtype.

    It uses the error function. TensorFlow's implementation uses its complement, which other runtimes do not support.
    Source: Hendrycks and Gimpel, Gaussian error linear units, 2016, arXiv:1606.08415.

    Example:
        >>> round(float(gelu(tf.constant(1.0))), 4)
        0.8413
    """
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


def gelu_tanh(x: Any) -> tf.Tensor:
    """Returns GELU's approximation by the hyperbolic tangent, with an error of up to 5e-4.

    Example:
        >>> round(float(gelu_tanh(tf.constant(1.0))), 4)
        0.8412
    """
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


ACTIVATIONS: dict[str, Callable[[Any], tf.Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "tanh": tf.tanh,
}
