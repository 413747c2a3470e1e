"""Models of the user's own on prepared data, and the identity that ties a run to a model."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from selection import slow
from user_models import X, Y
from zoo import registry
from zoo.datasets.interface import Interface
from zoo.export.artifact import _fitting
from zoo.export.extras.card import _head
from zoo.scripts.train import read_sections
from zoo.training.data.user_data import wrap

layers = keras.layers
CONFIG = zoo.TrainConfig(epochs=1, batch_size=431)


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("digits").prepare("mlp", hidden_units=[8], input_shape=[8, 8, 1])


def own(activation="relu"):
    """A convolution with the inputs and outputs of the data, and with the layer that the features are read from."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Flatten()(layers.Conv2D(2, 3, activation=activation)(image))
    x = layers.Dense(4, activation=activation, name="features")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x), name="tiny")


@pytest.mark.parametrize("whole_batch", [False, slow(True)])
def test_a_compiled_model_trains_on_prepared_data_as_in_fit(prepared, whole_batch):
    def doubled(y, p):
        losses = 2 * keras.losses.sparse_categorical_crossentropy(y, p)
        return keras.ops.mean(losses) if whole_batch else losses

    models, weights = [], None
    for _ in range(2):
        model = prepared.build(seed=0)
        weights = weights or model.get_weights()
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.2), doubled, metrics=["sparse_top_k_categorical_accuracy"])
        models.append(model)
    models[1].run_eagerly = True  # the same numbers without a trace
    ours = zoo.train(models[0], prepared, CONFIG, verbose=0).history[-1]
    theirs = models[1].fit(prepared.keras_batches("train", 431, seed=CONFIG.seed), verbose=0).history
    for name in ("loss", "sparse_top_k_categorical_accuracy"):
        assert ours[name] == pytest.approx(theirs[name][-1], rel=1e-5)
    assert "accuracy" not in ours and ours["learning_rate"] == pytest.approx(0.2)
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_loss_that_does_not_fit_prepared_data_is_rejected(prepared):
    model = own()
    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(zoo.UsageError, match=r"Compile with sparse_categorical_crossentropy"):
        zoo.train(model, prepared, CONFIG, verbose=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(zoo.UsageError, match=r"The config says learning_rate=0.5, and the model is compiled"):
        zoo.train(model, prepared, zoo.TrainConfig(learning_rate=0.5), verbose=0)


def test_an_own_model_is_recorded_as_what_it_is(prepared, tmp_path):
    run = tmp_path / "run"
    result = zoo.train(own(), prepared, CONFIG, run_directory=run, verbose=0)
    text = (run / "config.yaml").read_text()
    assert "name: tiny" in text and "call zoo.train with them" in text and "hidden_units" not in text
    with pytest.raises(zoo.UsageError, match=r"a model or data of your own, .* Call zoo.train with them in Python"):
        read_sections(str(run / "config.yaml"))
    assert zoo.train(own(), prepared, CONFIG, run_directory=run, verbose=0).resumed_at == (1, 0)
    with pytest.raises(zoo.UsageError, match=r"holds a run of another model: its layers, shapes or code differ"):
        zoo.train(own("tanh"), prepared, CONFIG, run_directory=run, verbose=0)
    builds = [Interface.load(run / "interface").build, _fitting(result.model, prepared.interface).build]
    for build in builds:
        facts = {"model": registry.without_initial_arguments(build), "task": "image_classification", "parameters": 5}
        facts |= {"data": prepared.interface.data, "written_by": {"savedmodel-zoo": "1", "tensorflow": "2.21"}}
        facts |= {"signatures": {"serving_default": {"inputs": {}, "outputs": {}}}, "class_names": []}
        card = "\n".join(_head(facts))
        assert card.startswith("# tiny for ") and "Architecture: `tiny`, a custom model" in card


def test_an_own_model_must_fit_the_prepared_data(prepared):
    model = own()
    with pytest.raises(zoo.UsageError, match=r"is a Sequential; expected a Functional .* Pass keras.Model"):
        zoo.train(keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)]), prepared, CONFIG)
    short = keras.Model(model.inputs, layers.Dense(9, name="probabilities")(model.get_layer("features").output))
    with pytest.raises(zoo.UsageError, match=r"has 9 classes; data set 'digits' has 10"):
        zoo.train(short, prepared, CONFIG, verbose=0)


