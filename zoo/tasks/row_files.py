"""Reads a CSV file as the rows of a request, by the names of the columns that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UsageError
from zoo.tables import cells, parsing


def read_rows(file: Path, inputs: Mapping[str, Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Reads a CSV file with one row per example.

    Args:
        file: the file, with a header line; its columns may have any order.
        inputs: the entries of the signature's inputs in zoo.json, by name; `columns` has the name of the column in the data.

    Returns:
        A dict for each row: float32, or bytes, by input; and the names of columns that the model does not use.

    Raises:
        UsageError: the file cannot be read, lacks a column, or has a text in a column of numbers.

    Example:
        >>> read_rows(Path("people.csv"), {"age": {"dtype": "float32", "columns": {"column": "age"}}})
        ([{'age': 39.0}, {'age': 50.0}], ['name'])
    """
    frame = parsing.parse(file, parsing.read_bytes(file))
    columns = {name: entry.get("columns", {}).get("column", name) for name, entry in inputs.items()}
    header = list(frame.columns)
    if missing := [column for column in columns.values() if column not in header]:
        raise UsageError(
            f"{file} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(header)}. Add or rename "
            "columns; cells may be empty."
        )
    values: dict[str, list[Any]] = {}
    for name, column in columns.items():
        if inputs[name]["dtype"] == "string":
            values[name] = [cell.strip().encode() for cell in frame[column]]
        else:
            values[name] = list(cells.numbers(file, frame[column]).astype(np.float32))
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return rows, [column for column in header if column not in columns.values()]
