"""Report of a classifier: accuracy next to a baseline, calibration, and metrics of every class, as a plain dict.

It works on NumPy arrays and anything that converts to them, with one class per example or one per step (tagging).
All metrics can be recomputed from the targets and probabilities; nothing is averaged over batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo import copies
from zoo.errors import UsageError
from zoo.evaluation import abstention, plots
from zoo.evaluation.class_arguments import checked_elements, checked_names
from zoo.evaluation.discrimination import macro_auc, plot_threshold_curves, roc_areas, two_classes
from zoo.evaluation.intervals import bootstrap, mean, sums, with_interval
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.reports import Figure, Report, ReportKind, register_report
from zoo.tasks.abstention import last_steps

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

LOG_LOSS_CLIP = 1e-7
CALIBRATION_BINS = 15


def classification_report(
    targets: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    *,
    weights: ArrayLike | None = None,
    train_class_counts: ArrayLike | None = None,
) -> dict[str, Any]:
    """Measure predicted class probabilities against the true classes.

    The predicted class is the most probable one; ties go to the first.

    Args:
        targets: integers, shape `(n,)`, or `(n, steps)` with one class per step.
        probabilities: floats of any precision, shape `targets.shape + (num_classes,)`, rows non-negative, sum 1.
        class_names: `num_classes` different strings, in the order of the columns.
        weights: non-negative numbers (or booleans) in the shape of `targets`. Elements with weight 0, such as padding,
            are ignored. Other weights apply to all metrics, and counts are then sums of weights.
        train_class_counts: numbers of shape `(num_classes,)`, how often each class occurs in the training split.

    Returns:
        A dict of plain strings, numbers and lists that `json.dumps(report, allow_nan=False)` accepts:

        - `num_examples`: real elements (steps, if there is one class per step), each counted once whatever its
          weight;
        - `accuracy`; `macro_f1`, the `f1` of `macro`;
        - `log_loss`: mean negative natural logarithm of the true class's probability, clipped at 1e-7;
        - `expected_calibration_error`: mean distance between confidence (the top probability) and accuracy, over 15
          bins of equal width `(lower, upper]`, and `reliability`, those bins: `lower`, `upper`, `count`,
          `mean_confidence`, `accuracy` (the last two None in an empty bin);
        - `macro`, `weighted`: `precision`, `recall` and `f1`, averaged over the classes that occur among targets or
          predictions (the default of scikit-learn), with equal weights or weighted by their support;
        - `per_class`: for every class `class_name`, `precision`, `recall`, `f1` and `support`, its number of targets.
          An undefined metric, such as the precision of a class that was never predicted, is 0.0, as with
          scikit-learn's `zero_division=0`;
        - `confusion_matrix`: rows are true classes, columns predicted ones; `class_names`;
        - for two classes `positive_class`, `roc_auc`, `average_precision`, `brier`, `positive_f1`, `thresholds` and
          `threshold_curves`, see `zoo.evaluation.discrimination.two_classes`. The second class is the positive one;
        - for several classes `macro_auc`: the area under the ROC curve of one class against the rest, averaged over the
          classes that occur among the targets, None if fewer than two occur;
        - `baseline`: the metrics of using only the class frequencies: `accuracy` of always predicting `class_name`,
          the most frequent class, and `log_loss` of always predicting the frequencies. `from` is "training split", or
          "evaluated targets" without `train_class_counts`. The latter is slightly too good, because it uses the
          targets.

    Raises:
        UsageError: shapes do not fit, there are no elements, a target is not a class number, probabilities are not
            finite or not a distribution (logits), class names do not fit the columns, or weights or counts are invalid.

    Calibration error: Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    AAAI 2015; bins as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Example:
        >>> report = classification_report([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], ["cat", "dog"])
        >>> round(report["accuracy"], 3), report["confusion_matrix"]
        (0.667, [[1, 0], [1, 1]])
    """
    # The import of scikit-learn takes a second, which programs that only list models must not need.
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    true, probable, weight = checked_elements(np.asarray(targets), np.asarray(probabilities), weights)
    num_classes = probable.shape[1]
    names = checked_names(class_names, num_classes)

    predicted = probable.argmax(axis=1)
    confidence = probable[np.arange(len(true)), predicted]
    correct = predicted == true
    classes = np.arange(num_classes)
    confusion = confusion_matrix(true, predicted, labels=classes, sample_weight=weight)
    support = confusion.sum(axis=1)
    occurs = (support + confusion.sum(axis=0)) > 0
    figures = dict(
        zip(
            ("precision", "recall", "f1"),
            precision_recall_fscore_support(true, predicted, labels=classes, sample_weight=weight, zero_division=0)[:3],
            strict=True,
        )
    )
    reliability, calibration_error = _calibration(confidence, correct, weight)
    macro = {name: float(values[occurs].mean()) for name, values in figures.items()}
    if num_classes == 2:  # the second of two classes is the positive one, as in ham and spam
        apart = two_classes(true == 1, probable[:, 1], weight, names[1]) | {"positive_f1": float(figures["f1"][1])}
    else:
        apart = {"macro_auc": macro_auc(true, probable, weight)}
    return {
        "num_examples": len(true),
        "accuracy": float(np.average(correct, weights=weight)),
        "macro_f1": macro["f1"],
        "log_loss": _log_loss(probable[np.arange(len(true)), true], weight),
        "expected_calibration_error": calibration_error,
        **apart,
        "macro": macro,
        "weighted": {name: float(np.average(values, weights=support)) for name, values in figures.items()},
        "per_class": [
            {
                "class_name": names[index],
                **{name: float(values[index]) for name, values in figures.items()},
                "support": _number(support[index]),
            }
            for index in range(num_classes)
        ],
        "confusion_matrix": [[_number(count) for count in row] for row in confusion],
        "class_names": names,
        "reliability": reliability,
        "baseline": _baseline(true, weight, names, train_class_counts),
    }


def summary(report: dict[str, Any]) -> str:
    """Return the main metrics of a `classification_report` as a few lines of text for the terminal.

    Args:
        report: the result of `classification_report`, or the same read back from JSON.

    Returns:
        Lines without a final newline: accuracy and log loss next to their baselines, macro F1, areas under curves,
        calibration error, and up to three of the most frequent confusions.

    Example:
        >>> print(summary(classification_report([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], ["cat", "dog"])))
        accuracy           0.6667  (baseline 0.6667: always "dog", from the evaluated targets)
        macro F1           0.6667
        positive class     "dog": ROC AUC 1.0000, average precision 1.0000, Brier score 0.1800
        log loss           0.5108  (baseline 0.6365)
        calibration error  0.3333
        measured on        3 examples, 2 classes
        confused most often
          dog predicted as cat: 1 time
    """
    baseline, names = report["baseline"], report["class_names"]
    lines = [
        f"accuracy           {with_interval(report, 'accuracy')}  "
        f"(baseline {baseline['accuracy']:.4f}: "
        f'always "{baseline["class_name"]}", from the {baseline["from"]})',
        f"macro F1           {report['macro_f1']:.4f}",
        *_apart(report),
        f"log loss           {report['log_loss']:.4f}  (baseline {baseline['log_loss']:.4f})",
        f"calibration error  {report['expected_calibration_error']:.4f}",
        *abstention.lines(report),
        f"measured on        {report['num_examples']:,} example{'s' * (report['num_examples'] != 1)}, "
        f"{len(names)} classes",
    ]
    confusions = [
        (count, names[row], names[column])
        for row, counts in enumerate(report["confusion_matrix"])
        for column, count in enumerate(counts)
        if row != column and count > 0
    ]
    confusions.sort(key=lambda confusion: -confusion[0])  # stable: ties stay in the order of the classes
    lines.append("confused most often" if confusions else "no confusions")
    for count, true_name, answered_name in confusions[:3]:
        times = f"{count:,}" if isinstance(count, int) else f"{count:,.2f}"
        lines.append(f"  {true_name} predicted as {answered_name}: {times} time{'s' * (count != 1)}")
    return "\n".join(lines)


def _apart(report: Mapping[str, Any]) -> list[str]:
    """Returns the line of the areas under curves, if they are defined."""
    if report.get("macro_auc") is not None:
        return [f"macro AUC          {report['macro_auc']:.4f}"]
    if report.get("roc_auc") is None:
        return []
    return [
        f'positive class     "{report["positive_class"]}": '
        f"ROC AUC {with_interval(report, 'roc_auc')}, "
        f"average precision {report['average_precision']:.4f}, Brier score {report['brier']:.4f}"
    ]


def _log_loss(probability_of_truth: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    return float(np.average(-np.log(np.maximum(probability_of_truth, LOG_LOSS_CLIP)), weights=weight))


def _calibration(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[list[dict[str, Any]], float]:
    """Reliability bins `(lower, upper]` and the expected calibration error over them."""
    edges = np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS
    bin_of = np.searchsorted(edges, confidence, side="left") - 1  # a confidence is at least 1/num_classes, so never -1
    bins: list[dict[str, Any]] = []
    error = 0.0
    for index in range(CALIBRATION_BINS):
        inside = bin_of == index
        count = weight[inside].sum()
        mean_confidence = accuracy = None
        if count > 0:
            mean_confidence = float(np.average(confidence[inside], weights=weight[inside]))
            accuracy = float(np.average(correct[inside], weights=weight[inside]))
            error += float(count / weight.sum()) * abs(accuracy - mean_confidence)
        bins.append(
            {
                "lower": float(edges[index]),
                "upper": float(edges[index + 1]),
                "count": _number(count),
                "mean_confidence": mean_confidence,
                "accuracy": accuracy,
            }
        )
    return bins, error


def _baseline(
    true: NDArray[np.int64], weight: NDArray[np.float64], names: list[str], train_class_counts: ArrayLike | None
) -> dict[str, Any]:
    if train_class_counts is None:
        counts = np.bincount(true, weights=weight, minlength=len(names))
    else:
        counts = np.asarray(train_class_counts, dtype=np.float64)
        if counts.shape != (len(names),):
            raise UsageError(
                f"train_class_counts has shape {counts.shape}, expected ({len(names)},), one count per class. "
                f"Count with numpy.bincount(train_targets, minlength={len(names)})."
            )
        if not np.isfinite(counts).all() or counts.min() < 0 or counts.sum() == 0:
            raise UsageError(
                f"train_class_counts is {counts.tolist()}, expected counts that are not negative and not all 0. "
                "Count the training split's targets, or leave the argument out."
            )
    frequencies = counts / counts.sum()
    majority = int(counts.argmax())
    return {
        "from": "evaluated targets" if train_class_counts is None else "training split",
        "class_name": names[majority],
        "accuracy": float(np.average(true == majority, weights=weight)),
        "log_loss": _log_loss(frequencies[true], weight),
    }


def _number(count: float) -> int | float:
    """A count for JSON: 3 instead of 3.0, but 2.5 for fractional weights."""
    count = float(count)
    return int(count) if count.is_integer() else count


def class_intervals(
    targets: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None
) -> dict[str, list[float]]:
    """Returns 95 % bootstrap intervals of `accuracy`, and for two classes of `positive_f1` and `roc_auc`.

    The arguments are those of `classification_report`. With one class per step, whole examples are drawn.
    """
    true, probable = np.asarray(targets), np.asarray(probabilities)
    example = np.broadcast_to(np.arange(len(true)).reshape(-1, *[1] * (true.ndim - 1)), true.shape)
    weight = np.ones(true.shape) if weights is None else np.asarray(weights, np.float64)
    real = weight > 0
    true, predicted, weight = true[real], probable.argmax(axis=-1)[real], weight[real]
    numbers, example = np.unique(example[real], return_inverse=True)

    def per_example(values: NDArray[Any]) -> NDArray[np.float64]:
        return sums(values * weight, example, len(numbers))

    sizes, right = per_example(np.ones(len(true))), per_example(predicted == true)
    if probable.shape[-1] != 2:
        return bootstrap(len(numbers), lambda counts: {"accuracy": mean(counts, right, sizes)})
    hits = per_example((predicted == 1) & (true == 1))
    both = per_example(predicted == 1) + per_example(true == 1)
    area = roc_areas(probable[..., 1][real].astype(np.float64), true == 1)
    alone = len(numbers) == len(true) and np.all(weight == 1)  # one element per example, so no weights to spread

    def statistics(counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {
            "accuracy": mean(counts, right, sizes),
            "positive_f1": mean(counts, 2 * hits, both),
            "roc_auc": area(counts if alone else counts[:, example] * weight),
        }

    return bootstrap(len(numbers), statistics)


def evaluate_classes(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Report:
    """Returns the report of a classifier. With an output at every step, it is the report of the last step."""
    targets, predictions, weights = predict_split(model, data, split, batch_size)
    key = str(data.task.classes)
    labels, probabilities = targets[key], predictions["probabilities"]
    weight: Any = weights.get(key)
    steps = {}
    if probabilities.ndim == 3:
        right = (probabilities.argmax(axis=-1) == labels)[weight > 0]
        steps = {"step_accuracy": float(right.mean())}
        labels, probabilities, weight = last_steps(labels, weight), last_steps(probabilities, weight), None
    # Other data for a run whose own cannot be loaded has no training split.
    counts = data.target_counts("train") if "train" in data.data.splits else None
    names = data.data.class_names
    report = classification_report(labels, probabilities, names, weights=weight, train_class_counts=counts)
    intervals = class_intervals(labels, probabilities, weights=weight)
    decided = copies.decided(model)
    answers = abstention.answer_report(labels, probabilities, decided, weight)
    intervals |= answers.pop("intervals", {})
    if (others := abstention.out_of_scope_probabilities(model, data, split, batch_size)) is not None:
        answers |= abstention.out_of_scope_report(probabilities, others, decided)
    return {**report, **steps, **answers, "intervals": intervals}


def measure(data: Prepared, examples: Mapping[str, Any], predictions: Mapping[str, Any]) -> Report:
    """Returns the report of a baseline's probabilities for raw examples."""
    return classification_report(examples[str(data.task.classes)], predictions["probabilities"], data.data.class_names)


