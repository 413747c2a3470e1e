"""Quantiles in the report of forecasts: pinball loss, coverage and width of the interval, also of simple methods."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.display import number_text
from zoo.evaluation import quantiles as of_quantiles
from zoo.evaluation.intervals import mean, sums, with_interval
from zoo.evaluation.reports import Figure
from zoo.tasks.quantiles import decided_shifts, percent

Array = NDArray[np.float64]
_MOST_LINES = 10
_short = functools.partial(number_text, form=".4g")


def figures(true: Array, quantiles: ArrayLike, levels: Sequence[float]) -> dict[str, Any]:
    """Returns the metrics of forecast quantiles over all windows and steps.

    Args:
        true: the actual values, (windows, horizon).
        quantiles: (windows, horizon, levels), in the same unit.
        levels: between 0 and 1, ascending.

    Returns:
        `pinball`, the mean pinball loss over steps and levels; `coverage`, the share of values inside the widest symmetric
        interval, `interval_width`, its mean width, `interval`, its two levels, and `coverage_per_step`, for 1 to horizon
        steps ahead, these four only if there is such an interval; `quantiles`: for each level `level`, `pinball`, and
        `below`, the share of values at or below the forecast.

    Raises:
        UsageError: the quantiles have another shape, or are not finite.

    Example:
        >>> found = figures(np.array([[2.0], [5.0]]), [[[1.0, 3.0]], [[1.0, 3.0]]], [0.1, 0.9])
        >>> found["coverage"], round(found["pinball"], 3)
        (0.5, 0.6)
    """
    held = of_quantiles.checked(quantiles, levels, true.shape, np.ones(true.shape))
    flat = true.ravel(), held.reshape(-1, len(levels))
    found = of_quantiles.means(*flat, np.ones(true.size), levels)
    rows = [{"level": level, **row} for level, row in zip(levels, found.pop("rows"), strict=True)]
    if ends := of_quantiles.widest(levels):
        found["interval"] = [levels[end] for end in ends]
        found["coverage_per_step"] = [float(share) for share in _inside(true, held, ends).mean(axis=0)]
    return {**found, "quantiles": rows}


def of_forecasts(
    forecasts: ArrayLike, known_forecasts: ArrayLike, known_true: ArrayLike, levels: Sequence[float]
) -> Array:
    """Returns quantiles of a method that has only forecasts, (windows, horizon, levels): for each step the forecast plus the
    quantile of its errors on other windows, as `zoo.tasks.quantiles.decided_shifts` determines it.

    Args:
        forecasts: (windows, horizon).
        known_forecasts: those of the other windows, which the method was not fitted to, (others, horizon).
        known_true: the actual values of these.
        levels: between 0 and 1, ascending.

    Example:
        >>> of_forecasts([[10.0]], [[1.0], [1.0], [1.0]], [[0.0], [2.0], [3.0]], [0.5]).tolist()
        [[[11.0]]]
    """
    repeated = np.repeat(np.asarray(known_forecasts, np.float64)[..., np.newaxis], len(levels), axis=-1)
    shifts = np.array(decided_shifts(known_true, repeated, tuple(levels)))
    return np.sort(np.asarray(forecasts, np.float64)[..., np.newaxis] + shifts, axis=-1)


def block_means(
    counts: Array, blocks: Array, sizes: Array, true: Array, quantiles: Array, levels: Sequence[float]
) -> dict[str, Array]:
    """Returns `pinball`, `coverage` and `interval_width` in every sample of `bootstrap`, which draws blocks of windows.

    Args:
        counts: how often each block is drawn, (samples, blocks).
        blocks: the block of each window, (windows,).
        sizes: the number of windows of each block.
        true: (windows, horizon).
        quantiles: (windows, horizon, levels).
        levels: between 0 and 1, ascending.
    """
    flat = of_quantiles.pinball(true.ravel(), quantiles.reshape(-1, len(levels)), levels)
    parts = {"pinball": flat.mean(axis=1).reshape(true.shape).mean(axis=1)}
    if ends := of_quantiles.widest(levels):
        parts["coverage"] = _inside(true, quantiles, ends).mean(axis=1)
        parts["interval_width"] = (quantiles[..., ends[1]] - quantiles[..., ends[0]]).mean(axis=1)
    return {key: mean(counts, sums(part, blocks, len(sizes)), sizes) for key, part in parts.items()}


def _inside(true: Array, quantiles: Array, ends: tuple[int, int]) -> Array:
    low, high = (quantiles[..., end] for end in ends)
    return np.asarray((low <= true) & (true <= high), np.float64)


def headline(report: Mapping[str, Any]) -> list[Figure]:
    """Returns the figures of the quantiles, next to each naive forecast; none for a report without quantiles."""
    found = []
    for key in of_quantiles.KEYS:
        if key in report:
            name = {
                "pinball": "pinball loss",
                "coverage": f"coverage, expected {of_quantiles.expected(report):g}" if key == "coverage" else "",
                "interval_width": "interval width",
            }[key]
            options: dict[str, Any] = {"key": key, "higher_is_better": key == "coverage"}
            beside = [
                Figure(name, report[key], naive["name"], naive[key], **options)
                for naive in report["naive"]
                if key in naive
            ]
            found += beside or [Figure(name, report[key], **options)]
    return found


def lines(report: Mapping[str, Any]) -> list[str]:
    """Returns the quantiles of a `regression_report` as lines of text for the terminal; none for a report without them."""
    if "quantiles" not in report:
        return []
    rivals = [entry for entry in (*report["naive"], *report.get("baselines", ())) if "pinball" in entry]
    best = min(rivals, key=lambda rival: rival["pinball"]) if rivals else None
    beside = f"  (best simple method {_short(best['pinball'])}: {best['name']})" if best else ""
    found = [f"pinball loss {with_interval(report, 'pinball', '.4g')}{beside}"]
    if "interval" in report:
        low, high = report["interval"]
        others = (f"  ({best['coverage']:.4f})", f"  ({_short(best['interval_width'])})") if best else ("", "")
        found.append(
            f"{f'{percent(low)} to {percent(high)} %':<12} {with_interval(report, 'coverage')} of the values inside, "
            f"expected {of_quantiles.expected(report):g}{others[0]}"
        )
        found.append(f"mean width   {with_interval(report, 'interval_width', '.4g')}{others[1]}")
    rows = [["quantile", "pinball loss", "values at or below"]]
    for row in report["quantiles"][:_MOST_LINES]:
        rows.append([f"{percent(row['level'])} %", _short(row["pinball"]), f"{row['below']:.4f}"])
    more = len(report["quantiles"]) - _MOST_LINES
    origin = [f"quantiles    {report['quantiles_from']}"] if "quantiles_from" in report else []
    return [*found, *of_quantiles.aligned(rows), *([f"... {more} more"] if more > 0 else []), *origin]
