"""Quantiles in the report of values: pinball loss, coverage and width of the interval, next to the training quantiles."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.display import interval_text, number_text
from zoo.errors import UsageError
from zoo.evaluation.intervals import mean, with_interval
from zoo.evaluation.reports import Figure
from zoo.tasks.quantiles import percent, pinball, widest

Array = NDArray[np.float64]
KEYS = ("pinball", "coverage", "interval_width")
_BASELINE = "the training quantiles"
_MOST_LINES = 10
_short = functools.partial(number_text, form=".4g")


def checked(quantiles: ArrayLike, levels: Sequence[float], shape: tuple[int, ...], weight: Array) -> Array:
    """Returns predicted quantiles as float64 (n, targets, levels).

    Args:
        quantiles: in the units of the targets.
        levels: their levels.
        shape: of the targets, (n, targets).
        weight: of the targets, in their shape.

    Raises:
        UsageError: they have another shape, or are not finite.
    """
    found = np.asarray(quantiles, np.float64)
    if found.shape != (*shape, len(levels)):
        raise UsageError(
            f"quantiles have shape {found.shape}; expected {(*shape, len(levels))}, a number for each of {list(levels)} of "
            "every target. Pass what the model predicts for them."
        )
    if not np.isfinite(found[weight > 0]).all():
        raise UsageError("quantiles hold NaN or infinity. Look for the first epoch whose loss is not finite.")
    return found


def figures(true: Array, quantiles: Array, weight: Array, train: Array, levels: Sequence[float]) -> dict[str, Any]:
    """Returns the metrics of the quantiles of one target.

    Args:
        true: the actual values, (n,).
        quantiles: predicted, (n, levels).
        weight: of the examples, (n,), above 0.
        train: the values of the training split, whose quantiles are the baseline.
        levels: between 0 and 1, ascending.

    Returns:
        `pinball`, the mean pinball loss over the levels; `coverage`, the share of values inside the widest symmetric
        interval, and `interval_width`, its mean width, both only if there is such an interval; `quantiles`: for each level
        `level`, `pinball`, `below`, the share of values at or below the prediction, and `baseline`, {"value", "pinball"};
        `interval`: its two levels; and `baseline`, the first three of always predicting the training quantiles.
    """
    always = np.quantile(train, levels)
    ours, theirs = (means(true, part, weight, levels) for part in (quantiles, np.tile(always, (len(true), 1))))
    rows = [
        {
            "level": level,
            **ours["rows"][k],
            "baseline": {"value": float(always[k]), "pinball": theirs["rows"][k]["pinball"]},
        }
        for k, level in enumerate(levels)
    ]
    ends = widest(levels)
    between = {"interval": [levels[end] for end in ends]} if ends else {}
    top = {key: ours[key] for key in KEYS if key in ours}
    return {**top, **between, "quantiles": rows, "baseline": {key: theirs[key] for key in KEYS if key in theirs}}


def means(true: Array, quantiles: Array, weight: Array, levels: Sequence[float]) -> dict[str, Any]:
    """Returns `pinball`, `coverage` and `interval_width`, as `figures` does, and `rows`, for each level its `pinball` and
    `below`."""
    losses = np.average(pinball(true, quantiles, levels), axis=0, weights=weight)
    below = np.average(true[:, np.newaxis] <= quantiles, axis=0, weights=weight)
    found: dict[str, Any] = {
        "pinball": float(losses.mean()),
        "rows": [{"pinball": float(loss), "below": float(share)} for loss, share in zip(losses, below, strict=True)],
    }
    if ends := widest(levels):
        low, high = (quantiles[:, end] for end in ends)
        inside = (low <= true) & (true <= high)
        found |= {
            "coverage": float(np.average(inside, weights=weight)),
            "interval_width": float(np.average(high - low, weights=weight)),
        }
    return found


def statistics(
    counts: Array, true: Array, quantiles: Array, weight: Array, levels: Sequence[float]
) -> dict[str, Array]:
    """Returns `pinball`, `coverage` and `interval_width` of one target in every sample of `bootstrap`, (samples,)."""
    parts = {"pinball": pinball(true, quantiles, levels).mean(axis=1)}
    if ends := widest(levels):
        low, high = (quantiles[:, end] for end in ends)
        parts |= {"coverage": ((low <= true) & (true <= high)).astype(np.float64), "interval_width": high - low}
    return {key: mean(counts, part * weight, weight) for key, part in parts.items()}


def headline(target: Mapping[str, Any], name: str = "") -> list[Figure]:
    """Returns the figures of a target's quantiles; none for a target without quantiles.

    Args:
        target: an entry of the report's `targets`.
        name: the target's name, if there are several.
    """
    of, base = f" of {name}" if name else "", target["baseline"]
    found = []
    for key in KEYS:
        if key in target:
            metric = {
                "pinball": f"pinball loss{of}",
                "coverage": f"coverage{of}, expected {expected(target):g}" if key == "coverage" else "",
                "interval_width": f"interval width{of}",
            }[key]
            lower = key != "coverage"
            count = target["count"] if name else None
            found.append(
                Figure(metric, target[key], _BASELINE, base[key], count, key=f"{key}{of}", higher_is_better=not lower)
            )
    return found


def expected(target: Mapping[str, Any]) -> float:
    """Returns the share of values that the interval of a target should contain."""
    low, high = target["interval"]
    return round(high - low, 9)


def lines(report: Mapping[str, Any]) -> list[str]:
    """Returns the quantiles of a `value_report` as lines of text for the terminal; none for a report without quantiles."""
    first = report["targets"][0]
    if "quantiles" not in first:
        return []
    if len(report["targets"]) > 1:
        return _of_several(report)
    base = report["baseline"]
    found = [
        f"pinball loss {with_interval(report, 'pinball', '.4g')}  "
        f"(baseline {_short(base['pinball'])}: the quantiles of the {report['baseline_from']})"
    ]
    if "interval" in first:
        found.append(
            f"{_between(first):<12} {with_interval(report, 'coverage')} of the values inside, expected {expected(first):g}"
            f"  (baseline {_short(base['coverage'])})"
        )
        found.append(
            f"mean width   {with_interval(report, 'interval_width', '.4g')}  (baseline {_short(base['interval_width'])})"
        )
    rows = [["quantile", "pinball loss", "baseline", "values at or below"]]
    for row in first["quantiles"][:_MOST_LINES]:
        shown = [_short(row["pinball"]), _short(row["baseline"]["pinball"]), f"{row['below']:.4f}"]
        rows.append([f"{percent(row['level'])} %", *shown])
    more = len(first["quantiles"]) - _MOST_LINES
    origin = [f"quantiles    {report['quantiles_from']}"] if "quantiles_from" in report else []
    return [*found, *aligned(rows), *([f"... {more} more"] if more > 0 else []), *origin, *_of_baselines(report)]


def _of_baselines(report: Mapping[str, Any]) -> list[str]:
    """Returns a line for every fitted baseline with quantiles."""
    found = []
    for entry in report.get("baselines", ()):
        if "pinball" in entry:
            more = (
                f", {entry['coverage']:.4f} inside, mean width {_short(entry['interval_width'])}"
                if "coverage" in entry
                else ""
            )
            found.append(f"quantiles of {entry['name']}: pinball loss {_short(entry['pinball'])}{more}")
    return found


def _of_several(report: Mapping[str, Any]) -> list[str]:
    """Returns a line for each of the first targets, below a line with the names of the metrics."""
    targets = report["targets"]
    between = "interval" in targets[0]
    head = [f"inside {_between(targets[0])}", "", "mean width", ""] if between else []
    rows = [["target", "pinball loss", "", *head]]
    for target in targets[:_MOST_LINES]:
        base = target["baseline"]
        cells = [_short(target["pinball"]), f"({_short(base['pinball'])})"]
        if between:
            ends = interval_text(report.get("intervals", {}).get(f"coverage of {target['name']}"))
            cells += [f"{target['coverage']:.4f} {ends}".rstrip(), f"({_short(base['coverage'])})"]
            cells += [_short(target["interval_width"]), f"({_short(base['interval_width'])})"]
        rows.append([target["name"], *cells])
    more = len(targets) - _MOST_LINES
    note = f"in brackets: always the quantiles of the {report['baseline_from']}"
    note += f"; those of the model are {report['quantiles_from']}" if "quantiles_from" in report else ""
    said = [f"{note}; expected inside: {expected(targets[0]):g}" if between else note]
    return [*aligned(rows), *([f"... {more} more"] if more > 0 else []), *said]


def _between(target: Mapping[str, Any]) -> str:
    low, high = target["interval"]
    return f"{percent(low)} to {percent(high)} %"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows of cells as lines of text with columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
