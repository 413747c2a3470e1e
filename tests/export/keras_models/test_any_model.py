"""Any Keras model is exported with named inputs and outputs, and its SavedModel answers as the model does."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import storage
from zoo.errors import UsageError
from zoo.export.graph import forms, signatures
from zoo.export.keras_models.network import named_network, plain_name, unique_names
from zoo.export.verification import Verification
from zoo.scripts.benchmarks import exports
from zoo.scripts.benchmarks.keras_models import KINDS, application, list_applications

L = keras.layers
QUICK = ("category_encoding", "variational", "lstm_states")
"""Between them: strings and numbers by name; a subclassed model with a dict of outputs; one layer with three outputs."""


def flat(examples):
    """Returns examples as tensors in the structure that the model takes."""
    if isinstance(examples, dict):
        return {name: flat(value) for name, value in examples.items()}
    return tf.constant(examples.tolist() if examples.dtype == object else examples)


def answers(path, examples, signature="serving_default"):
    """Returns the outputs of a SavedModel by name."""
    function = tf.saved_model.load(str(path)).signatures[signature]
    names = list(function.structured_input_signature[1])
    given = examples if isinstance(examples, dict) else {names[0]: examples}
    return {name: value.numpy() for name, value in function(**flat(given)).items()}


def of_keras(model, examples):
    """Returns what the model itself answers, in the order in which Keras flattens its outputs."""
    return [np.asarray(part) for part in keras.tree.flatten(model(flat(examples), training=False))]


@pytest.mark.parametrize(
    "kind", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]
)
def test_the_savedmodel_answers_as_the_model_and_as_its_keras_export(kind, tmp_path):
    model, examples = KINDS[kind]()
    path = zoo.export.save(model, tmp_path / "ours", examples=examples)
    allowed = 0.02 if kind == "half_precision" else 1e-5
    got = answers(path, examples)
    assert got.keys() == answers(path, examples, "predict").keys()
    for want, name in zip(of_keras(model, examples), sorted(got), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=0, atol=allowed * max(1, np.abs(want).max()), err_msg=name)
    assert Verification.read(path).passed
    specs = storage.read_json(path / "assets.extra/zoo.json")["signatures"]["predict"]["inputs"]
    assert all((spec["kind"] == "text") is (spec["dtype"] == "string") for spec in specs.values())
    if kind == "byte_images":
        return  # Keras's export goes on to flip images at random
    model.export(str(tmp_path / "keras"), format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "keras"))  # kept: its functions do not keep its variables
    given = flat(examples)
    theirs = loaded.serve(list(given.values()) if isinstance(given, dict) else given)
    for want, name in zip(keras.tree.flatten(theirs), sorted(got), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=0, atol=allowed * max(1, np.abs(want).max()), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_applications())
def test_every_architecture_of_keras_is_exported(name):
    """With smaller images than its own, because the largest networks take minutes for one of those."""
    rows = exports.measure(name, *application(name, size=96), seconds=0)
    assert [row["batch"] for row in rows] == ["1", "32"] and {row["form"] for row in rows} <= {"served", "unfused"}


def test_a_savedmodel_is_a_layer_of_a_keras_model(from_files, photos):
    layer = keras.layers.TFSMLayer(str(from_files), call_endpoint="predict")
    inputs = keras.Input((12, 10, 3))
    rows = np.random.default_rng(0).normal(size=(3, 12, 10, 3)).astype(np.float32)
    got = keras.Model(inputs, layer(inputs)["chances"])(rows)
    np.testing.assert_allclose(got, photos[0](rows), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A small convolutional network, and four image files."""
    folder = tmp_path_factory.mktemp("photos")
    stack = [keras.Input((12, 10, 3)), L.Conv2D(4, 3, use_bias=False), L.BatchNormalization(), L.Flatten(), L.Dense(3)]
    keras.utils.set_random_seed(1)
    model = keras.Sequential([*stack, L.Softmax(name="chances")], name="photos")
    pixels = np.random.default_rng(2).integers(0, 256, (4, 24, 20, 3)).astype(np.uint8)
    files = [folder / f"{i}.png" for i in range(4)]
    for file, image in zip(files, pixels, strict=True):
        file.write_bytes(tf.io.encode_png(image).numpy())
    return model, files, pixels


