"""Sequence-to-sequence models with random weights, and source sequences for them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo

MODELS = ("seq2seq_transformer", "seq2seq_rnn")
every_model = pytest.mark.parametrize("name", MODELS)
START, END = 2, 3


def wild(name: str, seed: int = 0, **changes) -> keras.Model:
    """Builds a tiny model with large random weights. Its output sequences have different lengths."""
    return randomize(zoo.build(name, **{**zoo.get_spec(name).tiny, **changes}), seed)


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Sets all weights to large random values. The same seed gives the same values."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        # Biases and shifts stay small: large ones would hide the effect of the source.
        size = 1.0 if len(weight.shape) > 1 else 0.2
        weight.assign(rng.normal(size=weight.shape) * size + (weight.name == "gamma"))
    table = model.get_layer("target_embedding")
    table.bias.assign(table.bias + 0.7 * tf.one_hot(END, table.vocab_size))
    return model


def some_sources(rows: int = 6, steps: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 12, (rows, steps)).astype(np.int32)
    for i in range(rows):
        ids[i, rng.integers(1, steps + 1) :] = 0
    ids[0] = rng.integers(1, 12, steps)  # one row without padding
    return ids


def unpadded(ids: np.ndarray) -> np.ndarray:
    return ids[None, : max(1, np.count_nonzero(ids))]
