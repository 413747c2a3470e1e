"""A loss that is not finite because of the data is blamed on the data."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo

X = np.random.default_rng(0).normal(size=(600, 4)).astype("float32")


def compiled(loss="mse", rate=0.01):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


def test_the_first_invalid_example_is_named():
    x = X.copy()
    x[431, -1] = np.nan
    with pytest.raises(
        zoo.UsageError, match=r"The loss is nan .* Training example 431 has nan in keras_tensor\w*\. Remove or replace"
    ):
        zoo.train(compiled(), (x, X[:, :1]), zoo.TrainConfig(epochs=1), verbose=0)


def test_a_high_learning_rate_gets_other_advice():
    with pytest.raises(zoo.UsageError, match=r"Try a lower learning_rate, a warm-up, or clip_norm=1\.0\."):
        zoo.train(compiled(rate=1e20), (X, X[:, :1]), zoo.TrainConfig(epochs=3), verbose=0)
