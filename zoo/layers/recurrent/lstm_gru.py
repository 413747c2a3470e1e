"""LSTM and GRU with Keras's weights, results and options, in loops with less work per step.

Keras multiplies the inputs with their weights at every step, and sums the gradients of all weights at every step. Here one
product before the loop serves all steps, one product after the loop of the gradient gives the weights' gradients, and a
step only has the small product of the state. Masks need no work inside the loop: real steps are moved to the front. This
does not change the result, because a masked step passes the state on unchanged.

The loops consist of core TensorFlow ops for any length, batch and float type, so they train on several devices and run in a
served SavedModel. Keras's own implementation is used for options that these loops do not support (other activations, dropout
between steps, `reset_after=False`), and if there is a GPU kernel.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers
from keras.src.backend import AutocastScope

from zoo.layers.recurrent import inference_loops, training_loops

Tensors = tuple[tf.Tensor, ...]

LIVE, SHARED, PORTABLE = "live", "shared", "portable"
"""Forms of the graph for inference: of a model in Python; of a SavedModel for TensorFlow, in which two loops share the rows
of a large batch, because a loop of small ops hardly uses a second thread; and of a SavedModel for all other runtimes."""
_MANY = 64
"""Minimum number of rows of a batch that two loops share."""


class _DrawsToTrain:
    """Draws dropout masks only if they drop something. Keras draws and counts them at every call. A served graph would then
    contain unneeded random numbers and a state, which other runtimes cannot convert."""

    def _maybe_config_dropout_masks(self, cell: Any, sequence: Any, state: Any) -> None:
        """Does nothing: Keras draws here, before it is known whether this is training."""

    def _draw(self, training: Any, sequences: Any, state: Any) -> None:
        if training is not None and training is not False:
            super()._maybe_config_dropout_masks(self.cell, sequences[:, 0, :], state)  # type: ignore[misc,attr-defined]


@keras.saving.register_keras_serializable("zoo")
class LSTM(_DrawsToTrain, layers.LSTM):
    """Keras's LSTM, faster on a CPU: (batch, steps, channels) to (batch, units), or to outputs of all steps.

    Arguments, weights, their names, masks, states and results are those of `keras.layers.LSTM`. In half precision the steps
    run in float32. With `training=True`, second derivatives are an error. Source: Hochreiter and Schmidhuber, Long short-term
    memory, Neural Computation 9(8), 1997.

    Example:
        >>> LSTM(4, return_sequences=True)(keras.ops.zeros((2, 5, 3))).shape
        TensorShape([2, 5, 4])
    """

    form = LIVE
    """`LIVE`, `SHARED` or `PORTABLE`."""
    packed: tuple[Any, Any] | None = None
    """Weights in the layout of TensorFlow's fused op. If they are set, that op is used for small batches in inference."""

    def pack_weights(self) -> tuple[tf.Tensor, ...]:
        """Returns the layer's weights in the layout of TensorFlow's fused op, as variables for `packed`; nothing if that op
        cannot compute this layer."""
        unusual = not _is_usual(self) or (self.zero_output_for_mask and not self.return_sequences)
        if unusual or self.compute_dtype != "float32":
            return ()
        weights = [self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias]
        return inference_loops.packed(*(None if w is None else tf.convert_to_tensor(w) for w in weights))

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: Any = False) -> Any:
        """Returns last output, all outputs and states, as Keras's layer does."""
        self._draw(training, sequences, initial_state)
        if not _has_a_loop(self, training):
            with _exact_kernel(self, sequences, initial_state) as (sequences, initial_state, finish):
                return finish(super().inner_loop(sequences, initial_state, mask=mask, training=training))
        weights = [self.cell.kernel, self.cell.recurrent_kernel]
        kernel, recurrent_kernel = (_full(tf.convert_to_tensor(w)) for w in weights)
        if training:
            steps = _Steps(_dropped(self, sequences, training), mask, self.go_backwards)
            h, c = (_full(state) for state in initial_state)
            loop = training_loops.lstm if _needs_states(self) else training_loops.lstm_outputs
            outputs, carries = loop(steps.projected(kernel, self.cell.bias), recurrent_kernel, h, c)
            return steps.results(self, outputs, [(outputs, h), (carries, c)])
        bias = None if self.cell.bias is None else _full(tf.convert_to_tensor(self.cell.bias))

        def loops(steps: _Steps, h: tf.Tensor, c: tf.Tensor) -> Any:
            outputs, carries = inference_loops.lstm(
                steps.turned(), kernel, recurrent_kernel, bias, h, c, _needs_states(self), self.form == PORTABLE
            )
            return steps.turned_results(self, outputs, [(outputs, h), (carries, c)])

        if self.packed is None:
            return _answer(self, loops, loops, sequences, mask, initial_state)
        packed, packed_bias = self.packed

        def fused(steps: _Steps, h: tf.Tensor, c: tf.Tensor) -> Any:
            x = tf.transpose(steps.inputs, [1, 0, 2])
            outputs, carries = inference_loops.block_lstm(x, packed, packed_bias, h, c)
            return steps.results(self, outputs, [(outputs, h), (carries, c)])

        return _answer(self, fused, loops, sequences, mask, initial_state)


