"""Report of a classifier: accuracy next to a baseline, calibration, and metrics of every class, as a plain dict.

It works on NumPy arrays and anything that converts to them, with one class per example or one per step (tagging).
All metrics can be recomputed from the targets and probabilities; nothing is averaged over batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import UsageError
from zoo.evaluation import plots
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.reports import Figure, Report, ReportKind, register_report

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

LOG_LOSS_CLIP = 1e-7
CALIBRATION_BINS = 15
SUM_TOLERANCE = 1e-3


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

    true, probable, weight = _real_elements(np.asarray(targets), np.asarray(probabilities), weights)
    num_classes = probable.shape[1]
    names = _checked_names(class_names, num_classes)

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
    return {
        "num_examples": len(true),
        "accuracy": float(np.average(correct, weights=weight)),
        "macro_f1": macro["f1"],
        "log_loss": _log_loss(probable[np.arange(len(true)), true], weight),
        "expected_calibration_error": calibration_error,
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
        Lines without a final newline: accuracy and log loss next to their baselines, macro F1, calibration error, and
        up to three of the most frequent confusions.

    Example:
        >>> print(summary(classification_report([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], ["cat", "dog"])))
        accuracy           0.6667  (baseline 0.6667: always "dog", from the evaluated targets)
        macro F1           0.6667
        log loss           0.5108  (baseline 0.6365)
        calibration error  0.3333
        measured on        3 examples, 2 classes
        confused most often
          dog predicted as cat: 1 time
    """
    baseline, names = report["baseline"], report["class_names"]
    lines = [
        f"accuracy           {report['accuracy']:.4f}  (baseline {baseline['accuracy']:.4f}: "
        f'always "{baseline["class_name"]}", from the {baseline["from"]})',
        f"macro F1           {report['macro_f1']:.4f}",
        f"log loss           {report['log_loss']:.4f}  (baseline {baseline['log_loss']:.4f})",
        f"calibration error  {report['expected_calibration_error']:.4f}",
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


def _real_elements(
    targets: NDArray[Any], probabilities: NDArray[Any], weights: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Check and flatten elements with a weight: targets `(m,)`, probabilities `(m, num_classes)`, weights `(m,)`."""
    if targets.size == 0 and probabilities.size == 0:
        raise UsageError("Nothing to evaluate: targets and probabilities are empty. Check that the split has examples.")
    if targets.ndim == 0 or probabilities.ndim < 2 or probabilities.shape[:-1] != targets.shape:
        if targets.shape == probabilities.shape and targets.ndim > 1:
            hint = "One-hot targets become class numbers with targets.argmax(axis=-1)."
        else:
            hint = "Pass one class number per row of probabilities."
        raise UsageError(
            f"targets of shape {targets.shape} and probabilities of shape {probabilities.shape} do not fit: expected "
            f"targets (n,) with probabilities (n, num_classes), or (n, steps) with (n, steps, num_classes). {hint}"
        )
    if probabilities.shape[-1] < 2:
        raise UsageError(
            f"probabilities have shape {probabilities.shape}, expected at least 2 columns, one per class. "
            "Pass numpy.concatenate([1 - p, p], axis=-1) for a single sigmoid output p."
        )
    if not np.issubdtype(targets.dtype, np.integer):
        raise UsageError(
            f"targets have dtype {targets.dtype}, expected integers: column numbers of probabilities. "
            "Map names with class_names.index, or convert whole numbers with targets.astype('int64')."
        )
    weight = np.ones(targets.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != targets.shape:
        raise UsageError(
            f"weights have shape {weight.shape}, expected the shape of targets, {targets.shape}. Pass one weight for "
            "each element, 0 where it is padding."
        )
    bad = ~(np.isfinite(weight) & (weight >= 0)).ravel()
    if bad.any():
        first = int(bad.argmax())
        raise UsageError(
            f"weights hold {weight.ravel()[first]} at index {_index(first, weight.shape)}, expected finite numbers "
            "that are not negative. Pass 0 for padding, 1 for real elements."
        )
    real = np.flatnonzero(weight)
    if real.size == 0:
        raise UsageError(
            f"Nothing to evaluate: all {weight.size} weights are 0. Weight 0 marks padding; "
            "give real elements weight 1."
        )
    return (
        _checked_targets(targets, real, probabilities.shape[-1]),
        _checked_probabilities(probabilities, real),
        weight.ravel()[real],
    )


def _checked_targets(targets: NDArray[Any], real: NDArray[np.intp], num_classes: int) -> NDArray[np.int64]:
    true = targets.ravel()[real]
    bad = (true < 0) | (true >= num_classes)
    if bad.any():
        first = int(bad.argmax())
        raise UsageError(
            f"targets hold {true[first]} at index {_index(real[first], targets.shape)}, expected 0 to "
            f"{num_classes - 1}, as probabilities have {num_classes} columns ({int(bad.sum())} target(s) are outside). "
            "If it marks padding, give it weight 0; otherwise the model was built for other classes."
        )
    return true.astype(np.int64)


def _checked_probabilities(probabilities: NDArray[Any], real: NDArray[np.intp]) -> NDArray[np.float64]:
    num_classes = probabilities.shape[-1]
    probable = probabilities.reshape(-1, num_classes)[real].astype(np.float64)
    bad = ~np.isfinite(probable)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        first = int(real[row]) * num_classes + int(column)
        raise UsageError(
            f"probabilities hold {probable[row, column]} at index {_index(first, probabilities.shape)}, expected "
            "finite numbers. The model diverged or its input has such values: look for the first epoch whose loss is not "
            "finite."
        )
    sums = probable.sum(axis=1)
    no_distribution = (abs(sums - 1) > SUM_TOLERANCE) | (probable.min(axis=1) < -SUM_TOLERANCE)
    if no_distribution.any():
        row = int(no_distribution.argmax())
        raise UsageError(
            f"probabilities at index {_index(real[row], probabilities.shape[:-1])} sum to {sums[row]:.4g} with "
            f"smallest value {probable[row].min():.4g}, expected non-negative values that sum to 1 (tolerance "
            f"{SUM_TOLERANCE}). These look like logits: apply a softmax, or build the model with "
            "classifier_activation='softmax'."
        )
    return probable.clip(0.0, 1.0)


def _checked_names(class_names: Sequence[str], num_classes: int) -> list[str]:
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise UsageError(
            f"class_names is {class_names!r}, expected a list of strings, one per class. "
            "Convert numbers with [str(name) for name in class_names], bytes with name.decode()."
        )
    names = [str(name) for name in class_names]  # converts NumPy's strings
    if len(names) != num_classes:
        raise UsageError(
            f"class_names has {len(names)} names, but probabilities have {num_classes} columns: expected one name per "
            "column. Pass the names of the data set that the model was built for."
        )
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            raise UsageError(
                f"class_names holds {name!r} twice, at {seen[name]} and {index}: expected different names, so that "
                "the report can distinguish the classes. Rename one of them."
            )
        seen[name] = index
    return names


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


def _index(flat: int | np.intp, shape: tuple[int, ...]) -> str:
    """The index of element number `flat` of an array of this shape: '7', or '(2, 5)'."""
    index = [int(i) for i in np.unravel_index(int(flat), shape)]
    return str(index[0]) if len(index) == 1 else str(tuple(index))


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
        last = weight.shape[1] - 1 - np.argmax(weight[:, ::-1] > 0, axis=1)
        rows = np.arange(len(last))
        labels, probabilities, weight = labels[rows, last], probabilities[rows, last], None
    # Other data for a run whose own cannot be loaded has no training split.
    counts = data.target_counts("train") if "train" in data.data.splits else None
    names = data.data.class_names
    report = classification_report(labels, probabilities, names, weights=weight, train_class_counts=counts)
    return {**report, **steps}


def headline(report: Report) -> list[Figure]:
    """Returns the accuracy next to that of the most frequent class, and for two classes the F1 of the positive class."""
    base = report["baseline"]
    figures = [Figure("accuracy", report["accuracy"], "the most frequent class", base["accuracy"])]
    if len(report["per_class"]) == 2:
        found = report["per_class"][1]  # the second of two classes is the positive one, as in ham and spam
        figures.append(Figure(f"F1 of {found['class_name']}", found["f1"]))
    return figures


def summary_with_steps(report: Mapping[str, Any]) -> str:
    """Returns the summary, with an additional line for models with an output at every step."""
    lines = [summary(dict(report))]
    if "step_accuracy" in report:
        lines.append(f"step accuracy      {report['step_accuracy']:.4f}  over the outputs after every step")
    return "\n".join(lines)


PLOTS = {"confusion_matrix": plots.plot_confusion_matrix, "reliability": plots.plot_reliability}

register_report("classification", ReportKind(evaluate_classes, summary_with_steps, headline, PLOTS))
