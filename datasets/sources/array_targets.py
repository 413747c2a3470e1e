"""Names of several labels and of values, for arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.datasets.sources.array_kinds import Layout
from zoo.datasets.sources.in_memory import Column
from zoo.datasets.sources.labels import check_classes
from zoo.errors import UsageError

Columns = Mapping[str, Mapping[str, Column]]
"""The columns of every split."""


def label_names(columns: Columns, target: str, class_names: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the names of several labels, which are numbered if they have none.

    Raises:
        UsageError: the splits have different numbers of labels, or the names do not fit.
    """
    count = _count(columns, target)
    names = tuple(map(str, class_names if class_names is not None else range(count)))
    if len(names) != count:
        raise UsageError(f"y has {count} columns and class_names {len(names)} names. Pass one for each column.")
    check_classes("y", names)
    return names


def about_values(
    columns: Columns, layout: Layout, value_names: Sequence[str] | None, log_values: bool
) -> dict[str, Any]:
    """Returns the names of values, which are numbered if they have none, and whether a model learns their logarithms.

    Raises:
        UsageError: the splits have different numbers of values, the names do not fit, or the targets are no values.
    """
    if layout.y != "values":
        for name, value in (("value_names", value_names), ("log_values", log_values or None)):
            if value is not None:
                raise UsageError(f"{name} came for {layout.task}, which has no values. Leave it out.")
        return {}
    count = _count(columns, layout.target)
    usual = ["value"] if count == 1 else [f"value {number}" for number in range(1, count + 1)]
    names = usual if value_names is None else [str(name) for name in value_names]
    if isinstance(value_names, str) or len(names) != count or len({*names}) != count:
        raise UsageError(
            f"value_names is {value_names!r}; expected {count} different names. Pass one for each column of y."
        )
    return {"value_names": names, "log_values": bool(log_values)}


def _count(columns: Columns, target: str) -> int:
    """Returns the number of columns of the targets, which all splits must have."""
    counts = {role: np.asarray(held[target]).shape[1] for role, held in columns.items()}
    for role, count in counts.items():
        if count != counts["train"]:
            raise UsageError(
                f"y of the {role} split has {count} columns, y {counts['train']}; expected the same number. Pass all of them."
            )
    return counts["train"]
