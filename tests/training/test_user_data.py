"""Arrays and datasets as training data: losses and metrics against NumPy and `Model.fit`, batches, and what is refused."""

from __future__ import annotations

import json
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.config import to_yaml
from zoo.datasets.batches import plain
from zoo.training.data.user_data import wrap
from zoo.training.data.user_losses import keep_compiled
from zoo.training.data.user_metrics import PerElementMetric

Dataset = tf.data.Dataset
layers = keras.layers


def small(units=3, activation="softmax", loss="sparse_categorical_crossentropy", inputs=4, squeeze=False, **compiled):
    """A dense layer, compiled."""
    model = keras.Sequential([keras.Input((inputs,)), layers.Dense(units, activation=activation)])
    if squeeze:
        model.add(layers.Reshape(()))
    model.compile(optimizer=compiled.pop("optimizer", "sgd"), loss=loss, **compiled)
    return model


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def classes(*shape, below=3, seed=0):
    return np.random.default_rng(seed).integers(0, below, shape)


X, Y = numbers(10, 4), classes(10)


def collected(data, split="train", size=4, **order):
    """All batches of a split, joined."""
    parts = list(data.batches(split, size, **order).map(plain).as_numpy_iterator())
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def loss_of(data, label_smoothing=0.0):
    """The loss of the only output."""
    (term,) = data.objective.loss
    return term.loss(term.outputs[0], label_smoothing)


def metrics_of(data):
    """Fresh metrics of the only output."""
    (measure,) = data.objective.metrics
    return measure.metrics()


# --- Losses ----------------------------------------------------------------------------------------------------------


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(y, p, smoothing=0.0):
    """NumPy: of class numbers and probabilities."""
    wanted = np.eye(p.shape[-1])[y] * (1 - smoothing) + smoothing / p.shape[-1]
    return -(wanted * np.log(p)).sum(-1)


def binary(y, p):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def logits(y, z):
    return cross_entropy(y, softmax(z))


def squared(y, p):
    return (y - p) ** 2


def mean_of(function):
    return lambda y, p: function(y, p).mean(-1)


def own_function(y, p):
    return keras.ops.square(y - p)


class OwnLoss(keras.losses.Loss):
    """Keeps no configuration, and subtracts what came."""

    def __init__(self, power):
        super().__init__(name="own")
        self.power = power

    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** self.power, axis=-1)


