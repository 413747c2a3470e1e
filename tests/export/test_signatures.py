"""Signatures of every SavedModel: top_k next to serving_default, and a fast and a portable form of recurrent layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from artifact_parts import written
from zoo import storage
from zoo.export.standalone import compare, replay

TINY = {"embedding_dim": 6, "lstm_units": 5}


def exported(model, interface, folder):
    path = written(model, interface, folder / "saved" / "1")
    return tf.saved_model.load(str(path)), storage.read_json(path / "assets.extra" / "zoo.json")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A bidirectional text LSTM, as loaded, with its model and data."""
    prepared = zoo.datasets.load("commands").prepare("embedding_lstm", bidirectional=True, **TINY)
    model = prepared.build(seed=1)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])  # zero biases would hide an error
    loaded, facts = exported(model, prepared.interface, tmp_path_factory.mktemp("text"))
    return loaded, facts, model, prepared


def ops_of(function):
    graph = function.graph.as_graph_def()
    return {node.op for node in [*graph.node, *(n for f in graph.library.function for n in f.node_def)]}


def test_the_fast_form_is_served_and_the_portable_form_is_recorded(text):
    loaded, facts, *_ = text
    assert facts["portable_signature"] == "predict_portable"
    for name, function in loaded.signatures.items():
        assert ("BlockLSTM" in ops_of(function)) == (name != "predict_portable"), name
    both = [facts["signatures"][name] for name in ("predict", "predict_portable")]
    assert both[0] == both[1]
    refused = {op for name in loaded.signatures for op in ops_of(loaded.signatures[name]) if "Cudnn" in op}
    assert not refused


def test_both_forms_equal_the_lstm_of_keras(text):
    """For any length and batch, with padding and gaps: the outputs equal those of a model of Keras's own layers."""
    loaded, _, model, _ = text
    ids = np.random.default_rng(3).integers(0, 20, (7, 23)).astype("int32")
    ids[:, 0] = 1
    plain = keras.Sequential(
        [
            keras.layers.Embedding(*model.get_weights()[0].shape, mask_zero=True),
            keras.layers.Bidirectional(keras.layers.LSTM(5)),
            keras.layers.Dense(model.output_shape[-1], activation="softmax"),
        ]
    )
    plain(ids)
    plain.set_weights(model.get_weights())
    for name in ("predict", "predict_portable"):
        for rows, steps in ((7, 23), (1, 4)):
            got = loaded.signatures[name](token_ids=tf.constant(ids[:rows, :steps]))["probabilities"]
            np.testing.assert_allclose(got, plain(ids[:rows, :steps]), atol=1e-5)


def test_top_k_equals_the_best_classes_of_serving_default(text):
    loaded, _, _, prepared = text
    texts = tf.constant(["turn the light on", "play music", "nothing that anyone knows"])
    every = loaded.signatures["serving_default"](text=texts)
    best = loaded.signatures["top_k"](text=texts)
    probabilities, names = every["probabilities"].numpy(), np.array(prepared.interface.class_names, object)
    order = np.argsort(-probabilities, axis=1)[:, :5]
    assert best["class_name"].shape == (3, min(5, len(names)))
    assert [[n.decode() for n in row] for row in best["class_name"].numpy()] == names[order].tolist()
    np.testing.assert_allclose(best["probability"], np.take_along_axis(probabilities, order, 1), atol=1e-6)
    np.testing.assert_array_equal(best["class_name"][:, 0], every["class_name"])


@pytest.mark.slow
def test_top_k_of_per_step_models_uses_the_last_step(tmp_path):
    prepared = zoo.datasets.load("digit_rows").prepare("lstm", units=(6,))
    loaded, facts = exported(prepared.build(seed=0), prepared.interface, tmp_path)
    assert facts["portable_signature"] == "predict_portable"
    series = tf.constant(prepared.interface.examples.requests["series"][:4])
    every, best = (loaded.signatures[name](series=series) for name in ("serving_default", "top_k"))
    assert every["step_probabilities"].shape.rank == 3 and best["class_name"].shape == (4, 5)
    np.testing.assert_array_equal(best["class_name"][:, 0], every["class_name"])
    np.testing.assert_allclose(best["probability"][:, 0], tf.reduce_max(every["probabilities"], axis=1), atol=1e-6)


@pytest.mark.slow
def test_a_gru_has_two_forms_of_the_same_ops(tmp_path):
    """Tests one direction, where Keras's layer repeats its last output on padding.

    Features must not depend on the amount of padding.
    """
    prepared = zoo.datasets.load("tagged_commands").prepare("rnn", embedding_dim=6, rnn_units=5, bidirectional=False)
    loaded, facts = exported(prepared.build(seed=0), prepared.interface, tmp_path)
    assert facts["portable_signature"] == "predict_portable"
    lists = {name: "TensorListReserve" in ops_of(function) for name, function in loaded.signatures.items()}
    assert lists == {"serving_default": True, "features": True, "predict": True, "predict_portable": False}
    assert "top_k" not in loaded.signatures, "labels of words have no best five"
    features = loaded.signatures["features"](text=tf.constant(["turn the light on please", "stop"]))["features"].numpy()
    assert np.all(features[1, 0] != 0) and not np.any(features[1, 1:])


def test_wrong_weights_in_only_the_fast_form_are_found(text, tmp_path, monkeypatch):
    """Both forms are replayed against the live model; an error in a weight that no example uses is found too."""
    _, _, model, prepared = text
    honest = tf.saved_model.save

    def changed(module, *arguments, **options):
        module.packed_weights[0][0].assign(module.packed_weights[0][0] * 1.01)
        honest(module, *arguments, **options)

    monkeypatch.setattr(tf.saved_model, "save", changed)
    with pytest.raises(
        zoo.UsageError, match=r"was not published.*predict probabilities, batch 3: .*weights: "
    ) as error:
        zoo.export.save(model, tmp_path / "saved", interface=prepared.interface)
    assert "batch 64" not in str(error.value), "many rows are the loops' work, from the other weights"
    assert "predict_portable" not in str(error.value)
    assert not (tmp_path / "saved").exists()


def test_equally_probable_labels_may_be_swapped():
    labels = [b"a", b"b", b"c"]
    known = np.array([[0.5, 0.25, 0.25 + 1e-7], [0.6, 0.3, 0.1]])

    def row(have):
        want = {"class_name": np.array([[b"a", b"c"], [b"a", b"b"]], object)}
        return compare.compare(want, {"class_name": np.array(have, object)}, labels, 1e-5, known)[0]

    assert row([[b"a", b"b"], [b"a", b"b"]])["passed"]
    assert row([[b"a", b"b"], [b"a", b"b"]])["detail"] == "1 of 4 differ, 1 of them ties"
    assert not row([[b"b", b"a"], [b"a", b"b"]])["passed"]
    assert not row([[b"a", b"c"], [b"a", b"x"]])["passed"], "no label at all"


def test_few_examples_fill_a_batch_of_the_form_for_many_rows():
    """Otherwise, the form for many rows would not be tested."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")], autograph=False)
    def function(x):
        return {"y": tf.cond(tf.shape(x)[0] < 64, lambda: x, lambda: x + 1.0)}

    x = np.arange(10, dtype="float32").reshape(5, 2)
    for fill in (False, True):
        batches = replay._replay_signature(
            function.get_concrete_function(), {"x": x}, {"y": x}, None, [], None, 1e-5, fill
        )["batches"]
        assert {size: [row["passed"] for row in rows] for size, rows in batches.items()} == (
            {"64": [False], "3": [True]} if fill else {"5": [True], "3": [True]}
        )
