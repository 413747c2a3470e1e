"""Arrays and datasets as training data: batches, recorded facts of models and data, and rejected input."""

from __future__ import annotations

import json
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from user_models import (
    ONE,
    SPARSE,
    WORDS,
    X,
    Y,
    classes,
    collected,
    logits,
    loss_of,
    metrics_of,
    numbers,
    small,
    step_model,
)
from zoo.config import to_yaml
from zoo.datasets.batches import plain
from zoo.training.data.user_data import wrap

Dataset = tf.data.Dataset
layers = keras.layers


BCE, MSE = keras.losses.BinaryCrossentropy, keras.losses.MeanSquaredError


# --- Arrays ----------------------------------------------------------------------------------------------------------


def test_array_order_depends_only_on_seed_and_epoch():
    data = wrap(small(), (np.arange(40.0).reshape(10, 4), Y))
    for seed, epoch in ((3, 0), (3, 1), (4, 0)):
        x, y = collected(data, seed=seed, epoch=epoch)
        order = np.random.default_rng([seed, epoch]).permutation(10)
        np.testing.assert_array_equal(x[:, 0], order * 4)
        np.testing.assert_array_equal(y, Y[order])
        np.testing.assert_array_equal(collected(data, seed=seed, epoch=epoch, start=2)[0], x[8:])
    np.testing.assert_array_equal(collected(data)[0][:, 0], np.arange(10) * 4)
    assert [len(y) for _, y in data.batches("train", 4).map(plain)] == [4, 4, 2]


def two_inputs(**compiled):
    inputs = [keras.Input((2,), name="left"), keras.Input((), dtype="int32", name="right")]
    x = layers.Concatenate()([inputs[0], layers.Embedding(5, 2)(inputs[1])])
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("sgd", "mse", **compiled)
    return model


@pytest.mark.parametrize(
    "x",
    [
        {"right": classes(6), "left": numbers(6, 2).tolist()},
        [numbers(6, 2), classes(6)],
        (numbers(6, 2), classes(6)),
    ],
)
def test_inputs_can_be_named_or_positional(x):
    model = two_inputs()
    for source in ((x, np.zeros(6)), Dataset.from_tensor_slices((x if isinstance(x, dict) else tuple(x), np.zeros(6)))):
        inputs, _ = next(iter(wrap(model, source).batches("train", 6).map(plain)))
        assert sorted(inputs) == ["left", "right"]
        np.testing.assert_allclose(model(inputs), model([numbers(6, 2), classes(6)]), rtol=1e-6)


def test_data_frames_and_lists_are_accepted():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    for x, y in ((frame, pandas.Series(Y)), (X.tolist(), Y.tolist()), (tf.constant(X), tf.constant(Y))):
        inputs, targets = collected(wrap(small(), (x, y)))
        np.testing.assert_array_equal(inputs, X)
        np.testing.assert_array_equal(targets, Y)


def test_an_axis_of_size_1_can_be_omitted_as_in_keras():
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.compile("sgd", SPARSE)
    for source in ((numbers(5, 3, 3), Y[:5] % 2), Dataset.from_tensor_slices((numbers(5, 3, 3), Y[:5] % 2)).batch(2)):
        assert collected(wrap(model, source))[0].shape == (5, 3, 3)


def test_training_uses_the_compiled_optimizer():
    optimizer = keras.optimizers.SGD(0.5)
    assert wrap(small(optimizer=optimizer), (X, Y)).optimizer is optimizer
    # The loop scales the loss itself; if the loss were scaled twice, every step would be zero.
    assert wrap(small(optimizer=keras.optimizers.LossScaleOptimizer(optimizer)), (X, Y)).optimizer is optimizer


def test_classes_are_counted():
    weights = np.r_[np.zeros(2), np.ones(8)]
    model = small(units=4)
    for source in ((X, Y, weights), Dataset.from_tensor_slices((X, Y, weights)).batch(3)):
        counts = wrap(model, source).target_counts("train")
        assert wrap(model, source).class_names == ("0", "1", "2", "3")
        assert counts.tolist() == [*(int((Y[2:] == k).sum()) for k in range(3)), 0] and counts.dtype == np.int64
    assert wrap(small(**ONE, loss="mse"), (X, Y)).target_counts("train") is None
    assert wrap(step_model(), (WORDS, classes(4, 3))).target_counts("train") is None


