"""The zoo's LSTM and GRU compared with Keras's: outputs, states and gradients, for every mask and option."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from selection import slow
from zoo.layers.recurrent import lstm_gru

PAIRS = {"LSTM": (lstm_gru.LSTM, keras.layers.LSTM), "GRU": (lstm_gru.GRU, keras.layers.GRU)}
every_kind = pytest.mark.parametrize("kind", sorted(PAIRS))
ZEROS = {"return_sequences": True, "zero_output_for_mask": True}
BATCH, STEPS, CHANNELS, UNITS = 5, 7, 3, 4

MASKS = {
    "none": None,
    "padded behind": np.arange(STEPS) < np.array([[7], [3], [1], [6], [2]]),
    "padded in front": np.arange(STEPS) >= np.array([[0], [3], [1], [6], [2]]),
    "holes": np.random.default_rng(5).uniform(size=(BATCH, STEPS)) < 0.6,
    "a row without any step": np.arange(STEPS) < np.array([[7], [0], [1], [0], [2]]),
}


def pair(kind, dtype="float64", **options):
    """Returns the zoo's layer and Keras's layer with the same random weights."""
    layers = [cls(UNITS, dtype=dtype, **options) for cls in PAIRS[kind]]
    rng = np.random.default_rng(1)
    for layer in layers:
        layer.build((None, None, CHANNELS))
    values = [rng.normal(size=w.shape) * 0.5 for w in layers[0].weights]  # sets biases too: zeros would hide an error
    for layer in layers:
        layer.set_weights(values)
    assert [w.path.split("/", 1)[1] for w in layers[0].weights] == [w.path.split("/", 1)[1] for w in layers[1].weights]
    return layers


def inputs(dtype="float64"):
    return np.random.default_rng(2).normal(size=(BATCH, STEPS, CHANNELS)).astype(dtype)


def outputs_and_gradients(layer, x, masks, training, start=None, graph=False):
    """Returns all outputs of a layer, and the gradients of inputs, weights and initial states, for every mask."""

    def run(x, mask):
        begin = None if start is None else [tf.constant(s) for s in start]
        with tf.GradientTape() as tape:
            tape.watch([x, *(begin or [])])
            answers = tf.nest.flatten(layer(x, mask=mask, training=training, initial_state=begin))
            # Each value has a different factor, so that summed or mixed gradients cannot cancel.
            total = tf.add_n([tf.reduce_sum(tf.sin(a * (i + 1)) * tf.cos(a)) for i, a in enumerate(answers)])
        sources = [x, *(begin or []), *(v.value for v in layer.trainable_variables)]
        return answers, [tf.convert_to_tensor(g) for g in tape.gradient(total, sources)]

    if graph:  # with unknown batch size and length
        signature = [tf.TensorSpec([None, None, CHANNELS], x.dtype), tf.TensorSpec([None, None], tf.bool)]
        run = tf.function(run, input_signature=signature, autograph=False)
    return tf.nest.map_structure(lambda t: t.numpy(), [run(tf.constant(x), mask) for mask in masks])


def assert_same(kind, dtype, tolerance, masks, training=True, start=None, graph=False, **options):
    ours, keras_layer = pair(kind, dtype, **options)
    got = outputs_and_gradients(ours, inputs(dtype), masks, training, start, graph)
    expected = outputs_and_gradients(keras_layer, inputs(dtype), masks, training, start)
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@every_kind
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("backwards", [False, True])
def test_layers_equal_keras_for_every_mask(kind, mask, backwards):
    options = {"return_sequences": True, "return_state": True, "go_backwards": backwards}
    assert_same(kind, "float64", 1e-10, [MASKS[mask]], **options)


@pytest.mark.parametrize(
    ("kind", "training", "masks"),
    [
        ("GRU", False, ["a row without any step"]),
        ("LSTM", True, ["padded behind", "holes"]),
        slow("GRU", True, ["padded behind", "holes"]),
        slow("LSTM", False, ["a row without any step"]),
    ],
    ids=str,
)
def test_layers_equal_keras_in_a_float32_graph_with_initial_states(kind, masks, training):
    states = 2 if kind == "LSTM" else 1
    start = np.random.default_rng(3).normal(size=(states, BATCH, UNITS)).astype("float32")
    given = [MASKS[mask] for mask in masks]
    assert_same(kind, "float32", 1e-5, given, training, start, graph=True, return_state=True)


@every_kind
@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True}, {"use_bias": False}, {"dropout": 0.4, "seed": 3}, ZEROS]
)
def test_options_have_the_same_effect_as_in_keras(kind, options):
    """Also with dropout: with the same seed, both layers draw the same mask."""
    masks = [MASKS[mask] for mask in ("padded behind", *(["holes"] if options == ZEROS else []))]
    for training in (True, False):
        assert_same(kind, "float64", 1e-10, masks, training, **options)


@every_kind
@pytest.mark.parametrize(
    "options",
    [
        {"recurrent_dropout": 0.3, "seed": 3},
        {"activation": "relu"},
        {"unroll": True},
        {"recurrent_activation": "hard_sigmoid"},
    ],
)
def test_unsupported_options_use_the_implementation_of_keras(kind, options):
    ours, theirs = pair(kind, "float64", return_sequences=True, **options)
    mask = MASKS["holes"]
    np.testing.assert_array_equal(ours(inputs(), mask=mask, training=True), theirs(inputs(), mask=mask, training=True))


def test_reset_before_the_product_uses_the_implementation_of_keras():
    ours, theirs = pair("GRU", reset_after=False)
    np.testing.assert_array_equal(ours(inputs(), training=True), theirs(inputs(), training=True))


@every_kind
def test_the_loops_are_really_used(kind, monkeypatch):
    """Otherwise, every comparison above would compare Keras with itself."""

    def forbidden(*_, **__):
        raise AssertionError("Keras's own loop")

    monkeypatch.setattr(keras.layers.RNN, "inner_loop", forbidden)
    for training in (False, True):
        assert pair(kind)[0](inputs(), mask=MASKS["holes"], training=training).shape == (BATCH, UNITS)
    with pytest.raises(AssertionError, match="Keras's own loop"):
        pair(kind)[1](inputs())


@every_kind
def test_bidirectional_layers_equal_keras_and_survive_a_config(kind):
    ours, theirs = (keras.layers.Bidirectional(layer) for layer in pair(kind, return_sequences=True))
    again = keras.layers.Bidirectional.from_config(ours.get_config())
    assert type(again.forward_layer) is PAIRS[kind][0]
    for layer in (ours, theirs, again):
        layer.build((None, None, CHANNELS))
    values = [np.random.default_rng(1).normal(size=w.shape) for w in ours.weights]
    for layer in (ours, theirs, again):
        layer.set_weights(values)
    for mask in MASKS.values():  # both directions return zeros at masked steps
        np.testing.assert_allclose(ours(inputs(), mask=mask), theirs(inputs(), mask=mask), atol=1e-10)
    np.testing.assert_array_equal(again(inputs(), mask=mask), ours(inputs(), mask=mask))


def stateful_pair(kind):
    """Returns our layer and Keras's with the same weights, both stateful, and inputs."""
    ours, theirs = (cls(UNITS, stateful=True, dtype="float64") for cls in PAIRS[kind])
    x = inputs()
    for layer in (ours, theirs):
        layer.build(x.shape)
    theirs.set_weights(ours.get_weights())
    return ours, theirs, x