BCE, MSE = keras.losses.BinaryCrossentropy, keras.losses.MeanSquaredError
ONE = {"units": 1, "activation": None}
SPARSE = "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("arguments", "targets", "expected"),
    [
        ({"loss": SPARSE}, Y, cross_entropy),
        ({"loss": "SparseCategoricalCrossentropy"}, Y[:, None], lambda y, p: cross_entropy(y[:, 0], p)),
        ({"loss": "crossentropy"}, Y, cross_entropy),
        ({"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "activation": None}, Y, logits),
        ({"loss": keras.losses.categorical_crossentropy}, np.eye(3)[Y], lambda y, p: cross_entropy(y.argmax(-1), p)),
        ({"loss": {"dense": SPARSE}}, Y.astype(float), lambda y, p: cross_entropy(y.astype(int), p)),
        ({**ONE, "loss": "mse"}, numbers(10), lambda y, p: squared(y, p[:, 0])),
        ({**ONE, "loss": MSE}, numbers(10, 1), mean_of(squared)),
        ({**ONE, "loss": MSE(), "squeeze": True}, numbers(10), squared),
        ({**ONE, "loss": "mae", "squeeze": True}, numbers(10, 1), lambda y, p: abs(y[:, 0] - p)),
        ({"activation": None, "loss": ["mse"]}, numbers(10, 3), mean_of(squared)),
        ({**ONE, "loss": "bce", "activation": "sigmoid"}, Y > 0, lambda y, p: binary(y, p[:, 0])),
        (
            {**ONE, "loss": BCE(from_logits=True)},
            (Y > 0).astype(np.int8),
            lambda y, p: binary(y, 1 / (1 + np.exp(-p[:, 0]))),
        ),
        ({**ONE, "loss": own_function}, numbers(10), lambda y, p: squared(y, p[:, 0])),
        ({"activation": None, "loss": own_function}, numbers(10, 3), squared),
        ({**ONE, "loss": OwnLoss(3)}, numbers(10), lambda y, p: abs(y - p[:, 0]) ** 3),
        ({**ONE, "loss": OwnLoss(3), "squeeze": True}, numbers(10), lambda y, p: abs(y - p) ** 3),
    ],
)
def test_a_loss_gives_every_element_its_own_number(arguments, targets, expected):
    model = small(**arguments)
    data = wrap(model, (X, targets))
    x, y, *weights = collected(data)
    outputs = model(x).numpy()
    losses = loss_of(data, 0.0)(y, outputs).numpy()
    wanted = expected(targets, outputs.astype(np.float64))
    assert losses.shape == wanted.shape and losses.shape[0] == 10
    np.testing.assert_allclose(losses, wanted, rtol=2e-5, atol=1e-6)
    assert (weights == []) == (losses.ndim == 1)


def test_the_compiled_loss_is_left_as_it_was():
    own = OwnLoss(2)
    model = small(**ONE, loss=own)
    loss = loss_of(wrap(model, (X, numbers(10))), 0.0)
    assert own.reduction == "sum_over_batch_size" and loss.reduction is None and loss.loss is own
    other = wrap(small(**ONE, loss=OwnLoss(3)), (X, numbers(10))).describe()
    assert other["model"]["compiled"]["loss"] == {"name": "own", "power": 3}


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_label_smoothing_equals_numpy(from_logits, sparse):
    kind = keras.losses.SparseCategoricalCrossentropy if sparse else keras.losses.CategoricalCrossentropy
    model = small(activation=None if from_logits else "softmax", loss=kind(from_logits=from_logits))
    data = wrap(model, (X, Y if sparse else np.eye(3)[Y]))
    x, y = collected(data)
    outputs = model(x).numpy().astype(np.float64)
    losses = loss_of(data, 0.2)(y, outputs).numpy()
    probabilities = softmax(outputs) if from_logits else outputs
    np.testing.assert_allclose(losses, cross_entropy(Y, probabilities, 0.2), rtol=1e-5)
    assert abs(losses - cross_entropy(Y, probabilities)).max() > 1e-2


def test_shares_of_classes_are_taken_where_class_numbers_are():
    model = small()
    shares = softmax(numbers(10, 3).astype(np.float64))
    outputs = model(X).numpy()
    losses = loss_of(wrap(model, (X, Y)), 0.0)(shares, outputs)
    np.testing.assert_allclose(losses, -(shares * np.log(outputs)).sum(-1), rtol=1e-5)


def step_model(loss=SPARSE, masked=False, **compiled):
    """Word numbers to three probabilities a word."""
    words = keras.Input((None,), dtype="int32", name="words")
    x = layers.Embedding(6, 4, mask_zero=masked)(words)
    model = keras.Model(words, layers.Dense(3, activation="softmax")(layers.SimpleRNN(4, return_sequences=True)(x)))
    model.compile("sgd", loss, **compiled)
    return model


WORDS = np.array([[1, 2, 0], [3, 0, 0], [4, 5, 1], [2, 0, 0]])


def weighted_mean(data, model, split="train"):
    inputs, y, weights = collected(data, split, 3)
    losses = loss_of(data, 0.0)(y, model(inputs)).numpy()
    assert losses.shape == weights.shape
    return (losses * weights).sum() / np.count_nonzero(weights)


def test_masked_steps_weigh_nothing_as_in_keras():
    model = step_model(masked=True)
    data = wrap(model, (WORDS, classes(4, 3)))
    np.testing.assert_array_equal(collected(data)[2], WORDS != 0)
    assert weighted_mean(data, model) == pytest.approx(model.evaluate(WORDS, classes(4, 3), verbose=0), rel=1e-5)


def test_ignored_classes_weigh_nothing_as_in_keras():
    y = np.where(WORDS == 0, -1, classes(4, 3))
    model = step_model(keras.losses.SparseCategoricalCrossentropy(ignore_class=-1), metrics=["accuracy"])
    data = wrap(model, (WORDS, y))
    x, targets, weights = collected(data)
    np.testing.assert_array_equal(weights, y >= 0)
    np.testing.assert_array_equal(targets, np.maximum(y, 0))
    expected = model.evaluate(WORDS, y, verbose=0)[0]
    assert weighted_mean(data, model) == pytest.approx(expected, rel=1e-5)
    (metric,) = metrics_of(data)
    metric.update_state(targets, model(x), sample_weight=weights)
    right = model(x).numpy().argmax(-1) == y
    assert float(metric.result()) == pytest.approx(right[y >= 0].mean())


@pytest.mark.parametrize("weights", [np.arange(4.0), np.arange(4)[:, None], np.arange(12.0).reshape(4, 3)])
def test_weights_reach_every_step(weights):
    model = step_model()
    given = collected(wrap(model, (WORDS, classes(4, 3), weights)))[2]
    np.testing.assert_array_equal(given, np.broadcast_to(weights if weights.ndim > 1 else weights[:, None], (4, 3)))
    assert given.dtype == np.float32


def test_every_number_of_a_target_can_have_its_weight():
    model = small(activation=None, loss="mae", weighted_metrics=["mse"])
    y, weights = numbers(10, 3), classes(10, 3).astype(np.float32)
    data = wrap(model, (X, np.where(weights == 0, np.nan, y), weights), validation=(X, y))
    outputs = model(X).numpy()
    expected = (abs(y - outputs) * weights).sum() / np.count_nonzero(weights)
    assert weighted_mean(data, model) == pytest.approx(expected, rel=1e-5)
    assert weighted_mean(data, model, "validation") == pytest.approx(abs(y - outputs).mean(), rel=1e-5)
    (metric,) = metrics_of(data)
    metric.update_state(y, outputs, sample_weight=weights)
    assert float(metric.result()) == pytest.approx(((y - outputs) ** 2 * weights).sum() / weights.sum(), rel=1e-5)


def test_what_has_weight_0_may_be_anything():
    y = Y.copy()
    y[3] = -1
    weights = np.ones(10)
    weights[3] = 0
    _, targets, given = collected(wrap(small(), (X, y, weights)))
    assert targets[3] == 0 and given[3] == 0 and (targets[:3] == Y[:3]).all()


def test_training_equals_fit():
    """Whole-set steps, so that the order does not matter: the loop's own optimizer beside Keras's."""
    optimizer = keras.optimizers.SGD(0.5)
    models = [small(metrics=["accuracy"], optimizer=o) for o in (optimizer, keras.optimizers.SGD(0.5))]
    models[1].set_weights(models[0].get_weights())
    before = models[0].get_weights()[0]
    config = zoo.TrainConfig(epochs=3, batch_size=10, optimizer="sgd", learning_rate=0.5)
    rows = zoo.train(models[0], wrap(models[0], (X, Y), (X[:6], Y[:6])), config, verbose=0).history
    history = models[1].fit(X, Y, batch_size=10, epochs=3, validation_data=(X[:6], Y[:6]), verbose=0).history
    assert abs(models[0].get_weights()[0] - before).max() > 1e-2
    np.testing.assert_allclose(models[0].get_weights()[0], models[1].get_weights()[0], atol=1e-6)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [row[name] for row in rows] == pytest.approx(history[name], abs=1e-5)


# --- Metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_fresh_and_named_as_in_keras():
    top = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top_2")
    model = small(metrics=["accuracy", top, "SparseCategoricalCrossentropy"], weighted_metrics=["accuracy"])
    data = wrap(model, (X, Y))
    model.evaluate(X, Y, verbose=0)
    state = float(top.result())
    one, two = metrics_of(data), metrics_of(data)
    assert [m.name for m in one] == ["accuracy", "top_2", "SparseCategoricalCrossentropy", "weighted_accuracy"]
    assert one[1].metric is not top and one[1].metric.get_config() == top.get_config()
    for metric in one:
        metric.update_state(Y[:1], np.roll(np.eye(3, dtype=np.float32)[Y[:1]], 1), sample_weight=[1.0])
    assert float(top.result()) == state > 0
    assert not any(np.any(v) for m in two for v in m.variables)
    assert one[0]._direction == "up"


def test_weights_count_where_keras_counts_them():
    y, weights = np.zeros(4), np.array([1.0, 3.0, 2.0, 0.0])
    model = small(
        **ONE, loss="mse", metrics=["mae"], weighted_metrics=[keras.metrics.MeanAbsoluteError(name="weighted")]
    )
    plain, weighted = metrics_of(wrap(model, (X[:4], y, weights)))
    for metric in (plain, weighted):
        metric.update_state(y, np.array([[1.0], [2.0], [3.0], [9.0]]), sample_weight=weights)
    assert float(plain.result()) == 2.0
    assert float(weighted.result()) == pytest.approx(13 / 6)


@pytest.mark.parametrize(
    ("arguments", "targets", "expected"),
    [
        ({}, Y, keras.metrics.SparseCategoricalAccuracy),
        ({"loss": "categorical_crossentropy"}, np.eye(3)[Y], keras.metrics.CategoricalAccuracy),
        ({**ONE, "activation": "sigmoid", "loss": "bce"}, Y > 1, keras.metrics.BinaryAccuracy),
        ({**ONE, "activation": "sigmoid", "loss": "bce", "squeeze": True}, Y > 1, keras.metrics.BinaryAccuracy),
    ],
)
def test_accuracy_is_what_the_shapes_say(arguments, targets, expected):
    model = small(**arguments, metrics=["accuracy"])
    (metric,) = metrics_of(wrap(model, (X, targets)))
    assert type(metric.metric) is expected and metric.name == "accuracy"
    for part in (slice(0, 7), slice(7, 10)):  # a batch of another size must not count as much as the first
        metric.update_state(targets[part], model(X[part]))
    outputs = model(X).numpy()
    right = (outputs.reshape(10) > 0.5) == targets if outputs.size == 10 else outputs.argmax(-1) == Y
    assert float(metric.result()) == pytest.approx(right.mean())


def test_losses_and_metrics_can_be_saved():
    model = small(metrics=["accuracy"])
    data = wrap(model, (X, Y))
    objects = [loss_of(data, 0.1), *metrics_of(data)]
    loss, metric = (keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(o)) for o in objects)
    np.testing.assert_array_equal(loss(Y, model(X)), objects[0](Y, model(X)))
    assert isinstance(metric, PerElementMetric) and metric.name == "accuracy"


