"""Recommendation: the items that a user will choose next, and the rating of an item."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from zoo.scores import Score, distances, root_mean_square
from zoo.tasks.contract import Served, Shown, Signature, Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import only_output, predicted_values, value_objective

if TYPE_CHECKING:
    import tensorflow as tf


def _top_items(served: Served) -> dict[str, tf.Tensor]:
    ids, titles = served.preprocessor.items(served.outputs["item_ids"])
    return {"item_id": ids, "title": titles, "score": served.outputs["score"]}


def _rating(served: Served) -> dict[str, tf.Tensor]:
    return {"rating": only_output(served.outputs)}


_ITEMS = Signature(
    ("user_id",),
    _top_items,
    {
        "item_id": "the best items that the user has not chosen yet; the most popular ones, weighted by recency, without a "
        "known history",
        "title": "the title of each item",
        "score": "how strongly the item is recommended; only its order has a meaning",
    },
    head="top_k",
    shown=Shown("rows", ("title", "item_id", "score"), digits=2),
)

register_task(
    Task(
        name="recommendation",
        targets=("rating",),
        preprocessor="interactions",
        default_model="matrix_factorization",
        objective=value_objective("rating"),
        prediction=predicted_values,
        report="ranking",
        signatures={
            "serving_default": _ITEMS,
            "history": dataclasses.replace(_ITEMS, requests=("history",)),
            "rating": Signature(
                ("user_id", "item_id"),
                _rating,
                {"rating": "the predicted rating of the item"},
                exists=lambda preprocessor: preprocessor.rated,
            ),
        },
        follows_time=True,
        score=Score(
            "mae",
            "rating",
            distances("rating"),
            signature="rating",
            higher_is_better=False,
            further=(root_mean_square(distances("rating", power=2)),),
        ),
    )
)
