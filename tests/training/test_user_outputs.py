"""User models with several outputs, or with losses added by layers: the history equals that of `Model.fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from selection import slow
from zoo.training.data.user_data import wrap

layers = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
LABELS, STEPS = RNG.integers(0, 3, 24), RNG.normal(size=(24, 5, 2)).astype(np.float32)
WEIGHTS = RNG.uniform(0.5, 2.0, 24).astype(np.float32)
SPARSE = "sparse_categorical_crossentropy"


def built(kind="list", **compiled):
    """Builds a model with a class output and a number output per step, always with the same weights."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,), name="x")
    hidden = layers.Dense(6, activation="tanh")(inputs)
    label = layers.Dense(3, activation="softmax", name="label")(hidden)
    steps = layers.Dense(10)(hidden)
    steps = layers.Reshape((5, 2), name="steps")(steps)
    outputs = {"dict": {"label": label, "steps": steps}, "list": [label, steps]}[kind]
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.SGD(0.1), **compiled)
    return model


def dataset(*parts, size=8):
    return tf.data.Dataset.from_tensor_slices(tuple(parts)).batch(size)


def assert_same_history(make, train, validation=None, size=8, but=()):
    """Trains one model here and one with `fit`; compares weights and history, except the metrics in `but`."""
    ours, theirs = make(), make()
    theirs.run_eagerly = True  # the same numbers without a trace
    rows = zoo.train(ours, train, zoo.TrainConfig(epochs=2, batch_size=size), validation=validation, verbose=0).history
    expected = theirs.fit(train, epochs=2, validation_data=validation, verbose=0).history
    own = {"epoch", "learning_rate", "seconds", "examples_per_second"}
    assert set(rows[0]) - own == set(expected)
    for name, values in ((k, v) for k, v in expected.items() if k not in but):
        assert [row[name] for row in rows] == pytest.approx(values, abs=1e-6), name
    for one, two in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    return rows


TARGETS = {"label": LABELS, "steps": STEPS}
EVERYTHING = {
    "loss": {"label": SPARSE, "steps": "mse"},
    "loss_weights": {"label": 0.3, "steps": 2.0},
    "metrics": {"label": ["accuracy"], "steps": ["mae", "mse"]},
    "weighted_metrics": {"steps": ["mae"]},
}


@pytest.mark.parametrize(
    ("kind", "compiled"),
    [
        ("dict", EVERYTHING),
        slow("list", EVERYTHING),
        ("list", {"loss": [SPARSE, "mae"], "loss_weights": [1.0, 0.5], "metrics": [["accuracy"], None]}),
        slow("dict", {"loss": {"label": SPARSE, "steps": keras.losses.Huber()}}),
    ],
)
def test_training_two_outputs_equals_keras(kind, compiled):
    data = dataset({"x": X}, TARGETS if kind == "dict" else (LABELS, STEPS))
    rows = assert_same_history(lambda: built(kind, **compiled), data, data)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"label_loss", "steps_loss", "val_label_loss"} <= set(rows[0])


@pytest.mark.parametrize("loss_weights", [0.5, [0.5], {"only": 0.5}])
def test_the_weight_of_a_single_loss_equals_keras(loss_weights):
    def make():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,))
        model = keras.Model(inputs, layers.Dense(2, name="only")(inputs))
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mse"], loss_weights=loss_weights)
        return model

    rows = assert_same_history(make, dataset(X, STEPS[:, 0]))
    assert rows[0]["loss"] == pytest.approx(0.5 * rows[0]["mse"], rel=1e-5)


def test_a_smaller_last_batch_is_weighted_correctly():
    """For the loss of each output, Keras takes the mean over batches of any size; for the total loss it does not."""
    data = dataset({"x": X}, TARGETS, size=9)
    rows = assert_same_history(lambda: built("dict", **EVERYTHING), data, size=9, but=("label_loss", "steps_loss"))
    for row in rows:
        assert row["loss"] == pytest.approx(0.3 * row["label_loss"] + 2.0 * row["steps_loss"], rel=1e-5)


