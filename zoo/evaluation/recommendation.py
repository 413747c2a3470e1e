"""The report of the task recommendation: it asks a model for ratings and scores, and passes them to `ranking_report`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from zoo.errors import UsageError
from zoo.evaluation import ranking_plots
from zoo.evaluation.prediction import joined, predict_split
from zoo.evaluation.ranking import Numbers, rank_items, ranking_report, summary
from zoo.evaluation.reports import Figure, Report, ReportKind, register_report
from zoo.kernels import traced
from zoo.registry import get_spec

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    preprocessor: Any = data.preprocessor
    predictions = predict_split(model, data, split, batch_size)[1] if preprocessor.rated else {}
    scores = traced(get_spec(data.model).functions["scores"](model), autograph=False)

    def table(users: Any) -> Any:
        numbers = tf.constant(users, tf.int32)
        return scores({"user_ids": numbers}, {"seen_items": preprocessor.seen(numbers)})["score"].numpy()

    def columns(name: str) -> dict[str, Any]:
        batches = [(inputs, targets.get("rating")) for inputs, targets, _ in data.batches(name, 65_536)]
        found = {key: joined([inputs[key].numpy() for inputs, _ in batches]) for key in ("user_ids", "item_ids")}
        ones = np.ones(len(found["user_ids"]), np.float32)
        return {**found, "ratings": joined([part.numpy() for _, part in batches]) if preprocessor.rated else ones}

    held_out = columns(split)
    return ranking_report(
        held_out["ratings"],
        predictions.get("values", held_out["ratings"]),
        user_ids=held_out["user_ids"],
        item_ids=held_out["item_ids"],
        train=columns("train"),
        scores=table,
        num_users=data.arguments["num_users"],
        num_items=data.arguments["num_items"],
        rating_range=data.data.about.get("rating_range"),
        rated=preprocessor.rated,
    )


def _measure(data: Prepared, examples: Mapping[str, Any], predictions: Mapping[str, Any]) -> dict[str, float]:
    """Returns hit rate and NDCG of a baseline, see `zoo.evaluation.baselines.recommenders`."""
    preprocessor: Any = data.preprocessor
    names, count = np.array([text.encode() for text in preprocessor.user_ids], object), len(preprocessor.item_ids)
    places = {text.encode(): place for place, text in enumerate(preprocessor.item_ids)}
    columns = [places[item] for item in predictions["items"]]

    def scores(users: Numbers) -> ArrayLike:
        table = np.full((len(users), count), -1.0)
        table[:, columns] = predictions["scores"](names[users - 1])
        return table

    width = count + 1
    found = preprocessor.numbered(examples)
    held = found["user_ids"] * width + found["item_ids"]
    held = np.unique(held[(found["user_ids"] > 0) & (found["item_ids"] > 0)])
    users = np.repeat(np.arange(1, len(names) + 1), np.diff(preprocessor.seen_splits))
    seen = np.sort(users * width + np.array(preprocessor.seen_items, np.int64))
    held = held[~np.isin(held, seen)]
    ranked = rank_items((held // width, held % width), seen, scores, count)
    return {name: ranked[name] for name in ("hit_rate", "ndcg", "coverage")}


def _headline(report: Report) -> list[Figure]:
    base, figures = report["baseline"], []
    popular = base["most_popular"]
    for metric, key in (("hit rate at 10", "hit_rate"), ("NDCG at 10", "ndcg")):
        if report[key] is not None:
            figures.append(Figure(metric, report[key], "most popular items", popular[key], report["num_users"], key))
    if "rmse" in report:
        biased = base["biases"]["rmse"]
        figures.append(
            Figure("RMSE", report["rmse"], "user and item biases", biased, key="rmse", higher_is_better=False)
        )
    if not figures:
        raise UsageError(
            "No user of the test split can be ranked: none of them, or none of their items, is in the training split. Pass "
            "more interactions, or a column of times, which splits those of each user."
        )
    return figures


_PLOTS = {"rating_errors": ranking_plots.plot_rating_errors, "hit_rate": ranking_plots.plot_hit_rate}

register_report("ranking", ReportKind(_compute, summary, _headline, _PLOTS, measure=_measure))
