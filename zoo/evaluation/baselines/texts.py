"""Linear models of texts: logistic regression or ridge regression on the TF-IDF of words or characters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.baselines.contract import Baseline, Columns, probabilities, read_columns, register_baseline
from zoo.scores import best_thresholds
from zoo.tasks import get_task

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_MOST_FEATURES = 200_000
_MOST_ROWS = 20_000
"""Validation examples that decide between words and characters."""


def _vectorizers() -> list[Any]:
    """Returns the TF-IDF of words and pairs of words, and that of one to three characters, which also fits languages that
    have no spaces."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    shared = {"sublinear_tf": True, "max_features": _MOST_FEATURES, "dtype": np.float32}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **shared)
    return [words, TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **shared)]


def _texts(examples: Columns, data: RawData) -> list[str]:
    """Returns the text of every example; a pair of texts is one."""
    names = [name for name in data.features if name.startswith("text")]
    rows = zip(*(examples[name].tolist() for name in names), strict=True)
    return [" \n ".join(part.decode("utf-8", "replace") for part in row) for row in rows]


def _best(train: Columns, data: RawData, last: Callable[[], Any], target: np.ndarray) -> Any:
    """Returns the pipeline, fitted, whose score on the validation split is the best; of words where that split is empty."""
    from sklearn.pipeline import make_pipeline

    texts, columns = _texts(train, data), _validation(data)
    known = (_texts(columns, data), _target(columns, data)) if columns else None
    fitted = []
    for vectorizer in _vectorizers():
        try:
            model = make_pipeline(vectorizer, last()).fit(texts, target)
        except ValueError:  # no text has a word
            continue
        fitted.append((model.score(*known) if known else 0.0, model))
        if known is None:
            break
    return max(fitted, key=lambda pair: pair[0])[1]


def _validation(data: RawData) -> dict[str, np.ndarray] | None:
    split = data.splits.get("validation")
    return read_columns(split, _MOST_ROWS) if split is not None and split.num_examples else None


def _target(examples: Columns, data: RawData) -> np.ndarray:
    return np.asarray(examples[get_task(data.task).targets[0]])


def _logistic(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    target = _target(train, data)
    several = target.ndim > 1

    def classifier() -> Any:
        """Returns a model of every class. On sparse features, the dual problem is solved in seconds."""
        return OneVsRestClassifier(LogisticRegression(C=10.0, solver="liblinear", dual=True, tol=0.01, random_state=0))

    model = _best(train, data, classifier, target.astype(int))
    texts = _texts(examples, data)
    if not several:
        return probabilities(model, texts, len(data.class_names))
    found = {"probabilities": model.predict_proba(texts)}
    if known := _validation(data):
        found["thresholds"] = best_thresholds(known["labels"], model.predict_proba(_texts(known, data)))
    return found


def _ridge(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import Ridge

    def regression() -> Any:
        ridge = Ridge(solver="lsqr")
        return (
            TransformedTargetRegressor(ridge, func=np.log1p, inverse_func=np.expm1)
            if data.about.get("log_values")
            else ridge
        )

    target = _target(train, data).astype(np.float64)
    target = target.reshape(len(target), -1)
    known = np.isfinite(target).all(axis=1)
    kept = {name: values[known] for name, values in train.items()}
    model = _best(kept, data, regression, target[known])
    return {"values": model.predict(_texts(examples, data)).reshape(len(examples["text"]), -1)}


def _applies(*targets: str) -> Callable[[RawData], bool]:
    def applies(data: RawData) -> bool:
        is_text = "text" in data.features and not data.about.get("table")
        enough = "value" in targets or len(data.class_names) > 1
        return is_text and enough and get_task(data.task).targets in [(target,) for target in targets]

    return applies


register_baseline(
    "logistic regression on TF-IDF", Baseline(_applies("label", "labels"), _logistic, most_labels=4_000_000)
)
register_baseline("ridge regression on TF-IDF", Baseline(_applies("value"), _ridge))
