"""Report of a classifier with several labels at once: F1 scores, areas under curves and the thresholds of every label.

It works on NumPy arrays and anything that converts to them. All metrics can be recomputed from the targets, the
probabilities and the thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo import copies, scores
from zoo.errors import UsageError
from zoo.evaluation import multilabel_plots
from zoo.evaluation.discrimination import roc_areas
from zoo.evaluation.intervals import bootstrap, mean, with_interval
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.reports import Figure, Report, ReportKind, register_report

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

_CLIP = 1e-7
_MOST_LINES = 10

Array = NDArray[np.float64]


def multilabel_report(
    targets: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    *,
    thresholds: ArrayLike | None = None,
    train_frequencies: ArrayLike | None = None,
) -> dict[str, Any]:
    """Compares predicted probabilities of labels with the labels that examples have.

    Args:
        targets: 0 or 1, shape `(n, labels)`.
        probabilities: shape `(n, labels)`, each from 0 to 1 and independent of the others.
        class_names: the names of the labels, in the order of the columns.
        thresholds: for each label the probability from which on an example has it; None for 0.5.
        train_frequencies: for each label the share of the training examples that have it, for the baseline. None takes the
            evaluated targets, which makes the baseline slightly too good.

    Returns:
        A dict of plain strings, numbers and lists that `json.dumps(report, allow_nan=False)` accepts:

        - `num_examples`; `log_loss`, the mean over all labels of all examples, clipped at 1e-7;
        - `micro`, `macro`: `precision`, `recall` and `f1` over all labels of all examples together, and the mean over the
          labels; `micro_f1` and `macro_f1` are their `f1`. Undefined metrics are 0.0, as with scikit-learn's
          `zero_division=0`;
        - `subset_accuracy`: the share of examples whose labels are all right;
        - `macro_auc`, `macro_average_precision`: means over the labels that some of the examples have, but not all; None
          without such a label;
        - `labels_per_example`: the mean number, `true` and `predicted`;
        - `per_label`: for every label `class_name`, `threshold`, `precision`, `recall`, `f1`, `roc_auc`,
          `average_precision`, `support` and `predicted`, its numbers of examples;
        - `baseline`: `micro_f1`, `macro_f1` and `subset_accuracy` of always predicting the same labels, `class_names`,
          those with the best F1 score for the frequencies in `from`; `macro_auc` is 0.5;
        - `class_names`.

    Raises:
        UsageError: shapes or names do not fit, there are no examples, or numbers are invalid.

    Example:
        >>> report = multilabel_report([[1, 1], [0, 1], [1, 0]], [[0.9, 0.8], [0.2, 0.4], [0.7, 0.1]], ["dog", "cat"])
        >>> round(report["micro_f1"], 4), report["subset_accuracy"], report["macro_auc"]
        (0.8571, 0.6666666666666666, 1.0)
    """
    true, found, levels = _checked(targets, probabilities, class_names, thresholds)
    chosen = found.astype(np.float32) >= levels
    frequencies = true.mean(axis=0) if train_frequencies is None else np.asarray(train_frequencies, np.float64)
    always = np.zeros(true.shape[1], bool)
    always[_best_always(frequencies)] = True
    clipped = np.clip(found, _CLIP, 1 - _CLIP)
    per_label = [_label(name, true[:, k], chosen[:, k], found[:, k], levels[k]) for k, name in enumerate(class_names)]
    micro, macro = _averages(true, chosen)
    known = [row for row in per_label if row["roc_auc"] is not None]
    base_micro, base_macro = _averages(true, np.broadcast_to(always, true.shape))
    return {
        "num_examples": len(true),
        "micro_f1": micro["f1"],
        "macro_f1": macro["f1"],
        "subset_accuracy": float((true == chosen).all(axis=1).mean()),
        "macro_auc": float(np.mean([row["roc_auc"] for row in known])) if known else None,
        "macro_average_precision": float(np.mean([row["average_precision"] for row in known])) if known else None,
        "log_loss": float(-np.mean(np.where(true, np.log(clipped), np.log1p(-clipped)))),
        "micro": micro,
        "macro": macro,
        "labels_per_example": {"true": float(true.sum(1).mean()), "predicted": float(chosen.sum(1).mean())},
        "per_label": per_label,
        "class_names": list(class_names),
        "baseline": {
            "from": "evaluated targets" if train_frequencies is None else "training split",
            "class_names": [name for name, is_in in zip(class_names, always, strict=True) if is_in],
            "micro_f1": base_micro["f1"],
            "macro_f1": base_macro["f1"],
            "subset_accuracy": float((true == always).all(axis=1).mean()),
            "macro_auc": 0.5,
        },
    }


def multilabel_intervals(
    targets: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str], *, thresholds: ArrayLike | None = None
) -> dict[str, list[float]]:
    """Returns 95 % bootstrap intervals of `micro_f1`, `macro_f1` and `subset_accuracy`. The arguments are those of
    `multilabel_report`."""
    true, found, levels = _checked(targets, probabilities, class_names, thresholds)
    chosen = found.astype(np.float32) >= levels
    right, both = (true & chosen).astype(np.float64), true.astype(np.float64) + chosen

    def statistics(counts: Array) -> dict[str, Array]:
        hits, sums = counts @ right, counts @ both  # (samples, labels)
        f1 = np.divide(2 * hits, sums, out=np.zeros_like(hits), where=sums > 0)
        total = sums.sum(axis=1)
        micro = np.divide(2 * hits.sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)
        exact = mean(counts, (true == chosen).all(axis=1))
        return {"micro_f1": micro, "macro_f1": f1.mean(axis=1), "subset_accuracy": exact}

    return bootstrap(len(true), statistics)


def summary(report: Mapping[str, Any]) -> str:
    """Returns the main metrics of a `multilabel_report` as a few lines of text for the terminal.

    Example:
        >>> print(summary(multilabel_report([[1, 1], [0, 1]], [[0.9, 0.8], [0.2, 0.4]], ["dog", "cat"])).splitlines()[0])
        micro F1           0.8000  (baseline 0.8571: always "dog", "cat", from the evaluated targets)
    """
    base, count = report["baseline"], report["num_examples"]
    always = ", ".join(f'"{name}"' for name in base["class_names"])
    per_example = report["labels_per_example"]
    lines = [
        f"micro F1           {with_interval(report, 'micro_f1')}  (baseline {base['micro_f1']:.4f}: always {always}, from "
        f"the {base['from']})",
        f"macro F1           {with_interval(report, 'macro_f1')}  (baseline {base['macro_f1']:.4f})",
        f"subset accuracy    {with_interval(report, 'subset_accuracy')}  (baseline {base['subset_accuracy']:.4f})",
    ]
    if report["macro_auc"] is not None:
        lines.append(f"macro AUC          {report['macro_auc']:.4f}  (baseline 0.5)")
    lines += [
        f"log loss           {report['log_loss']:.4f}",
        f"labels per example {per_example['predicted']:.2f} predicted, {per_example['true']:.2f} true",
        f"measured on        {count:,} example{'s' * (count != 1)}, {len(report['class_names'])} labels",
        *_table(report["per_label"]),
    ]
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each of the most frequent labels, below a line with the names of the metrics."""
    shown = sorted(rows, key=lambda row: -row["support"])[:_MOST_LINES]
    width = max(len("label"), *(len(row["class_name"]) for row in shown))
    lines = [f"{'label':<{width}}  examples  threshold  precision  recall  F1      AUC"]
    for row in shown:
        auc = "" if row["roc_auc"] is None else f"{row['roc_auc']:.4f}"
        lines.append(
            f"{row['class_name']:<{width}}  {row['support']:<8,}  {row['threshold']:<9.3f}  {row['precision']:<9.4f}  "
            f"{row['recall']:<6.4f}  {row['f1']:<6.4f}  {auc}".rstrip()
        )
    return lines + [f"... {len(rows) - len(shown)} more labels"] * (len(rows) > len(shown))