# --- Identity --------------------------------------------------------------------------------------------------------


def layer_class(factor=1.0, power=None):
    def helper(x):
        return x * factor

    class Own(layers.Layer):
        def call(self, x):
            """A docstring, which changes nothing."""
            return helper(x) if power is None else helper(x) ** power

    return Own


def edited_class(axes=None):
    class Own(layers.Layer):
        def call(self, x):
            return x + 1

    class Summed(layers.Layer):
        def call(self, x, axis=axes):
            return x + keras.ops.sum(x, axis=axis)

    return Own if axes is None else Summed


class NoConfig(keras.Model):
    def __init__(self, activation, extra):
        super().__init__()
        self.dense, self.extra = layers.Dense(3, activation=activation), extra

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        raise NotImplementedError


def described(layer=None, model=None, loss="mse", name=None):
    if model is None:
        model = keras.Sequential([keras.Input((4,)), layer, layers.Dense(3)], name=name)
    model(X)
    model.compile("sgd", loss)
    return wrap(model, (X, np.eye(3)[Y])).describe()["model"]


def test_the_code_of_custom_layers_belongs_to_a_model():
    same = described(layer_class()(), name="one")
    assert same == described(layer_class()(), name="one")
    others = [
        layer_class(2.0)(),
        layer_class(power=2)(),
        edited_class()(),
        edited_class((0,))(),
        edited_class((0, 1))(),
    ]
    assert len({same["sha256"], *(described(other, name="one")["sha256"] for other in others)}) == 6
    functions = [keras.activations.relu, lambda x: x * 2, lambda x: x * 3]
    found = [described(layers.Activation(function), name="one")["sha256"] for function in functions]
    assert len(set(found)) == 3


def test_a_subclassed_model_without_a_config_is_known_by_its_layers_and_attributes():
    found = [described(model=NoConfig(*arguments))["sha256"] for arguments in (("relu", 1), ("relu", 1))]
    assert found[0] == found[1]
    assert described(model=NoConfig("tanh", 1))["sha256"] != found[0] != described(model=NoConfig("relu", 2))["sha256"]


def test_the_code_of_a_custom_loss_belongs_to_a_model():
    def scaled(factor):
        def loss(y, p):
            return factor * keras.ops.mean((y - p) ** 2, axis=-1)

        return loss

    found = [described(layers.Dense(4), loss=scaled(factor))["compiled"]["code"] for factor in (1.0, 1.0, 2.0)]
    assert found[0] == found[1] != found[2]


def test_a_rejected_resume_names_the_one_setting_that_differs(tmp_path):
    for rate in (0.125, 0.25):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
        model.compile(keras.optimizers.SGD(rate), "mse")
        if rate == 0.125:
            zoo.train(model, (X, np.eye(3)[Y]), CONFIG, run_directory=tmp_path / "run", verbose=0)
    with pytest.raises(
        zoo.UsageError, match=r"run with model.compiled.optimizer.learning_rate=0.125; this one has 0.25."
    ):
        zoo.train(model, (X, np.eye(3)[Y]), CONFIG, run_directory=tmp_path / "run", verbose=0)


def test_many_runs_in_a_process_do_not_warn_of_tracing(caplog):
    """TensorFlow counts the traces of functions with the same code together; it warns at the fifth of ten calls."""
    with caplog.at_level("WARNING", logger="tensorflow"):
        for _ in range(4):
            model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
            model.compile("sgd", "mse")
            config = zoo.TrainConfig(epochs=1, batch_size=7)  # the smaller last batch is traced too
            zoo.train(model, (X, np.eye(3)[Y]), config, validation=(X, np.eye(3)[Y]), verbose=0)
    assert "retracing" not in caplog.text
