"""Recommendation: the items that a user would rate best, and the rating of an item."""

from __future__ import annotations

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
            "serving_default": Signature(
                ("user_id",),
                _top_items,
                {
                    "item_id": "the best items that the user has not rated, the most popular ones for an unknown user",
                    "title": "the title of each item",
                    "score": "the predicted rating; for an unknown user, items are ordered by popularity instead",
                },
                head="top_k",
                shown=Shown("rows", ("title", "item_id", "score"), digits=2),
            ),
            "rating": Signature(("user_id", "item_id"), _rating, {"rating": "the predicted rating of the item"}),
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
