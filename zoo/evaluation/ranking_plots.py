"""Plots of a ranking report: errors of the predicted ratings, and the hit rate by the length of the list."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.evaluation.plots import DOTS_PER_INCH, SKY_BLUE, VERMILION, png_path, write_figure

BLUE = "#0072B2"


def plot_rating_errors(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws the errors of predicted ratings next to those of user and item biases, as PNG.

    Args:
        report: the result of `zoo.evaluation.ranking.ranking_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> plot_rating_errors(report, "plots/rating_errors.png")
    """
    path = png_path(path)
    if "errors" not in report:
        return  # no ratings
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.5), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    edges, counts = np.asarray(report["errors"]["edges"]), report["errors"]
    biases = report["baseline"]["biases"]["rmse"]
    axes.stairs(counts["model"], edges, fill=True, color=SKY_BLUE, label=f"model (RMSE {report['rmse']:.4f})")
    label = f"user and item biases (RMSE {biases:.4f})"
    axes.stairs(counts["biases"], edges, color=VERMILION, linewidth=1.5, label=label)
    axes.axvline(0, color="0.4", linewidth=1.0, linestyle="--")
    axes.set_xlabel("predicted rating minus rating", fontsize=11)
    axes.set_ylabel("ratings", fontsize=11)
    axes.set_title(f"Errors of {report['num_examples']:,} predicted ratings", fontsize=12)
    _finish(figure, axes)
    write_figure(figure, path)


def plot_hit_rate(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws the share of users with a hit by the length of the list, next to the most popular items, as PNG.

    Args:
        report: the result of `zoo.evaluation.ranking.ranking_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> plot_hit_rate(report, "plots/hit_rate.png")
    """
    path = png_path(path)
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.0, 4.5), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    curve = report["hit_rate_by_k"]
    axes.plot(curve["k"], curve["most_popular"], color=VERMILION, linestyle="--", label="most popular")
    axes.plot(curve["k"], curve["model"], color=BLUE, linewidth=2.2, label="model")
    axes.set_xlim(1, max(len(curve["k"]), 2))
    axes.set_ylim(0, max(0.01, *(1.1 * rate for name in ("model", "most_popular") for rate in curve[name])))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("recommended items (k)", fontsize=11)
    axes.set_ylabel("users with a held-out item among them", fontsize=11)
    users, items = report["num_users"], report["num_candidates"]
    axes.set_title(f"Hit rate of {users:,} users over {items:,} items", fontsize=12)
    _finish(figure, axes)
    write_figure(figure, path)


def _finish(figure: Any, axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.tick_params(labelsize=10)
    # Outside, because any corner may hold data.
    figure.legend(loc="outside lower center", ncols=2, fontsize=10, frameon=False)
