"""Compares a model with baselines: fits those that apply, computes their metrics, and says who wins."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.display import number_text
from zoo.errors import one_line
from zoo.evaluation.baselines import Baseline, Columns, read_columns
from zoo.evaluation.reports import Figure, Report, ReportKind

if TYPE_CHECKING:
    from zoo.datasets.prepared import Prepared
    from zoo.datasets.raw import RawData

_MOST_EXAMPLES = 200_000
"""Maximum number of evaluated examples of a baseline; they are held in memory."""
_MOST_CLASSES = 10
"""Most methods fit a model to every class: with more classes, they are fitted to fewer examples in proportion, unless they
have a limit of their own."""


def compare(kind: ReportKind, data: Prepared, split: str, baselines: Mapping[str, Baseline]) -> Report:
    """Fits the baselines that apply to the training split, and computes their metrics on the evaluated split.

    Returns:
        `baselines`: for every baseline that applies its `name`, its metrics with the keys of the report; `fitted_to` and
        `evaluated`, the number of examples, each next to that of the split, `train_examples` and `examples`; or `failure`
        instead of all these. Nothing if none applies.
    """
    raw = data.data
    applying: list[tuple[str, Baseline]] = []
    found: list[dict[str, Any]] = []
    for name, baseline in baselines.items() if kind.measure is not None and "train" in raw.splits else ():
        try:
            if baseline.applies(raw):
                applying.append((name, baseline))
        except Exception as error:  # noqa: BLE001, the model's own metrics must not depend on a baseline
            found.append({"name": name, "failure": f"applies: {type(error).__name__}: {one_line(error)}"})
    if kind.measure is None or not (applying or found):
        return {}
    counts = {"train_examples": raw.splits["train"].num_examples, "examples": raw.splits[split].num_examples}
    read: dict[Any, tuple[Columns, Columns]] = {}
    for name, baseline in applying:
        entry: dict[str, Any] = {"name": name}
        try:
            reduce = baseline.reduce
            if reduce not in read:
                most = max(other.most_rows for _, other in applying if other.reduce is reduce)
                parts = ((raw.splits["train"], most), (raw.splits[split], _MOST_EXAMPLES))
                train, examples = (read_columns(part, limit, reduce) for part, limit in parts)
                read = {reduce: (train, examples)}  # only the last one, because of their size
            columns = read[reduce]
            predictions, rows = _predicted(baseline, *columns, raw, data.objective.quantiles)
            metrics = kind.measure(data, columns[1], predictions)
            numbers = {key: value for key, value in metrics.items() if isinstance(value, float)}
            entry |= {**numbers, "fitted_to": rows, "evaluated": min(counts["examples"], _MOST_EXAMPLES), **counts}
        except Exception as error:  # noqa: BLE001, the model's own metrics must not depend on a baseline
            entry["failure"] = f"{type(error).__name__}: {one_line(error)}"
        found.append(entry)
    return {"baselines": found}


def _predicted(
    baseline: Baseline, train: Columns, examples: Columns, raw: RawData, levels: Sequence[float]
) -> tuple[Mapping[str, Any], int]:
    """Returns the predictions of a baseline, and the number of training examples that it was fitted to."""
    from threadpoolctl import threadpool_limits

    total = len(next(iter(train.values())))
    labels = baseline.most_labels or _MOST_CLASSES * baseline.most_rows
    most = min(baseline.most_rows, labels // max(1, len(raw.class_names)))
    chosen = np.sort(np.random.default_rng(0).permutation(total)[:most])
    # One thread: on so few rows, threads of a busy machine wait for each other, which took ten times as long.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as an optimizer that has not converged
        fitted_to = {name: values[chosen] for name, values in train.items()}
        predictions = baseline.predict(fitted_to, examples, raw)
        if levels and baseline.quantiles is not None:
            predictions = {**predictions, "quantiles": baseline.quantiles(fitted_to, examples, raw, levels)}
        return predictions, len(chosen)


def completed(figures: Sequence[Figure], report: Mapping[str, Any]) -> list[Figure]:
    """Returns figures with their intervals, each followed by a figure for every baseline that has its metric."""
    found: list[Figure] = []
    for figure in figures:
        ends = report.get("intervals", {}).get(figure.key)
        found.append(dataclasses.replace(figure, interval=ends) if figure.key and ends else figure)
        for entry in report.get("baselines", ()):
            value = entry.get(figure.key) if figure.key else None
            known = any(other.metric == figure.metric and other.baseline == entry["name"] for other in found)
            if value is not None and not known:
                found.append(dataclasses.replace(found[-1], baseline=entry["name"], baseline_value=value))
    return found


def verdict(figures: Sequence[Figure], report: Mapping[str, Any]) -> str:
    """Returns a sentence on the first metric that baselines have: their values, and who is better. Empty without baselines.

    Example:
        >>> report = {"baselines": [{"name": "ridge regression", "mae": 2.5}], "split": "test"}
        >>> verdict([Figure("MAE", 2.25, "ridge regression", 2.5, key="mae", higher_is_better=False)], report)
        'MAE of ridge regression 2.5000: this model is better than ridge regression by 0.2500'
    """
    names = [entry["name"] for entry in report.get("baselines", ()) if "failure" not in entry]
    main = next((figure for figure in figures if figure.baseline in names), None)
    if main is None:
        return ""
    rivals = _rivals(main, figures)
    listed = ", ".join(
        f"{name} {number_text(rivals[name])}" for name in rivals if name in names or name == [*rivals][-1]
    )
    return f"{main.metric} of {listed}: {_standing(main, rivals, report)}"


def standing(figures: Sequence[Figure], report: Mapping[str, Any]) -> str:
    """Returns a sentence on the first metric: its value, and how it compares with the best of all baselines, the most
    frequent class or the mean included. Empty without a baseline.

    Example:
        >>> figures = [Figure("accuracy", 0.95, "the most frequent class", 0.5, interval=(0.93, 0.97))]
        >>> standing(figures, {"split": "test"})
        'accuracy 0.9500: this model is better than the most frequent class by 0.4500'
    """
    names = [entry["name"] for entry in report.get("baselines", ()) if "failure" not in entry]
    compared = [figure for figure in figures if figure.baseline_value is not None]
    main = next((figure for figure in compared if figure.baseline in names), compared[0] if compared else None)
    if main is None:
        return ""
    return f"{main.metric} {number_text(main.value)}: {_standing(main, _rivals(main, figures), report)}"


def _rivals(main: Figure, figures: Sequence[Figure]) -> dict[str, float]:
    """Returns the values of all baselines for a metric by their names, the best one last."""
    found = {f.baseline: f.baseline_value for f in figures if f.metric == main.metric and f.baseline_value is not None}
    return dict(sorted(found.items(), key=lambda item: item[1] if main.higher_is_better else -item[1]))


def _standing(main: Figure, rivals: Mapping[str, float], report: Mapping[str, Any]) -> str:
    """Returns a phrase on who is better, the model or the best baseline, and whether the split can tell them apart."""
    best, value = [*rivals.items()][-1]
    gap = (value - main.value) if main.higher_is_better else (main.value - value)
    if not gap:
        return f"this model is as good as {best}"
    low, high = main.interval or (main.value, main.value)
    split = report.get("split", "test")
    unsure = f", which is less than the uncertainty of this {split} split" if low <= value <= high else ""
    by = f"by {number_text(abs(gap))}{unsure}"
    if gap > 0:
        return f"{best} is better than this model {by}"
    others = ", the best of the baselines," if len(rivals) > 1 else ""
    return f"this model is better than {best}{others} {by}"


def notes(report: Mapping[str, Any]) -> list[str]:
    """Returns a line for every baseline that failed, or that saw only a part of a split."""
    lines = []
    for entry in report.get("baselines", ()):
        if "failure" in entry:
            lines.append(f"{entry['name']} failed: {entry['failure']}")
            continue
        if entry["fitted_to"] < entry["train_examples"]:
            part = f"{entry['fitted_to']:,} of {entry['train_examples']:,}"
            lines.append(f"{entry['name']} was fitted to {part} training examples")
        if entry["evaluated"] < entry["examples"]:
            lines.append(f"{entry['name']} was evaluated on {entry['evaluated']:,} of {entry['examples']:,} examples")
    return lines
