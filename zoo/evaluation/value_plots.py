"""Plots of a report of values: predicted against actual values, residuals, and intervals of quantiles."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.display import number_text
from zoo.evaluation.plots import DOTS_PER_INCH, GREY, SKY_BLUE, VERMILION, png_path, write_figure
from zoo.tasks.quantiles import percent

_LIGHT = "0.78"


def plot_predicted(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws predicted against actual values of the first targets of a `value_report` as PNG. Right predictions are on the
    dashed diagonal.

    Args:
        report: the result of `zoo.evaluation.values.value_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.values import value_report
        >>> plot_predicted(value_report([1.0, 2.0], [1.5, 1.8], ["price"]), "plots/predicted.png")
    """

    def draw(axes: Any, true: np.ndarray, predicted: np.ndarray) -> None:
        both = np.concatenate([true, predicted])
        ends = [float(both.min()), float(both.max())]
        axes.plot(ends, ends, linestyle="--", color=GREY, linewidth=1.2)
        axes.scatter(true, predicted, s=14, color=SKY_BLUE, edgecolor="white", linewidth=0.3)
        axes.set_xlabel("actual value", fontsize=11)
        axes.set_ylabel("predicted value", fontsize=11)

    _draw_targets(report, path, draw)


def plot_residuals(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws residuals, prediction minus target, against predicted values of the first targets of a `value_report` as PNG.

    The solid line is the bias. A slope or a curve of the points shows a relation that the model has not learned; a funnel
    shows errors that grow with the value, for which a logarithm of the target may help.

    Args:
        report: the result of `zoo.evaluation.values.value_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.values import value_report
        >>> plot_residuals(value_report([1.0, 2.0], [1.5, 1.8], ["price"]), "plots/residuals.png")
    """

    def draw(axes: Any, true: np.ndarray, predicted: np.ndarray) -> None:
        axes.axhline(0, linestyle="--", color=GREY, linewidth=1.2)
        axes.axhline(float(np.mean(predicted - true)), color=VERMILION, linewidth=1.4)
        axes.scatter(predicted, predicted - true, s=14, color=SKY_BLUE, edgecolor="white", linewidth=0.3)
        axes.set_xlabel("predicted value", fontsize=11)
        axes.set_ylabel("prediction minus target", fontsize=11)

    _draw_targets(report, path, draw)


def plot_quantiles(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws the interval of predicted quantiles and the actual values of the first targets of a `value_report` as PNG.

    Examples are sorted by their predicted value. Vertical lines reach from the lower to the upper quantile; actual values
    outside of them are orange. A report without an interval writes no file.

    Args:
        report: the result of `zoo.evaluation.values.value_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.values import value_report
        >>> quantiles = [[[0.5, 2.0]], [[1.0, 2.5]]]
        >>> report = value_report([1.0, 2.0], [1.5, 1.8], ["price"], levels=[0.1, 0.9], quantiles=quantiles)
        >>> plot_quantiles(report, "plots/quantiles.png")
    """
    if "low" not in report["samples"][0]:
        return
    low, high = report["targets"][0]["interval"]

    def draw(axes: Any, true: np.ndarray, predicted: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        order = np.argsort(predicted, kind="stable")
        places, true, low, high = np.arange(len(order)), true[order], low[order], high[order]
        outside = (true < low) | (true > high)
        axes.vlines(places, low, high, color=_LIGHT, linewidth=1.4)
        axes.scatter(places[~outside], true[~outside], s=12, color=SKY_BLUE, edgecolor="white", linewidth=0.3, zorder=3)
        axes.scatter(places[outside], true[outside], s=14, color=VERMILION, edgecolor="white", linewidth=0.3, zorder=3)
        axes.set_xlabel("examples, by predicted value", fontsize=11)
        axes.set_ylabel("actual value and interval", fontsize=11)

    def title(target: Mapping[str, Any]) -> str:
        return f"{100 * target['coverage']:.1f} % within {percent(low)} to {percent(high)} %"

    _draw_targets(report, path, draw, ("true", "predicted", "low", "high"), title)


def _mean_error(target: Mapping[str, Any]) -> str:
    return f"MAE {number_text(target['mae'], '.4g')}"


def _draw_targets(
    report: Mapping[str, Any],
    path: str | os.PathLike[str],
    draw: Callable[..., None],
    keys: Sequence[str] = ("true", "predicted"),
    title: Callable[[Mapping[str, Any]], str] = _mean_error,
) -> None:
    """Draws a panel for each target with samples, at most two in a row.

    Args:
        report: the report.
        path: the file to write.
        draw: draws a panel from its axes and the samples.
        keys: the keys of the samples.
        title: returns what the title says of a target, after its name.
    """
    path = png_path(path)
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    count = len(report["samples"])
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(5.6 * columns, 4.8 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    for axes, target, samples in zip(panels, report["targets"], report["samples"], strict=False):
        parts = [np.asarray(samples[key], np.float64) for key in keys]
        draw(axes, *parts)
        some = f"{len(parts[0]):,} of " if len(parts[0]) < target["count"] else ""
        # parse_math is off, because a target may be named "$".
        axes.set_title(
            f"{target['name']}: {title(target)}, {some}{target['count']:,} values",
            fontsize=11,
            parse_math=False,
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(color="0.9", linewidth=0.8)
        axes.tick_params(labelsize=10)
        for axis, values in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            axis.set_major_locator(MaxNLocator(5))  # long numbers would run into each other
            if 1e4 <= max(map(abs, values)) < 1e9:
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    write_figure(figure, path)
