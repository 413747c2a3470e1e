"""Recommendation: the items that a user will choose next, and the rating of an item."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.scores import Score, distances, root_mean_square
from zoo.tasks.contract import Objective, Served, Shown, Signature, Task, Term
from zoo.tasks.registry import register_task
from zoo.tasks.shared import only_output, predicted_values, value_objective

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def _top_items(served: Served) -> dict[str, tf.Tensor]:
    ids, titles = served.preprocessor.items(served.outputs["item_ids"])
    return {"item_id": ids, "title": titles, "score": served.outputs["score"]}


def _rating(served: Served) -> dict[str, tf.Tensor]:
    return {"rating": only_output(served.outputs)}


def _vector(served: Served) -> dict[str, tf.Tensor]:
    return {"vector": served.outputs["vector"]}


def _log_likelihood(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    from zoo.metrics import NegativeLogLikelihood

    if label_smoothing:
        raise UsageError(
            f"label_smoothing={label_smoothing} requires classes; this task ranks items. Leave label_smoothing out."
        )
    return NegativeLogLikelihood(reduction=None)


def _probability(outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {"log_probability": outputs["log_probability"]}


def _ranks(preprocessor: Any) -> bool:
    return bool(preprocessor.ranks)


def _has_user_features(preprocessor: Any) -> bool:
    return _ranks(preprocessor) and preprocessor.users is not None


def _suited(task: Task, preprocessor: Any) -> Task:
    """Returns the task of models that learn which item is chosen next, and no ratings."""
    if not _ranks(preprocessor):
        return task
    objective = Objective(loss=(Term("item", ("log_probability",), _log_likelihood),))
    return dataclasses.replace(task, objective=objective, prediction=_probability, score=None)


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
_USER_VECTORS = Signature(
    ("user_id",),
    _vector,
    {"vector": "the vector of the user; its product with the vector of an item is the score of the item"},
    head="user_vectors",
    exists=_ranks,
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
            "user_features": dataclasses.replace(
                _ITEMS, requests=("history",), starting=("user_",), all_but=("user_id",), exists=_has_user_features
            ),
            "rating": Signature(
                ("user_id", "item_id"),
                _rating,
                {"rating": "the predicted rating of the item"},
                exists=lambda preprocessor: preprocessor.rated,
            ),
            "user_vectors": _USER_VECTORS,
            "history_vectors": dataclasses.replace(_USER_VECTORS, requests=("history",)),
            "item_vectors": Signature(
                ("item_id",),
                _vector,
                {"vector": "the vector of the item; that of a new item is made from its features"},
                head="item_vectors",
                starting=("item_",),
                exists=_ranks,
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
        suited=_suited,
    )
)