def test_a_registered_model_uses_the_loss_of_its_task():
    model = zoo.build("mlp", input_shape=(8, 8, 1), num_classes=3, hidden_units=[4], classifier_activation=None)
    data = wrap(model, (numbers(10, 8, 8, 1), Y))
    assert data.optimizer is None and [m.name for m in metrics_of(data)] == ["accuracy"]
    x, y = collected(data)
    outputs = model(x).numpy()
    np.testing.assert_allclose(loss_of(data, 0.0)(y, outputs), logits(Y, outputs), rtol=1e-5)
    assert data.describe()["model"]["hidden_units"] == [4]


def test_a_registered_model_with_linear_output_trains_as_regression():
    model = zoo.build(
        "lstm", input_shape=(None, 2), num_classes=1, units=[3], return_sequences=False, classifier_activation="linear"
    )
    data = wrap(model, (numbers(5, 7, 2), numbers(5)))
    losses = loss_of(data, 0.0)(numbers(5), model(numbers(5, 7, 2)))
    # A series with numbers is a forecast, whose loss is absolute.
    np.testing.assert_allclose(losses, np.abs(numbers(5) - model(numbers(5, 7, 2)).numpy()[:, 0]), rtol=1e-5)
    assert [m.name for m in metrics_of(data)] == ["mae", "rmse"]


# --- Datasets --------------------------------------------------------------------------------------------------------

SLICES = Dataset.from_tensor_slices((X, Y))


@pytest.mark.parametrize(
    ("dataset", "count"),
    [
        (SLICES, 10),
        (SLICES.batch(3), 10),
        (SLICES.batch(3, drop_remainder=True), 9),
        (SLICES.batch(16), 10),
        (SLICES.filter(lambda x, y: y > 0), int((Y > 0).sum())),
        (SLICES.filter(lambda x, y: y > 0).batch(2), int((Y > 0).sum())),
    ],
)
def test_datasets_are_rebatched(dataset, count, capsys):
    data = wrap(small(), dataset, SLICES)
    assert data.num_examples("train") == count and data.num_examples("validation") == 10
    sizes = [len(y) for _, y in data.batches("train", 4).map(plain)]
    assert sizes == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    x, y = collected(data)
    np.testing.assert_array_equal(collected(data, size=3, start=1, seed=1, epoch=2)[0], x[3:])
    full = np.concatenate([np.atleast_1d(e[1]) for e in dataset.as_numpy_iterator()])
    np.testing.assert_array_equal(y, full)
    assert capsys.readouterr().out == ""


def test_a_slow_count_is_printed(capsys):
    def slowly():
        for x in X[:3]:
            time.sleep(0.75)
            yield x, 0

    signature = (tf.TensorSpec((4,)), tf.TensorSpec((), tf.int32))
    data = wrap(small(), Dataset.from_generator(slowly, output_signature=signature).cache())
    assert data.num_examples("train") == 3
    assert re.fullmatch(r"Counted 3 examples of the dataset in \d s\.\n", capsys.readouterr().out)


def test_a_late_invalid_label_in_a_dataset_is_found():
    y = Y.copy()
    y[9] = 3
    data = wrap(small(), Dataset.from_tensor_slices((X, y)).batch(4))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"assertion failed: .*y has a label that is no whole number"
    ):
        collected(data)


class Answer(keras.Model):
    """A model whose shapes Keras does not know before the first call."""

    def __init__(self, output=lambda y: y):
        super().__init__()
        self.dense, self.output_of = layers.Dense(3, activation="softmax"), output

    def call(self, x):
        return self.output_of(self.dense(x["a"] if isinstance(x, dict) else x))


@pytest.mark.parametrize("source", [(X, Y), SLICES.batch(4), ({"a": X}, Y)])
def test_subclassed_models_can_be_trained_after_a_call(source):
    model = Answer()
    model(X[:1])
    model.compile("sgd", SPARSE)
    data = wrap(model, source)
    inputs, targets = next(iter(data.batches("train", 10).map(plain)))
    np.testing.assert_array_equal(targets, Y)
    assert model(inputs).shape == (10, 3) and "sha256" in data.describe()["model"]


# --- Facts that resumed runs compare ---------------------------------------------------------------------------------


def facts(x=X, y=Y, units=3, **compiled):
    return wrap(small(units=units, **compiled), (x, y), (x, y)).describe()


