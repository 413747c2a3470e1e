"""Small compiled models, arrays for them, and their losses in NumPy."""

from __future__ import annotations

import keras
import numpy as np

from numpy_layers import softmax
from zoo.datasets.batches import plain

layers = keras.layers


def small(units=3, activation="softmax", loss="sparse_categorical_crossentropy", inputs=4, squeeze=False, **compiled):
    """Returns a compiled dense layer."""
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
    """Returns all batches of a split, concatenated."""
    parts = list(data.batches(split, size, **order).map(plain).as_numpy_iterator())
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def loss_of(data, label_smoothing=0.0):
    """Returns the loss of the only output."""
    (term,) = data.objective.loss
    return term.loss(term.outputs[0], label_smoothing)


def metrics_of(data):
    """Returns new metrics of the only output."""
    (measure,) = data.objective.metrics
    return measure.metrics()


def cross_entropy(y, p, smoothing=0.0):
    """Computes the cross-entropy of class indices and probabilities in NumPy."""
    wanted = np.eye(p.shape[-1])[y] * (1 - smoothing) + smoothing / p.shape[-1]
    return -(wanted * np.log(p)).sum(-1)


def logits(y, z):
    return cross_entropy(y, softmax(z))


def squared(y, p):
    return (y - p) ** 2


ONE = {"units": 1, "activation": None}
SPARSE = "sparse_categorical_crossentropy"


def step_model(loss=SPARSE, masked=False, **compiled):
    """Builds a compiled model that maps word ids to three probabilities per word."""
    words = keras.Input((None,), dtype="int32", name="words")
    x = layers.Embedding(6, 4, mask_zero=masked)(words)
    model = keras.Model(words, layers.Dense(3, activation="softmax")(layers.SimpleRNN(4, return_sequences=True)(x)))
    model.compile("sgd", loss, **compiled)
    return model


WORDS = np.array([[1, 2, 0], [3, 0, 0], [4, 5, 1], [2, 0, 0]])
