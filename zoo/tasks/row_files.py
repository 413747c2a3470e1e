"""Reads a CSV file or a DataFrame as the rows of a request, by the names of the columns that the model was trained on."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.tables import cells, parsing
from zoo.tables.formats import DEFAULT, TableFormat
from zoo.tables.frames import as_texts
from zoo.tables.headers import column_name

if TYPE_CHECKING:
    import pandas as pd


def read_rows(
    table: Path | pd.DataFrame, inputs: Mapping[str, Mapping[str, Any]], format: TableFormat = DEFAULT
) -> tuple[list[dict[str, Any]], list[str]]:
    """Reads a CSV file or a DataFrame with one row per example.

    Args:
        table: a file, with a header line; or a DataFrame, which `attrs["name"]` may name in messages. The columns may have
            any order; those of a DataFrame may also have the names of the inputs.
        inputs: the entries of the signature's inputs in zoo.json, by name; `columns` has the name of the column in the data.
        format: how the table writes numbers and missing values.

    Returns:
        A dict for each row: float32, or bytes, by input; and the names of columns that the model does not use.

    Raises:
        UsageError: the file cannot be read, a column is missing, or has a text in a column of numbers.

    Example:
        >>> read_rows(Path("people.csv"), {"age": {"dtype": "float32", "columns": {"column": "age"}}})
        ([{'age': 39.0}, {'age': 50.0}], ['name'])
    """
    columns = {name: column_name(entry.get("columns", {}).get("column", name)) for name, entry in inputs.items()}
    if isinstance(table, Path):
        where, frame = str(table), parsing.parse(table, parsing.read_bytes(table), format=format)
        header = list(frame.columns)
    else:
        where, frame = table.attrs.get("name", "DataFrame"), table
        header = _by_column(list(map(column_name, frame.columns)), columns)
    if missing := [column for column in columns.values() if column not in header]:
        raise UsageError(
            f"{where} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(header)}. Add or rename "
            "columns; cells may be empty."
        )
    used = [place for place, column in enumerate(header) if column in columns.values()]
    part = frame.iloc[:, used].set_axis([header[place] for place in used], axis=1)
    if isinstance(table, Path):
        held, _ = read_columns(where, part, inputs)
        rows = [dict(zip(held, row, strict=True)) for row in zip(*held.values(), strict=True)]
        return rows, [column for column in header if column not in columns.values()]
    texts = as_texts(part, where, format)
    values: dict[str, list[Any]] = {}
    for name, column in columns.items():
        if inputs[name]["dtype"] == "string":
            values[name] = [cell.strip().encode() for cell in texts[column]]
        else:
            values[name] = list(_numbers(where, part[column], texts[column]))
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return rows, [column for column in header if column not in columns.values()]


def read_columns(
    where: str, texts: pd.DataFrame, inputs: Mapping[str, Mapping[str, Any]], rejected: dict[int, str] | None = None
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Returns the columns of a table of texts, as `zoo.tables.parsing.parse` makes it, as arrays.

    Args:
        where: the table, for messages.
        texts: the table; its index has the numbers of the rows, from 0.
        inputs: see `read_rows`.
        rejected: gets the rows that have a text in a column of numbers, with the reason; without it, such a row is an error.

    Returns:
        float32, or bytes, by input, and the table without the rows that are rejected.

    Raises:
        UsageError: a column is ambiguous as a whole, such as one whose points may separate thousands.

    Example:
        >>> read_columns("people.csv", pd.DataFrame({"age": ["39"]}), {"age": {"dtype": "float32"}})[0]["age"]
        array([39.], dtype=float32)
    """
    columns = {name: column_name(entry.get("columns", {}).get("column", name)) for name, entry in inputs.items()}
    try:
        return _values(where, texts, inputs, columns), texts
    except UsageError:
        if rejected is None:
            raise
        for name, column in columns.items():
            if inputs[name]["dtype"] != "string":
                rejected.update(cells.wrong_numbers(Path(where), texts[column]))
        if not rejected:
            raise
    attrs, texts = texts.attrs, texts.drop(index=list(rejected))
    texts.attrs = attrs
    return _values(where, texts, inputs, columns), texts


def _values(
    where: str, texts: pd.DataFrame, inputs: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> dict[str, np.ndarray]:
    return {
        name: _bytes(texts[column])
        if inputs[name]["dtype"] == "string"
        else cells.numbers(Path(where), texts[column]).astype(np.float32)
        for name, column in columns.items()
    }


def _bytes(column: pd.Series) -> np.ndarray:
    """Returns the cells without spaces as bytes. Few of them differ, so each different one is converted once."""
    import pandas as pd

    codes, different = pd.factorize(column)
    known = np.empty(len(different), object)
    known[:] = [cell.strip().encode() for cell in different]
    return known[codes]


def _by_column(header: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Returns the names of columns in the data; a header may have the names of the inputs instead."""
    if set(header) == set(columns):  # a column may have the name that is another column's input
        return [columns[name] for name in header]
    known = set(columns.values())
    return [name if name in known else columns.get(name, name) for name in header]


def _numbers(where: str, column: pd.Series, texts: pd.Series) -> np.ndarray:
    """Returns a column as float32, missing values as NaN. Numbers of Python need no reading of their text."""
    import pandas as pd

    missing = (texts == "").to_numpy()
    if column.dtype == object:
        are_numbers = np.array([isinstance(v, numbers.Real) and not isinstance(v, bool) for v in column]) & ~missing
        values = np.full(len(column), np.nan, np.float32)
        values[are_numbers] = column[are_numbers].astype(np.float32)
        values[~are_numbers] = cells.numbers(Path(where), texts[~are_numbers])
        column = pd.Series(values, name=column.name)
    elif not pd.api.types.is_numeric_dtype(column.dtype):
        return cells.numbers(Path(where), texts).astype(np.float32)
    values = column.to_numpy(np.float64, na_value=np.nan, copy=True)
    values[missing] = np.nan
    if np.isinf(values).any():
        at = int(np.flatnonzero(np.isinf(values))[0])
        raise UsageError(
            f"{where} row {at + 1}: {column.name} is {values[at]}; expected a number. Correct it, or leave it empty."
        )
    return values.astype(np.float32)