def test_equal_models_and_data_have_equal_facts():
    one = facts(metrics=[keras.metrics.SparseTopKCategoricalAccuracy(k=2)])
    assert facts(x=X.copy(), metrics=[keras.metrics.SparseTopKCategoricalAccuracy(k=2)]) == one
    assert json.loads(json.dumps(one)) == one and "train_sha256" in to_yaml(one)
    named = facts(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=False))
    assert named["model"]["sha256"] == one["model"]["sha256"]
    streamed = [wrap(small(), SLICES.batch(n)).describe()["data"] for n in (3, 3, 5)]
    assert streamed[0] == streamed[1] != streamed[2]


@pytest.mark.parametrize(
    ("section", "key", "changed"),
    [
        ("data", "train_sha256", {"x": X + 1}),
        ("data", "train_sha256", {"y": Y[::-1].copy()}),
        ("data", "train_arrays", {"y": Y.astype(np.int8)}),
        ("model", "sha256", {"units": 4}),
        ("model", "sha256", {"activation": "sigmoid"}),
        ("model", "compiled", {"optimizer": keras.optimizers.SGD(0.5)}),
        ("model", "compiled", {"metrics": ["accuracy"]}),
        ("model", "compiled", {"loss": keras.losses.SparseCategoricalCrossentropy(ignore_class=2)}),
    ],
)
def test_different_models_and_data_have_different_facts(section, key, changed):
    assert facts(**changed)[section][key] != facts()[section][key]


# --- Rejected models and data ----------------------------------------------------------------------------------------


class OwnStep(keras.Model):
    def train_step(self, data):
        return {}


class Forgetful(keras.metrics.Mean):
    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power


def own_step():
    inputs = keras.Input((4,))
    model = OwnStep(inputs, layers.Dense(3)(inputs))
    model.compile("sgd", "mse")
    return model


def two_outputs():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, {"a": layers.Dense(1, name="a")(inputs), "b": layers.Dense(1, name="b")(inputs)})
    model.compile("sgd", "mse")
    return model


def called(model):
    model(X[:1])
    model.compile("sgd", SPARSE)
    return model


def with_label(value, dtype=float):
    y = Y.astype(dtype)
    y[7] = value
    return y


def untrainable_model(name):
    return {
        "no model": lambda: "model",
        "not buildable": lambda: keras.Sequential([layers.Conv2D(2, 3)]),
        "own step": own_step,
        "two outputs": two_outputs,
        "dict output": lambda: called(Answer(lambda y: {"y": y})),
        "not compiled": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3)]),
    }[name]()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no model", r"The model is a str; expected a Keras model. Pass a keras.Model."),
        ("not buildable", r"The model '.*' cannot be built on the data: .* Pass a model that begins with keras.Input."),
        ("own step", r"OwnStep has a train_step of its own, which would not run here. Remove it"),
        ("two outputs", r"The model has the outputs a, b; y is one array. Pass a dict with these names."),
        ("dict output", r"The model returns a dict of 1, .*; training takes one tensor. Build .* let call return one"),
        ("not compiled", r"The model '.*' has no loss. Call model.compile\(optimizer=..., loss=..., metrics=\[...\]\)"),
    ],
)
def test_untrainable_models_are_rejected(name, message):
    with pytest.raises(zoo.UsageError, match=message):
        wrap(untrainable_model(name), (X, Y))


@pytest.mark.parametrize(
    ("compiled", "targets", "message"),
    [
        ({"loss": "spars_crossentropy"}, Y, r"Unknown loss 'spars_crossentropy'. Did you mean '.*crossentropy"),
        ({"loss": ["mse", "mae"]}, Y, r"compiled with 2 entries in loss; expected one. Pass one."),
        ({"loss": MSE(reduction="sum")}, Y, r"mean_squared_error has reduction='sum'; .* Leave reduction out"),
        ({"activation": None}, Y, r"takes probabilities; the model returns -.* Pass from_logits=True to the loss, or"),
        ({"metrics": ["acuracy"]}, Y, r"Unknown metric 'acuracy'. Did you mean .*Accuracy"),
        ({"metrics": [Forgetful(power=2)]}, Y, r"has power=2, a copy of it 1: .* Give its class a get_config"),
        (
            {"metrics": [keras.metrics.F1Score()]},
            Y,
            r"Metric 'f1_score' does not take targets \(examples,\) with outputs",
        ),
    ],
)
def test_unsupported_compile_arguments_are_rejected(compiled, targets, message):
    keras.utils.set_random_seed(0)  # with these weights a linear model outputs negative values
    with pytest.raises(zoo.UsageError, match=message):
        wrap(small(**compiled), (X[: len(targets)], targets))


