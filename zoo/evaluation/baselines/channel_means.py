"""A linear model of series: logistic regression on the mean of every channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.baselines.contract import Baseline, Columns, probabilities, register_baseline
from zoo.tasks import get_task

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData


def _means(examples: Columns) -> np.ndarray:
    """Returns the mean of every channel without missing values, (examples, channels); 0 for a channel without values."""
    sums = [np.nansum(series, axis=0) for series in examples["series"]]
    counts = [np.maximum((~np.isnan(series)).sum(axis=0), 1) for series in examples["series"]]
    return np.array(sums) / np.array(counts)


def _predict(train: Columns, examples: Columns, data: RawData) -> Mapping[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(_means(train), train["label"])
    return probabilities(model, _means(examples), len(data.class_names))


def _applies(data: RawData) -> bool:
    return "series" in data.features and get_task(data.task).classes == "label" and len(data.class_names) > 1


register_baseline("logistic regression on channel means", Baseline(_applies, _predict))
