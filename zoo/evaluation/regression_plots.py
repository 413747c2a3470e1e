"""Plots of a regression report: error by steps ahead next to naive forecasts, and forecasts next to actual values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from zoo.display import short_number
from zoo.errors import UsageError
from zoo.evaluation.plots import DOTS_PER_INCH, GREY, SKY_BLUE, VERMILION, png_path, write_figure

BLUE = "#0072B2"
# Okabe and Ito's palette, as in the other plots. Line styles distinguish the naive forecasts in grey print.
_NAIVE_STYLES = ((VERMILION, "--"), ("#009E73", "-."), (GREY, ":"), ("#CC79A7", (0, (5, 1, 1, 1))))


def plot_error_by_step(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws the mean absolute error at every step ahead of a `regression_report`, next to naive forecasts, as PNG.

    Args:
        report: the result of `zoo.evaluation.regression.regression_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.regression import regression_report
        >>> report = regression_report([[10, 12], [8, 6]], [[11, 12], [8, 5]], naive={"last": [[9, 9], [9, 9]]})
        >>> plot_error_by_step(report, "plots/error_by_step.png")
    """
    path = png_path(path)
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.0, 4.5), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    steps = np.arange(1, report["horizon"] + 1)
    marker = "o" if len(steps) <= 30 else None
    for i, naive in enumerate(report["naive"]):
        colour, style = _NAIVE_STYLES[i % len(_NAIVE_STYLES)]
        label = f"{naive['name']} ({short_number(naive['mae'])})"
        axes.plot(
            steps, naive["mae_per_step"], color=colour, linestyle=style, marker=marker, markersize=3.5, label=label
        )
    label = f"model ({short_number(report['mae'])})"
    axes.plot(steps, report["mae_per_step"], color=BLUE, linewidth=2.2, marker=marker, markersize=4.5, label=label)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("steps ahead", fontsize=11)
    axes.set_ylabel("mean absolute error" + (f" ({report['unit']})" if report["unit"] else ""), fontsize=11)
    skill = "" if report["skill"] is None else f", skill {report['skill']:.3f}"
    axes.set_title(f"Error by steps ahead, {report['num_examples']:,} windows{skill}", fontsize=12)
    _finish(axes)
    # Outside, because any corner may hold a line.
    figure.legend(loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    write_figure(figure, path)


def plot_forecasts(
    series: ArrayLike,
    targets: ArrayLike,
    predictions: ArrayLike,
    path: str | os.PathLike[str],
    *,
    unit: str = "",
    channel: str = "",
    count: int = 4,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
) -> None:
    """Draws a few windows with their forecasts and actual values, spread evenly over the examples, as PNG.

    Args:
        series: the quantity's windows, shape `(n, window)`; missing values are NaN.
        targets: the actual values, shape `(n, horizon)`.
        predictions: the forecasts, in the same shape.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.
        unit: unit of the quantity.
        channel: the name of the quantity.
        count: maximum number of windows to draw.
        low: lower ends of an interval of quantiles, in the shape of the forecasts; only with `high`.
        high: upper ends.

    Raises:
        ValueError: `path` does not end in `.png`.
        UsageError: shapes do not fit, or there are no examples.

    Example:
        >>> plot_forecasts([[1, 2, 3, 4]], [[5, 6]], [[5.2, 5.9]], "plots/forecasts.png", unit="bikes per hour")
    """
    path = png_path(path)
    from matplotlib.figure import Figure

    windows, true, guessed = (np.asarray(part, np.float64) for part in (series, targets, predictions))
    if windows.ndim != 2 or true.ndim != 2 or guessed.shape != true.shape or len(windows) != len(true) or not len(true):
        raise UsageError(
            f"series {windows.shape}, targets {true.shape} and predictions {guessed.shape} do not fit. "
            "Pass (n, window), (n, horizon) and (n, horizon)."
        )
    # Evenly and without the ends, because neighbouring windows overlap.
    chosen = np.unique((np.arange(count) + 0.5) / count * len(true) // 1).astype(int)
    figure = Figure(figsize=(8.0, 2.0 * len(chosen) + 0.9), dpi=DOTS_PER_INCH, layout="constrained")
    rows = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    past, ahead = np.arange(1 - windows.shape[1], 1), np.arange(1, true.shape[1] + 1)
    marker = "o" if len(ahead) <= 30 else None
    for axes, n in zip(rows, chosen, strict=True):
        axes.axvline(0.5, color="0.8", linewidth=1.0)
        axes.plot(past, windows[n], color=GREY, linewidth=1.2, label="window")
        axes.plot(ahead, true[n], color=SKY_BLUE, linewidth=2.2, marker=marker, markersize=4, label="actual")
        axes.plot(
            ahead,
            guessed[n],
            color=VERMILION,
            linewidth=1.6,
            linestyle="--",
            marker=marker,
            markersize=3,
            label="forecast",
        )
        if low is not None and high is not None:
            ends = np.asarray(low, np.float64)[n], np.asarray(high, np.float64)[n]
            axes.fill_between(ahead, *ends, color=VERMILION, alpha=0.2, linewidth=0, label="interval")
        error = np.abs(guessed[n] - true[n]).mean()
        axes.set_title(f"example {n}, mean absolute error {short_number(error)}", fontsize=10, loc="left")
        _finish(axes)
    rows[-1].set_xlabel("steps from the last known value", fontsize=11)
    figure.supylabel(f"{channel} ({unit})" if channel and unit else channel or unit, fontsize=11)
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=10, frameon=False)
    write_figure(figure, path)


def _finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.tick_params(labelsize=10)