@every_kind
def test_states_are_carried_from_batch_to_batch(kind):
    ours, theirs, x = stateful_pair(kind)
    for _ in range(2):
        first, second = ours(x), theirs(x)
        np.testing.assert_allclose(first, second, atol=1e-10)
    ours.reset_state()
    assert not np.allclose(first, ours(x)), "the second batch started where the first had"


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_gradients_use_the_state_before_the_batch(kind, training):
    """Without a traced function the layer overwrites its state before the gradient is computed."""
    ours, theirs, x = stateful_pair(kind)
    for _ in range(2):
        found = []
        for layer in (ours, theirs):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x, training=training) ** 2)
            found.append(tape.gradient(loss, [v.value for v in layer.trainable_variables]))
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-10)


@every_kind
def test_half_precision_is_at_least_as_exact_as_keras(kind):
    exact = pair(kind, "float64", return_sequences=True)[0](inputs()).numpy()
    ours, theirs = (layer(inputs()) for layer in pair(kind, "mixed_bfloat16", return_sequences=True))
    assert ours.dtype == theirs.dtype == tf.bfloat16
    errors = [np.abs(tf.cast(y, tf.float64) - exact).max() for y in (ours, theirs)]
    assert errors[0] <= errors[1] < 0.1


@every_kind
def test_second_gradients_raise_or_are_correct(kind):
    """In training, the loops save values; a second gradient would treat them as constants and be silently wrong."""

    def second(layer, training):
        x = tf.constant(inputs())
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x, training=training) ** 2)
            slope = tf.reduce_sum(inner.gradient(y, x) ** 2)
        return outer.gradient(slope, x)

    ours, theirs = pair(kind)
    with pytest.raises(NotImplementedError, match=r"Call it with training=False\.$"):
        second(ours, True)
    np.testing.assert_allclose(second(ours, False), second(theirs, False), atol=1e-10)


