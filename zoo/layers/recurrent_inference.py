"""Recurrent loops of the forward pass alone: several steps to an iteration, or all of them in one op.

A step of a recurrent layer is a dozen ops on small tensors, and what it costs is starting them. Here an iteration holds
several steps, and states are (units, batch): then splitting a product into its gates moves no data, because gates are rows.
Where TensorFlow computes alone, `block_lstm` is one op for all steps, the fastest for one example at a time; what reads
SavedModels besides TensorFlow knows the loops and not that op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Tensors = tuple[tf.Tensor, ...]

_STEPS = 8
"""Steps to an iteration: with more, short series are computed with more padding; with fewer, the loop shows."""
_MANY = 64
"""Rows of a batch from which two ops, at the same time, share them."""
_ORDER = (0, 2, 1, 3)
"""Keras's gates i, f, candidate, o as `BlockLSTM` has them: i, candidate, f, o."""


def lstm(
    projected: tf.Tensor,
    kernel: tf.Tensor,
    h: tf.Tensor,
    c: tf.Tensor,
    needs_carries: bool = True,
    portable: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns outputs and carries of all steps.

    Args:
        projected: float (steps, 4 * units, batch), inputs times their weights plus the bias; gates in Keras's order: input,
            forget, candidate, output.
        kernel: (units, 4 * units), the recurrent weights.
        h: (batch, units), the first output.
        c: (batch, units), the first carry.
        needs_carries: whether carries are wanted; else the outputs are returned in their place.
        portable: whether LiteRT must convert it too, whose lists of tensors know no dynamic batch; slower by a fifth.

    Returns:
        Two tensors (steps, units, batch).

    Example:
        >>> lstm(tf.zeros([5, 12, 2]), tf.zeros([3, 12]), tf.zeros([2, 3]), tf.zeros([2, 3]))[0].shape
        TensorShape([5, 3, 2])
    """
    turned = tf.transpose(kernel)

    def step(x: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> Tensors:
        i, f, new, o = tf.split(x + tf.matmul(turned, h), 4, axis=0)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(new)
        return tf.sigmoid(o) * tf.tanh(c), c

    outputs, *carries = _run(step, projected, (h, c), kept=2 if needs_carries else 1, portable=portable)
    return outputs, carries[0] if needs_carries else outputs


def gru(projected: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, portable: bool = False) -> tf.Tensor:
    """Returns the outputs of all steps, (steps, units, batch), of a GRU whose reset gate comes after the product.

    Args:
        projected: float (steps, 3 * units, batch), inputs times their weights plus their bias; gates in Keras's order:
            update, reset, candidate.
        kernel: (units, 3 * units), the recurrent weights.
        bias: (3 * units,), added to the state's product.
        h: (batch, units), the first output.
        portable: as for `lstm`.

    Example:
        >>> gru(tf.zeros([5, 9, 2]), tf.zeros([3, 9]), tf.zeros([9]), tf.zeros([2, 3])).shape
        TensorShape([5, 3, 2])
    """
    units = kernel.shape[0]
    gates, candidate = tf.split(tf.transpose(kernel), [2 * units, units], axis=0)
    # The gates' bias is added once, outside; the candidate's stands inside the reset gate's product.
    projected += tf.expand_dims(tf.concat([bias[: 2 * units], tf.zeros_like(bias[2 * units :])], axis=0), 1)
    inner_bias = tf.expand_dims(bias[2 * units :], 1)

    def step(x: tf.Tensor, h: tf.Tensor) -> Tensors:
        x_gates, x_new = tf.split(x, [2 * units, units], axis=0)
        z, r = tf.split(tf.sigmoid(x_gates + tf.matmul(gates, h)), 2, axis=0)
        new = tf.tanh(x_new + r * (tf.matmul(candidate, h) + inner_bias))
        return (new + z * (h - new),)

    (outputs,) = _run(step, projected, (h,), kept=1, portable=portable)
    return outputs


def _run(step: Callable[..., Tensors], projected: tf.Tensor, states: Tensors, kept: int, portable: bool) -> Tensors:
    """Runs `step(x, *states) -> states` over projected inputs (steps, gates, batch); returns what the first `kept` states
    are after every step.

    Inside, everything is turned: x (gates, batch), states (units, batch).
    """
    known, units = projected.shape[0], states[0].shape[1]
    count = tf.shape(projected)[0] if known is None else known
    size = _STEPS if known is None else _chunk(known)
    chunks = (count + size - 1) // size
    x = projected
    if known is None or chunks * size > known:
        x = tf.pad(x, [[0, chunks * size - count], [0, 0], [0, 0]])
    x = tf.reshape(x, tf.stack([chunks, size, projected.shape[1], tf.shape(projected)[2]]))
    x.set_shape([None if known is None else chunks, size, projected.shape[1], projected.shape[2]])

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
        values = tf.reshape(array, tf.stack([chunks * size, units, tf.shape(projected)[2]]))[:count]
        values.set_shape([known, units, projected.shape[2]])
        results.append(values)
    return tuple(results)


def _written_to_lists(several: Callable[..., tuple[Tensors, Tensors]], x: tf.Tensor, states: Tensors, kept: int) -> Any:
    """Runs `several` over chunks of steps; returns what is kept, (chunks, steps of a chunk, units, batch)."""
    chunks, shape = tf.shape(x)[0], [x.shape[1], *states[0].shape]

    @tf.autograph.experimental.do_not_convert
    def body(done: tf.Tensor, states: Tensors, arrays: Any) -> Any:
        states, values = several(x[done], *states)
        return done + 1, states, tuple(a.write(done, v) for a, v in zip(arrays, values, strict=True))

    arrays = tuple(tf.TensorArray(s.dtype, size=chunks, element_shape=shape) for s in states[:kept])
    *_, arrays = _loop(chunks, body, (tf.constant(0), states, arrays))
    return [array.stack() for array in arrays]


def _written_in_place(several: Callable[..., tuple[Tensors, Tensors]], x: tf.Tensor, states: Tensors, kept: int) -> Any:
    """As `_written_to_lists`, without lists of tensors."""
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
    """Returns how many of a known number of steps make an iteration: all of a few, else a divisor near to the usual, else
    the usual, with some padding."""
    if steps <= 2 * _STEPS:
        return max(steps, 1)
    divisor = max(size for size in range(1, 2 * _STEPS + 1) if steps % size == 0)
    return divisor if 2 * divisor >= _STEPS else _STEPS


def folded(kernel: Any, recurrent_kernel: Any, bias: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns an LSTM's weights as `block_lstm` takes them: (channels + units, 4 * units) and (4 * units,).

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
    """Returns outputs and carries of all steps, as `lstm`, from one op of TensorFlow's core.

    Args:
        inputs: float32 (steps, batch, channels).
        weights: (channels + units, 4 * units), made by `folded`.
        bias: (4 * units,), likewise.
        h: (batch, units), the first output.
        c: (batch, units), the first carry.
    """

    def run(*rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs, h, c = rows
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
        return answer.h, answer.cs

    def halves() -> tuple[tf.Tensor, tf.Tensor]:
        half = count // 2
        first, second = run(inputs[:, :half], h[:half], c[:half]), run(inputs[:, half:], h[half:], c[half:])
        outputs, carries = (tf.concat(pair, axis=1) for pair in zip(first, second, strict=True))
        return outputs, carries

    # The op makes little use of a second thread; two of them do.
    count = tf.shape(inputs)[1]
    outputs, carries = tf.cond(count < _MANY, lambda: run(inputs, h, c), halves)
    for values in (outputs, carries):
        values.set_shape([*inputs.shape[:2], h.shape[1]])
    return outputs, carries
