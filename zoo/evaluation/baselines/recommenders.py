"""Simple recommenders: the most popular items, weighted by recency, and the cosine between items.

Their predictions are `items`, ids in the order of the columns, and `scores`, a function from ids of users to scores (users,
items), 0 for users without training interactions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.baselines.contract import Baseline, Columns, read_columns, register_baseline
from zoo.item_neighbors import Choice, Interactions, best_half_life, recent_popularity, similarities

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_MOST_ROWS = 5_000_000
_COSINE = Choice(source_power=0.5, target_power=0.5, popularity=0.0, active_power=0.0)


class _Ids:
    """The known ids of users and items, and interactions by their numbers from 1."""

    def __init__(self, train: Columns) -> None:
        self.known = {name: np.unique(train[name].astype(object)) for name in ("user_id", "item_id")}
        self._numbers = {name: {value: n for n, value in enumerate(ids, 1)} for name, ids in self.known.items()}

    def numbers(self, name: str, values: Any) -> np.ndarray:
        return np.array([self._numbers[name].get(value, 0) for value in values], np.int64)

    def interactions(self, columns: Columns) -> Interactions:
        users, items = (self.numbers(name, columns[name]) for name in ("user_id", "item_id"))
        return Interactions(users, items, columns.get("time"), len(self.known["user_id"]), len(self.known["item_id"]))


def _predictions(ids: _Ids, scores: Callable[[np.ndarray], np.ndarray]) -> Mapping[str, Any]:
    return {"items": ids.known["item_id"], "scores": lambda users: scores(ids.numbers("user_id", users))}


def _recent(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    ids = _Ids(train)
    known, half_life = ids.interactions(train), math.inf
    if data.splits["validation"].num_examples:
        half_life = best_half_life(known, ids.interactions(read_columns(data.splits["validation"], _MOST_ROWS)))
    popularity = recent_popularity(known, half_life)
    return _predictions(ids, lambda users: np.broadcast_to(popularity, (len(users), len(popularity))))


def _cosine(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    ids = _Ids(train)
    known = ids.interactions(train)
    similar, seen = similarities(known, _COSINE, longest=None), known.matrix(1.0)

    def scores(users: np.ndarray) -> np.ndarray:
        found = (seen[np.maximum(users - 1, 0)] @ similar).toarray()
        return found * (users > 0)[:, np.newaxis]

    return _predictions(ids, scores)


def _applies(data: RawData) -> bool:
    return data.tasks == ("recommendation",)


register_baseline(
    "popular items by recency",
    Baseline(lambda data: _applies(data) and "time" in data.features, _recent, most_rows=_MOST_ROWS),
)
register_baseline("item-item cosine", Baseline(_applies, _cosine, most_rows=_MOST_ROWS))