@pytest.mark.parametrize("kind", ["LSTM", slow("GRU")])
def test_several_steps_per_call_work_with_and_without_xla(kind):
    ours, theirs = pair(kind, "float32")

    def slope(layer, x):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(total, layer.trainable_variables[0].value)

    @tf.function
    def run(x):
        total = tf.zeros(ours.trainable_variables[0].shape)
        for _ in tf.range(3):
            total += slope(ours, x)
        return total

    x = tf.constant(inputs("float32"))
    expected = 3 * slope(theirs, x)
    np.testing.assert_allclose(run(x), expected, rtol=1e-4, atol=1e-5)
    compiled = tf.function(lambda x: slope(ours, x), jit_compile=True)
    np.testing.assert_allclose(3 * compiled(x), expected, rtol=1e-4, atol=1e-5)


def test_saved_models_and_keras_files_give_the_same_outputs(tmp_path):
    """A GRU and an LSTM read the same masked inputs."""
    layer_inputs = keras.Input((None, CHANNELS))
    masked = keras.layers.Masking()(layer_inputs)
    model = keras.Model(layer_inputs, [pair(kind, "float32", return_sequences=True)[0](masked) for kind in PAIRS])
    model.export(tmp_path / "model", verbose=False)
    x = inputs("float32")
    x[1, 4:] = 0.0
    loaded, expected = tf.saved_model.load(tmp_path / "model"), model(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for served, read, right in zip(loaded.serve(x), again(x), expected, strict=True):
        np.testing.assert_allclose(served, right, atol=1e-6)
        np.testing.assert_array_equal(read, right)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *(("LSTM", lstm_gru.LIVE), ("GRU", lstm_gru.SHARED), ("LSTM", lstm_gru.PORTABLE)),
        *(slow("GRU", lstm_gru.LIVE), slow("LSTM", lstm_gru.SHARED), slow("GRU", lstm_gru.PORTABLE)),
    ],
)
@pytest.mark.parametrize("known", [None, *map(slow, (1, 9, 17, 24))])
def test_lengths_near_the_steps_per_iteration_equal_keras(kind, known, form):
    """Short series use no loop, known lengths a divisor, unknown lengths padding. Many rows use two loops."""
    ours, _ = pair(kind, return_sequences=True, return_state=True)
    ours.form, signature = form, [tf.TensorSpec([None, known, CHANNELS], tf.float64)]
    run = tf.function(lambda x: ours(x), input_signature=signature, autograph=False)
    for steps in (1, 9, 17, 24) if known is None else (known,):
        for rows in (2, 67):
            x, theirs = sequences_of_keras(kind, rows, steps)
            for got, expected in zip(run(x), theirs, strict=True):
                np.testing.assert_allclose(got, expected, atol=1e-10)


@functools.cache
def sequences_of_keras(kind, rows, steps):
    """Returns random inputs, and the outputs and states of Keras's layer."""
    x = np.random.default_rng(2).normal(size=(rows, steps, CHANNELS))
    return x, pair(kind, return_sequences=True, return_state=True)[1](x)