def test_a_model_stays_compiled_as_it_was():
    model, bare = small(metrics=["accuracy"]), keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    data, optimizer, before = wrap(model, (X, Y)), model.optimizer, model.evaluate(X, Y, verbose=0)
    for each in (model, bare):
        with keep_compiled(each):
            each.compile("adam", loss_of(data, 0.1), metrics_of(data))
    assert model.optimizer is optimizer and model.evaluate(X, Y, verbose=0) == before
    assert wrap(model, (X, Y)).describe() == data.describe()
    assert not bare.compiled and bare.metrics == [] and not bare.get_compile_config()
    bare.compile("sgd", "mse")
    assert wrap(bare, (X, numbers(10, 3))).describe()["model"]["compiled"]["metrics"] == []


# --- Arrays ----------------------------------------------------------------------------------------------------------


def test_the_order_of_arrays_is_a_function_of_seed_and_epoch():
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
def test_inputs_by_name_and_in_a_row(x):
    model = two_inputs()
    for source in ((x, np.zeros(6)), Dataset.from_tensor_slices((x if isinstance(x, dict) else tuple(x), np.zeros(6)))):
        inputs, _ = next(iter(wrap(model, source).batches("train", 6).map(plain)))
        assert sorted(inputs) == ["left", "right"]
        np.testing.assert_allclose(model(inputs), model([numbers(6, 2), classes(6)]), rtol=1e-6)


