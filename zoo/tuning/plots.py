"""A picture of a search: a line for each trial across all that was varied, and the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import printable
from zoo.evaluation.plots import DOTS_PER_INCH, GREY, VERMILION, write_figure
from zoo.tuning.records import Trial
from zoo.tuning.space import Dimension
from zoo.tuning.tuned import shown

_TICKS = 4
_LETTERS = 16


def draw_search(trials: Sequence[Trial], space: Sequence[Dimension], metric: str, best: Trial, path: Path) -> None:
    """Draws the trials as parallel coordinates: an axis for each dimension, and one for the metric at the right.

    Complete trials are coloured by their metric, pruned ones are thin and grey at the last metric that they reached, and the
    best one is drawn on top.

    Args:
        trials: the trials; those without drawn settings or values are left out.
        space: what was varied.
        metric: name of the metric.
        best: the best trial.
        path: the file, ending in .png.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    drawn = [trial for trial in trials if trial.drawn and trial.values]
    if not drawn:
        return
    values = np.array([trial.values[-1] if trial.value is None else trial.value for trial in drawn])
    low, high = float(values.min()), float(values.max())
    heights = (values - low) / ((high - low) or 1.0)
    figure = Figure(figsize=(1.9 * (len(space) + 1) + 0.8, 4.2), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for trial, height in sorted(zip(drawn, heights, strict=True), key=lambda pair: pair[0] is best):
        rows = [*(_place(part, trial.drawn[part.key]) for part in space), float(height)]
        complete = trial.value is not None
        colour = VERMILION if trial is best else colormaps["viridis"](float(height) * 0.9) if complete else GREY
        width = 2.6 if trial is best else 1.3 if complete else 0.5
        axes.plot(range(len(rows)), rows, color=colour, linewidth=width, alpha=1.0 if complete else 0.6)
    for number, part in enumerate(space):
        _axis(axes, number, part.name, _ticks(part))
    _axis(
        axes, len(space), metric, [(share, f"{low + share * (high - low):.4g}") for share in np.linspace(0, 1, _TICKS)]
    )
    axes.set_xlim(-0.4, len(space) + 0.5)
    axes.set_ylim(-0.08, 1.12)
    axes.set_axis_off()
    write_figure(figure, path)


def _place(part: Dimension, value: object) -> float:
    """Returns the height of a value on its axis, from 0 to 1."""
    if part.choices:
        return part.choices.index(str(value)) / (len(part.choices) - 1)
    scale = math.log if part.log else float
    low, high = scale(float(part.low or 0)), scale(float(part.high or 0))
    return (scale(float(str(value))) - low) / (high - low)


def _ticks(part: Dimension) -> list[tuple[float, str]]:
    if part.choices:
        return [(_place(part, choice), choice) for choice in part.choices]
    low, high = float(part.low or 0), float(part.high or 0)
    numbers = np.geomspace(low, high, _TICKS) if part.log else np.linspace(low, high, _TICKS)
    return [(_place(part, number), shown(float(number))) for number in numbers]


def _axis(axes: Any, place: int, name: str, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([place, place], [0, 1], color="black", linewidth=0.8)
    axes.text(place, 1.06, printable(name), ha="center", fontsize=9)
    for height, text in ticks:
        label = printable(text[:_LETTERS])
        axes.text(place + 0.03, height, label, fontsize=7, va="center")
