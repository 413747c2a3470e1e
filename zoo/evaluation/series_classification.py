"""Report of a classifier of series: that of any classifier, next to a linear baseline on the means of the channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation import classification
from zoo.evaluation.reports import Figure, Report, ReportKind, raw_examples, register_report

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    report = classification.evaluate_classes(model, data, split, batch_size)
    return {**report, **_linear_baseline(data, split)}


def _linear_baseline(data: Prepared, split: str) -> Report:
    """The baseline: logistic regression on the mean of every channel."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def means(name: str) -> tuple[Any, Any]:
        examples = list(raw_examples(data, name))
        sums = [np.nansum(e["series"], axis=0) for e in examples]
        counts = [np.maximum((~np.isnan(e["series"])).sum(axis=0), 1) for e in examples]
        return np.array(sums) / np.array(counts), np.array([e["label"] for e in examples])

    if len(data.data.class_names) < 2:
        return {}
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*means("train"))
    return {
        "linear_baseline": {"name": "logistic regression on channel means", "accuracy": linear.score(*means(split))}
    }


def _headline(report: Report) -> list[Figure]:
    first, *others = classification.headline(report)
    if "linear_baseline" in report:
        linear = report["linear_baseline"]
        first = dataclasses.replace(first, baseline=linear["name"], baseline_value=linear["accuracy"])
    return [first, *others]


def _summary(report: Mapping[str, Any]) -> str:
    lines = [classification.summary_with_steps(report)]
    if "linear_baseline" in report:
        linear = report["linear_baseline"]
        lines.append(f"linear baseline    {linear['accuracy']:.4f}  {linear['name']}")
    return "\n".join(lines)


register_report("series_classification", ReportKind(_compute, _summary, _headline, classification.PLOTS))