def test_each_output_uses_its_own_sample_weights():
    weights = {"label": WEIGHTS, "steps": WEIGHTS[::-1, np.newaxis].copy()}  # one weight per step, as Keras requires
    assert_same_history(lambda: built("dict", **EVERYTHING), dataset({"x": X}, TARGETS, weights))


def test_a_single_loss_and_weight_array_apply_to_all_outputs():
    def make():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,))
        model = keras.Model(inputs, [layers.Dense(2, name="a")(inputs), layers.Dense(2, name="b")(inputs)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return model

    pair = (STEPS[:, 0], STEPS[:, 1])
    assert_same_history(make, dataset(X, pair))
    given = [batch[2] for batch in wrap(make(), (X, list(pair), WEIGHTS)).batches("train", 24).as_numpy_iterator()]
    assert all((part == WEIGHTS).all() for part in given[0].values()) and set(given[0]) == {"a", "b"}


def test_outputs_can_have_only_metrics_or_be_omitted():
    compiled = {"loss": {"label": SPARSE}, "metrics": {"steps": ["mae"]}}
    rows = zoo.train(built("dict", **compiled), (X, TARGETS), zoo.TrainConfig(epochs=2), verbose=0).history
    assert "label_loss" not in rows[0] and rows[0]["steps_mae"] > 0
    only = built("dict", loss={"label": SPARSE})
    rows = zoo.train(only, (X, {"label": LABELS}), zoo.TrainConfig(epochs=1), verbose=0).history
    expected = keras.losses.sparse_categorical_crossentropy(LABELS, built("dict", loss="mse")(X)["label"])
    assert rows[0]["loss"] == pytest.approx(float(np.mean(expected)), abs=1e-6)


class Penalty(layers.Layer):
    """Adds the mean square of its input as a loss."""

    def call(self, x):
        self.add_loss(keras.ops.mean(keras.ops.square(x)))
        return x


def added(**compiled):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Penalty()(layers.Dense(2)(inputs)))
    model.compile(keras.optimizers.SGD(0.1), **compiled)
    return model


def test_a_model_can_train_on_added_losses_only():
    ours, theirs = added(), added()
    theirs.run_eagerly = True
    for data in ((X,), (X, None), tf.data.Dataset.from_tensor_slices(X).batch(24)):
        rows = zoo.train(added(), data, zoo.TrainConfig(epochs=1, batch_size=8), verbose=0).history
        assert rows[0]["loss"] > 0
    rows = zoo.train(ours, (X,), zoo.TrainConfig(epochs=3, batch_size=24), verbose=0).history
    expected = theirs.fit(X, batch_size=24, epochs=3, verbose=0).history
    assert [row["loss"] for row in rows] == pytest.approx(expected["loss"], abs=1e-6)
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_losses_of_different_sizes_are_averaged_separately(parts):
    """Hand computed: each term is divided by its own number of real elements, for any split of the batch."""
    weights = {"label": np.r_[np.zeros(5), np.ones(19)].astype(np.float32), "steps": RNG.uniform(size=(24, 5)) > 0.4}
    weights["steps"] = weights["steps"].astype(np.float32)
    compiled = {"loss": {"label": SPARSE, "steps": "mse"}, "loss_weights": {"label": 0.3, "steps": 2.0}}
    model = built("dict", **compiled)
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        answer = model(X)
        first = keras.losses.sparse_categorical_crossentropy(LABELS, answer["label"]) * weights["label"]
        second = tf.reduce_mean((answer["steps"] - STEPS) ** 2, axis=-1) * weights["steps"]
        loss = 0.3 * tf.reduce_sum(first) / 19 + 2.0 * tf.reduce_sum(second) / np.count_nonzero(weights["steps"])
    expected = [v - 0.1 * g for v, g in zip(variables, tape.gradient(loss, variables), strict=True)]
    config = zoo.TrainConfig(epochs=1, batch_size=24, accumulation_steps=parts)
    rows = zoo.train(model, (X, TARGETS, weights), config, verbose=0).history
    for one, two in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    assert rows[0]["loss"] == pytest.approx(float(loss), abs=1e-6)
    assert rows[0]["steps_loss"] == pytest.approx(float(tf.reduce_sum(second)) / np.count_nonzero(weights["steps"]))


TWO_DEVICES = """
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import zoo
rng = np.random.default_rng(0)
x, label, steps = rng.normal(size=(13, 4)).astype("f"), rng.integers(0, 3, 13), rng.normal(size=(13, 5, 2)).astype("f")
weights = {"label": (rng.uniform(size=13) > 0.5).astype("f"), "steps": (rng.uniform(size=(13, 5)) > 0.3).astype("f")}
found = []
for strategy in (zoo.strategy("one_device"), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        inputs = keras.Input((4,))
        outputs = {"label": keras.layers.Dense(3, activation="softmax")(inputs)}
        outputs["steps"] = keras.layers.Reshape((5, 2))(keras.layers.Dense(10)(inputs))
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.1), {"label": "sparse_categorical_crossentropy", "steps": "mse"},
                      loss_weights={"label": 0.3, "steps": 2.0})
    config = zoo.TrainConfig(epochs=1, batch_size=13)  # 7 examples and 6
    result = zoo.train(model, (x, {"label": label, "steps": steps}, weights), config, verbose=0)
    found.append((result.history, model.get_weights()))
(rows, one), (others, two) = found
for a, b in zip(one, two, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
for row, other in zip(rows, others, strict=True):
    for name in ("loss", "label_loss", "steps_loss"):
        np.testing.assert_allclose(row[name], other[name], atol=1e-6)
print("same")
"""


def test_two_devices_give_the_same_result_as_one(run_python):
    assert run_python(TWO_DEVICES, kind="zoo", TF_CPP_MIN_LOG_LEVEL="3").stdout.strip().endswith("same")


@pytest.mark.parametrize(
    ("compiled", "data", "message"),
    [
        (
            {"loss": "mse"},
            (X, STEPS),
            r"The model has the outputs label, steps; y is one array. Pass a dict with these",
        ),
        ({"loss": {"label": SPARSE, "step": "mse"}}, (X, TARGETS), r"loss for 'step'; it has no such .* mean 'steps'"),
        ({"loss": [SPARSE]}, (X, TARGETS), r"loss=\['sparse_.*'\]; it has the outputs label, steps. Pass a dict"),
        ({"loss": "mse", "metrics": ["mae"]}, (X, TARGETS), r"metrics=\['mae'\]; it has the outputs .* Pass a dict"),
        ({"loss": "mse", "loss_weights": 2.0}, (X, TARGETS), r"loss_weights=2.0; it has the outputs .* Pass a dict"),
        (
            {"loss": {"label": SPARSE, "steps": "mse"}},
            (X, {"label": LABELS}),
            r"y lacks 'steps'; the model is compiled",
        ),
        (
            {"loss": {"label": SPARSE}},
            (X, {"labels": LABELS}),
            r"y has 'labels'; .* no such output. Did you mean 'label'",
        ),
        (
            {"loss": {"label": SPARSE, "steps": "mse"}},
            (X, {**TARGETS, "label": LABELS + 1}),
            r"y\['label'\] is 3 at example \d+; expected whole numbers from 0 to 2",
        ),
        (
            {"loss": {"label": SPARSE, "steps": "mse"}},
            (X, TARGETS, {"steps": -WEIGHTS}),
            r"sample_weight\['steps'\] is -.* at example 0. Pass finite numbers of at least 0",
        ),
        ({}, (X, TARGETS), r"The model '.*' has no loss. Call model.compile\("),
    ],
)
def test_arguments_that_do_not_match_the_outputs_are_rejected(compiled, data, message):
    with pytest.raises(zoo.UsageError, match=message):
        wrap(built("dict", **compiled), data)


def test_nested_outputs_are_rejected():
    inputs = keras.Input((4,))
    nested = keras.Model(inputs, {"a": {"b": layers.Dense(1)(inputs)}, "c": layers.Dense(1)(inputs)})
    nested.compile("sgd", "mse")
    with pytest.raises(zoo.UsageError, match=r"outputs of model '.*' are nested; .* Build a keras.Model\("):
        wrap(nested, (X, TARGETS))