@pytest.fixture(scope="module")
def from_files(photos, tmp_path_factory):
    """The artifact of a model that takes image files."""
    model, files, _ = photos
    return zoo.export.save(
        model,
        tmp_path_factory.mktemp("saved") / "photos",
        examples=files,
        preprocessor=zoo.datasets.image_files((12, 10), scaling="resnet50"),
        class_names=["cat", "dog", "owl"],
    )


def test_image_files_are_scaled_as_keras_does_and_answered_with_labels(photos, from_files):
    model, files, pixels = photos
    resized = tf.image.resize(tf.cast(pixels, tf.float32), (12, 10), antialias=True).numpy()
    want = np.asarray(model(keras.applications.resnet50.preprocess_input(resized.copy())))
    got = zoo.load(from_files).predict([str(files[0]), files[1].read_bytes(), pixels[2], files[3]])
    np.testing.assert_allclose([row["chances"] for row in got], want, rtol=0, atol=1e-5)
    assert [row["class_name"] for row in got] == [["cat", "dog", "owl"][i] for i in want.argmax(axis=1)]
    described = json.loads((from_files / "assets.extra" / "zoo.json").read_text())
    assert described["form"]["weights"] == "with batch norm fused"
    assert "blue, green, red" in described["signatures"]["predict"]["inputs"]["input"]["description"]


def test_the_card_names_no_data_set(from_files):
    card = (from_files / "README.md").read_text()
    assert card.startswith("# photos\n\nA Keras model with ")
    assert "- Data:" not in card and "Measured" not in card and "The metrics hold" not in card
    assert "the examples that were passed to the export" in card
    assert "exported with examples of its inputs" in zoo.export.describe(from_files).text()


@pytest.mark.parametrize(
    "name", ["resnet50", "mobilenet_v2", "densenet", "vgg16", "efficientnet", "convnext", "xception"]
)
def test_scalings_equal_the_preprocessing_of_keras(name):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.uint8)
    want = getattr(keras.applications, name).preprocess_input(pixels.astype(np.float32))
    got = zoo.datasets.image_files((9, 9), scaling=name)(pixels)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_a_keras_file_is_exported_by_the_command(photos, tmp_path, capsys):
    from zoo.scripts import export

    model, files, _ = photos
    model.save(tmp_path / "photos.keras")
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    words = [str(tmp_path / "photos.keras"), str(tmp_path / "saved"), "--examples", *map(str, files)]
    assert export.command([*words, "--images", "unit", "--labels", str(tmp_path / "labels.txt")]) == 0
    assert "verified (tensorflow" in capsys.readouterr().out
    assert zoo.load(tmp_path / "saved").labels() == ["cat", "dog", "owl"]


def test_examples_come_from_files(tmp_path):
    from zoo.export.keras_models.files import read_examples

    np.savez(tmp_path / "x.npz", town=np.array(["Łódź"]), size=np.ones((1, 2)))
    held = read_examples([str(tmp_path / "x.npz")])
    assert held["town"].tolist() == ["Łódź"] and held["size"].shape == (1, 2)
    (tmp_path / "rows.csv").write_text("town,size\nNA,2\n,3\n")
    frame = read_examples([str(tmp_path / "rows.csv")])
    assert frame["town"].tolist() == ["NA", ""] and frame["size"].tolist() == [2, 3]
    np.save(tmp_path / "objects.npy", np.array([None, "a"], object))
    for file, said in [("objects.npy", "texts as an array of str"), ("rows.txt", "expected .npy, .npz or .csv")]:
        with pytest.raises(UsageError, match=said):
            read_examples([str(tmp_path / file)])


def test_a_sigmoid_has_two_labels(tmp_path):
    stack = [keras.Input((3,), name="row"), L.Dense(1, activation="sigmoid", name="chance")]
    model = keras.Sequential(stack)
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    got = answers(zoo.export.save(model, tmp_path / "saved", examples=rows, class_names=["no", "yes"]), rows)
    chances = np.asarray(model(rows))
    np.testing.assert_allclose(got["chance"], chances, rtol=0, atol=1e-6)
    assert got["class_name"].tolist() == [b"yes" if p >= 0.5 else b"no" for p in chances[:, 0]]
    assert set(got["class_name"].tolist()) == {b"yes", b"no"}


