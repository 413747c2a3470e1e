"""Plots of a classification report: confusion matrix and reliability diagram, each written as one PNG file.

Figures are made with matplotlib's object interface, which needs no display and leaves no figure open.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation import fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
MAX_CLASSES_WITH_COUNTS = 30
MAX_LABEL_LENGTH = 32
# Okabe and Ito's palette, which readers with colour vision deficiencies can distinguish, and which works in grey print.
SKY_BLUE, VERMILION, GREY = "#56B4E9", "#D55E00", "#595959"


def plot_confusion_matrix(report: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the confusion matrix of a `classification_report` into a PNG file.

    Rows are true classes, columns predicted ones. Colour is the share of the row, so that rare classes are as visible as
    frequent ones; the numbers in the cells are counts. With more than 30 classes the cells have no numbers, and the
    colour scale is a square root, so that a few confusions among many right predictions stay visible. Long names are
    wrapped if there is room, or else shortened in the middle. From about 160 classes on, only every second, third, ...
    class is labelled.

    Args:
        report: the result of `zoo.evaluation.classification.classification_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.classification import classification_report
        >>> report = classification_report([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], ["cat", "dog"])
        >>> plot_confusion_matrix(report, "plots/confusion.png")
    """
    path = png_path(path)
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = np.asarray(report["confusion_matrix"], dtype=np.float64)  # (true classes, predicted classes)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.full_like(counts, np.nan), where=support > 0)
    num_classes = len(counts)
    with_counts = num_classes <= MAX_CLASSES_WITH_COUNTS

    # The matrix grows with the number of classes up to a maximum size; then labels become smaller, then fewer.
    side = float(np.clip(0.55 * num_classes, 3.4, 15.0))  # inches
    cell = 72 * side / num_classes  # points
    every = 1 if 0.8 * cell >= 5.0 else math.ceil(10.0 / cell)
    label_size = float(np.clip(0.8 * every * cell, 5.0, 11.0))
    labels, level = _labels(report["class_names"][::every], max_columns=int(0.95 * every * cell / (0.6 * label_size)))
    label_inches = 0.6 * label_size * max(len(line) for label in labels for line in label.split("\n")) / 72
    heading_size = float(np.clip(1.2 * side, 11.0, 18.0))

    figure = Figure(
        figsize=(side + label_inches + 1.8, side + (0.6 if level else label_inches) + 1.2),
        dpi=DOTS_PER_INCH,
        layout="constrained",
    )
    axes = figure.add_subplot()
    image = axes.imshow(
        shares,
        cmap=colormaps["Blues"].with_extremes(bad="0.9"),
        norm=PowerNorm(1.0 if with_counts else 0.5, vmin=0.0, vmax=1.0),
        interpolation="nearest",
    )
    ticks = np.arange(num_classes)[::every]
    # parse_math is off, because a class may be named "$5".
    axes.set_yticks(ticks, labels, fontsize=label_size, parse_math=False)
    axes.set_xticks(ticks, labels, fontsize=label_size, parse_math=False)
    if not level:
        axes.tick_params("x", labelrotation=90)
    axes.tick_params(length=2 if with_counts else 1.5)
    axes.set_ylabel("true class" + ("" if (support > 0).all() else " (grey: no examples)"), fontsize=heading_size)
    axes.set_xlabel("predicted class", fontsize=heading_size)
    axes.set_title(_heading(report), fontsize=heading_size + 1)
    if with_counts:
        _write_counts(axes, counts, shares, cell)
        axes.set_xticks(np.arange(num_classes - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(num_classes - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="0.88", linewidth=0.8)
        axes.tick_params(which="minor", length=0)
    # An inset has exactly the height of the matrix, unlike a colour bar that the layout places.
    bar = figure.colorbar(
        image, cax=axes.inset_axes((1.0 + 0.15 / side, 0.0, 0.2 / side, 1.0)), ticks=np.linspace(0.0, 1.0, 6)
    )
    bar.set_label("share of the true class", fontsize=heading_size - 1)
    bar.ax.tick_params(labelsize=heading_size - 2)
    write_figure(figure, path)


def plot_reliability(report: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the reliability diagram of a `classification_report` into a PNG file.

    The upper part shows the accuracy of each confidence bin and its gap to the mean confidence. On the dashed diagonal a
    classifier is calibrated; below it, it is overconfident. The lower part shows the number of examples of each bin,
    because the gap of a few examples means little. After Guo et al., "On Calibration of Modern Neural Networks", ICML
    2017, figure 1.

    Args:
        report: the result of `zoo.evaluation.classification.classification_report`, or the same read back from JSON.
        path: the file to write, ending in `.png`. Missing folders are created; an older file is replaced atomically.

    Raises:
        ValueError: `path` does not end in `.png`.

    Example:
        >>> from zoo.evaluation.classification import classification_report
        >>> report = classification_report([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], ["cat", "dog"])
        >>> plot_reliability(report, "plots/reliability.png")
    """
    path = png_path(path)
    from matplotlib.figure import Figure

    bins = [bin_ for bin_ in report["reliability"] if bin_["count"] > 0]
    middles = np.array([(bin_["lower"] + bin_["upper"]) / 2 for bin_ in bins])
    width = bins[0]["upper"] - bins[0]["lower"]
    accuracy = np.array([bin_["accuracy"] for bin_ in bins])
    confidence = np.array([bin_["mean_confidence"] for bin_ in bins])
    counts = [bin_["count"] for bin_ in bins]

    figure = Figure(figsize=(6.0, 7.0), dpi=DOTS_PER_INCH, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(middles, accuracy, width, color=SKY_BLUE, edgecolor="white", linewidth=0.8, label="accuracy")
    upper.bar(
        middles,
        confidence - accuracy,
        0.6 * width,
        bottom=accuracy,
        facecolor="none",
        edgecolor=VERMILION,
        linewidth=1.2,
        hatch="////",
        label="gap to mean confidence",
    )
    upper.plot([0, 1], [0, 1], linestyle="--", color=GREY, linewidth=1.2, label="perfectly calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1.0), ylabel="accuracy")
    upper.set_title(
        f"{_heading(report)}\nexpected calibration error {report['expected_calibration_error']:.4f}", fontsize=12
    )
    # Outside, because any corner of the diagram may hold bars.
    figure.legend(loc="outside lower center", ncols=3, fontsize=10, frameon=False, columnspacing=1.2)

    lower.bar(middles, counts, width, color=GREY, edgecolor="white", linewidth=0.8)
    for middle, count in zip(middles, counts, strict=True):
        lower.annotate(
            _count_text(count),
            (middle, count),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
        )
    lower.margins(y=0.18)
    lower.set(xlabel="confidence (top probability)", ylabel="examples")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.tick_params(labelsize=10)
        axes.xaxis.label.set_size(11)
        axes.yaxis.label.set_size(11)
    figure.align_ylabels()
    write_figure(figure, path)


def _write_counts(axes: Any, counts: np.ndarray, shares: np.ndarray, cell: float) -> None:
    """Writes counts into the cells, in one size that fits the longest; none if that is too small to read."""
    longest = max(len(_count_text(count)) for count in counts.ravel())
    size = min(0.45 * cell, 0.85 * cell / (0.62 * longest), 14.0)
    if size < 4.5:
        return
    for (row, column), count in np.ndenumerate(counts):
        if count == 0 and (row != column or np.isnan(shares[row, column])):
            continue  # 0 is written only for a class that is never right; in all empty cells it would hide confusions
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, _count_text(count), ha="center", va="center", fontsize=size, color=colour)


def _heading(report: dict[str, Any]) -> str:
    examples = report["num_examples"]
    return f"Accuracy {report['accuracy']:.4f} on {examples:,} example{'s' * (examples != 1)}"


def _count_text(count: float) -> str:
    """At most five characters: 3, 2.5, 9876, 12.3k, 4.57M."""
    if count < 10_000:
        return f"{count:.0f}" if float(count).is_integer() else f"{count:.3g}"
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if count < 999.5 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0e}"


def _shorten(name: str) -> str:
    """Shortens in the middle, because similar names may differ at the start or at the end."""
    name = " ".join(name.split())
    if len(name) <= MAX_LABEL_LENGTH:
        return name
    tail = MAX_LABEL_LENGTH // 2 - 1
    return f"{name[: MAX_LABEL_LENGTH - tail - 1]}…{name[-tail:]}"


def _labels(names: Sequence[str], max_columns: int) -> tuple[list[str], bool]:
    """Tick labels, and whether all are narrow enough to be horizontal, wrapped into at most three lines."""
    wrapped = [textwrap.wrap(name, max(max_columns, 1), break_long_words=False) for name in names]
    if all(len(lines) <= 3 and all(len(line) <= max_columns for line in lines) for lines in wrapped):
        return ["\n".join(lines) for lines in wrapped], True
    return [_shorten(name) for name in names], False


def png_path(path: str | os.PathLike[str]) -> Path:
    """Returns the file of a plot as a path. A plot checks it before it draws.

    Raises:
        ValueError: the name does not end in `.png`.

    Example:
        >>> png_path("plots/errors.png").name
        'errors.png'
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"The plot's path is {str(path)!r}, expected a name that ends in .png.")
    return path


def write_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, with fonts that have its characters, see `fonts.save`. Missing folders are created.

    It writes a temporary file, then renames it, so that a reader never sees an incomplete file.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure = Figure(figsize=(7.0, 4.5), dpi=DOTS_PER_INCH, layout="constrained")
        >>> write_figure(figure, png_path("plots/errors.png"))
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        FigureCanvasAgg(figure)
        fonts.save(figure, lambda: figure.savefig(temporary, format="png", bbox_inches="tight", pad_inches=0.1))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