@pytest.mark.parametrize(
    ("loss", "label_smoothing", "message"),
    [
        (
            "mse",
            0.1,
            r"label_smoothing=0.1 goes with sparse or categorical cross-entropy; the loss is mean_squared_error. L",
        ),
        (keras.losses.CategoricalCrossentropy(label_smoothing=0.2), 0.1, r"label_smoothing=0.2 already. Leave one of"),
    ],
)
def test_label_smoothing_requires_cross_entropy(loss, label_smoothing, message):
    model = small(loss=loss)
    with pytest.raises(zoo.UsageError, match=message):
        loss_of(wrap(model, (X, np.eye(3)[Y])), label_smoothing)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X,), r"The data is a tuple of 1; expected \(x, y\), .* Pass a tuple \(x, y\)."),
        ([X, Y], r"The data is a list; expected \(x, y\)"),
        (X, r"The data is a ndarray; expected"),
        (((X, Y) for _ in range(2)), r"The data is a generator, which can be read only once; .* Pass the function"),
        (lambda: iter([]), r"The dataset is empty"),
        (lambda: iter([("a text", 1)]), r"The data yields .* of shape \(\); expected batches of numbers"),
        ((X, Y[:9]), r"Arrays of unequal length: x 10, y 9. Pass one entry for every example"),
        ((X, Y, np.ones(3)), r"unequal length: x 10, y 10, sample_weight 3."),
        ((X[:0], Y[:0]), r"x and y hold no example. Pass at least one."),
        ((3.0, Y), r"x is a float, without an axis of examples. Pass an array."),
        (([[1, 2], [3]], Y[:2]), r"x is no array: its rows differ in length. Make them"),
        ((X.astype(object), Y), r"x holds the type object; expected numbers. Convert it, .*\.astype"),
        ((X, np.array(list("abcabcabca"))), r"y holds text; expected numbers. Convert it, such as by np.unique"),
        ((X, {"a": Y}), r"y is a dict; expected one array, .* Pass the array."),
        ((numbers(10, 5), Y), r"x has examples of shape \(5,\); the model takes \(4,\). Pass .* \(examples, 4\)."),
        ((numbers(10, 4, 4), Y), r"x has examples of shape \(4, 4\); the model takes \(4,\)."),
        (({"b": X}, Y), r"x has 'b'; the model has no such input"),
        ((X, np.eye(3)[Y]), r"y is \(examples, 3\); .* \(examples, 3\) takes one class number .* y.argmax\(axis=-1\)"),
        ((X, numbers(10, 2)), r"y is \(examples, 2\); .* takes one class number .* shape \(examples,\)\."),
        ((X, with_label(-1, int)), r"y is -1 at example 7; expected whole numbers from 0 to 2, .* 3 classes. Correct"),
        ((X, with_label(3, np.uint8)), r"y is 3 at example 7; expected whole numbers from 0 to 2"),
        ((X, with_label(0.5)), r"y is 0.5 at example 7; expected whole numbers"),
        ((X, with_label(np.nan)), r"y is nan at example 7; expected whole numbers"),
        ((X, Y, np.ones((10, 2))), r"sample_weight is \(examples, 2\); the losses are \(examples,\). Pass weights of"),
        ((X, Y, -np.ones(10)), r"sample_weight is -1.0 at example 0. Pass finite numbers of at least 0."),
        ((X, Y, with_label(np.inf)), r"sample_weight is inf at example 7."),
        (
            SLICES.repeat(),
            r"The dataset never ends. Pass steps_per_epoch .*, dataset.take\(n\), or leave repeat\(\) out.",
        ),
        (SLICES.take(0), r"The dataset is empty. Pass one with at least one example."),
        (SLICES.filter(lambda x, y: y > 5), r"The dataset is empty."),
        (
            SLICES.map(lambda x, y: {"x": x, "y": y}),
            r"dataset yields dicts with x, y; expected .* Map it to such a tuple",
        ),
        (SLICES.map(lambda x, y: x), r"dataset yields a TensorSpec; expected \(x, y\)"),
        (SLICES.map(lambda x, y: (x, tf.strings.as_string(y))), r"y is of string; expected numbers. Map labels"),
        (SLICES.batch(5).ragged_batch(2), r"dataset yields a RaggedTensorSpec; expected tensors .* Map ragged"),
        (
            SLICES.batch(2).batch(2),
            r"x yields '.*' of shape \(None, None, 4\); the model takes \(4,\), or batches",
        ),
        (Dataset.from_tensor_slices((X, with_label(-1, int))).batch(10), r"y is -1 at example 7; expected whole"),
    ],
)
def test_data_that_do_not_match_the_model_are_rejected(data, message):
    with pytest.raises(zoo.UsageError, match=message) as caught:
        wrap(small(), data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("compiled", "targets", "message"),
    [
        ({"loss": "categorical_crossentropy"}, Y, r"Compile with sparse_categorical_crossentropy, or pass keras.utils"),
        ({"loss": "mse"}, Y, r"y is \(examples,\); .* takes targets of the outputs' shape. Pass .* \(examples, 3\)"),
        ({**ONE, "loss": "mse"}, numbers(10, 3), r"y is \(examples, 3\); .* outputs \(examples, 1\) takes targets of"),
        ({**ONE, "loss": "bce", "activation": "sigmoid"}, Y - 1, r"y is -1 at .*; expected numbers from 0 to 1"),
        ({**ONE, "loss": "mse"}, with_label(np.inf), r"y is inf at example 7; expected finite numbers"),
    ],
)
def test_targets_that_do_not_match_the_loss_are_rejected(compiled, targets, message):
    with pytest.raises(zoo.UsageError, match=message):
        wrap(small(**compiled), (X, targets))


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ((X, np.eye(3)[Y]), r"validation y is \(examples, 3\), y is \(examples,\). Pass targets of the same shape"),
        ((X[:, :3], Y), r"validation x has examples of shape \(3,\)"),
        ((X, with_label(4)), r"validation y is 4.0 at example 7"),
        (SLICES.repeat(), r"The validation dataset never ends"),
    ],
)
def test_validation_data_of_another_shape_are_rejected(validation, message):
    with pytest.raises(zoo.UsageError, match=message):
        wrap(small(), (X, Y), validation)