# --- Names -----------------------------------------------------------------------------------------------------------


def test_made_up_names_become_stable_ones():
    for _ in range(2):  # the second model's layers have other names
        inputs = [keras.Input((2,)), keras.Input((2,), name="second")]
        joined = L.Concatenate()(inputs)
        model = keras.Model(inputs, [L.Dense(1)(joined), L.Dense(2, name="pair")(joined)])
        network, arrays, rebuilds = named_network(model, [np.ones((3, 2)), np.zeros((3, 2))])
        assert list(arrays) == ["input_0", "second"] and rebuilds
        assert zoo.tasks.output_names(network) == ["output_0", "pair"]


def test_inputs_of_any_structure_reach_their_layers():
    first, second = keras.Input((2,), name="first"), keras.Input((2,), name="second")
    total = L.Subtract(name="total")([first, second])
    x = {"first": np.full((3, 2), 5.0, np.float32), "second": np.full((3, 2), 2.0, np.float32)}
    for structure in ({"first": first, "second": second}, [second, first], {"x": {"deep": first}, "y": [second]}):
        network, arrays, _ = named_network(keras.Model(structure, total), x)
        got = zoo.tasks.call_model(network, {name: tf.constant(value) for name, value in arrays.items()})
        np.testing.assert_array_equal(got["total"], np.full((3, 2), 3.0))


def test_a_model_that_its_first_batch_built_takes_any_batch():
    model = called(keras.Sequential([L.Dense(4, activation="relu"), L.BatchNormalization(), L.Dense(1)]), X)
    network, arrays, rebuilds = named_network(model, X)
    assert rebuilds and list(arrays) == ["input"] and network.inputs[0].shape == (None, 3)
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_array_equal(zoo.tasks.call_model(network, {"input": rows})["output"], model(rows))


def test_names_fit_signatures():
    assert plain_name("user id/2") == "user_id_2" and plain_name("2nd") == "x2nd"
    assert unique_names(["a", "a", "a_1"]) == ["a", "a_1", "a_1_1"]


# --- Bad input -------------------------------------------------------------------------------------------------------


class Noisy(L.Layer):
    """A layer that draws random numbers outside training too."""

    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


class Scaled(keras.Model):
    """A model with a variable of TensorFlow's own."""

    def __init__(self):
        super().__init__(name="scaled")
        self.scale, self.last = tf.Variable(2.0), L.Dense(2)

    def call(self, x):
        return self.last(x) * self.scale


@keras.saving.register_keras_serializable("test_any_model")
class Looking(L.Layer):
    """A layer that cannot be made again: its config lacks what its constructor looks up."""

    def __init__(self, table, **options):
        super().__init__(**options)
        self.factor = table["factor"]

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {"table": {}}


def test_variables_and_layers_that_keras_cannot_rebuild_are_exported(tmp_path):
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    model = called(Scaled(), rows)
    path = zoo.export.save(model, tmp_path / "scaled", examples=rows)
    np.testing.assert_allclose(answers(path, rows)["output"], model(rows), rtol=0, atol=1e-6)
    network, _, _ = named_network(keras.Sequential([keras.Input((3,)), Looking({"factor": 3.0})]), rows)
    with pytest.raises(forms.CannotRebuild, match="Looking"):
        signatures.served_copy(network, forms.as_trained(network, ()))
    assert forms.forms_for(network, True)[-1] is forms.AS_TRAINED


TABLE = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2]), 0)


class Seeking(L.Layer):
    """A layer that reads a table which no layer holds."""

    def call(self, x):
        return tf.cast(TABLE.lookup(tf.cast(x, tf.int32)), tf.float32)


class Fixed(keras.Model):
    """A model whose outputs do not have one row per example."""

    def call(self, x):
        return {"total": tf.reduce_sum(x)}


def called(model, x):
    model(x)
    return model


def dense(shape=(3,), units=2, **options):
    return keras.Sequential([keras.Input(shape, **options), L.Dense(units)], name="line")


