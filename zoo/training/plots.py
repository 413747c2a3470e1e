"""Curves of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOT_CURVES = ("epoch", "seconds", "examples_per_second")
_COLUMNS = 4
_TRAINING, _VALIDATION, _EXPORTED = "#0072B2", "#D55E00", "#555555"


def plot_history(rows: Sequence[Mapping[str, float]], path: str | Path, exported: int | None = None) -> None:
    """Draws a history over the epochs as one PNG: loss, metrics and learning rate, at most four panels in a line.

    Training and validation share a panel. An axis is logarithmic where the learning rate spans more than two decades, or a
    figure more than three. A dashed line marks the exported epoch. Values that are not
    finite are left out. It is cheap enough to be called after every epoch, and the picture before it stays until the new
    one is whole.

    Args:
        rows: a dict per epoch, as in history.csv; `val_NAME` is drawn with `NAME`. A row may lack figures.
        path: the PNG to write.
        exported: the epoch whose weights the model has; None while the run is not finished.

    Raises:
        ValueError: no row, or rows without any figure.
        OSError: the file cannot be written.

    Example:
        >>> plot_history([{"epoch": 1, "loss": 0.9, "val_loss": 1.0}, {"epoch": 2, "loss": 0.5, "val_loss": 0.8}],
        ...              "history.png")
    """
    figure = _draw(rows, exported)
    with storage.replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw(rows: Sequence[Mapping[str, float]], exported: int | None = None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seen = dict.fromkeys(key for row in rows for key in row)
    names = list(dict.fromkeys(key.removeprefix("val_") for key in seen if key not in _NOT_CURVES))
    names.sort(key=lambda name: (name == "learning_rate", name != "loss"))
    if not names:
        raise ValueError(f"A history of {len(rows)} rows holds nothing to draw; expected a loss, say.")
    columns = min(len(names), _COLUMNS)
    lines = math.ceil(len(names) / columns)
    width, height = 4.2 * columns, 3.2 * lines
    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    # Fixed margins in inches: a layout that is computed takes longer than all the rest.
    figure.subplots_adjust(
        left=0.65 / width,
        right=1 - 0.15 / width,
        bottom=0.5 / height,
        top=1 - 0.38 / height,
        wspace=0.8 / 3.4,
        hspace=0.9 / 2.4,
    )
    for index, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, index + 1)
        if exported is not None:
            label = None if index else f"exported, epoch {exported}"
            axes.axvline(exported, color=_EXPORTED, linewidth=0.9, linestyle="--", label=label, zorder=0)
        _panel(axes, rows, name)
    return figure


def _panel(axes: Axes, rows: Sequence[Mapping[str, float]], name: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    drawn: list[float] = []
    curves = {name: ("training", _TRAINING), f"val_{name}": ("validation", _VALIDATION)}
    alone = not any(f"val_{name}" in row for row in rows)
    for key, (label, colour) in curves.items():
        points = [(row["epoch"], row[key]) for row in rows if key in row and math.isfinite(row[key])]
        if not points:
            continue
        drawn += [value for _, value in points]
        # Marks while there are few epochs: a single one would be no line, and many would hide the curve.
        marker = "o" if len(rows) <= 40 else ""
        label = "" if alone else label
        axes.plot(*zip(*points, strict=True), color=colour, label=label, linewidth=1.3, marker=marker, markersize=3)
    if 0 < min(drawn, default=0) < max(drawn, default=0) / (100 if name == "learning_rate" else 1000):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, min_n_ticks=2))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
    # Places that are given are not searched for, which takes as long as drawing.
    axes.set_title(name.replace("_", " "), fontsize=10, y=1.02)
    axes.set_xlabel("epoch", fontsize=9)
    axes.xaxis.set_label_coords(0.5, -0.13)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    first, last = min(row["epoch"] for row in rows), max(row["epoch"] for row in rows)
    room = max(0.5, 0.02 * (last - first))
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
