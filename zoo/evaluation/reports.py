"""The registry of reports: how each is made of a model and its data, told in a few lines, drawn, cut to a headline."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.registries import Registry

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

Report = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of a report worth a line in a table, beside that of a baseline.

    Attributes:
        metric: its name, such as `accuracy`.
        value: the model's.
        baseline: what it is compared with, empty where there is nothing.
        baseline_value: the figure of that, None likewise.
        count: how many examples it is the mean of, None for all of the report's.
    """

    metric: str
    value: float
    baseline: str = ""
    baseline_value: float | None = None
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class ReportKind:
    """A kind of report.

    Attributes:
        compute: makes it from (model, data, split, batch size), as plain numbers, lists and strings.
        summary: tells it in a few lines for a terminal.
        headline: cuts it down to the figures that a table of results shows.
        plots: draws it, by the name of the picture, from (report, PNG file).
    """

    compute: Callable[[keras.Model, Prepared, str, int], Report]
    summary: Callable[[Mapping[str, Any]], str]
    headline: Callable[[Report], list[Figure]]
    plots: Mapping[str, Callable[[Report, Path], None]] = dataclasses.field(default_factory=dict)


REPORTS: Registry[ReportKind] = Registry("report", "zoo.evaluation")


def register_report(name: str, kind: ReportKind) -> ReportKind:
    """Registers a kind of report under the name that a task's `report` uses, and returns it.

    Raises:
        ValueError: another module has registered the name.

    Example:
        >>> zoo.evaluation.register_report("localization", ReportKind(compute, summary, headline))
    """
    REPORTS.add(name, kind, sys._getframe(1).f_globals.get("__name__", "__main__"))
    return kind


def get_report(name: str) -> ReportKind:
    """Returns a kind of report by its name.

    Raises:
        UsageError: no such report; the message offers the nearest.
    """
    return REPORTS.get(name)


def raw_examples(data: Prepared, split: str) -> Iterator[dict[str, Any]]:
    """Yields a split's raw examples as NumPy values."""
    yield from data.data.splits[split].dataset().as_numpy_iterator()
