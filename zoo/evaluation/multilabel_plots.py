"""Plots of a report of several labels: the scores of every label, and the areas under their ROC curves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.evaluation.plots import DOTS_PER_INCH, GREY, SKY_BLUE, VERMILION, png_path, write_figure

_MOST_LABELS = 40
_LONGEST_NAME = 32


def plot_labels(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws the F1 score of the most frequent labels of a `multilabel_report` as PNG, with precision and recall.

    Labels are in the order of their number of examples, which is written next to their names.

    Args:
        report: the result of `zoo.evaluation.multilabel.multilabel_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.multilabel import multilabel_report
        >>> plot_labels(multilabel_report([[1, 0], [1, 1]], [[0.9, 0.2], [0.6, 0.7]], ["dog", "cat"]), "plots/labels.png")
    """
    path = png_path(path)
    from matplotlib.figure import Figure

    rows = sorted(report["per_label"], key=lambda row: -row["support"])[:_MOST_LABELS]
    places = np.arange(len(rows))
    figure = Figure(figsize=(8.0, max(2.6, 0.28 * len(rows) + 1.4)), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(places, [row["f1"] for row in rows], color=SKY_BLUE, edgecolor="white", label="F1")
    axes.plot([row["precision"] for row in rows], places, ">", color=VERMILION, markersize=5, label="precision")
    axes.plot([row["recall"] for row in rows], places, "<", color=GREY, markersize=5, label="recall")
    # parse_math is off, because a label may be named "$5".
    names = [f"{_shortened(row['class_name'])} ({row['support']:,})" for row in rows]
    axes.set_yticks(places, names, fontsize=9, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    more = len(report["per_label"]) - len(rows)
    axes.set_title(
        f"Micro F1 {report['micro_f1']:.4f}, macro F1 {report['macro_f1']:.4f} on {report['num_examples']:,} examples"
        + (f"\n{more} rarer labels are not shown" if more else ""),
        fontsize=12,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    figure.legend(loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    write_figure(figure, path)


def plot_areas(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws the area under the ROC curve of every label of a `multilabel_report` against its number of examples as PNG.

    The dashed line is chance. A few examples say little: the areas of rare labels are uncertain.

    Args:
        report: the result of `zoo.evaluation.multilabel.multilabel_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.multilabel import multilabel_report
        >>> plot_areas(multilabel_report([[1, 0], [0, 1]], [[0.9, 0.2], [0.6, 0.7]], ["dog", "cat"]), "plots/areas.png")
    """
    path = png_path(path)
    from matplotlib.figure import Figure

    rows = [row for row in report["per_label"] if row["roc_auc"] is not None]
    figure = Figure(figsize=(7.0, 5.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0.5, linestyle="--", color=GREY, linewidth=1.2)
    axes.plot([row["support"] for row in rows], [row["roc_auc"] for row in rows], "o", color=SKY_BLUE, markersize=6)
    for row in sorted(rows, key=lambda row: row["roc_auc"])[:_MOST_LABELS]:
        axes.annotate(
            _shortened(row["class_name"]),
            (row["support"], row["roc_auc"]),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=7,
            parse_math=False,
        )
    if rows:
        axes.set_xscale("log")
    shown = "" if report["macro_auc"] is None else f", mean {report['macro_auc']:.4f}"
    axes.set_title(f"Area under the ROC curve of every label{shown}", fontsize=12)
    axes.set_xlabel("examples with the label", fontsize=11)
    axes.set_ylabel("area", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    write_figure(figure, path)


def _shortened(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


PLOTS = {"labels": plot_labels, "areas": plot_areas}