def test_masked_steps_require_sample_weights():
    class Tagger(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(6, 3, mask_zero=True)
            self.dense = layers.Dense(3, activation="softmax")

        def call(self, x):
            return self.dense(self.embedding(x))

    model = Tagger()
    model(WORDS)
    model.compile("sgd", SPARSE)
    with pytest.raises(zoo.UsageError, match=r"The model masks steps; sample_weight is missing. Pass weights, 0 where"):
        wrap(model, (WORDS, classes(4, 3)))
    assert len(collected(wrap(model, (WORDS, classes(4, 3), WORDS != 0)))) == 3


def test_examples_of_different_sizes_cannot_form_a_batch():
    signature = (tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None,), tf.int32))
    dataset = Dataset.from_generator(lambda: ((np.ones(n), np.ones(n)) for n in (2, 2, 3)), output_signature=signature)
    with pytest.raises(
        zoo.UsageError, match=r"several sizes, \(2, 2\) and \(3, 3\): they make no batch. Make them one size"
    ):
        wrap(step_model(), dataset)
    assert wrap(step_model(), dataset.take(2)).num_examples("train") == 2


def test_names_of_inputs_and_splits_are_checked():
    model = two_inputs()
    with pytest.raises(zoo.UsageError, match=r"x has 'lef'; the model has no such input. Did you mean 'left'"):
        wrap(model, ({"lef": X[:, :2], "right": Y}, numbers(10)))
    with pytest.raises(zoo.UsageError, match=r"x lacks 'right'; the model takes left, right. Pass all of them."):
        wrap(model, ({"left": X[:, :2]}, numbers(10)))
    with pytest.raises(zoo.UsageError, match=r"The model takes left, right; x is one array. Pass a dict"):
        wrap(model, (X, numbers(10)))
    data = wrap(small(), (X, Y))
    assert data.num_examples("validation") == 0
    with pytest.raises(zoo.UsageError, match=r"There is no split 'test'. Valid: train."):
        data.num_examples("test")
    with pytest.raises(zoo.UsageError, match=r"group_by_length goes with .* Leave group_by_length out."):
        data.batches("train", 4, group_by_length=True)
