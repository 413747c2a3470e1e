"""The figures of metrics by name, as the columns of history.csv and the logs of callbacks hold them."""

from __future__ import annotations

import keras
import numpy as np


def figures(metric: keras.metrics.Metric) -> dict[str, float]:
    """Returns the value of a metric by name.

    A metric with a value for each class has the figures NAME_0, NAME_1 and so on; one whose value is a dict has its keys.

    Example:
        >>> figures(keras.metrics.Mean("height"))
        {'height': 0.0}
    """
    result = metric.result()
    found: dict[str, float] = {}
    for name, value in result.items() if isinstance(result, dict) else [(metric.name, result)]:
        values = np.asarray(value, np.float64).reshape(-1)
        names = [name] if values.size == 1 else [f"{name}_{i}" for i in range(values.size)]
        found |= dict(zip(names, values.tolist(), strict=True))
    return found


def own_metrics(model: keras.Model) -> list[keras.metrics.Metric]:
    """Returns the metrics that a compiled model or its layers hold themselves, such as those updated in `call`."""
    parts = [model._loss_tracker, model._compile_metrics, *(model._compile_loss.metrics if model._compile_loss else ())]
    compiled = {id(metric) for metric in parts}
    found = {id(metric): metric for metric in model.metrics if id(metric) not in compiled}
    return list(found.values())