def test_data_frames_and_lists_are_arrays():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    for x, y in ((frame, pandas.Series(Y)), (X.tolist(), Y.tolist()), (tf.constant(X), tf.constant(Y))):
        inputs, targets = collected(wrap(small(), (x, y)))
        np.testing.assert_array_equal(inputs, X)
        np.testing.assert_array_equal(targets, Y)


def test_an_axis_of_size_1_may_be_missing_as_in_keras():
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.compile("sgd", SPARSE)
    for source in ((numbers(5, 3, 3), Y[:5] % 2), Dataset.from_tensor_slices((numbers(5, 3, 3), Y[:5] % 2)).batch(2)):
        assert collected(wrap(model, source))[0].shape == (5, 3, 3)


def test_the_optimizer_is_the_compiled_one():
    optimizer = keras.optimizers.SGD(0.5)
    assert wrap(small(optimizer=optimizer), (X, Y)).optimizer is optimizer
    # The loop scales the loss itself; scaled twice, every step would be nothing.
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


def test_a_registered_model_brings_its_tasks_loss():
    model = zoo.build("mlp", input_shape=(8, 8, 1), num_classes=3, hidden_units=[4], classifier_activation=None)
    data = wrap(model, (numbers(10, 8, 8, 1), Y))
    assert data.optimizer is None and [m.name for m in metrics_of(data)] == ["accuracy"]
    x, y = collected(data)
    outputs = model(x).numpy()
    np.testing.assert_allclose(loss_of(data, 0.0)(y, outputs), logits(Y, outputs), rtol=1e-5)
    assert data.describe()["model"]["hidden_units"] == [4]


