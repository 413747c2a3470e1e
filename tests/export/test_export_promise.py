"""A verified SavedModel equals the trained model: copies keep all state, and report, model and artifact agree."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import copies
from zoo.datasets.interface import Examples
from zoo.errors import UsageError
from zoo.export.graph import forms, signatures
from zoo.export.verification import Verification
from zoo.training.mixed_precision import check_plain, plain_model

L = keras.layers


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("digits").prepare("mlp", input_shape=(8, 8, 1))


@pytest.fixture(scope="module")
def arrays(prepared):
    batches = list(prepared.keras_batches("train", 256).as_numpy_iterator())
    return tuple(np.concatenate([batch[place] for batch in batches]) for place in (0, 1))


def classifier(*first, last="probabilities", activation="softmax"):
    """Builds a digit classifier whose features come from the given layers."""
    inputs = keras.Input((8, 8, 1))
    hidden = inputs
    for layer in first:
        hidden = layer(hidden)
    hidden = L.Dense(32, activation="relu", name="features")(L.Flatten()(hidden))
    return keras.Model(inputs, L.Dense(10, activation=activation, name=last, dtype="float32")(hidden))


def trained(model, arrays, epochs=4, loss="sparse_categorical_crossentropy", **config):
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"])
    return zoo.train(model, arrays, zoo.TrainConfig(epochs=epochs, **config), verbose=0).model


def adapted(x):
    layer = L.Normalization(axis=(1, 2, 3))
    layer.adapt(x)
    return layer


def right(path, interface):
    """Counts the golden requests that the artifact classifies correctly."""
    function = tf.saved_model.load(str(path)).signatures["serving_default"]
    requests = tf.constant(interface.examples.requests["image_bytes"].tolist())
    names = np.array([name.encode() for name in interface.class_names], object)
    return np.mean(function(image_bytes=requests)["class_name"].numpy() == names[interface.examples.targets["label"]])


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "mixed_bfloat16"])
def test_adapted_normalization_is_exported_as_trained(prepared, arrays, tmp_path, precision):
    x, _ = arrays
    with zoo.precision(precision):
        model = classifier(adapted(x))
    path = zoo.export.save(
        trained(model, arrays, precision=precision), tmp_path / "model", interface=prepared.interface
    )
    examples = prepared.interface.examples
    live = np.mean(np.argmax(model(examples.inputs["image"]), -1) == examples.targets["label"])
    assert live > 0.85
    assert abs(right(path, prepared.interface) - live) <= 0.05
    lines = json.loads((path / "assets.extra" / "verification.json").read_text())["checks"]
    (line,) = [line for line in lines if line["name"] == "accuracy on raw test examples"]
    assert line["passed"] and "artifact 0." in line["detail"] and "trained model 0." in line["detail"]


MIRRORED = """
import keras, numpy as np, zoo
rng = np.random.default_rng(0)
x = rng.normal(3.0, 5.0, (256, 8)).astype("float32")
with zoo.strategy("mirrored", replicas=2).scope():
    norm = keras.layers.Normalization()
    norm.adapt(x)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(norm(inputs)))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
