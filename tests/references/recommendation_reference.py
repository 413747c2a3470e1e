"""Recommendation in NumPy: ratings and rankings computed pair by pair, and biases by dense least squares."""

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


def numpy_ranking(model: keras.Model, histories) -> np.ndarray:
    """Returns the scores (histories, items) of lists of item numbers, oldest first, computed item by item."""
    layer = model.get_layer("similar_items")
    numbers, values = np.asarray(layer.numbers), np.asarray(layer.similarities, np.float64)
    scores = np.zeros((len(histories), layer.count))
    for row, history in enumerate(histories):
        for later, item in enumerate(reversed(history)):
            for neighbor, similarity in zip(numbers[item - 1], values[item - 1], strict=True):
                if neighbor:
                    scores[row, neighbor - 1] += similarity * float(layer.decay) ** later
    means = scores.mean(axis=1, keepdims=True)
    return scores / np.where(means > 0, means, 1.0) ** float(layer.mean_power) + np.asarray(layer.popularity)


def dense_similarities(users, items, weights, source_power, target_power, active_power, num_items):
    """Returns the similarities (items, items) of distinct pairs of users and items from 0, computed pair by pair."""
    similar = np.zeros((num_items, num_items))
    counts = np.maximum(np.bincount(items, minlength=num_items), 1)
    active = np.bincount(users)
    for user, item in zip(users, items, strict=True):
        for other, second, weight in zip(users, items, weights, strict=True):
            if other == user and second != item:
                similar[item, second] += weight / active[user] ** active_power
    return similar / counts[:, np.newaxis] ** source_power / counts**target_power
