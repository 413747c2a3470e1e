"""Matrix factorizations with random weights, and random ratings."""

from __future__ import annotations

import keras
import numpy as np

from zoo.models.matrix_factorization import build_matrix_factorization_model as build


def filled(num_users: int, num_items: int, seed: int = 0, **arguments) -> keras.Model:
    """Builds a model with random values in all weights. Constant initial biases and means would hide errors."""
    model = build(num_users=num_users, num_items=num_items, **{"embedding_dim": 4, **arguments})
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) if "similar_items" not in weight.path else weight)
    similar = model.get_layer("similar_items")
    similar.numbers.assign(rng.integers(0, num_items + 1, similar.numbers.shape))  # also the same number twice
    similar.similarities.assign(rng.uniform(size=similar.numbers.shape))
    similar.popularity.assign(rng.integers(0, 4, num_items))
    similar.decay.assign(0.8)
    similar.mean_power.assign(0.7)
    return model


def random_ratings(num_users=30, num_items=20, count=300, unknown=True):
    rng = np.random.default_rng(5)
    users = rng.integers(0 if unknown else 1, num_users + 1, count).astype(np.int32)
    items = rng.integers(0 if unknown else 1, num_items + 1, count).astype(np.int32)
    return users, items, rng.integers(1, 11, count).astype(np.float32)