config = zoo.TrainConfig(epochs=1, strategy="mirrored", replicas=2)
copy = zoo.train(model, (x, (x[:, 0] > 3).astype(int)), config, verbose=0).model
assert copy is not model
print("DIFFERENCE", float(np.abs(model(x).numpy() - copy(x).numpy()).max()))
"""


def test_two_replicas_keep_an_adapted_normalization(run_python):
    (line,) = [line for line in run_python(MIRRORED, kind="zoo").stdout.splitlines() if line.startswith("DIFFERENCE")]
    assert float(line.split()[1]) < 1e-6


def lookup_models():
    words = np.array([["b"], ["a"], ["c"], ["a"], ["b"], ["b"]])
    numbers = np.array([[7], [3], [11], [3], [7], [7]])
    values = np.array([[0.5], [2.5], [9.0], [1.0], [4.0], [7.0]], np.float32)
    for layer, data in (
        (L.StringLookup(), words),
        (L.StringLookup(output_mode="multi_hot"), words),
        (L.IntegerLookup(), numbers),
        (L.TextVectorization(output_sequence_length=1), words),
        (L.Discretization(num_bins=3), values),
        (L.Hashing(num_bins=5, salt=133), words),
        (L.Normalization(), values),
    ):
        if hasattr(layer, "adapt"):
            layer.adapt(data)
        yield layer, data


@pytest.mark.parametrize(("layer", "data"), lookup_models(), ids=lambda value: type(value).__name__)
def test_copies_keep_the_adapted_state_of_a_layer(layer, data):
    inputs = keras.Input((1,), dtype="string" if data.dtype.kind == "U" else data.dtype.name)
    outputs = L.Dense(2, dtype="mixed_bfloat16")(L.Flatten()(L.Lambda(_as_float)(layer(inputs))))
    model = keras.Model(inputs, outputs)
    given = tf.constant(data)
    copy = plain_model(model)
    assert copy is not model
    check_plain(model, copy, given)
    before, after = (keras.Model(m.inputs, m.layers[1].output)(given) for m in (model, copy))
    np.testing.assert_array_equal(np.asarray(before), np.asarray(after))


@keras.saving.register_keras_serializable("tests")
def _as_float(values):
    return keras.ops.cast(values, "float32")


@pytest.mark.slow
def test_a_vocabulary_and_a_table_are_exported(tmp_path, prepared, arrays):
    lookup = L.IntegerLookup(output_mode="int")
    lookup.adapt(np.arange(17)[::-1])
    inputs = keras.Input((8, 8, 1))
    numbers = lookup(L.Rescaling(16.0, dtype="float32")(inputs))
    hidden = L.Dense(32, activation="relu", name="features")(L.Flatten()(L.Embedding(20, 4)(numbers)))
    model = keras.Model(inputs, L.Dense(10, activation="softmax", name="probabilities")(hidden))
    path = zoo.export.save(trained(model, arrays), tmp_path / "model", interface=prepared.interface)
    assert right(path, prepared.interface) > 0.7


@keras.saving.register_keras_serializable("tests")
class Shifted(L.Layer):
    """Keeps a NumPy array and a number outside its weights and config."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.shift, self.factor = np.zeros(1, np.float32), 1.0

    def call(self, inputs):
        return (inputs - keras.ops.cast(self.shift, inputs.dtype)) * self.factor


