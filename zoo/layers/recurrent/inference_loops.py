"""Recurrent loops for the forward pass only, with several steps per iteration, or with all steps in one op.

A step of a recurrent layer is a dozen ops on small tensors, and most of its cost is to start them. Here an iteration holds
several steps, and states are (units, batch). Then splitting a product into gates moves no data, because gates are rows.
`block_lstm` is one TensorFlow op for all steps, the fastest for few examples at a time. Other runtimes support the loops but
not that op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Tensors = tuple[tf.Tensor, ...]

_STEPS = 8
"""Steps per iteration: more steps mean more padding of short series, and fewer mean more overhead of the loop."""
_ORDER = (0, 2, 1, 3)
"""Order of Keras's gates i, f, candidate, o in `BlockLSTM`: i, candidate, f, o."""


def lstm(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None,
    h: tf.Tensor,
    c: tf.Tensor,
    needs_carries: bool = True,
    portable: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns outputs and carries of all steps.

    Args:
        inputs: float (steps, channels, batch).
        kernel: (channels, 4 * units), the inputs' weights; gates in Keras's order: input, forget, candidate, output.
        recurrent_kernel: (units, 4 * units), the states' weights.
        bias: (4 * units,), or None.
        h: (batch, units), the first output.
        c: (batch, units), the first carry.
        needs_carries: whether to return carries; otherwise the outputs are returned in their place.
        portable: whether LiteRT must be able to convert it. LiteRT's tensor lists have no dynamic batch. A fifth slower.

    Returns:
        Two tensors (steps, units, batch).

    Example:
        >>> units, x, state = 3, tf.zeros([5, 4, 2]), tf.zeros([2, 3])
        >>> lstm(x, tf.zeros([4, 12]), tf.zeros([3, 12]), tf.zeros([12]), state, state)[0].shape
        TensorShape([5, 3, 2])
    """
    rows = [kernel, recurrent_kernel]
    if bias is not None:
        # A channel that is always 1. Its weights are the bias, so no step adds a bias.
        rows.insert(1, tf.expand_dims(bias, 0))
        inputs = tf.pad(inputs, [[0, 0], [0, 1], [0, 0]], constant_values=1.0)
    i, f, new, o = tf.split(tf.transpose(tf.concat(rows, axis=0)), 4, axis=0)
    weights, units = tf.concat([i, f, o, new], axis=0), recurrent_kernel.shape[0]

    def step(x: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> Tensors:
        gates, new = tf.split(tf.matmul(weights, tf.concat([x, h], axis=0)), [3 * units, units], axis=0)
        i, f, o = tf.split(tf.sigmoid(gates), 3, axis=0)
        c = f * c + i * tf.tanh(new)
        return o * tf.tanh(c), c

    outputs, *carries = _run(step, inputs, (h, c), kept=2 if needs_carries else 1, portable=portable)
    return outputs, carries[0] if needs_carries else outputs


def gru(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tuple[tf.Tensor, tf.Tensor],
    h: tf.Tensor,
    portable: bool = False,
) -> tf.Tensor:
    """Returns the outputs of all steps, (steps, units, batch), of a GRU with the reset gate after the product.

    Args:
        inputs: float (steps, channels, batch).
        kernel: (channels, 3 * units), the inputs' weights; gates in Keras's order: update, reset, candidate.
        recurrent_kernel: (units, 3 * units), the states' weights.
        bias: two biases (3 * units,), added to the inputs' product and to the states' product.
        h: (batch, units), the first output.
        portable: as in `lstm`.

    Example:
        >>> bias = tf.zeros([9]), tf.zeros([9])
        >>> gru(tf.zeros([5, 4, 2]), tf.zeros([4, 9]), tf.zeros([3, 9]), bias, tf.zeros([2, 3])).shape
        TensorShape([5, 3, 2])
    """
    units = recurrent_kernel.shape[0]

    def parts(values: tf.Tensor) -> list[tf.Tensor]:
        return tf.split(values, [2 * units, units], axis=0)

    (x_gates, x_new), (h_gates, h_new) = parts(tf.transpose(kernel)), parts(tf.transpose(recurrent_kernel))
    (x_gates_bias, x_new_bias), (h_gates_bias, h_new_bias) = (parts(tf.expand_dims(b, 1)) for b in bias)
    # Inputs and states are concatenated: one product computes both gates. The candidate needs two products, because the reset
    # gate scales one of them.
    gates, gates_bias = tf.concat([x_gates, h_gates], axis=1), x_gates_bias + h_gates_bias

    def step(x: tf.Tensor, h: tf.Tensor) -> Tensors:
        z, r = tf.split(tf.sigmoid(tf.matmul(gates, tf.concat([x, h], axis=0)) + gates_bias), 2, axis=0)
        new = tf.tanh(tf.matmul(x_new, x) + x_new_bias + r * (tf.matmul(h_new, h) + h_new_bias))
        return (new + z * (h - new),)

    (outputs,) = _run(step, inputs, (h,), kept=1, portable=portable)
    return outputs


def _run(step: Callable[..., Tensors], inputs: tf.Tensor, states: Tensors, kept: int, portable: bool) -> Tensors:
    """Runs `step(x, *states) -> states` over inputs (steps, channels, batch) from states (batch, units). Returns the first
    `kept` states after every step, (steps, units, batch).

    Inside, all tensors are transposed: x (channels, batch), states (units, batch). Inputs are multiplied with their weights
    step by step, because the products of all steps are a large tensor that does not fit in the caches.
    """
    known, units = inputs.shape[0], states[0].shape[1]
    count = tf.shape(inputs)[0] if known is None else known
    size = _STEPS if known is None else _chunk(known)
    chunks = (count + size - 1) // size
    x = inputs
    if known is None or chunks * size > known:
        x = tf.pad(x, [[0, chunks * size - count], [0, 0], [0, 0]])
    x = tf.reshape(x, tf.stack([chunks, size, inputs.shape[1], tf.shape(inputs)[2]]))
    x.set_shape([None if known is None else chunks, size, inputs.shape[1], inputs.shape[2]])

    @tf.autograph.experimental.do_not_convert
    def several(chunk: tf.Tensor, *states: tf.Tensor) -> tuple[Tensors, Tensors]:
        seen = []
        for one in tf.unstack(chunk, num=size):
            states = step(one, *states)
            seen.append(states[:kept])
        return states, tuple(tf.stack(values) for values in zip(*seen, strict=True))

    turned = tuple(tf.transpose(state) for state in states)
    if known is not None and chunks == 1:
        _, values = several(x[0], *turned)
        return values
    wanted = (_written_in_place if portable else _written_to_lists)(several, x, turned, kept)
    results = []
    for array in wanted:
        values = tf.reshape(array, tf.stack([chunks * size, units, tf.shape(inputs)[2]]))[:count]
        values.set_shape([known, units, inputs.shape[2]])
        results.append(values)
    return tuple(results)


def _written_to_lists(several: Callable[..., tuple[Tensors, Tensors]], x: tf.Tensor, states: Tensors, kept: int) -> Any:
    """Runs `several` over chunks of steps; returns the kept states, (chunks, steps of a chunk, units, batch)."""
    chunks, shape = tf.shape(x)[0], [x.shape[1], *states[0].shape]

    @tf.autograph.experimental.do_not_convert
    def body(done: tf.Tensor, states: Tensors, arrays: Any) -> Any:
        states, values = several(x[done], *states)
        return done + 1, states, tuple(a.write(done, v) for a, v in zip(arrays, values, strict=True))

    arrays = tuple(tf.TensorArray(s.dtype, size=chunks, element_shape=shape) for s in states[:kept])
    *_, arrays = _loop(chunks, body, (tf.constant(0), states, arrays))
    return [array.stack() for array in arrays]


def _written_in_place(several: Callable[..., tuple[Tensors, Tensors]], x: tf.Tensor, states: Tensors, kept: int) -> Any:
    """The same as `_written_to_lists`, without tensor lists."""
    chunks = tf.shape(x)[0]

    @tf.autograph.experimental.do_not_convert
    def body(done: tf.Tensor, states: Tensors, arrays: Tensors) -> Any:
        states, values = several(x[done], *states)
        place = tf.reshape(done, [1, 1])
        written = [tf.tensor_scatter_nd_update(a, place, v[tf.newaxis]) for a, v in zip(arrays, values, strict=True)]
        return done + 1, states, tuple(written)

    sizes = tf.stack([chunks, x.shape[1], states[0].shape[0], tf.shape(x)[3]])
    arrays = tuple(tf.zeros(sizes, s.dtype) for s in states[:kept])
    known = tf.TensorShape([x.shape[0], x.shape[1], *states[0].shape])
    start = (tf.constant(0), states, arrays)
    shapes = (tf.TensorShape([]), tuple(s.shape for s in states), (known,) * kept)
    return _loop(chunks, body, start, shapes)[-1]


def _loop(chunks: tf.Tensor, body: Callable[..., Any], start: Any, shapes: Any = None) -> Any:
    return tf.while_loop(
        lambda done, *_: done < chunks,
        body,
        start,
        shape_invariants=shapes,
        parallel_iterations=1,
        maximum_iterations=chunks,
    )


def _chunk(steps: int) -> int:
    """Returns the steps per iteration for a known number of steps: all if there are few, or else a divisor close to the
    default, or else the default, with some padding."""
    if steps <= 2 * _STEPS:
        return max(steps, 1)
    divisor = max(size for size in range(1, 2 * _STEPS + 1) if steps % size == 0)
    return divisor if 2 * divisor >= _STEPS else _STEPS


def packed(kernel: Any, recurrent_kernel: Any, bias: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns an LSTM's weights in the layout of `block_lstm`: (channels + units, 4 * units) and (4 * units,).

    Args:
        kernel: (channels, 4 * units), gates in Keras's order.
        recurrent_kernel: (units, 4 * units).
        bias: (4 * units,), or None.
    """
    weights = tf.concat([kernel, recurrent_kernel], axis=0)
    bias = tf.zeros_like(weights[0]) if bias is None else tf.convert_to_tensor(bias)
    ordered = []
    for values in (weights, bias):
        gates = tf.split(values, 4, axis=-1)
        ordered.append(tf.concat([gates[i] for i in _ORDER], axis=-1))
    return ordered[0], ordered[1]


def block_lstm(
    inputs: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns outputs and carries of all steps, as in `lstm`, from one core TensorFlow op.

    Args:
        inputs: float32 (steps, batch, channels).
        weights: (channels + units, 4 * units), from `packed`.
        bias: (4 * units,), from `packed`.
        h: (batch, units), the first output.
        c: (batch, units), the first carry.
    """

    peephole = tf.zeros_like(bias[: h.shape[1]])
    answer = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.shape(inputs, tf.int64)[0],
        x=inputs,
        cs_prev=c,
        h_prev=h,
        w=weights,
        wci=peephole,
        wcf=peephole,
        wco=peephole,
        b=bias,
        forget_bias=0.0,
        cell_clip=-1.0,
        use_peephole=False,
    )
    for values in (answer.h, answer.cs):
        values.set_shape([*inputs.shape[:2], h.shape[1]])
    return answer.h, answer.cs
