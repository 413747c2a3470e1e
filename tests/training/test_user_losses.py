"""Losses and metrics that a user compiles, element by element, compared with NumPy and `Model.fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from numpy_layers import softmax
from user_models import (
    ONE,
    SPARSE,
    WORDS,
    X,
    Y,
    classes,
    collected,
    cross_entropy,
    logits,
    loss_of,
    metrics_of,
    numbers,
    small,
    squared,
    step_model,
)
from zoo.training.data.user_data import wrap
from zoo.training.data.user_losses import keep_compiled
from zoo.training.data.user_metrics import PerElementMetric

layers = keras.layers


# --- Losses ----------------------------------------------------------------------------------------------------------


def binary(y, p):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def mean_of(function):
    return lambda y, p: function(y, p).mean(-1)


def own_function(y, p):
    return keras.ops.square(y - p)


class OwnLoss(keras.losses.Loss):
    """A loss without a config, which subtracts its arguments as they come."""

    def __init__(self, power):
        super().__init__(name="own")
        self.power = power

    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** self.power, axis=-1)


BCE, MSE = keras.losses.BinaryCrossentropy, keras.losses.MeanSquaredError


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
def test_losses_return_one_value_per_element(arguments, targets, expected):
    model = small(**arguments)
    data = wrap(model, (X, targets))
    x, y, *weights = collected(data)
    outputs = model(x).numpy()
    losses = loss_of(data, 0.0)(y, outputs).numpy()
    wanted = expected(targets, outputs.astype(np.float64))
    assert losses.shape == wanted.shape and losses.shape[0] == 10
    np.testing.assert_allclose(losses, wanted, rtol=2e-5, atol=1e-6)
    assert (weights == []) == (losses.ndim == 1)


def test_the_compiled_loss_is_not_changed():
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


def test_sparse_losses_also_accept_class_probabilities():
    model = small()
    shares = softmax(numbers(10, 3).astype(np.float64))
    outputs = model(X).numpy()
    losses = loss_of(wrap(model, (X, Y)), 0.0)(shares, outputs)
    np.testing.assert_allclose(losses, -(shares * np.log(outputs)).sum(-1), rtol=1e-5)


def weighted_mean(data, model, split="train"):
    inputs, y, weights = collected(data, split, 3)
    losses = loss_of(data, 0.0)(y, model(inputs)).numpy()
    assert losses.shape == weights.shape
    return (losses * weights).sum() / np.count_nonzero(weights)


def test_masked_steps_have_no_weight_as_in_keras():
    model = step_model(masked=True)
    data = wrap(model, (WORDS, classes(4, 3)))
    np.testing.assert_array_equal(collected(data)[2], WORDS != 0)
    assert weighted_mean(data, model) == pytest.approx(model.evaluate(WORDS, classes(4, 3), verbose=0), rel=1e-5)


def test_ignored_classes_have_no_weight_as_in_keras():
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
def test_sample_weights_apply_to_every_step(weights):
    model = step_model()
    given = collected(wrap(model, (WORDS, classes(4, 3), weights)))[2]
    np.testing.assert_array_equal(given, np.broadcast_to(weights if weights.ndim > 1 else weights[:, None], (4, 3)))
    assert given.dtype == np.float32


def test_each_element_of_a_target_can_have_a_weight():
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


def test_targets_of_weight_zero_can_be_invalid():
    y = Y.copy()
    y[3] = -1
    weights = np.ones(10)
    weights[3] = 0
    _, targets, given = collected(wrap(small(), (X, y, weights)))
    assert targets[3] == 0 and given[3] == 0 and (targets[:3] == Y[:3]).all()


def test_training_equals_fit():
    """Steps on the whole data set, so that the order does not matter: the loop's optimizer is compared with Keras's."""
    optimizer = keras.optimizers.SGD(0.5)
    models = [small(metrics=["accuracy"], optimizer=o) for o in (optimizer, keras.optimizers.SGD(0.5))]
    models[1].set_weights(models[0].get_weights())
    models[1].run_eagerly = True  # the same numbers without a trace
    before = models[0].get_weights()[0]
    config = zoo.TrainConfig(epochs=3, batch_size=10, optimizer="sgd", learning_rate=0.5)
    rows = zoo.train(models[0], wrap(models[0], (X, Y), (X[:6], Y[:6])), config, verbose=0).history
    history = models[1].fit(X, Y, batch_size=10, epochs=3, validation_data=(X[:6], Y[:6]), verbose=0).history
    assert abs(models[0].get_weights()[0] - before).max() > 1e-2
    np.testing.assert_allclose(models[0].get_weights()[0], models[1].get_weights()[0], atol=1e-6)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [row[name] for row in rows] == pytest.approx(history[name], abs=1e-5)


# --- Metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_new_and_named_as_in_keras():
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


def test_weights_affect_only_weighted_metrics_as_in_keras():
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
def test_accuracy_type_depends_on_the_shapes(arguments, targets, expected):
    model = small(**arguments, metrics=["accuracy"])
    (metric,) = metrics_of(wrap(model, (X, targets)))
    assert type(metric.metric) is expected and metric.name == "accuracy"
    for part in (slice(0, 7), slice(7, 10)):  # a smaller batch must not count as much as the first
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


def test_training_keeps_the_compiled_state_of_a_model():
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
