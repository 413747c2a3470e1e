"""How the result of training shows itself: lines in a terminal; curves and the last epochs in a notebook."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from zoo import display
from zoo.training.plots import plot_history

_NOT_METRICS = ("epoch", "learning_rate", "seconds", "examples_per_second")
_LAST = 5


def as_text(result: Any) -> str:
    """Returns what was trained, the metrics of the last epoch, and where the run is, in at most three lines."""
    lines = [_title(result)]
    if result.history:
        lines.append(", ".join(f"{name}: {_number(value)}" for name, value in _metrics(result.history[-1]).items()))
    return "\n".join([*lines, *([f"Run in {result.run_directory}"] if result.run_directory else [])])


def as_html(result: Any) -> str:
    """Returns the learning curves, the metrics of the last epochs, and where the run is."""
    rows = result.history[-_LAST:]
    names = list(dict.fromkeys(name for row in rows for name in _metrics(row)))
    metrics = [[f"{row['epoch']:g}", *(_number(row[name]) if name in row else "" for name in names)] for row in rows]
    draw = functools.partial(plot_history, result.history, exported=result.epoch)
    curves = display.drawn(draw) if rows else ()
    where = f"Run in {display.escaped(result.run_directory)}" if result.run_directory else ""
    title = f"<b>{display.escaped(_title(result))}</b>"
    return display.stacked([title, display.table(["epoch", *names], metrics), display.plots(curves), where])


def _title(result: Any) -> str:
    count, resumed = len(result.history), result.resumed_at
    after = f", resumed after {resumed[0]} epochs and {resumed[1]} steps" if resumed else ""
    return f"{result.model.name} after {count} epoch{'s' * (count != 1)}{after}"


def _metrics(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in _NOT_METRICS}


def _number(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or not value else f"{value:.3e}"
