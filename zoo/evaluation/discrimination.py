"""How well the probabilities of a classifier tell classes apart: areas under curves, and the choice of a threshold.

Areas are computed from sorted scores and weights, for many samples of the examples at once, which `intervals` needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.evaluation.plots import DOTS_PER_INCH, GREY, SKY_BLUE, VERMILION, png_path, write_figure

Array = NDArray[np.float64]

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MOST_POINTS = 101


def roc_areas(scores: Array, positive: NDArray[np.bool_]) -> Callable[[Array], Array]:
    """Returns a function from weights `(samples, n)` to areas under the ROC curve, `(samples,)`.

    The area is the probability that a positive example has a higher score than a negative one, where equal scores count one
    half. It is NaN without positive or without negative weight.

    Args:
        scores: higher for positive examples, `(n,)`.
        positive: the examples of the positive class, `(n,)`.

    Example:
        >>> roc_areas(np.array([0.1, 0.8, 0.9]), np.array([False, True, False]))(np.ones((1, 3)))
        array([0.5])
    """
    order = np.argsort(scores, kind="stable")
    above, below = order[positive[order]], order[~positive[order]]
    # For every positive example, the number of negative ones with a lower score, and with a score that is not higher.
    lower, level = (np.searchsorted(scores[below], scores[above], side) for side in ("left", "right"))
    tied = bool((lower != level).any())

    def compute(weights: Array) -> Array:
        passed = np.zeros((len(weights), len(below) + 1))
        np.cumsum(weights[:, below], axis=1, out=passed[:, 1:])
        wins = passed[:, lower]
        if tied:
            wins += passed[:, level]
            wins /= 2
        right = weights[:, above]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.einsum("ij,ij->i", wins, right) / (right.sum(axis=1) * passed[:, -1])

    return compute


def two_classes(positive: NDArray[np.bool_], probability: Array, weight: Array, name: str) -> dict[str, Any]:
    """Returns the metrics of two classes, of which the second is the positive one.

    Args:
        positive: the examples of the positive class, `(n,)`.
        probability: their probability of the positive class, `(n,)`.
        weight: one per example, above 0.
        name: the name of the positive class.

    Returns:
        - `positive_class`, its name;
        - `roc_auc`: the area under the ROC curve, see `roc_areas`; `average_precision`: the precision at every threshold,
          weighted by the gain in recall. None if only one class occurs;
        - `brier`: the mean squared distance of the probability of the positive class from 0 or 1;
        - `thresholds`: for 11 thresholds `threshold`, `precision`, `recall`, `f1` and `share_predicted`, the share of the
          examples with at least this probability. An undefined metric is 0.0;
        - `threshold_curves`: at most 101 points of the ROC curve (`false_positive_rate`, `true_positive_rate`) and of the
          precision-recall curve (`precision`, `recall`); absent if only one class occurs.

    Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78(1), 1950.

    Example:
        >>> report = two_classes(np.array([False, True]), np.array([0.2, 0.7]), np.ones(2), "spam")
        >>> report["roc_auc"], round(report["brier"], 3)
        (1.0, 0.065)
    """
    rows = [_at(threshold, positive, probability >= threshold, weight) for threshold in THRESHOLDS]
    both = bool(positive.any() and not positive.all())
    report = {
        "positive_class": name,
        "roc_auc": float(roc_areas(probability, positive)(weight[np.newaxis])[0]) if both else None,
        "average_precision": _average_precision(positive, probability, weight) if both else None,
        "brier": float(np.average((probability - positive) ** 2, weights=weight)),
        "thresholds": rows,
    }
    return (
        report if report["roc_auc"] is None else {**report, "threshold_curves": _curves(positive, probability, weight)}
    )


def macro_auc(true: NDArray[np.int64], probable: Array, weight: Array) -> float | None:
    """Returns the mean area under the ROC curve of every class against all others, over the classes that occur; None if
    fewer than two occur.

    Example:
        >>> macro_auc(np.array([0, 1, 2]), np.eye(3), np.ones(3))
        1.0
    """
    classes = np.unique(true)
    if len(classes) < 2:
        return None
    found = [roc_areas(probable[:, k], true == k)(weight[np.newaxis])[0] for k in classes]
    return float(np.mean(found))


def _average_precision(positive: NDArray[np.bool_], probability: Array, weight: Array) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(positive, probability, sample_weight=weight))


def _at(threshold: float, positive: NDArray[np.bool_], predicted: NDArray[np.bool_], weight: Array) -> dict[str, float]:
    right = float(weight[positive & predicted].sum())
    predictions, occurrences = float(weight[predicted].sum()), float(weight[positive].sum())
    return {
        "threshold": threshold,
        "precision": right / predictions if predictions else 0.0,
        "recall": right / occurrences if occurrences else 0.0,
        "f1": 2 * right / (predictions + occurrences) if right else 0.0,
        "share_predicted": predictions / float(weight.sum()),
    }


def _curves(positive: NDArray[np.bool_], probability: Array, weight: Array) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    false, true, _ = roc_curve(positive, probability, sample_weight=weight)
    precision, recall, _ = precision_recall_curve(positive, probability, sample_weight=weight, drop_intermediate=True)

    def some(curve: Mapping[str, Array]) -> dict[str, list[float]]:
        count = len(next(iter(curve.values())))
        chosen = np.unique(np.linspace(0, count - 1, MOST_POINTS).round().astype(int))
        return {name: values[chosen].tolist() for name, values in curve.items()}

    return {
        "roc": some({"false_positive_rate": false, "true_positive_rate": true}),
        "precision_recall": some({"precision": precision, "recall": recall}),
    }


def plot_threshold_curves(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws the ROC curve and the precision-recall curve of a report on two classes as PNG. Nothing is drawn for more
    classes, or if only one class occurs.

    The dashed lines are a classifier that knows nothing. The dots are three thresholds of the probability.

    Args:
        report: the result of `zoo.evaluation.classification.classification_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.classification import classification_report
        >>> report = classification_report([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], ["ham", "spam"])
        >>> plot_threshold_curves(report, "plots/threshold_curves.png")
    """
    path = png_path(path)
    if "threshold_curves" not in report:
        return
    from matplotlib.figure import Figure

    roc, both = report["threshold_curves"]["roc"], report["threshold_curves"]["precision_recall"]
    support = [row["support"] for row in report["per_class"]]
    share = support[1] / sum(support)
    figure = Figure(figsize=(10.0, 5.0), dpi=DOTS_PER_INCH, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(roc["false_positive_rate"], roc["true_positive_rate"], color=SKY_BLUE, linewidth=2.2)
    left.plot([0, 1], [0, 1], linestyle="--", color=GREY, linewidth=1.2)
    left.set(xlabel="false positive rate", ylabel="true positive rate")
    left.set_title(f"ROC curve, area {report['roc_auc']:.4f}", fontsize=12)
    right.plot(both["recall"], both["precision"], color=SKY_BLUE, linewidth=2.2)
    right.axhline(share, linestyle="--", color=GREY, linewidth=1.2)
    right.set(xlabel="recall", ylabel="precision")
    right.set_title(f"precision and recall, average precision {report['average_precision']:.4f}", fontsize=12)
    for row in report["thresholds"]:
        if row["threshold"] in (0.2, 0.5, 0.8) and row["share_predicted"] > 0:
            right.plot(row["recall"], row["precision"], "o", color=VERMILION, markersize=5)
            right.annotate(
                f"{row['threshold']}", (row["recall"], row["precision"]), xytext=(4, -10), textcoords="offset points"
            )
    for axes in (left, right):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.8)
    # parse_math is off, because a class may be named "$5".
    figure.suptitle(f"positive class: {report['positive_class']}", fontsize=12, parse_math=False)
    write_figure(figure, path)
