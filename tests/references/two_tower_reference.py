"""A two-tower recommender in explicit NumPy, one user and one item at a time."""

from __future__ import annotations

import numpy as np


def weights(layer) -> dict[str, np.ndarray]:
    """Returns the weights of a layer by their names."""
    return {weight.path.rsplit("/", 1)[-1]: np.asarray(weight, np.float64) for weight in layer.weights}


def tower(layer, number: int, numbers=None, categories=None, extra=0.0) -> np.ndarray:
    """Returns the vector of one user or item; features are those of the number unless they are given."""
    held = weights(layer)
    known = number > 0
    x = held["table"][number - 1] * held["trained"][number - 1] if known else np.zeros(layer.dim)
    if layer.num_numbers:
        if numbers is None:
            numbers = held["numbers"][number - 1] if known else np.zeros(layer.num_numbers)
        x = x + np.asarray(numbers) @ held["kernel"]
    start = 0
    for place, size in enumerate(layer.category_sizes):
        if categories is None:
            category = int(held["categories"][number - 1, place]) if known else 0
        else:
            category = int(categories[place])
        if category:
            x = x + held["category_table"][start + category]
        start += size
    x = x + extra
    for place, _ in enumerate(layer.hidden_units):
        x = x + np.maximum(x @ held[f"up_{place}"] + held[f"bias_{place}"], 0) @ held[f"down_{place}"]
    return x


def user_vector(towers, number: int, latest_first, **features) -> np.ndarray:
    """Returns the vector of a user from the number and a history."""
    own = {weight.name: np.asarray(weight, np.float64) for weight in (towers.places, towers.offset)}
    total, pooled = 0.0, np.zeros(towers.users.dim)
    for place, item in enumerate(latest_first[: towers.history_length]):
        if item:
            share = np.exp(own["places"][place])
            total, pooled = total + share, pooled + share * tower(towers.past, item)
    pooled = pooled / total if total else pooled
    return tower(towers.users, number, extra=pooled + own["offset"], **features)


def scores(towers, number: int, latest_first, period: int = 0) -> np.ndarray:
    """Returns the scores of all items for a user."""
    user = user_vector(towers, number, latest_first)
    items = np.stack([tower(towers.items, item) for item in range(1, towers.count + 1)])
    return items @ user + float(towers.power) * np.asarray(towers.popularity, np.float64)[period]


def log_probability(towers, number: int, item: int, latest_first, period: int = 0) -> float:
    """Returns the logarithm of the softmax of the scores over the items of the training split that are not in the history."""
    found, trained = scores(towers, number, latest_first, period), np.asarray(towers.items.trained)
    kept = [i for i in range(towers.count) if trained[i] and i + 1 not in latest_first]
    return float(found[item - 1] - np.log(np.sum(np.exp(found[kept]))))