X = np.ones((4, 3), np.float32)
WRONG = {
    "no model": (lambda: "model.keras", X, {}, "Received the path 'model.keras'; expected a Keras model"),
    "never called": (
        lambda: keras.Sequential([L.Conv2D(1, 3)], name="new"),
        X,
        {},
        "'new' was never called, and cannot be called on the examples.* Pass examples in the form",
    ),
    "random": (lambda: keras.Sequential([keras.Input((3,)), Noisy()]), X, {}, "gives other values for output 'output'"),
    "no rows": (dense, X[:0], {}, "have no rows"),
    "wrong shape": (dense, np.ones((4, 5)), {}, r"takes rows of the shape \(3\); the examples have rows of \(5,\)"),
    "strings": (dense, np.array([["a"] * 3]), {}, "takes numbers"),
    "ragged": (dense, [[1, 2, 3], [1]], {}, "are no array"),
    "unknown name": (
        lambda: keras.Model(
            [a := keras.Input((3,), name="left"), b := keras.Input((3,), name="right")], L.Add()([a, b])
        ),
        {"left": X, "rigth": X},
        {},
        "Did you mean 'right'",
    ),
    "unlike length": (
        lambda: keras.Model(
            [a := keras.Input((3,), name="left"), b := keras.Input((3,), name="right")], L.Add()([a, b])
        ),
        {"left": X, "right": X[:2]},
        {},
        "4 of left and 2 of right",
    ),
    "stateful": (
        lambda: keras.Sequential([keras.Input(batch_shape=(4, 3, 1)), L.LSTM(2, stateful=True)]),
        np.ones((4, 3, 1)),
        {},
        "takes batches of 4 alone",
    ),
    "no row per example": (lambda: called(Fixed(name="fixed"), X), X, {}, "expected one row per example"),
    "labels": (
        dense,
        X,
        {"class_names": ["a", "b", "c"]},
        "class_names has 3 labels; the model has output for 2 classes",
    ),
    "one label": (lambda: dense(units=1), X, {"class_names": ["price"]}, "class_names has 1 labels; the model has no"),
    "labels twice": (dense, X, {"class_names": ["a", "a"]}, "'a' twice"),
    "labels of no output": (dense, X, {"class_names": {"kind": ["a", "b"]}}, "expected one of the outputs output"),
    "refused examples": (
        lambda: keras.Sequential([keras.Input((3,), dtype="int32"), L.Embedding(5, 2), L.Flatten()], name="ids"),
        np.full((2, 3), 9),
        {},
        "'ids' rejects the examples",
    ),
    "a table of nobody": (
        lambda: keras.Sequential([keras.Input((3,)), Seeking()], name="seeks"),
        X,
        {},
        "'seeks' reads a variable or a table that Keras does not know, so it cannot be saved: .* keep the table in an attr",
    ),
    "NaN": (dense, np.full((4, 3), np.nan), {}, r"The examples have nan at input\[0, 0\], and the .* Replace these"),
    "numbers as objects": (
        dense,
        X.astype(object),
        {},
        r"hold 1.0 as an object; .* Pass one array, x.astype\('float32'\)",
    ),
    "with targets": (dense, (X, np.ones(4)), {}, "are a tuple of 2 arrays of unlike shapes; .* Pass x alone"),
    "a path": (dense, "rows.npz", {}, r"examples is the path 'rows.npz'; expected arrays. Pass np.load\('rows.npz'\)"),
    "a dataset": (dense, tf.data.Dataset.from_tensors(X), {}, "Pass the inputs of its first batch: x, y = next"),
    "both": (dense, X, {"interface": object()}, "either an interface or examples; received both"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_models_and_examples_are_refused(case, tmp_path):
    make, examples, options, said = WRONG[case]
    with pytest.raises(UsageError, match=said):
        zoo.export.save(make(), tmp_path / "saved", examples=examples, **options)
    assert not (tmp_path / "saved").exists()


def test_a_path_must_be_a_path(tmp_path):
    with pytest.raises(UsageError, match=re.escape("Call zoo.export.save(model, PATH, interface=...)")):
        zoo.export.save(dense(), zoo.datasets.load("digits"), interface=tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (12,)}, "expected (height, width)"),
        ({"size": (8, 8), "channels": 4}, "expected 1 or 3"),
        ({"size": (8, 8), "channels": 1, "scaling": "torch"}, "needs three channels"),
        ({"size": (8, 8), "scaling": "resnet5"}, "Did you mean 'resnet"),
    ],
)
def test_wrong_preprocessors_are_refused(options, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        zoo.datasets.image_files(**options)
