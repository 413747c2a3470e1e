"""Simple methods on the pixels of images: linear models, and a support vector machine with a Gaussian kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.baselines.contract import Baseline, Columns, probabilities, read_columns, register_baseline
from zoo.pixels import as_row
from zoo.scores import best_thresholds
from zoo.tasks import get_task

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_MOST_ROWS = 10_000
_MOST_KNOWN = 20_000
"""Validation examples that decide the thresholds of labels."""


def _pixels(examples: Columns) -> np.ndarray:
    return np.stack([*examples["image"]]).astype(np.float32)


def _target(examples: Columns, data: RawData) -> np.ndarray:
    return np.asarray(examples[get_task(data.task).targets[0]])


def _logistic(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    target, last = _target(train, data).astype(int), LogisticRegression(C=0.01, max_iter=200)
    several = target.ndim > 1
    model = make_pipeline(StandardScaler(), OneVsRestClassifier(last) if several else last)
    model.fit(_pixels(train), target)
    if not several:
        return probabilities(model, _pixels(examples), len(data.class_names))
    found = {"probabilities": model.predict_proba(_pixels(examples))}
    if data.splits["validation"].num_examples:
        known = read_columns(data.splits["validation"], _MOST_KNOWN, as_row)
        found["thresholds"] = best_thresholds(known["labels"], model.predict_proba(_pixels(known)))
    return found


def _machine(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from scipy.special import softmax
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    model = make_pipeline(StandardScaler(with_std=False), SVC(C=10.0, random_state=0))
    model.fit(_pixels(train), _target(train, data).astype(int))
    scores = model.decision_function(_pixels(examples))
    scores = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
    found = np.zeros((len(scores), len(data.class_names)))
    found[:, model.classes_] = softmax(scores, axis=1)  # in the order of the scores; they are no frequencies
    return {"probabilities": found}


def _ridge(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, others, found = _pixels(train), _pixels(examples), []
    for target in _target(train, data).reshape(len(rows), -1).T.astype(np.float64):
        known = np.isfinite(target)
        model: Any = make_pipeline(StandardScaler(), RidgeCV(10.0 ** np.arange(0, 6)))
        if data.about.get("log_values"):
            model = TransformedTargetRegressor(model, func=np.log1p, inverse_func=np.expm1)
        found.append(model.fit(rows[known], target[known]).predict(others))
    return {"values": np.stack(found, axis=1)}


def _applies(*targets: str) -> Callable[[RawData], bool]:
    def applies(data: RawData) -> bool:
        enough = "value" in targets or len(data.class_names) > 1
        return "image" in data.features and enough and get_task(data.task).targets in [(name,) for name in targets]

    return applies


register_baseline(
    "logistic regression on pixels",
    Baseline(_applies("label", "labels"), _logistic, most_rows=_MOST_ROWS, reduce=as_row),
)
register_baseline("SVM on pixels", Baseline(_applies("label"), _machine, most_rows=_MOST_ROWS, reduce=as_row))
register_baseline(
    "ridge regression on pixels", Baseline(_applies("value"), _ridge, most_rows=_MOST_ROWS, reduce=as_row)
)
