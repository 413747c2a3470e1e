"""How a classifier that abstains does: share and accuracy of its answers, and examples that belong to none of its classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.display import number_text
from zoo.evaluation.discrimination import roc_areas
from zoo.evaluation.intervals import bootstrap, mean, with_interval
from zoo.evaluation.prediction import predict_split
from zoo.evaluation.reports import Figure, Report
from zoo.tasks.abstention import ANSWERS, last_steps, least_answers, threshold_of

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

Array = NDArray[np.float64]


def answer_report(targets: Any, probabilities: Any, decided: Mapping[str, Any], weights: Any = None) -> Report:
    """Returns the metrics of the answers of a model that abstains; nothing for a model that was not asked to.

    Args:
        targets: class numbers, (examples,).
        probabilities: (examples, classes).
        decided: what the task decided on the validation split.
        weights: one per example, not negative; None for equal ones.

    Returns:
        `abstention`: what was decided, see `zoo.tasks.abstention.decided_answers`; `answers`, a sentence on it. If a
        probability was found also `answer_coverage`, the share of the examples that are answered, and `answer_accuracy`, the
        share of these that are right, None if none is answered; and in `intervals` the 95 % bootstrap interval of each.

    Example:
        >>> decided = {"answers": {"accuracy": 0.9, "threshold": 0.6, "coverage": 0.5, "reached": 0.95, "examples": 100}}
        >>> answer_report([0, 1], [[0.9, 0.1], [0.55, 0.45]], decided)["answer_coverage"]
        0.5
    """
    if ANSWERS not in decided:
        return {}
    report: Report = {"abstention": dict(decided[ANSWERS])}
    threshold = threshold_of(decided)
    if threshold is None:
        return {**report, "answers": "; ".join(describe(report))}
    found = np.asarray(probabilities, np.float32)
    weight = np.ones(len(found)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    answered = (found.max(axis=-1) >= np.float32(threshold)).astype(np.float64)
    right = answered * (found.argmax(axis=-1) == np.asarray(targets).reshape(-1))
    total = float(weight @ answered)
    report["answer_coverage"] = total / float(weight.sum())
    report["answer_accuracy"] = float(weight @ right) / total if total else None

    def statistics(counts: Array) -> dict[str, Array]:
        coverage = mean(counts, weight * answered, weight)
        return {"answer_coverage": coverage} | (
            {"answer_accuracy": mean(counts, weight * right, weight * answered)} if total else {}
        )

    report["intervals"] = bootstrap(len(found), statistics)
    return {**report, "answers": "; ".join(describe(report))}


def out_of_scope_report(known: Any, others: Any, decided: Mapping[str, Any]) -> Report:
    """Returns how well the probability of the best class tells examples of the classes from those of no class.

    Args:
        known: probabilities of the examples of the split, (examples, classes).
        others: probabilities of the out-of-scope examples, (others, classes).
        decided: what the task decided on the validation split.

    Returns:
        `out_of_scope_examples`, their number; `out_of_scope_auroc`: the area under the ROC curve, where an example counts
        as out of scope the more, the less probable its best class is; and for a model that abstains `out_of_scope_recall`,
        the share of the out-of-scope examples that are not answered. Source of the score: Hendrycks and Gimpel, A baseline
        for detecting misclassified and out-of-distribution examples, ICLR 2017.

    Example:
        >>> out_of_scope_report([[0.9, 0.1]], [[0.5, 0.5]], {})["out_of_scope_auroc"]
        1.0
    """
    inside, outside = (np.asarray(part, np.float32).max(axis=-1) for part in (known, others))
    scores = -np.concatenate([inside, outside]).astype(np.float64)
    is_outside = np.arange(len(scores)) >= len(inside)
    report: Report = {
        "out_of_scope_examples": len(outside),
        "out_of_scope_auroc": float(roc_areas(scores, is_outside)(np.ones((1, len(scores))))[0]),
    }
    if (threshold := threshold_of(decided)) is not None:
        report["out_of_scope_recall"] = float((outside < np.float32(threshold)).mean())
    return report


def out_of_scope_probabilities(model: keras.Model, data: Prepared, split: str, batch_size: int) -> Any:
    """Returns the probabilities of the out-of-scope examples of a split, (others, classes); None if it has none."""
    part = data.data.out_of_scope.get(split)
    if part is None:
        return None
    others = dataclasses.replace(data, data=dataclasses.replace(data.data, splits={split: part}))
    _, predictions, weights = predict_split(model, others, split, batch_size)
    found = predictions["probabilities"]
    return last_steps(found, weights[str(data.task.classes)]) if found.ndim == 3 else found


def lines(report: Mapping[str, Any]) -> list[str]:
    """Returns lines on answers and out-of-scope examples for a terminal; none for a report without them.

    Example:
        >>> lines({"out_of_scope_examples": 100, "out_of_scope_auroc": 0.9})
        ['out of scope       100 examples: AUROC 0.9000 by the probability of the best class']
    """
    found = []
    if "abstention" in report:
        first, *others = describe(report)
        found = [f"answers            {first}", *(f"{'':<19}{line}" for line in others)]
    if "out_of_scope_examples" in report:
        recall = f", {report['out_of_scope_recall']:.4f} not answered" if "out_of_scope_recall" in report else ""
        found.append(
            f"out of scope       {report['out_of_scope_examples']:,} examples: AUROC {report['out_of_scope_auroc']:.4f} by "
            f"the probability of the best class{recall}"
        )
    return found


def describe(report: Mapping[str, Any]) -> list[str]:
    """Returns phrases on the answers of a model that abstains: on this split, and on validation, where the probability was
    chosen; or why the model answers always."""
    chosen = report["abstention"]
    wanted, share = number_text(chosen["accuracy"], ".4g"), f"{chosen['coverage']:.4f}"
    if chosen["threshold"] is None:
        few = f", which needs {least_answers(chosen['accuracy'])} answers" if _has_few(chosen) else ""
        return [
            f"every example, because no probability gives an accuracy of {wanted} on validation{few}",
            f"the most accurate answers there: {share} of {chosen['examples']:,} examples, {chosen['reached']:.4f} right",
        ]
    right = f", {with_interval(report, 'answer_accuracy')} of these right" if report["answer_coverage"] else ""
    return [
        f"{with_interval(report, 'answer_coverage')} of the examples{right}",
        f"on validation {share}, {chosen['reached']:.4f} of these right, wanted {wanted}",
        f'"unknown" below the probability {chosen["threshold"]:.4f}, which was chosen on validation',
    ]


def _has_few(chosen: Mapping[str, Any]) -> bool:
    return bool(chosen["examples"] < least_answers(chosen["accuracy"]))


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """Returns the metrics of answers and out-of-scope examples that a report has, for a table of results."""
    named = {
        "coverage of the answers": "answer_coverage",
        "accuracy of the answers": "answer_accuracy",
        "out-of-scope AUROC": "out_of_scope_auroc",
        "out-of-scope recall": "out_of_scope_recall",
    }
    counts = {key: report.get("out_of_scope_examples") for key in ("out_of_scope_auroc", "out_of_scope_recall")}
    return [
        Figure(metric, report[key], count=counts.get(key), key=key)
        for metric, key in named.items()
        if report.get(key) is not None
    ]
