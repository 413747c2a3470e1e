"""The registry of reports, with functions that compute, summarise and plot each of them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.registries import Registry

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared

Report = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A metric of a report for a table of results, next to a baseline.

    Attributes:
        metric: name of the metric, such as `accuracy`.
        value: the model's value.
        baseline: name of the baseline, empty without one.
        baseline_value: the baseline's value, None without one.
        count: number of examples of the metric, None for all examples of the report.
        key: the metric's key in the report, in its `intervals` and in the metrics of its `baselines`. With a key, `evaluate`
            adds the interval, and a figure for every baseline that has the metric.
        higher_is_better: False for errors.
        interval: the lower and the upper end of the 95 % bootstrap interval, None without one.
    """

    metric: str
    value: float
    baseline: str = ""
    baseline_value: float | None = None
    count: int | None = None
    key: str = ""
    higher_is_better: bool = True
    interval: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True)
class ReportKind:
    """A kind of report.

    Attributes:
        compute: computes it from (model, data, split, batch size), as plain numbers, lists and strings that JSON can hold
            (None instead of NaN). `num_examples` is the number of examples of all metrics without a count of their own.
            `intervals` may hold the bootstrap intervals of metrics by key, see `zoo.evaluation.intervals`. `evaluate` adds
            the keys task, data, split, headline, baselines, comparison and changed_data.
        summary: returns it as a few lines for a terminal. It is called with a report that was just computed.
        headline: returns its metrics for a table of results, at least one next to a baseline. It is also called with
            reports of earlier runs, read back from evaluation.json.
        plots: functions that draw it from (report, PNG file), by the name of the plot, which is the name of its file in
            plots/. A report may have none. A plot that does not apply to a report writes no file.
        measure: computes the metrics of a baseline from (data, raw examples of the split, predictions), with the functions
            and the keys of the report itself. Examples and predictions are dicts of arrays; predictions are those of the
            task, values in their own units. None for a report that no baseline of `zoo.evaluation.baselines` fits.
        revealing: the plots that show examples of the data. They are left out of artifacts that publish none.
    """

    compute: Callable[[keras.Model, Prepared, str, int], Report]
    summary: Callable[[Mapping[str, Any]], str]
    headline: Callable[[Report], list[Figure]]
    plots: Mapping[str, Callable[[Report, Path], None]] = dataclasses.field(default_factory=dict)
    measure: Callable[[Prepared, Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] | None = None
    revealing: Collection[str] = ()


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
        UsageError: the report is unknown; the message suggests the nearest.
    """
    return REPORTS.get(name)


def raw_examples(data: Prepared, split: str) -> Iterator[dict[str, Any]]:
    """Yields a split's raw examples as NumPy values.

    Raises:
        UsageError: the data has no such split.
    """
    if split not in data.data.splits:
        raise UsageError(
            f"The report {data.task.report!r} compares with the {split} split of the run, whose data cannot be loaded. Put "
            "it back where it was."
        )
    yield from data.data.splits[split].dataset().as_numpy_iterator()
