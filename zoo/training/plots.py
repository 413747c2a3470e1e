"""Curves of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo import storage

_NOT_CURVES = ("epoch", "seconds", "examples_per_second")


def plot_history(rows: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draws every metric of a history over the epochs, training and validation together, as one PNG.

    Args:
        rows: a dict per epoch, as in history.csv.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [n for n in rows[-1] if n not in _NOT_CURVES and not n.startswith("val_")]
    figure = Figure(figsize=(4.2 * len(names), 3.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label, colour in ((name, "training", "#0072B2"), (f"val_{name}", "validation", "#D55E00")):
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=colour, label=label, marker="o", markersize=3, linewidth=1.4
                )
        axes.set_xlabel("epoch")
        axes.set_title(name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        if f"val_{name}" in rows[-1]:
            axes.legend(frameon=False)
    with storage.replacing(path) as temporary:
        figure.savefig(temporary, format="png")
