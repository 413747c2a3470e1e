"""Linear models of tables: logistic regression for classes, ridge regression for values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.evaluation.baselines import tables
from zoo.evaluation.baselines.contract import Baseline, Columns, probabilities, register_baseline

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_RAREST = 5
"""Categories with fewer examples are one column together."""
_MOST_CATEGORIES = 1_000


def _pipeline(kinds: Mapping[str, list[str]], last: Any) -> Any:
    """Returns a linear model on standardised numbers, categories one-hot, and words of texts."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
    )
    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=_RAREST, max_categories=_MOST_CATEGORIES
    )
    parts: dict[str, tuple[Any, Any]] = {
        "numbers": (numbers, kinds["number"]),
        "categories": (categories, kinds["category"]),
    }
    for name in kinds["text"]:
        parts[f"words of {name}"] = (
            make_pipeline(*tables.words()),
            name,
        )  # a single name: the vectorizer takes a column, no table
    return make_pipeline(tables.transformer(parts), last)


def _logistic(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.linear_model import LogisticRegression

    rows, kinds = tables.frame(train, data)
    model = _pipeline(kinds, LogisticRegression(max_iter=1_000)).fit(rows, train["label"])
    return probabilities(model, tables.frame(examples, data)[0], len(data.class_names))


def _labels(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    last = OneVsRestClassifier(LogisticRegression(max_iter=1_000))
    return tables.labels(_pipeline(tables.frame(train, data)[1], last), train, examples, data)


def _ridge(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.linear_model import Ridge

    rows, kinds = tables.frame(train, data)
    others = tables.frame(examples, data)[0]
    return tables.values(lambda: _pipeline(kinds, Ridge()), rows, train["value"], others, data)


def _classes(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    return (_labels if tables.has_labels(data) else _logistic)(train, examples, data)


register_baseline(
    "logistic regression", Baseline(lambda data: tables.has_classes(data) or tables.has_labels(data), _classes)
)
register_baseline("ridge regression", Baseline(tables.has_values, _ridge))