def _checked(
    targets: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str], thresholds: ArrayLike | None
) -> tuple[NDArray[np.bool_], Array, NDArray[np.float32]]:
    """Checks the arguments; returns targets, probabilities, and thresholds in the precision of a model's outputs."""
    true, found = np.asarray(targets), np.asarray(probabilities, np.float64)
    if true.ndim != 2 or not true.size or true.shape != found.shape or len(class_names) != true.shape[1]:
        raise UsageError(
            f"targets have shape {true.shape}, probabilities {found.shape}, and there are {len(class_names)} names; expected "
            "(n, labels) for both with at least one example, and a name for every label. Pass these."
        )
    if not np.isin(true, (0, 1)).all():
        raise UsageError(
            "targets have values other than 0 and 1. Pass 1 for every label of an example, and 0 for others."
        )
    if not (np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1):
        raise UsageError(
            f"probabilities reach from {found.min():.4g} to {found.max():.4g}; expected finite numbers from 0 to 1. Apply a "
            "sigmoid to logits; if they are not finite, look for the first epoch whose loss is not."
        )
    levels = np.full(true.shape[1], scores.THRESHOLD) if thresholds is None else np.asarray(thresholds, np.float64)
    if levels.shape != (true.shape[1],) or not np.isfinite(levels).all():
        raise UsageError(
            f"thresholds have shape {levels.shape}; expected a number for each of {true.shape[1]} labels. Pass these."
        )
    return true.astype(bool), found, levels.astype(np.float32)


