"""Parts of the examples of a split: those of a class, with a label, or with a category in a column of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.analysis.paired import Outcome, normal_interval

if TYPE_CHECKING:
    from zoo.datasets.prepared import Prepared

FEWEST = 20
"""Number of examples below which a slice says nothing."""
_MOST_VALUES = 1_000
_CATEGORY = "category"


@dataclasses.dataclass(frozen=True)
class Slice:
    """Some of the examples: `rows` are those whose `by`, such as `label` or a column, is `value`."""

    by: str
    value: str
    rows: np.ndarray


class SliceValues:
    """Collects the class, the labels and the categories of examples.

    Args:
        prepared: the data.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._names = prepared.class_names
        self._class, self._labels = prepared.task.classes, prepared.task.objective.labels
        kinds: Mapping[str, str] = prepared.data.about.get("table", {})
        targets = prepared.task.targets
        self._columns = [name for name, kind in kinds.items() if kind == _CATEGORY and name not in targets]
        self._values: dict[str, list[Any]] = {}

    def add(self, examples: Sequence[Mapping[str, Any]], targets: Mapping[str, np.ndarray]) -> None:
        """Adds some examples and their targets."""
        for key in (self._class, self._labels):
            if key in targets and targets[str(key)].ndim == (1 if key == self._class else 2):
                self._values.setdefault(str(key), []).extend(targets[str(key)])
        for name in self._columns:
            self._values.setdefault(name, []).extend(example[name] for example in examples)

    def slices(self) -> list[Slice]:
        """Returns all slices with at least `FEWEST` examples, if two or more values occur."""
        found = []
        for by, values in self._values.items():
            if by == self._labels:
                marks = np.stack(values) > 0
                parts = [(name, np.flatnonzero(marks[:, number])) for number, name in enumerate(self._names)]
            elif by == self._class:
                numbers = np.asarray(values)
                parts = [(name, np.flatnonzero(numbers == number)) for number, name in enumerate(self._names)]
            else:
                column = np.array([value.decode("utf-8", "replace") for value in values], object)
                known, numbers = np.unique(column, return_inverse=True)
                if len(known) > _MOST_VALUES:
                    continue
                order = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
                parts = list(zip((name or "(missing)" for name in known), order, strict=True))
            large = [Slice(by, name, rows) for name, rows in parts if len(rows) >= FEWEST]
            found += large if sum(len(rows) > 0 for _, rows in parts) > 1 else []
        return found


def compared(slices: Sequence[Slice], first: Outcome, second: Outcome) -> list[dict[str, Any]]:
    """Returns the metric of two models on every slice, those that differ most for their size first.

    Returns:
        For each slice `by`, `value`, `examples`, `first`, `second`, `difference` (second minus first) and `interval`, the
        95 % interval of the difference by the normal approximation, None if all differences are the same.
    """
    found = []
    for part in slices:
        before, after = first.at(part.rows), second.at(part.rows)
        if not (before.counts.sum() and after.counts.sum()):
            continue
        interval = normal_interval(before, after)
        gap = after.figure - before.figure
        facts = {"by": part.by, "value": part.value, "examples": len(part.rows)}
        facts |= {"first": before.figure, "second": after.figure, "difference": gap, "interval": interval}
        half = (interval[1] - interval[0]) / 2 if interval else None
        found.append((abs(gap) / half if half else abs(gap) * len(part.rows), facts))
    found.sort(key=lambda part: -part[0])
    return [facts for _, facts in found]
