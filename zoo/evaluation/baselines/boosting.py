"""Gradient boosting of tables: scikit-learn's HistGradientBoosting, for classes and for values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.baselines import tables
from zoo.evaluation.baselines.contract import Baseline, Columns, probabilities, register_baseline

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_MOST_CATEGORIES = 250
"""The method takes at most 255 values of a category; the most frequent ones are kept, the others are one together."""
_TREES = 1_000
"""Trees of all classes together; one class has at most 100, the default of scikit-learn."""

_TOPICS = 16
"""Columns of a text: the first singular vectors of its words."""


def _pipeline_of(rows: Any, kinds: Mapping[str, list[str]]) -> Callable[..., Any]:
    """Returns a function that makes a pipeline from a method and its options.

    Args:
        rows: the columns of the training examples.
        kinds: their names by kind.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    numbers = [name for name in kinds["number"] if rows[name].notna().any()]  # the method fails for empty columns

    def pipeline(method: Any, wrap: Callable[[Any], Any] = lambda one: one, **options: Any) -> Any:
        """Returns the method on categories as numbers, on numbers as they are, and on the topics of texts."""
        encoder = OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=float("nan"), max_categories=_MOST_CATEGORIES
        )
        parts: dict[str, tuple[Any, Any]] = {
            "categories": (encoder, kinds["category"]),
            "numbers": ("passthrough", numbers),
        }
        for name in kinds["text"]:
            topics = make_pipeline(*tables.words(), TruncatedSVD(_TOPICS, random_state=0))
            parts[f"topics of {name}"] = topics, name  # a single name: the vectorizer takes a column, no table
        rest = len(numbers) + _TOPICS * len(kinds["text"])
        are_categories = [True] * len(kinds["category"]) + [False] * rest
        columns = tables.transformer(parts)
        return make_pipeline(columns, wrap(method(categorical_features=are_categories, random_state=0, **options)))

    return pipeline


def _predict(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.multiclass import OneVsRestClassifier

    rows, kinds = tables.frame(train, data)
    others = tables.frame(examples, data)[0]
    pipeline = _pipeline_of(rows, kinds)
    if tables.has_labels(data):
        trees = min(100, max(10, _TREES // len(data.class_names)))
        several = pipeline(HistGradientBoostingClassifier, OneVsRestClassifier, max_iter=trees)
        return tables.labels(several, train, examples, data)
    if tables.has_classes(data):
        trees = min(100, max(10, _TREES // len(data.class_names)))
        model = pipeline(HistGradientBoostingClassifier, max_iter=trees).fit(rows, train["label"])
        return probabilities(model, others, len(data.class_names))
    return tables.values(lambda: pipeline(HistGradientBoostingRegressor), rows, train["value"], others, data)


def _quantiles(train: Columns, examples: Columns, data: RawData, levels: Sequence[float]) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows, kinds = tables.frame(train, data)
    others = tables.frame(examples, data)[0]
    pipeline = _pipeline_of(rows, kinds)
    found = []
    for level in levels:
        make = functools.partial(pipeline, HistGradientBoostingRegressor, loss="quantile", quantile=level)
        found.append(tables.values(make, rows, train["value"], others, data)["values"])
    return np.sort(np.stack(found, axis=-1), axis=-1)  # each level is fitted alone, so they may cross


register_baseline(
    "HistGradientBoosting",
    Baseline(
        lambda data: tables.has_classes(data) or tables.has_labels(data) or tables.has_values(data),
        _predict,
        quantiles=_quantiles,
    ),
)