def headline(report: Report) -> list[Figure]:
    """Returns the accuracy next to that of the most frequent class, and for two classes F1 and ROC AUC of the positive
    class; then the metrics of a model that abstains."""
    base, name, per_class = report["baseline"], "the most frequent class", report["per_class"]
    figures = [Figure("accuracy", report["accuracy"], name, base["accuracy"], key="accuracy")]
    if len(per_class) == 2:
        found = per_class[1]
        share = found["support"] / sum(row["support"] for row in per_class)
        always = 2 * share / (1 + share) if base["class_name"] == found["class_name"] else 0.0
        figures.append(Figure(f"F1 of {found['class_name']}", found["f1"], name, always, key="positive_f1"))
    if report.get("roc_auc") is not None:
        figures.append(Figure("ROC AUC", report["roc_auc"], name, 0.5, key="roc_auc"))
    return [*figures, *abstention.figures(report)]


def summary_with_steps(report: Mapping[str, Any]) -> str:
    """Returns the summary, with an additional line for models with an output at every step."""
    lines = [summary(dict(report))]
    if "step_accuracy" in report:
        lines.append(f"step accuracy      {report['step_accuracy']:.4f}  over the outputs after every step")
    return "\n".join(lines)


PLOTS = {
    "confusion_matrix": plots.plot_confusion_matrix,
    "reliability": plots.plot_reliability,
    "threshold_curves": plot_threshold_curves,
}

register_report("classification", ReportKind(evaluate_classes, summary_with_steps, headline, PLOTS, measure))
