"""Precision, recall and F1 of entities, over all and by type, for tags that mark entities."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.evaluation.intervals import bootstrap, mean
from zoo.tasks.entities import Scheme

Places = set[tuple[str, int, int]]
"""The entities of a sentence: the type, and the places of the first and the last word or character."""


def entity_report(
    tags: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]], scheme: Scheme
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Scores entities: one is right if its type, its first and its last word are right.

    Args:
        tags: the true tag numbers of every sentence.
        predicted: the predicted ones. A sentence may have fewer of them: the model has not tagged the words after the last.
        scheme: the scheme of the tags.

    Returns:
        A dict for JSON: `scheme`, `precision`, `recall`, `f1`, `support` (true entities), `predicted` (predicted entities);
        and `by_type` with the same by the name of the type. A metric is 0 without entities. And the 95 % bootstrap interval
        of `entity_f1`, in which the entities of a sentence are drawn together.

    Example:
        >>> scheme = scheme_of(["B-PER", "I-PER", "O"])
        >>> entity_report([[0, 1, 2]], [[0, 1, 0]], scheme)[0]["precision"]
        0.5
    """
    expected, answered = ([_named(scheme, row) for row in rows] for rows in (tags, _cut(predicted, tags)))
    found, ends = span_report(expected, answered, "entity_f1")
    name = f"IOB{1 if scheme.is_iob1(tags) else 2}" if scheme.name == "IOB" else scheme.name
    return {"scheme": name, **found}, ends


def _named(scheme: Scheme, tags: Sequence[int]) -> Places:
    return {(scheme.types[kind], first, last) for kind, first, last in scheme.spans(tags)}


def _cut(predicted: Sequence[Sequence[int]], tags: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    return [found[: len(true)] for true, found in zip(tags, predicted, strict=True)]


def span_report(
    expected: Sequence[Places], answered: Sequence[Places], key: str
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Scores entities by their types and places, wherever these come from.

    Args:
        expected: the true entities of every sentence.
        answered: the predicted ones.
        key: the name of the F1 in the intervals.

    Returns:
        As `entity_report`, without the scheme.

    Example:
        >>> span_report([{("PER", 0, 1)}], [{("PER", 0, 1), ("LOC", 3, 4)}], "f1")[0]["precision"]
        0.5
    """
    counts = np.zeros((len(expected), 3))  # per sentence: right, predicted and true entities
    by_type: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0, 0])
    for row, (true, found) in enumerate(zip(expected, answered, strict=True)):
        for column, part in enumerate((true & found, found, true)):
            counts[row, column] = len(part)
            for kind, _, _ in part:
                by_type[kind][column] += 1
    right, answered_all, true_all = counts.T
    ends = bootstrap(len(expected), lambda drawn: {key: mean(drawn, 2 * right, answered_all + true_all)})
    types = {name: _metrics(*by_type[name]) for name in sorted(by_type)}
    return {**_metrics(*counts.sum(axis=0)), "by_type": types}, ends


def _metrics(right: float, predicted: float, true: float) -> dict[str, Any]:
    return {
        "precision": float(right / predicted) if predicted else 0.0,
        "recall": float(right / true) if true else 0.0,
        "f1": float(2 * right / (predicted + true)) if predicted + true else 0.0,
        "support": int(true),
        "predicted": int(predicted),
    }


def summary(report: Mapping[str, Any], baseline: str, baseline_value: float | None, title: str = "") -> str:
    """Returns an `entity_report` as a few lines of text for the terminal.

    Args:
        report: the report.
        baseline: the name of a baseline.
        baseline_value: its F1.
        title: the title of the first line; the scheme of the tags without one.
    """
    compared = "" if baseline_value is None else f"  ({baseline}: F1 {baseline_value:.4f})"
    lines = [title or f"entities ({report['scheme']})", *(f"  {name}" for name in report["by_type"])]
    width = max(19, *(len(line) + 2 for line in lines))
    rows = []
    for line, figures in zip(lines, (report, *report["by_type"].values()), strict=True):
        scores = "  ".join(f"{name} {figures[key]:.4f}" for name, key in _NAMES.items())
        rows.append(f"{line:<{width}}{scores}  of {figures['support']:,}{compared}")
        compared = ""
    return "\n".join(rows)


_NAMES = {"precision": "precision", "recall": "recall", "F1": "f1"}
