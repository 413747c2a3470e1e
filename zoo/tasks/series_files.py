"""Reads a CSV file as the series of a request, by the names of the columns that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.tables import cells, formats, parsing
from zoo.tables.formats import DEFAULT, TableFormat
from zoo.tables.headers import column_name, named

if TYPE_CHECKING:
    import pandas as pd

_LARGEST = 1 << 30
"""Maximum bytes of a file."""


def read_series(file: Path, columns: Mapping[str, Any], format: TableFormat = DEFAULT) -> np.ndarray:
    """Reads a CSV file of numbers with one row per step; an empty cell is a missing value.

    Args:
        file: the file. Commas, semicolons, tabs or bars separate its cells.
        columns: the names of the columns by key: `series`, the channels in order, and perhaps `time` and `sequence`. If
            given, a header line may have them in any order, next to other columns. Without a header line, and if empty,
            the columns of the file are the channels in order.
        format: how the file writes numbers and missing values.

    Returns:
        float32 (steps, channels).

    Raises:
        UsageError: the file cannot be read, lacks a column, has several sequences, or its rows run backwards in time.

    Example:
        >>> read_series(Path("sales.csv"), {"series": ["sold", "price"], "time": "day"}).shape
        (56, 2)
    """
    columns = {key: named(value) for key, value in columns.items()}
    try:
        content = storage.read_bytes(file, _LARGEST)
    except OSError as error:
        raise UsageError(
            f"Cannot read {file}: {one_line(error, 200)} Pass a CSV file with one row of numbers per step."
        ) from error
    table = parsing.parse(file, content, header=False, format=format)
    first = table.iloc[0].str.strip()
    known = ~first.str.lower().isin(cells.MISSING_NUMBERS)
    if known.any() and not first[known].str.contains(_HAS_DIGITS_ONLY).any():
        rows = table.iloc[1:].reset_index(drop=True)
        table = formats.applied(
            rows.set_axis([column_name(cell) for cell in first], axis=1), format, table.attrs["format"].separator
        )
        if columns:
            table = _channels(file, table, columns)
    elif columns and all(name.isdecimal() and int(name) < table.shape[1] for name in columns["series"]):
        table = table[[str(int(name)) for name in columns["series"]]]  # the data had no header either
    elif columns and table.shape[1] != len(columns["series"]):
        raise UsageError(
            f"{file} has {table.shape[1]} columns and no header; expected {', '.join(columns['series'])}. Add a line "
            "with the names of its columns."
        )
    channels = [cells.numbers(file, table.iloc[:, place]) for place in range(table.shape[1])]
    return np.stack(channels, axis=1).astype(np.float32)


_HAS_DIGITS_ONLY = r"^[+-]?[\d.,' \u00a0\u202f]*\d"
"""The begin of a number in any format, which no name of a column has."""


def _channels(file: Path, table: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the columns of the channels, in order."""
    names: Sequence[str] = columns["series"]
    header = list(table.columns)
    for name in names:
        if header.count(name) != 1:
            raise UsageError(
                f"{file} has {header.count(name)} columns named {name!r}; expected {', '.join(names)} once each. "
                f"{did_you_mean(name, header)}"
            )
    sequence = columns.get("sequence")
    if sequence in header and table[sequence].nunique() > 1:
        raise UsageError(
            f"{file} has {table[sequence].nunique()} sequences in {sequence}; expected one. Pass a file for each of them."
        )
    if columns.get("time") in header and _runs_backwards(table[columns["time"]]):
        raise UsageError(f"{file}: the rows are not in the order of {columns['time']}. Put the oldest first.")
    return table[list(names)]


def _runs_backwards(times: pd.Series) -> bool:
    """Whether times are in disorder, whether days or months come first in dates."""
    import warnings

    import pandas as pd

    held = times.astype(str)
    numbers = cells.as_numbers(held)
    with warnings.catch_warnings(action="ignore"):  # of dates that are read the other way round
        dates = [pd.to_datetime(held, utc=True, dayfirst=first, errors="coerce") for first in (True, False)]
    whole = [found for found in ([numbers] if numbers.notna().all() else dates) if found.notna().all()]
    return bool(whole) and not any(found.is_monotonic_increasing for found in whole)
