"""How TensorFlow runs a model: traced, without cuDNN, in whole float32, or on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    import keras


def traced(function: Callable[..., Any], *, reduce_retracing: bool = True, **options: Any) -> Any:
    """Returns a `tf.function` without TensorFlow's warning about frequent tracing.

    Every run makes its own functions, which is right. TensorFlow counts those of the same code together, and so warns of
    many runs in a process.

    Args:
        function: what is traced.
        reduce_retracing: whether calls with other shapes may share a trace.
        **options: others of `tf.function`.

    Example:
        >>> int(traced(lambda x: x + 1)(tf.constant(2)))
        3
    """
    made = tf.function(function, reduce_retracing=reduce_retracing, **options)
    made._omit_frequent_tracing_warning = True
    return made


@contextlib.contextmanager
def without_cudnn(model: keras.Model) -> Iterator[None]:
    """Makes the recurrent layers of a model compute without cuDNN, which neither XLA nor a CPU can run.

    Example:
        >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])
        >>> with without_cudnn(model):
        ...     model.layers[0].use_cudnn
        False
    """
    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "use_cudnn")]
    before = [layer.use_cudnn for layer in layers]
    try:
        for layer in layers:
            layer.use_cudnn = False
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.use_cudnn = value


@contextlib.contextmanager
def whole_float32() -> Iterator[None]:
    """Disables TensorFloat-32: with its ten bits of mantissa, a GPU's outputs would be too inexact to compare with.

    Example:
        >>> with whole_float32():
        ...     tf.config.experimental.tensor_float_32_execution_enabled()
        False
    """
    shortened = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(shortened)


@contextlib.contextmanager
def on_cpu(model: keras.Model) -> Iterator[None]:
    """Makes a model compute on the CPU, in whole float32, wherever its weights are.

    A GPU sums in another order. In a deep network that changes the fifth digit, which is more than an export may change.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> with on_cpu(model):
        ...     model(tf.zeros((1, 3))).shape
        TensorShape([1, 2])
    """
    with whole_float32(), without_cudnn(model), tf.device("CPU:0"):
        yield