def test_a_registered_model_that_answers_numbers_is_no_classifier():
    model = zoo.build(
        "lstm", input_shape=(None, 2), num_classes=1, units=[3], return_sequences=False, classifier_activation="linear"
    )
    data = wrap(model, (numbers(5, 7, 2), numbers(5)))
    losses = loss_of(data, 0.0)(numbers(5), model(numbers(5, 7, 2)))
    np.testing.assert_allclose(losses, squared(numbers(5), model(numbers(5, 7, 2)).numpy()[:, 0]), rtol=1e-5)
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
def test_datasets_are_batched_anew(dataset, count, capsys):
    data = wrap(small(), dataset, SLICES)
    assert data.num_examples("train") == count and data.num_examples("validation") == 10
    sizes = [len(y) for _, y in data.batches("train", 4).map(plain)]
    assert sizes == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    x, y = collected(data)
    np.testing.assert_array_equal(collected(data, size=3, start=1, seed=1, epoch=2)[0], x[3:])
    full = np.concatenate([np.atleast_1d(e[1]) for e in dataset.as_numpy_iterator()])
    np.testing.assert_array_equal(y, full)
    assert capsys.readouterr().out == ""


def test_a_long_count_is_told(capsys):
    def slowly():
        for x in X[:3]:
            time.sleep(0.75)
            yield x, 0

    signature = (tf.TensorSpec((4,)), tf.TensorSpec((), tf.int32))
    data = wrap(small(), Dataset.from_generator(slowly, output_signature=signature).cache())
    assert data.num_examples("train") == 3
    assert re.fullmatch(r"Counted 3 examples of the dataset in \d s\.\n", capsys.readouterr().out)


def test_a_wrong_label_deep_in_a_dataset_is_found_when_it_comes():
    y = Y.copy()
    y[9] = 3
    data = wrap(small(), Dataset.from_tensor_slices((X, y)).batch(4))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"assertion failed: .*y has a label that is no whole number"
    ):
        collected(data)


class Answer(keras.Model):
    """A model that Keras knows nothing of before it is called."""

    def __init__(self, output=lambda y: y):
        super().__init__()
        self.dense, self.output_of = layers.Dense(3, activation="softmax"), output

    def call(self, x):
        return self.output_of(self.dense(x["a"] if isinstance(x, dict) else x))


@pytest.mark.parametrize("source", [(X, Y), SLICES.batch(4), ({"a": X}, Y)])
def test_subclassed_models_are_trained_once_called(source):
    model = Answer()
    model(X[:1])
    model.compile("sgd", SPARSE)
    data = wrap(model, source)
    inputs, targets = next(iter(data.batches("train", 10).map(plain)))
    np.testing.assert_array_equal(targets, Y)
    assert model(inputs).shape == (10, 3) and "sha256" in data.describe()["model"]


# --- Facts by which a run is resumed ---------------------------------------------------------------------------------


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
def test_other_models_and_data_have_other_facts(section, key, changed):
    assert facts(**changed)[section][key] != facts()[section][key]


# --- What is refused -------------------------------------------------------------------------------------------------


class OwnStep(keras.Model):
    def train_step(self, data):
        return {}


class Forgetful(keras.metrics.Mean):
    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return X, Y


def mean_of_all(y, p):
    return keras.ops.mean(keras.ops.square(y - p))


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