def _label(name: str, true: NDArray[np.bool_], chosen: NDArray[np.bool_], found: Array, level: float) -> dict[str, Any]:
    right, support, predicted = int((true & chosen).sum()), int(true.sum()), int(chosen.sum())
    from sklearn.metrics import average_precision_score

    mixed = 0 < support < len(true)
    return {
        "class_name": name,
        "threshold": float(level),
        "precision": right / predicted if predicted else 0.0,
        "recall": right / support if support else 0.0,
        "f1": 2 * right / (predicted + support) if right else 0.0,
        "roc_auc": float(roc_areas(found, true)(np.ones((1, len(true))))[0]) if mixed else None,
        "average_precision": float(average_precision_score(true, found)) if mixed else None,
        "support": support,
        "predicted": predicted,
    }


def _averages(true: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> tuple[dict[str, float], dict[str, float]]:
    """Returns precision, recall and F1 over all labels of all examples, and their means over the labels."""
    # The import of scikit-learn takes a second, which programs that only list models must not need.
    from sklearn.metrics import precision_recall_fscore_support

    names = ("precision", "recall", "f1")
    micro, macro = (
        dict(
            zip(
                names,
                map(float, precision_recall_fscore_support(true, chosen, average=average, zero_division=0)[:3]),
                strict=True,
            )
        )
        for average in ("micro", "macro")
    )
    return micro, macro


def _best_always(frequencies: Array) -> NDArray[np.intp]:
    """Returns the labels whose constant prediction has the best micro F1 score for these frequencies."""
    order = np.argsort(-frequencies, kind="stable")
    f1 = 2 * np.cumsum(frequencies[order]) / (np.arange(1, len(order) + 1) + frequencies.sum())
    return order[: int(np.argmax(f1)) + 1]


def _compute(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    targets, predictions, _ = predict_split(model, data, split, batch_size)
    key = str(data.task.objective.labels)
    thresholds = copies.decided(model).get("thresholds")
    frequencies = None
    # Other data for a run whose own cannot be loaded has no training split.
    if "train" in data.data.splits:
        flags = data.data.splits["train"].column(key)
        frequencies = np.stack(list(flags.as_numpy_iterator())).mean(axis=0)
    arguments = (targets[key], predictions["probabilities"], data.data.class_names)
    report = multilabel_report(*arguments, thresholds=thresholds, train_frequencies=frequencies)
    return {
        **report,
        "thresholds_from": "0.5 for every label"
        if thresholds is None
        else "chosen for the best F1 on the validation split",
        "intervals": multilabel_intervals(*arguments, thresholds=thresholds),
    }


def _measure(data: Prepared, examples: Mapping[str, Any], predictions: Mapping[str, Any]) -> Report:
    """Returns the report of a baseline's probabilities and thresholds for raw examples."""
    targets = examples[str(data.task.objective.labels)]
    thresholds = predictions.get("thresholds")
    return multilabel_report(targets, predictions["probabilities"], data.data.class_names, thresholds=thresholds)


def _headline(report: Report) -> list[Figure]:
    base, name = report["baseline"], "always the same labels"
    figures = [
        Figure(title, report[key], name, base[key], key=key)
        for title, key in (
            ("micro F1", "micro_f1"),
            ("macro F1", "macro_f1"),
            ("subset accuracy", "subset_accuracy"),
        )
    ]
    if report["macro_auc"] is not None:
        figures.append(Figure("macro AUC", report["macro_auc"], "chance", base["macro_auc"], key="macro_auc"))
    return figures


register_report("multilabel", ReportKind(_compute, summary, _headline, multilabel_plots.PLOTS, _measure))
