"""Real artifacts, written once for all tests of this folder: a replay in a clean process takes seconds."""

from __future__ import annotations

import keras
import pytest

import zoo
from artifact_parts import other_weights


@pytest.fixture(scope="session")
def digits():
    return zoo.datasets.load("digits")


@pytest.fixture(scope="session")
def prepared(digits):
    return digits.prepare("mlp", hidden_units=(16,), input_shape=(8, 8, 1))


@pytest.fixture(scope="session")
def model(prepared):
    """A model that is trained long enough to predict every label."""
    keras.utils.set_random_seed(0)
    model = prepared.build()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(prepared.keras_batches("train", 64, seed=0), epochs=6, verbose=0, shuffle=False)
    return model


@pytest.fixture(scope="session")
def report(model, prepared):
    return zoo.evaluate(model, prepared)


@pytest.fixture(scope="session")
def base(model, prepared, report, tmp_path_factory):
    """Two versions: the trained model with its report, and a model with other weights."""
    base = tmp_path_factory.mktemp("exports") / "digits"
    assert zoo.export.save(model, base, interface=prepared.interface, report=report) == base / "1"
    assert zoo.export.save(other_weights(model, prepared), str(base), interface=prepared.interface) == base / "2"
    return base