def refused_model(name):
    return {
        "no model": lambda: "model",
        "not built": lambda: keras.Sequential([layers.Dense(2)]),
        "not called": lambda: Answer(),
        "own step": own_step,
        "two outputs": two_outputs,
        "dict output": lambda: called(Answer(lambda y: {"y": y})),
        "not compiled": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3)]),
    }[name]()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no model", r"The model is a str; expected a Keras model. Pass a keras.Model."),
        ("not built", r"The Sequential '.*' has no weights yet: .* Call model\(x\[:1\]\) once"),
        ("not called", r"The Answer '.*' has no weights yet: .* Call model\(x\[:1\]\) once"),
        ("own step", r"OwnStep has a train_step of its own, which would not run here. Remove it"),
        ("two outputs", r"The model has the outputs a, b; y is one array. Pass a dict with these names."),
        ("dict output", r"The model returns a dict of 1, .*; training takes one tensor. Build .* let call return one"),
        ("not compiled", r"The model '.*' has no loss. Call model.compile\(optimizer=..., loss=..., metrics=\[...\]\)"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(name, message):
    with pytest.raises(zoo.UsageError, match=message):
        wrap(refused_model(name), (X, Y))


@pytest.mark.parametrize(
    ("compiled", "targets", "message"),
    [
        ({"loss": "spars_crossentropy"}, Y, r"Unknown loss 'spars_crossentropy'. Did you mean '.*crossentropy"),
        ({"loss": ["mse", "mae"]}, Y, r"compiled with 2 entries in loss; expected one. Pass one."),
        ({"loss_weights": [0.5]}, Y, r"compiled with loss_weights=0.5; .* Leave loss_weights out"),
        ({"loss": MSE(reduction="sum")}, Y, r"mean_squared_error has reduction='sum'; .* Leave reduction out"),
        (
            {"loss": mean_of_all},
            np.eye(3),
            r"mean_of_all gives \(\) for 2 examples; .* Call keras.ops.mean\(..., axis=-1\)",
        ),
        ({"activation": None}, Y, r"takes probabilities; the model returns -.* Pass from_logits=True to the loss, or"),
        ({"metrics": ["acuracy"]}, Y, r"Unknown metric 'acuracy'. Did you mean .*Accuracy"),
        ({"metrics": [Forgetful(power=2)]}, Y, r"has power=2, a copy of it 1: .* Give its class a get_config"),
        (
            {"metrics": [keras.metrics.F1Score()]},
            Y,
            r"Metric 'f1_score' does not take targets \(examples,\) with outputs",
        ),
        (
            {"metrics": [keras.metrics.F1Score()], "loss": "categorical_crossentropy"},
            np.eye(3)[Y],
            r"Metric 'f1_score' gives 3 numbers; expected one. Choose one with an average.",
        ),
    ],
)
def test_what_a_model_is_compiled_with_is_checked(compiled, targets, message):
    keras.utils.set_random_seed(0)  # with these weights a linear model answers less than 0
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
def test_label_smoothing_goes_with_cross_entropy(loss, label_smoothing, message):
    model = small(loss=loss)
    with pytest.raises(zoo.UsageError, match=message):
        loss_of(wrap(model, (X, np.eye(3)[Y])), label_smoothing)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X,), r"The data is a tuple of 1; expected \(x, y\), .* Pass a tuple \(x, y\)."),
        ([X, Y], r"The data is a list; expected \(x, y\)"),
        (X, r"The data is a ndarray; expected"),
        (Sequence(), r"The data is a Sequence; expected arrays .* Pass tf.data.Dataset.from_generator"),
        (((X, Y) for _ in range(2)), r"The data is a generator; .* Pass tf.data.Dataset.from_generator"),
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
        (SLICES.repeat(), r"The dataset never ends. Pass dataset.take\(n\), or leave repeat\(\) out."),
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
def test_data_that_do_not_fit_are_refused(data, message):
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
def test_targets_of_another_loss_are_refused(compiled, targets, message):
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
def test_validation_data_of_another_shape_are_refused(validation, message):
    with pytest.raises(zoo.UsageError, match=message):
        wrap(small(), (X, Y), validation)


def test_steps_without_a_known_mask_need_weights():
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


def test_examples_of_several_sizes_make_no_batch():
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
