"""Rows of a table with features of any kind: which columns are used, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.datasets.sources import table_kinds
from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.in_memory import Rows
from zoo.datasets.sources.splitting import digest
from zoo.errors import UsageError, did_you_mean

TARGETS = ("label", "labels", "value")
"""The keys of targets in an example, which no feature may have as its name."""


def features(table: Table, used: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the columns that models learn from, by name, and what is known about them.

    Args:
        table: the table; its options say which columns to leave out or to keep, and of which kinds they are.
        used: columns with another meaning, such as the label.

    Raises:
        UsageError: an option names no column, a cell does not fit its column, or no feature remains.
    """
    options = table.options
    others = [column for column in table.frame.columns if column not in used and column != options.get("group")]
    chosen = table.columns.get("features")
    _check_names(table, options, others)
    kinds: Mapping[str, str] = options.get("kinds") or {}
    table_kinds.check_kinds(table.path, kinds, others)
    columns: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for name in chosen or others:
        if name in TARGETS:
            raise UsageError(
                f"{table.path} has a feature named {name!r}, which is a key of examples. Rename that column."
            )
        if name in (options.get("leave_out") or ()):
            about[name] = {"kind": "left out", "why": "as you chose"}
            continue
        kind = kinds.get(name) or ("category" if name in (options.get("keep") or ()) else None)
        column = table_kinds.read(table.path, table.frame[name], kind if name in kinds else None)
        if column.why and name in (options.get("keep") or ()):
            column = table_kinds.read(table.path, table.frame[name], kind)
        about[name] = {
            "kind": column.kind,
            "missing": column.missing,
            "examples": list(column.examples),
            **({"why": column.why} if column.why else {}),
            **({"order": column.order} if column.order else {}),
        }
        if column.values is not None:
            columns[name] = column.values
    if not columns:
        why = "; ".join(f"{name}: {entry['why']}" for name, entry in about.items())
        raise UsageError(f"{table.path} has no column to learn from: {why}. Choose another file, or pass --data.keep.")
    return columns, about


def _check_names(table: Table, options: Mapping[str, Any], others: Sequence[str]) -> None:
    for option in ("leave_out", "keep"):
        for name in options.get(option) or ():
            if name not in others:
                raise UsageError(f"{table.path} has no column {name!r} for {option}. {did_you_mean(str(name), others)}")


def tabular(
    table: Table, task: str, key: str, target: np.ndarray, columns: dict[str, Any], about: dict[str, Any], **more: Any
) -> Rows:
    """Returns the rows of a data set from its features and its target."""
    orders = {name: entry["order"] for name, entry in about.items() if "order" in entry}
    cells = table.frame[list(columns)]
    return Rows(
        tasks=(task,),
        columns={**columns, key: target},
        digests=[digest(*row) for row in cells.itertuples(index=False, name=None)],
        about={
            "table": {name: about[name]["kind"] for name in columns},
            "table_columns": about,
            "table_options": {
                **{k: table.options[k] for k in _FITTED if table.options.get(k) is not None},
                "orders": orders,
            },
            **more.pop("about", {}),
        },
        **more,
    )


_FITTED = ("scaling", "clip", "min_count")
OPTIONS = ("kinds", "leave_out", "keep", "time", "group", *_FITTED)
"""The options of the source that tables of features take."""
