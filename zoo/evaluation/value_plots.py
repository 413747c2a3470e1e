"""Plots of a report of values: predicted against actual values, and residuals against predicted values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from zoo.display import number_text
from zoo.evaluation.plots import DOTS_PER_INCH, GREY, SKY_BLUE, VERMILION, png_path, write_figure


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


def _draw_targets(
    report: Mapping[str, Any],
    path: str | os.PathLike[str],
    draw: Callable[[Any, np.ndarray, np.ndarray], None],
) -> None:
    """Draws a panel for each target with samples, at most two in a row."""
    path = png_path(path)
    from matplotlib.figure import Figure

    count = len(report["samples"])
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(5.6 * columns, 4.8 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    for axes, target, samples in zip(panels, report["targets"], report["samples"], strict=False):
        true, predicted = (np.asarray(samples[key], np.float64) for key in ("true", "predicted"))
        draw(axes, true, predicted)
        shown = f", {len(true):,} of {target['count']:,} shown" if len(true) < target["count"] else ""
        # parse_math is off, because a target may be named "$".
        axes.set_title(
            f"{target['name']}: MAE {number_text(target['mae'], '.4g')}, {target['count']:,} values{shown}",
            fontsize=11,
            parse_math=False,
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(color="0.9", linewidth=0.8)
        axes.tick_params(labelsize=10)
    write_figure(figure, path)