@every_kind
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", [{}, ZEROS, {"return_sequences": True, "go_backwards": True}])
def test_many_rows_equal_keras_for_every_mask(kind, mask, options):
    ours, theirs = pair(kind, **options)
    x = np.tile(inputs(), (2, 1, 1))
    mask = None if MASKS[mask] is None else np.tile(MASKS[mask], (2, 1))
    np.testing.assert_allclose(ours(x, mask=mask), theirs(x, mask=mask), atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": True, "return_state": True},
        {"unroll": True},
        *(pytest.param(options, marks=pytest.mark.slow) for options in ({}, {"use_bias": False})),
    ],
)
def test_the_fused_op_equals_the_lstm(options):
    ours, theirs = pair("LSTM", "float32", **options)
    ours.packed, ours.form = tuple(map(tf.Variable, ours.pack_weights())), lstm_gru.SHARED
    start = list(np.random.default_rng(3).normal(size=(2, BATCH, UNITS)).astype("float32"))
    run = tf.function(lambda x, mask: ours(x, mask=mask, initial_state=start), autograph=False)
    x = tf.constant(inputs("float32"))
    for mask in MASKS.values():
        mask = None if mask is None else tf.constant(mask)
        assert "BlockLSTM" in ops_of(run.get_concrete_function(x, mask))
        expected = theirs(x, mask=mask, initial_state=start)
        for got, right in zip(tf.nest.flatten(run(x, mask)), tf.nest.flatten(expected), strict=True):
            np.testing.assert_allclose(got, right, atol=1e-6)
    training = tf.function(lambda x: ours(x, training=True), autograph=False).get_concrete_function(x)
    assert "BlockLSTM" not in ops_of(training), "its gradient is not that of training"


def ops_of(function) -> set[str]:
    """Returns the names of all ops of a traced function and of the functions that it calls."""
    graph = function.graph.as_graph_def()
    functions = (node for called in graph.library.function for node in called.node_def)
    return {node.op for node in (*graph.node, *functions)}


@every_kind
def test_many_rows_are_split_into_two_loops(kind):
    """67 rows are split into 33 and 34."""
    ours, theirs = pair(kind, "float32", return_sequences=True, return_state=True)
    ours.packed, ours.form = tuple(map(tf.Variable, ours.pack_weights())) or None, lstm_gru.SHARED
    x = np.random.default_rng(2).normal(size=(67, STEPS, CHANNELS)).astype("float32")
    mask = np.random.default_rng(3).uniform(size=(67, STEPS)) < 0.7
    for got, expected in zip(ours(x, mask=mask), theirs(x, mask=mask), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("options", [{"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}])
def test_unsupported_options_are_not_packed_for_the_fused_op(options):
    assert pair("LSTM", "float32", **options)[0].pack_weights() == ()
    assert pair("LSTM", "float64")[0].pack_weights() == (), "its kernel knows no float64"


@pytest.mark.parametrize("kind", [lstm_gru.LSTM, lstm_gru.GRU])
def test_no_random_numbers_are_drawn_outside_training(kind):
    """Keras's layers advance a seed at every call, so serving would assign variables and evaluation would change runs."""
    layer = kind(3, return_sequences=True, dropout=0.5, recurrent_dropout=0.5, seed=1)
    x = tf.random.stateless_uniform([2, 4, 3], seed=(0, 0))
    layer.build(x.shape)
    before = [v.numpy() for v in layer.variables]
    graph = tf.function(lambda x: layer(x)).get_concrete_function(x).graph
    held = {node.op for node in graph.as_graph_def(add_shapes=False).node}
    assert not {op for op in held if "Random" in op or "Assign" in op}
    layer(x, training=False)
    assert all((a == b.numpy()).all() for a, b in zip(before, layer.variables, strict=True))
    layer(x, training=True)
    assert any((a != b.numpy()).any() for a, b in zip(before, layer.variables, strict=True))


@pytest.mark.parametrize("layer", [lstm_gru.LSTM, lstm_gru.GRU])
def test_a_kernel_in_bfloat16_gets_float32(layer, monkeypatch):
    """On an H200, the gradients of cuDNN's LSTM and GRU in bfloat16 are off by 100 %, with Keras 3.15 and TensorFlow 2.21."""
    seen = {}

    def kernel(self, sequences, initial_state, mask, training=False):
        weight = tf.convert_to_tensor(self.cell.kernel)
        seen.update(sequences=sequences.dtype, state=tf.nest.flatten(initial_state)[0].dtype, weight=weight.dtype)
        outputs = sequences[:, :, :4]
        return outputs[:, -1], outputs, [tf.cast(state, outputs.dtype) for state in tf.nest.flatten(initial_state)]

    monkeypatch.setattr(layer.__mro__[2], "inner_loop", kernel)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a GPU"])
    tested = layer(4, return_sequences=True, dtype="mixed_bfloat16")
    outputs = tested(np.zeros((2, 5, 6), np.float32), training=True)
    assert outputs.dtype == tf.bfloat16
    assert set(seen.values()) == {tf.float32}
    tested.use_cudnn = False
    assert tested(np.zeros((2, 5, 6), np.float32), training=True).dtype == tf.bfloat16  # by the loops of this package
