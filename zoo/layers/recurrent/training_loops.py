"""Recurrent loops with custom gradients, for training.

One product before the loop serves all steps, one product after the loop of the gradient gives the weights' gradients, and a
step only has the small product of the state. Gates are stored for the gradient instead of being computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from zoo.layers.dot_product import once

Tensors = tuple[tf.Tensor, ...]


def _loop(
    count: Any,
    body: Callable[..., tuple[Tensors, Tensors]],
    states: Tensors,
    kept: Sequence[Any],
    backwards: bool = False,
) -> tuple[Tensors, tuple[tf.TensorArray, ...]]:
    """Runs `body(step, *states) -> states, values` for every step; returns the last states, and arrays of the values."""

    @tf.autograph.experimental.do_not_convert
    def step(done: tf.Tensor, states: Tensors, arrays: Any) -> Any:
        t = count - 1 - done if backwards else done
        states, values = body(t, *states)
        return done + 1, states, tuple(a.write(t, v) for a, v in zip(arrays, values, strict=True))

    arrays = tuple(tf.TensorArray(dtype, size=count, element_shape=shape) for dtype, shape in kept)
    start = (tf.constant(0), states, arrays)
    ends: tuple[Any, Tensors, tuple[tf.TensorArray, ...]] = tf.while_loop(
        lambda done, *_: done < count, step, start, parallel_iterations=1, maximum_iterations=count
    )
    return ends[1:]


def _length(values: tf.Tensor) -> Any:
    return values.shape[0] if values.shape[0] is not None else tf.shape(values)[0]


def _flat_product(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns the sum over all steps and rows of the outer products of (steps, batch, n) and (steps, batch, m)."""
    return tf.matmul(tf.reshape(a, [-1, a.shape[-1]]), tf.reshape(b, [-1, b.shape[-1]]), transpose_a=True)


