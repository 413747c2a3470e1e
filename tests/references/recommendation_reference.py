"""Recommendation in NumPy: ratings computed pair by pair, and biases by dense least squares."""

from __future__ import annotations

import keras
import numpy as np


def numpy_scores(model: keras.Model, users) -> np.ndarray:
    """Returns unclipped ratings (users, items), computed pair by pair."""
    tables = {
        n: np.asarray(model.get_layer(n).table) for n in ("user_bias", "item_bias", "user_factors", "item_factors")
    }
    scores = np.full((len(users), len(tables["item_bias"])), float(model.get_layer("rating").mean))
    for row, user in enumerate(users):
        for item in range(scores.shape[1]):
            scores[row, item] += tables["item_bias"][item, 0]
            if user:
                scores[row, item] += tables["user_bias"][user - 1, 0]
                scores[row, item] += tables["user_factors"][user - 1] @ tables["item_factors"][item]
    return scores


def dense_biases(users, items, ratings, num_users, num_items, damping):
    """Solves the normal equations densely."""
    design = np.zeros((len(ratings), num_users + num_items))
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        if user:
            design[row, user - 1] = 1
        if item:
            design[row, num_users + item - 1] = 1
    normal = design.T @ design + damping * np.eye(design.shape[1])
    return np.split(np.linalg.solve(normal, design.T @ (ratings - ratings.mean())), [num_users])
