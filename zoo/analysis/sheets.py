"""A sheet of pictures: images or curves, each with a title of its answer."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.analysis.inputs import is_curve, is_picture
from zoo.errors import UsageError, printable
from zoo.evaluation.plots import DOTS_PER_INCH, GREY, SKY_BLUE, VERMILION, write_figure

_ACROSS = 5
_CHANNELS = 4
_LINE, _LINES = 24, 4


def draw_sheet(
    raw: Sequence[Mapping[str, Any]], described: Sequence[Mapping[str, Any]], channels: Sequence[str], path: Path
) -> None:
    """Draws examples next to each other as one PNG file.

    Args:
        raw: raw examples with an image, uint8 (height, width, channels), or a series, floats (steps, channels).
        described: the `target` and the `answer` of each, and its `place`.
        channels: names of the channels of series.
        path: the file, ending in .png. Missing folders are created.

    Raises:
        UsageError: the name of the file has another ending.
    """
    from matplotlib.figure import Figure

    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} is no name of a picture. Pass a name that ends in .png.")
    across = min(_ACROSS, len(raw))
    down = math.ceil(len(raw) / across)
    wide = any(is_curve(value) for value in raw[0].values())
    size = (2.6, 2.1) if wide else (1.7, 2.2)
    figure = Figure(figsize=(size[0] * across, size[1] * down), dpi=DOTS_PER_INCH, layout="constrained")
    axes = np.ravel(figure.subplots(down, across))
    for place, (example, facts) in enumerate(zip(raw, described, strict=True)):
        picture = next((value for value in example.values() if is_picture(value)), None)
        if picture is not None:
            _draw_picture(axes[place], picture)
        else:
            series = next(value for value in example.values() if is_curve(value))
            _draw_series(axes[place], series, facts, channels)
        axes[place].set_title(_title(facts), fontsize=7)
    for empty in axes[len(raw) :]:
        empty.set_axis_off()
    write_figure(figure, path)


def _draw_picture(axes: Any, picture: np.ndarray) -> None:
    grey = picture.shape[2] == 1
    axes.imshow(picture[:, :, 0] if grey else picture[:, :, :3], cmap="gray" if grey else None, interpolation="nearest")
    axes.set_axis_off()


def _draw_series(axes: Any, series: np.ndarray, facts: Mapping[str, Any], channels: Sequence[str]) -> None:
    target = facts["target"]
    is_forecast = isinstance(target, list) and all(isinstance(value, (int, float)) for value in target)
    shown = series[:, :1] if is_forecast else series[:, :_CHANNELS]
    for number, channel in enumerate(shown.T):
        colour = GREY if is_forecast else f"C{number}"
        name = channels[number] if number < len(channels) else None
        axes.plot(channel, linewidth=0.9, color=colour, label=name)
    if is_forecast:  # the steps after the series
        steps = len(series) + np.arange(len(target))
        axes.plot(steps, target, color=SKY_BLUE, linewidth=1.1, label="correct")
        if len(facts.get("values", ())) == len(target):
            axes.plot(steps, facts["values"], color=VERMILION, linewidth=1.1, label="forecast")
        axes.legend(fontsize=5, frameon=False)
    axes.tick_params(labelsize=5)


def _title(facts: Mapping[str, Any]) -> str:
    target = facts["target"]
    head = f"example {facts['place']}"
    if isinstance(target, list) and target and isinstance(target[0], (int, float)):
        return head
    lines = textwrap.wrap(f"answer {printable(str(facts['answer']))}", _LINE)[:_LINES]
    return "\n".join([head, *lines, *textwrap.wrap(f"correct {printable(str(target))}", _LINE)[:_LINES]])