def _before(values: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Returns the values of a state before every step."""
    return tf.concat([start[tf.newaxis], values[:-1]], axis=0)


def _lstm_step(x: tf.Tensor, kernel: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> Tensors:
    i, f, new, o = tf.split(x + tf.matmul(h, kernel), 4, axis=1)
    i, f, new, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(new), tf.sigmoid(o)
    c = f * c + i * new
    squashed = tf.tanh(c)
    return i, f, new, o, squashed, o * squashed, c


@tf.custom_gradient
def lstm(projected: tf.Tensor, kernel: tf.Tensor, start_h: tf.Tensor, start_c: tf.Tensor) -> Any:
    """Returns outputs and carries of all steps, (steps, batch, units) each.

    Args:
        projected: float (steps, batch, 4 * units), the inputs times their weights plus the bias; gates in Keras's order.
        kernel: (units, 4 * units), the states' weights.
        start_h: (batch, units), the first output.
        start_c: (batch, units), the first carry.

    Example:
        >>> state = tf.zeros([2, 3])
        >>> lstm(tf.zeros([5, 2, 12]), tf.zeros([3, 12]), state, state)[1].shape
        TensorShape([5, 2, 3])
    """
    return _lstm_and_gradient(projected, kernel, start_h, start_c)


def lstm_outputs(projected: tf.Tensor, kernel: tf.Tensor, start_h: tf.Tensor, start_c: tf.Tensor) -> Any:
    """Returns the outputs of `lstm` twice, for layers whose carries are not used, so that they need no gradient.

    Example:
        >>> state = tf.zeros([2, 3])
        >>> lstm_outputs(tf.zeros([5, 2, 12]), tf.zeros([3, 12]), state, state)[0].shape
        TensorShape([5, 2, 3])
    """

    @tf.custom_gradient
    def outputs_only(*inputs: tf.Tensor) -> Any:
        (outputs, _), gradient = _lstm_and_gradient(*inputs)
        return outputs, lambda d_outputs: gradient(d_outputs, None)

    outputs = outputs_only(projected, kernel, start_h, start_c)
    return outputs, outputs


def _lstm_and_gradient(projected: tf.Tensor, kernel: tf.Tensor, start_h: tf.Tensor, start_c: tf.Tensor) -> Any:
    count, kept = _length(projected), (start_h.dtype, start_h.shape)

    def forward(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[Tensors, Tensors]:
        *gates, h, new_c = _lstm_step(projected[t], kernel, h, c)
        return (h, new_c), (*gates, h, new_c)

    _, (*gates, outputs, carries) = _loop(count, forward, (start_h, start_c), [kept] * 7)
    outputs, carries = _stacked(outputs, projected, start_h), _stacked(carries, projected, start_h)

    def gradient(d_outputs: tf.Tensor, d_carries: tf.Tensor | None) -> Any:
        turned, c_before = tf.transpose(kernel), _before(carries, start_c)

        def backward(t: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor) -> tuple[Tensors, Tensors]:
            i, f, new, o, squashed = (gate.read(t) for gate in gates)
            dh += d_outputs[t]
            dc += _d_tanh(squashed, dh * o)
            if d_carries is not None:
                dc += d_carries[t]
            d_gates = tf.concat(
                [
                    _d_sigmoid(i, dc * new),
                    _d_sigmoid(f, dc * c_before[t]),
                    _d_tanh(new, dc * i),
                    _d_sigmoid(o, dh * squashed),
                ],
                axis=1,
            )
            dh, dc = tf.matmul(d_gates, turned), dc * f
            return (dh, dc), (d_gates,)

        zeros = tf.zeros_like(start_h)
        kept_gates = (start_h.dtype, projected.shape[1:])
        (dh, dc), (d_gates,) = _loop(count, backward, (zeros, zeros), [kept_gates], backwards=True)
        d_projected = d_gates.stack()
        return once(d_projected, _flat_product(_before(outputs, start_h), d_projected), dh, dc)

    return (outputs, carries), gradient


def _gru_step(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor) -> Tensors:
    x_z, x_r, x_new = tf.split(x, 3, axis=1)
    z, r, inner = tf.split(tf.nn.bias_add(tf.matmul(h, kernel), bias), 3, axis=1)
    z, r = tf.sigmoid(x_z + z), tf.sigmoid(x_r + r)
    new = tf.tanh(x_new + r * inner)
    return z, r, inner, new, h - new, new + z * (h - new)


@tf.custom_gradient
def gru(projected: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, start: tf.Tensor) -> Any:
    """Returns the outputs of all steps, (steps, batch, units), of a GRU with the reset gate after the product.

    Args:
        projected: float (steps, batch, 3 * units), the inputs times their weights plus their bias; gates in Keras's order.
        kernel: (units, 3 * units), the states' weights.
        bias: (3 * units,), added to the states' product.
        start: (batch, units), the first output.

    Example:
        >>> gru(tf.zeros([5, 2, 9]), tf.zeros([3, 9]), tf.zeros([9]), tf.zeros([2, 3])).shape
        TensorShape([5, 2, 3])
    """
    count, kept = _length(projected), (start.dtype, start.shape)

    def forward(t: tf.Tensor, h: tf.Tensor) -> tuple[Tensors, Tensors]:
        *gates, h = _gru_step(projected[t], kernel, bias, h)
        return (h,), (*gates, h)

    _, (*gates, outputs) = _loop(count, forward, (start,), [kept] * 6)
    outputs = _stacked(outputs, projected, start)

    def gradient(d_outputs: tf.Tensor) -> Any:
        turned = tf.transpose(kernel)

        def backward(t: tf.Tensor, dh: tf.Tensor) -> tuple[Tensors, Tensors]:
            z, r, inner, new, change = (gate.read(t) for gate in gates)
            dh += d_outputs[t]
            kept_part = dh * z
            d_new = _d_tanh(new, dh - kept_part)
            d_z, d_r = _d_sigmoid(z, dh * change), _d_sigmoid(r, d_new * inner)
            d_gates = tf.concat([d_z, d_r, d_new * r], axis=1)
            dh = kept_part + tf.matmul(d_gates, turned)
            return (dh,), (d_gates, tf.concat([d_z, d_r, d_new], axis=1))

        kept_gates = (start.dtype, projected.shape[1:])
        begin = (tf.zeros_like(start),)
        (dh,), arrays = _loop(count, backward, begin, [kept_gates, kept_gates], backwards=True)
        d_gates, d_projected = (array.stack() for array in arrays)
        d_kernel = _flat_product(_before(outputs, start), d_gates)
        return once(d_projected, d_kernel, tf.reduce_sum(d_gates, axis=[0, 1]), dh)

    return outputs, gradient


def _stacked(array: tf.TensorArray, projected: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
    values = array.stack()
    values.set_shape([*projected.shape[:2], state.shape[-1]])
    return values


def _d_sigmoid(y: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """Gradient of sigmoid's input from its output, in one op instead of three."""
    return tf.raw_ops.SigmoidGrad(y=y, dy=dy)


def _d_tanh(y: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """Gradient of tanh's input, from its output."""
    return tf.raw_ops.TanhGrad(y=y, dy=dy)
