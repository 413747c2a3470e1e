"""How a report shows itself: lines in a terminal; headline metrics and plots in a notebook."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from zoo import display
from zoo.evaluation.reports import Report, get_report
from zoo.tasks import get_task

_MOST_LINES = 3


class EvaluationReport(Report):
    """A report as a dict of plain numbers, lists and strings, which shows its headline metrics.

    Example:
        >>> EvaluationReport(task="forecasting", data="seasons", split="test", headline=[])
        Report on the test split of seasons
    """

    def __repr__(self) -> str:
        count = f", {self['num_examples']:,} examples" if "num_examples" in self else ""
        lines = [f"Report on the {self['split']} split of {self['data']}{count}", *headline_lines(self)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        kind = get_report(get_task(self["task"]).report)
        pictures = [png for draw in kind.plots.values() for png in display.drawn(functools.partial(draw, self))]
        title = repr(self).splitlines()[0]
        details = "" if kind.plots else f"<pre>{display.escaped_lines(kind.summary(self))}</pre>"
        return display.stacked(
            [f"<b>{display.escaped(title)}</b>", headline_table(self), details, display.plots(pictures)]
        )


def headline_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Returns metric, value with its interval, and all baselines of every headline metric of a report, as text."""
    rows = display.metric_rows(report.get("headline", ()))
    return [
        [name, value, ", ".join(f"{display.number_text(base)} {of}" for base, of in beside)]
        for name, value, beside in rows
    ]


def headline_lines(report: Mapping[str, Any]) -> list[str]:
    """Returns the headline metrics in at most three lines."""
    rows = headline_rows(report)
    lines = [f"{name}: {value}" + (f" (baseline {base})" if base else "") for name, value, base in rows]
    return (
        lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], f"... {len(lines) - _MOST_LINES + 1} more"]
    )


def headline_table(report: Mapping[str, Any]) -> str:
    """Returns the headline metrics as a table in HTML."""
    rows = headline_rows(report)
    return display.table(["metric", "value", "baseline"], rows) if rows else ""