@keras.saving.register_keras_serializable("tests")
class Hidden(L.Layer):
    """Keeps its state where no copy can find it."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.transform = lambda values: values

    def call(self, inputs):
        return self.transform(inputs)


def shifted():
    layer = Shifted()
    layer.shift, layer.factor = np.full((8, 8, 1), 0.3, np.float32), -2.0
    return layer


def test_attributes_of_a_custom_layer_are_copied(arrays):
    with zoo.precision("mixed_bfloat16"):
        mixed = classifier(shifted())
    copy = plain_model(mixed)
    check_plain(mixed, copy, arrays[0][:16])
    assert copy.layers[1].factor == -2.0
    model = classifier(shifted())
    copies.check_copy(model, signatures.served_copy(model, forms.as_trained(model, ())), arrays[0][:16])


@pytest.mark.slow
def test_attributes_of_a_custom_layer_are_exported(prepared, arrays, tmp_path):
    path = zoo.export.save(trained(classifier(shifted()), arrays), tmp_path / "model", interface=prepared.interface)
    assert right(path, prepared.interface) > 0.85


def test_state_that_cannot_be_copied_is_rejected_before_training(prepared, arrays):
    with zoo.precision("mixed_bfloat16"):
        layer = Hidden(name="hidden_state")
        layer.transform = lambda values: -3 * values
        model = classifier(layer)
    with pytest.raises(UsageError, match=r"has other outputs than the model.*'hidden_state'.*add_weight"):
        trained(model, arrays, precision="mixed_bfloat16")


def test_seeds_and_records_are_copied():
    model = keras.Sequential([keras.Input((4,)), L.Dropout(0.5), L.Dense(2)])
    model(np.ones((1, 4)), training=True)
    copies.record(model, "_zoo_build", {"name": "mlp", "arguments": {}})
    copy = copies.carry(model, keras.models.clone_model(model))
    assert copy._zoo_build == model._zoo_build
    state = [layer.seed_generator.state.numpy().tolist() for layer in (model.layers[0], copy.layers[0])]
    assert state[0] == state[1] and state[0][1] > 0


def test_inputs_that_are_scaled_twice_are_rejected(prepared, arrays, tmp_path):
    x, y = arrays
    model = trained(classifier(L.Rescaling(1 / 255)), (x * 255, y))
    with pytest.raises(
        UsageError, match=r"trained on inputs from 0 to 255 .* returns 0 to 1 .*Rescaling.*prepared\.batches"
    ):
        zoo.export.save(model, tmp_path / "model", interface=prepared.interface)
    assert not (tmp_path / "model").exists()


def test_logits_named_probabilities_are_rejected(prepared, arrays, tmp_path):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = trained(classifier(activation=None), arrays, 1, loss)
    with pytest.raises(UsageError, match=r"'probabilities' has values from -.*Name the layer 'logits'"):
        zoo.export.save(model, tmp_path / "model", interface=prepared.interface)
    assert not (tmp_path / "model").exists()


def test_probabilities_named_logits_are_rejected(prepared, tmp_path):
    first = classifier()
    outputs = L.Activation("linear", name="logits")(first.layers[-1].output)
    with pytest.raises(
        UsageError, match=r"'logits' has values from 0 to 1 with sums of 1.*Name the layer 'probabilities'"
    ):
        zoo.export.save(keras.Model(first.inputs, outputs), tmp_path / "model", interface=prepared.interface)
    assert not (tmp_path / "model").exists()


def test_a_report_of_another_model_is_rejected(prepared, arrays, tmp_path):
    good = trained(classifier(), arrays)
    report = zoo.evaluate(good, prepared)
    assert report["accuracy"] > 0.85
    with pytest.raises(
        UsageError, match=r"accuracy is 0\.\d+ in the report, but .* on \d+ raw test examples, .* worse"
    ):
        zoo.export.save(classifier(), tmp_path / "model", interface=prepared.interface, report=report)
    swapped = dataclasses.replace(prepared.interface, class_names=prepared.interface.class_names[::-1])
    with pytest.raises(UsageError, match="The report has the classes"):
        zoo.export.save(good, tmp_path / "model", interface=swapped, report=report)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_verification_shows_the_metrics_of_the_report(prepared, arrays, tmp_path):
    good = trained(classifier(), arrays)
    report = zoo.evaluate(good, prepared)
    path = zoo.export.save(good, tmp_path / "model", interface=prepared.interface, report=report)
    assert f"report {report['accuracy']:.4g}" in Verification.read(path).table()


@keras.saving.register_keras_serializable("tests")
class Rare(L.Layer):
    """Changes its output for bright images in a copy. The dark golden examples alone cannot reveal the change."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.limit = lambda: 9.0

    def call(self, inputs):
        bright = keras.ops.mean(inputs, axis=(1, 2, 3), keepdims=True) > self.limit()
        return keras.ops.where(bright, -inputs, inputs)


def test_a_different_accuracy_fails_although_golden_examples_pass(prepared, arrays, tmp_path, monkeypatch):
    layer = Rare()
    model = trained(classifier(layer), arrays)
    interface, examples = prepared.interface, prepared.interface.examples
    dark = np.argsort(examples.inputs["image"].mean((1, 2, 3)))[:16]
    limit = float(np.sort(examples.inputs["image"].mean((1, 2, 3)))[15]) + 1e-3
    chosen = Examples(
        {"image_bytes": examples.requests["image_bytes"][dark]},
        {"label": examples.targets["label"][dark]},
        {"image": examples.inputs["image"][dark]},
    )
    honest = signatures.served_copy

    def altered(original, content):
        copy = honest(original, content)
        for twin in copy._flatten_layers():
            if isinstance(twin, Rare):
                twin.limit = lambda: limit
        return copy

    monkeypatch.setattr(signatures, "served_copy", altered)
    with pytest.raises(
        UsageError, match=r"verification failed: accuracy on raw test examples: .*artifact 0\.\d+, trained model 0"
    ):
        zoo.export.save(model, tmp_path / "model", interface=dataclasses.replace(interface, examples=chosen))


def test_a_saved_interface_keeps_its_sample(prepared, tmp_path):
    interface = prepared.interface
    assert interface.sample.whole
    assert len(interface.sample.targets["label"]) == min(1000, prepared.num_examples("test"))
    interface.save(tmp_path)
    again = zoo.datasets.interface.Interface.load(tmp_path).sample
    np.testing.assert_array_equal(again.targets["label"], interface.sample.targets["label"])
    assert again.requests["image_bytes"].tolist() == interface.sample.requests["image_bytes"].tolist() and again.whole