@keras.saving.register_keras_serializable("zoo")
class GRU(_DrawsToTrain, layers.GRU):
    """Keras's GRU, faster on a CPU: (batch, steps, channels) to (batch, units), or to outputs of all steps.

    Arguments, weights, their names, masks, states and results are those of `keras.layers.GRU`. In half precision the steps
    run in float32. With `training=True`, second derivatives are an error. Source: Cho et al., Learning phrase representations
    using RNN encoder-decoder for statistical machine translation, EMNLP 2014; with the reset gate after the product.

    Example:
        >>> GRU(4, return_sequences=True)(keras.ops.zeros((2, 5, 3))).shape
        TensorShape([2, 5, 4])
    """

    form = LIVE
    """`LIVE`, `SHARED` or `PORTABLE`."""

    def pack_weights(self) -> tuple[tf.Tensor, ...]:
        """Returns nothing, because TensorFlow has no fused op for this layer."""
        return ()

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: Any = False) -> Any:
        """Returns last output, all outputs and states, as Keras's layer does."""
        self._draw(training, sequences, initial_state)
        if not _has_a_loop(self, training) or not self.reset_after:
            with _exact_kernel(self, sequences, initial_state) as (sequences, initial_state, finish):
                return finish(super().inner_loop(sequences, initial_state, mask=mask, training=training))
        weights = [self.cell.kernel, self.cell.recurrent_kernel]
        kernel, recurrent_kernel = (_full(tf.convert_to_tensor(w)) for w in weights)
        input_bias = recurrent_bias = tf.zeros_like(kernel[0])
        if self.use_bias:
            input_bias, recurrent_bias = tf.unstack(_full(tf.convert_to_tensor(self.cell.bias)))
        if training:
            steps = _Steps(_dropped(self, sequences, training), mask, self.go_backwards)
            h = _full(tf.nest.flatten(initial_state)[0])
            outputs = training_loops.gru(steps.projected(kernel, input_bias), recurrent_kernel, recurrent_bias, h)
            return steps.results(self, outputs, [(outputs, h)])
        bias = (input_bias, recurrent_bias)

        def loop(steps: _Steps, h: tf.Tensor) -> Any:
            outputs = inference_loops.gru(steps.turned(), kernel, recurrent_kernel, bias, h, self.form == PORTABLE)
            return steps.turned_results(self, outputs, [(outputs, h)])

        return _answer(self, loop, loop, sequences, mask, initial_state)


