"""Simple methods for series: statistics of channels, the nearest neighbour, MiniRocket; ridge regression on the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import minirocket
from zoo.evaluation.baselines.contract import Baseline, Columns, probabilities, read_columns, register_baseline
from zoo.evaluation.forecast_quantiles import of_forecasts
from zoo.tables import calendars
from zoo.tasks import get_task

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_MOST_SERIES = 4_000
_MOST_STEPS = 256
"""Series are resampled to at most this number of steps for the nearest neighbour."""
_FEATURES = 9_996
_MOST_INPUTS = 3_000
"""Inputs of the window for ridge regression: the latest steps of all channels."""
_MOST_WINDOWS = 20_000
_PENALTIES = np.logspace(-3, 3, 10)


def _filled(examples: Columns) -> list[np.ndarray]:
    return [minirocket.filled(np.asarray(series, np.float32)) for series in examples["series"]]


# --- Classification --------------------------------------------------------------------------------------------------


def _statistics(series: list[np.ndarray]) -> np.ndarray:
    """Returns mean, deviation, smallest, largest, first and last value and slope of every channel, and the length."""
    rows = []
    for each in series:
        place = np.linspace(-1, 1, len(each))[:, np.newaxis]
        slope = (each * place).mean(0)
        parts = [each.mean(0), each.std(0), each.min(0), each.max(0), each[0], each[-1], slope, [np.log(len(each))]]
        rows.append(np.concatenate(parts))
    return np.array(rows)


def _logistic(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    model.fit(_statistics(_filled(train)), train["label"])
    return probabilities(model, _statistics(_filled(examples)), len(data.class_names))


def _nearest(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.neighbors import KNeighborsClassifier

    known, others = _filled(train), _filled(examples)
    steps = int(min(_MOST_STEPS, np.median([len(series) for series in known])))
    values = np.concatenate(known)
    deviations = np.where(values.std(0) > 0, values.std(0), 1.0)

    def rows(series: list[np.ndarray]) -> np.ndarray:
        found = []
        for each in series:
            places = np.linspace(0, len(each) - 1, max(1, steps))
            found.append([np.interp(places, np.arange(len(each)), channel) for channel in (each / deviations).T])
        return np.array(found).reshape(len(found), -1)

    model = KNeighborsClassifier(1).fit(rows(known), train["label"])
    return probabilities(model, rows(others), len(data.class_names))


def _minirocket(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from scipy.special import softmax
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, others = _filled(train), _filled(examples)
    generator = np.random.default_rng(0)
    plan = minirocket.dilations(max(map(len, known)), _FEATURES)
    matrices = [minirocket.weights(minirocket.chosen_channels(known[0].shape[1], generator)) for _ in plan]
    values = np.concatenate(known)
    center, scale = values.mean(0), np.where(values.std(0) > 0, values.std(0), 1.0)
    known, others = ([((each - center) / scale).astype(np.float32) for each in part] for part in (known, others))
    bounds = [found for found, _ in minirocket.thresholds(known, plan, matrices, generator)]
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=_PENALTIES))
    model.fit(minirocket.features(known, plan, matrices, bounds), train["label"])
    scores = model.decision_function(minirocket.features(others, plan, matrices, bounds))
    scores = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
    found = np.zeros((len(scores), len(data.class_names)))
    found[:, model.classes_] = softmax(scores, axis=1)
    return {"probabilities": found}


def _has_classes(data: RawData) -> bool:
    return "series" in data.features and get_task(data.task).classes == "label" and len(data.class_names) > 1


# --- Forecasting -----------------------------------------------------------------------------------------------------


def _ridge(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    """Ridge regression on the window, with the penalty that is best by leave-one-out.

    The latest steps are used if the window has very many values.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps, channels = max(map(len, train["series"])), train["series"][0].shape[-1]
    used = max(1, min(steps, _MOST_INPUTS // channels))
    means = _means(train["known"]) if "known" in train else np.zeros(0)

    def rows(columns: Columns) -> np.ndarray:
        series = [each[-used:] for each in _whole(columns)]
        padded = [np.pad(each, ((used - len(each), 0), (0, 0)), mode="edge").ravel() for each in series]
        if "known" not in columns:
            return np.stack(padded)
        return np.concatenate([np.stack(padded), _ahead(columns["known"], data, means)], axis=1)

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-3, 6, 19)))
    model.fit(rows(train), np.stack([*train["forecast"]]))
    found = np.asarray(model.predict(rows(examples)))
    return {"values": found.reshape(len(found), -1)}


def _means(known: np.ndarray) -> np.ndarray:
    """Returns the mean of every column that is known in advance over the training rows, 0 for one without a value."""
    values = np.stack([*known]).astype(np.float64)
    counts = np.maximum((~np.isnan(values)).sum(axis=(0, 1)), 1)
    return np.asarray(np.nansum(values, axis=(0, 1)) / counts)


def _ahead(known: np.ndarray, data: RawData, means: np.ndarray) -> np.ndarray:
    """Returns what is known in advance of the steps to forecast, (windows, features), parts of the time as circles. A missing
    value is the mean of the training rows, as for the models."""
    count, values = len(data.about["known"]), np.stack([*known]).astype(np.float64)
    values = np.where(np.isnan(values), means, values)
    circles = calendars.circles(values[..., count:], data.about["calendar"], 3)
    return np.concatenate([values[..., :count], circles], axis=-1).reshape(len(values), -1)


def _ridge_quantiles(train: Columns, examples: Columns, data: RawData, levels: Sequence[float]) -> np.ndarray:
    """The forecasts of ridge regression plus the quantiles of its errors on the validation split."""
    held = read_columns(data.splits["validation"], _MOST_WINDOWS)
    both = {name: np.concatenate([held[name], examples[name]]) for name in held}
    found, count = _ridge(train, both, data)["values"], len(held["forecast"])
    return of_forecasts(found[count:], found[:count], np.stack([*held["forecast"]]), levels)


def _whole(examples: Columns) -> list[np.ndarray]:
    """Returns the series without gaps, with all steps."""
    ends = np.zeros((1, examples["series"][0].shape[-1]), np.float32)
    return [minirocket.filled(np.concatenate([series, ends]))[:-1] for series in examples["series"]]


def _forecasts(data: RawData) -> bool:
    return "series" in data.features and "forecast" in data.features


for _name, _baseline in {
    "logistic regression on statistics": Baseline(_has_classes, _logistic),
    "nearest neighbour": Baseline(_has_classes, _nearest, most_rows=2 * _MOST_SERIES),
    "MiniRocket with ridge regression": Baseline(_has_classes, _minirocket, most_rows=_MOST_SERIES),
    "ridge regression on the window": Baseline(_forecasts, _ridge, _MOST_WINDOWS, quantiles=_ridge_quantiles),
}.items():
    register_baseline(_name, _baseline)