def _answer(
    layer: Any, few: Callable[..., Any], many: Callable[..., Any], sequences: tf.Tensor, mask: Any, states: Any
) -> Any:
    """Returns the outputs of a layer in inference: `few(steps, *states)`, or `many` for each half of a large batch."""
    sequences, mask = _full(sequences), None if mask is None else tf.nest.flatten(mask)[0]
    states = [_full(state) for state in tf.nest.flatten(states)]

    def of(loop: Callable[..., Any], rows: slice) -> Any:
        steps = None if mask is None else mask[rows]
        return loop(sequences[rows], steps, *(state[rows] for state in states))

    def on_steps(loop: Callable[..., Any]) -> Callable[..., Any]:
        return lambda inputs, mask, *states: loop(_Steps(inputs, mask, layer.go_backwards), *states)

    if layer.form != SHARED:
        return on_steps(few)(sequences, mask, *states)
    count = tf.shape(sequences)[0]
    # Traced once for both halves, and for few rows if they are computed in the same way.
    once = tf.function(on_steps(many), autograph=False, reduce_retracing=True)

    def halves() -> Any:
        parts = [of(once, slice(None, count // 2)), of(once, slice(count // 2, None))]
        return tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *parts)

    def every_row() -> Any:
        return (once if few is many else on_steps(few))(sequences, mask, *states)

    return tf.cond(count < _MANY, every_row, halves)


def _has_a_loop(layer: Any, training: Any) -> bool:
    """Whether the loops of this package compute a layer, used in this way."""
    return (
        isinstance(training, (bool, type(None)))
        and _is_usual(layer)
        and not (training and layer.recurrent_dropout)
        and (layer.return_sequences or not layer.zero_output_for_mask)
        and (layer.form != LIVE or not (layer.unroll or _has_a_kernel(layer)))
    )


def _has_a_kernel(layer: Any) -> bool:
    """Whether Keras would use a GPU kernel."""
    return layer.use_cudnn is True or (layer.use_cudnn == "auto" and bool(tf.config.list_logical_devices("GPU")))


@contextlib.contextmanager
def _exact_kernel(layer: Any, sequences: Any, states: Any) -> Iterator[tuple[Any, Any, Callable[[Any], Any]]]:
    """Gives Keras's implementation float32 inputs, states and weights where it would call cuDNN in bfloat16, because the
    gradients of that kernel are wrong. Yields inputs, states, and a function that returns results in the layer's type."""
    uses_kernel = (
        bool(tf.config.list_logical_devices("GPU"))
        and layer.use_cudnn in (True, "auto")
        and _is_usual(layer)
        and layer.use_bias
        and not (layer.unroll or layer.recurrent_dropout)
        and getattr(layer, "reset_after", True)
    )
    if layer.compute_dtype != "bfloat16" or not uses_kernel:
        yield sequences, states, lambda results: results
        return
    dtype = layer.compute_dtype
    with AutocastScope(None):
        yield (
            _full(sequences),
            tf.nest.map_structure(_full, states),
            functools.partial(tf.nest.map_structure, lambda result: tf.cast(result, dtype)),
        )


def _is_usual(layer: Any) -> bool:
    tanh, sigmoid = keras.activations.tanh, keras.activations.sigmoid
    return layer.activation is tanh and layer.recurrent_activation is sigmoid


def _needs_states(layer: Any) -> bool:
    return bool(layer.return_state or layer.stateful)


def _full(x: tf.Tensor) -> tf.Tensor:
    """Returns half precision as float32, because the rounding errors of a state add up over many steps.

    A variable is read now: a stateful layer overwrites it before the gradient needs its value.
    """
    x = tf.convert_to_tensor(x)
    return tf.cast(x, tf.float32) if x.dtype in (tf.float16, tf.bfloat16) else x


def _dropped(layer: Any, sequences: tf.Tensor, training: Any) -> tf.Tensor:
    """Returns the inputs after Keras's dropout: one mask (batch, channels) for all steps."""
    if training and layer.dropout:
        mask = layer.cell.get_dropout_mask(sequences[:, 0, :])
        # A cell with recurrent dropout has one mask per gate, instead of one for all of them.
        sequences = sequences * tf.expand_dims(mask, 1)
    return _full(sequences)


class _Steps:
    """The steps of a batch in the order in which a loop reads them: real steps first.

    Args:
        inputs: (batch, steps, channels).
        mask: bool (batch, steps), true for real steps, or None.
        backwards: whether the last step is read first.
    """

    def __init__(self, inputs: tf.Tensor, mask: Any, backwards: bool) -> None:
        self.backwards = backwards
        mask = tf.nest.flatten(mask)[0] if mask is not None else None
        self.mask = None if mask is None else tf.cast(mask, tf.bool)
        if self.mask is None:
            self.inputs = tf.reverse(inputs, [1]) if backwards else inputs
            return
        self.read = tf.reverse(self.mask, [1]) if backwards else self.mask
        self.lengths = tf.reduce_sum(tf.cast(self.mask, tf.int32), axis=1)
        usual = tf.sequence_mask(self.lengths, tf.shape(self.mask)[1])
        # Padding is nearly always at the end: then no sorting is needed, and forwards no move either.
        self.padded_behind = tf.reduce_all(tf.equal(self.mask, usual))
        self.inputs = tf.cond(
            self.padded_behind,
            lambda: tf.reverse_sequence(inputs, self.lengths, seq_axis=1) if backwards else tf.identity(inputs),
            lambda: self._real_first(tf.reverse(inputs, [1]) if backwards else inputs),
        )
        self.inputs.set_shape(inputs.shape)

    def _real_first(self, inputs: tf.Tensor) -> tf.Tensor:
        order = tf.argsort(tf.cast(tf.logical_not(self.read), tf.int32), axis=1, stable=True)
        return tf.gather(inputs, order, batch_dims=1)

    def projected(self, kernel: tf.Tensor, bias: Any) -> tf.Tensor:
        """Returns the inputs times `kernel` plus the bias, with time first: (steps, batch, gates)."""
        x = tf.transpose(self.inputs, [1, 0, 2])
        flat = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
        if bias is not None:
            flat = tf.nn.bias_add(flat, _full(tf.convert_to_tensor(bias)))
        projected = tf.reshape(flat, tf.concat([tf.shape(x)[:2], [kernel.shape[1]]], axis=0))
        projected.set_shape([*x.shape[:2], kernel.shape[1]])
        return projected

    def turned(self) -> tf.Tensor:
        """Returns the inputs as (steps, channels, batch), for the loops of inference."""
        return tf.transpose(self.inputs, [1, 2, 0])

    def turned_results(
        self, layer: Any, outputs: tf.Tensor, states: Sequence[tuple[tf.Tensor, tf.Tensor]]
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """The same as `results`, for outputs and states (steps, units, batch)."""
        if not (_needs_states(layer) or layer.return_sequences or self.mask is not None):
            last = tf.transpose(outputs[-1])
            return last, tf.expand_dims(last, 1), [start for _, start in states]
        if _needs_states(layer) or not layer.return_sequences:
            found = {id(values): tf.transpose(values, [0, 2, 1]) for values, _ in states}
            return self.results(layer, found[id(outputs)], [(found[id(values)], start) for values, start in states])
        values = tf.transpose(outputs, [2, 0, 1])
        last = values[:, -1]
        if self.mask is not None:
            last = tf.gather(values, tf.maximum(self.lengths - 1, 0), batch_dims=1)
            last = tf.where(self.lengths[:, tf.newaxis] > 0, last, tf.zeros_like(last))
        return last, self._in_place(values, last, layer.zero_output_for_mask), [start for _, start in states]

    def results(
        self, layer: Any, outputs: tf.Tensor, states: Sequence[tuple[tf.Tensor, tf.Tensor]]
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Returns last output (batch, units), outputs (batch, steps or 1, units) and last states, in Keras's order.

        Args:
            layer: determines whether all outputs are returned, whether states are returned (otherwise the initial ones),
                and whether the output of a masked step is zero.
            outputs: outputs of the loop, (steps, batch, units).
            states: for each state its values after every step, (steps, batch, units), and its initial value.
        """
        last = self._last(outputs, None)
        ends = [self._last(values, start) if _needs_states(layer) else start for values, start in states]
        if not layer.return_sequences:
            return last, tf.expand_dims(last, 1), ends
        return last, self._in_place(tf.transpose(outputs, [1, 0, 2]), last, layer.zero_output_for_mask), ends

    def _last(self, values: tf.Tensor, start: tf.Tensor | None) -> tf.Tensor:
        """Returns the values after the last real step, or `start` (by default 0) for rows without real steps."""
        if self.mask is None:
            return values[-1]
        rows = tf.range(tf.shape(self.lengths)[0])
        last = tf.gather_nd(values, tf.stack([tf.maximum(self.lengths - 1, 0), rows], axis=1))
        return tf.where(self.lengths[:, tf.newaxis] > 0, last, tf.zeros_like(last) if start is None else start)

    def _in_place(self, values: tf.Tensor, last: tf.Tensor, zeros: bool) -> tf.Tensor:
        """Returns values (batch, steps, units) at their original steps. A masked step is 0 or repeats the previous step."""
        if self.mask is None:
            return values
        at = tf.expand_dims(self.mask, -1)  # LiteRT cannot convert a slice that adds a last axis

        def usual() -> tf.Tensor:
            if not self.backwards:
                return tf.where(at, values, tf.zeros_like(values) if zeros else last[:, tf.newaxis])
            there = tf.reverse_sequence(values, self.lengths, seq_axis=1)
            return tf.reverse(tf.where(at, there, tf.zeros_like(there)), [1])

        def any_order() -> tf.Tensor:
            seen = tf.cumsum(tf.cast(self.read, tf.int32), axis=1)  # real steps up to and including this one
            found = tf.gather(values, tf.maximum(seen - 1, 0), batch_dims=1)
            reached = self.read if zeros else seen > 0
            return tf.where(tf.expand_dims(reached, -1), found, tf.zeros_like(found))

        outputs = tf.cond(self.padded_behind, usual, any_order)
        outputs.set_shape(values.shape)
        return outputs
