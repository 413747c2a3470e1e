"""Reads a CSV file as the series of requests, by the names of the columns that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.tables import calendars, cells, formats, parsing
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
            the columns of the file are the channels in order. With `calendar`, the parts of the time follow. Or `steps`, see
            `read_several`: such a file may have one row, or one column with a row per step.
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
    table = _table(file, format)
    if "steps" in columns and table.shape[1] > 1:
        series = [value for _, value in _of_rows(file, table, columns)[0]]
        if len(series) > 1:
            raise UsageError(f"{file} has {len(series)} series, one per row; expected one. Pass a file with one row.")
        return series[0]
    columns = {} if "steps" in columns else columns
    names = [*columns.get("series", ()), *columns.get("calendar", ())]
    if not _is_without_header(table):
        table = _channels(file, table, columns) if columns else table
    elif columns and all(name.isdecimal() and int(name) < table.shape[1] for name in names):
        table = table[[str(int(name)) for name in names]]  # the data had no header either
    elif columns and table.shape[1] != len(names):
        raise UsageError(
            f"{file} has {table.shape[1]} columns and no header; expected {', '.join(names)}. Add a line "
            "with the names of its columns."
        )
    return _values(file, table)


def read_several(
    file: Path, columns: Mapping[str, Any], format: TableFormat = DEFAULT
) -> tuple[list[tuple[str, np.ndarray]], list[str]] | None:
    """Reads a file with several series: one per row for a model of `steps`, or one per id of a column `sequence`.

    Args:
        file: the file, CSV or Parquet.
        columns: as of `read_series`; `steps` has the columns of steps in order, and `label` the column of labels. Without a
            header line, the first of one more column is the label.
        format: how the file writes numbers and missing values.

    Returns:
        The name and the values, float32 (steps, channels), of each series, and the columns that are not used; None for a
        file with one series, which `read_series` reads.

    Raises:
        UsageError: as `read_series`, or a row has no number.

    Example:
        >>> series, unused = read_several(Path("beats.csv"), {"steps": ["t0", "t1", "t2"], "label": "kind"})
        >>> series[0]
        ('beats.csv row 1', array([[0.5], [1.5], [2. ]], dtype=float32))
    """
    columns = {key: named(value) for key, value in columns.items()}
    if "steps" not in columns and "sequence" not in columns:
        return None
    table = _table(file, format)
    if "steps" in columns:
        return _of_rows(file, table, columns) if table.shape[1] > 1 else None
    sequence = columns["sequence"]
    if _is_without_header(table) or sequence not in table.columns or table[sequence].nunique() < 2:
        return None
    parts = [(key, table[table[sequence] == key]) for key in dict.fromkeys(table[sequence])]
    return [(f"{file} {sequence} {key}", _values(file, _channels(file, part, columns))) for key, part in parts], []


def _table(file: Path, format: TableFormat) -> pd.DataFrame:
    """Returns the cells of a file, with the names of columns that it has, or their numbers."""
    try:
        content = storage.read_bytes(file, _LARGEST)
    except OSError as error:
        raise UsageError(
            f"Cannot read {file}: {one_line(error, 200)} Pass a CSV file with one row of numbers per step."
        ) from error
    if content.startswith(b"PAR1"):
        return parsing.parse(file, content, format=format)
    table = parsing.parse(file, content, header=False, format=format)
    first = table.iloc[0].str.strip()
    known = ~first.str.lower().isin(cells.MISSING_NUMBERS)
    if known.any() and not first[known].str.contains(_HAS_DIGITS_ONLY).any():
        rows = table.iloc[1:].reset_index(drop=True)
        return formats.applied(
            rows.set_axis([column_name(cell) for cell in first], axis=1), format, table.attrs["format"].separator
        )
    return table


def _is_without_header(table: pd.DataFrame) -> bool:
    return list(table.columns) == [str(number) for number in range(table.shape[1])]


def _values(file: Path, table: pd.DataFrame) -> np.ndarray:
    channels = [cells.numbers(file, table.iloc[:, place]) for place in range(table.shape[1])]
    return np.stack(channels, axis=1).astype(np.float32)


def _of_rows(
    file: Path, table: pd.DataFrame, columns: Mapping[str, Any]
) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Returns the series of the rows, without the empty cells at their ends, and the columns that are not used."""
    steps, label = columns["steps"], columns.get("label")
    header = list(table.columns)
    if _is_without_header(table) and not set(steps) <= set(header):  # other names, or no column of labels
        if len(header) not in (len(steps), len(steps) + 1):
            raise UsageError(
                f"{file} has {len(header)} columns and no header; expected {len(steps)}, or {len(steps) + 1} with the label "
                "first. Add a line with the names of its columns."
            )
        steps, label = header[-len(steps) :], header[0]
    for name in steps:
        if header.count(name) != 1:
            raise UsageError(
                f"{file} has {header.count(name)} columns named {name!r}; expected {steps[0]} to {steps[-1]} once each. "
                f"{did_you_mean(name, header)}"
            )
    values = _values(file, table[list(steps)])
    known = ~np.isnan(values)
    if not known.any(axis=1).all():
        row = int(np.flatnonzero(~known.any(axis=1))[0]) + 1
        raise UsageError(f"{file} row {row} has no number in {steps[0]} to {steps[-1]}. Leave the row out.")
    lengths = values.shape[1] - known[:, ::-1].argmax(axis=1)
    series = [row[:length, np.newaxis] for row, length in zip(values, lengths, strict=True)]
    unused = [name for name in header if name not in {*steps, label}]
    return [(f"{file} row {number}", each) for number, each in enumerate(series, start=1)], unused


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
    return _with_calendar(file, table, columns)


def _with_calendar(file: Path, table: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the columns of the channels, and after them the parts of the time: from the column of the time, as in training,
    or the columns with their names in a file without it."""
    import pandas as pd

    found, parts = table[list(columns["series"])], list(columns.get("calendar", ()))
    time = columns.get("time")
    if not parts:
        return found
    if time in table.columns:
        values = calendars.calendar(file, table[time], parts)
        taken = pd.DataFrame(values.astype(float), index=table.index, columns=parts).map(repr)
        return pd.concat([found, taken], axis=1)
    if set(parts) <= set(table.columns):
        return pd.concat([found, table[parts]], axis=1)
    raise UsageError(
        f"{file} has no column {time!r}, from which {', '.join(parts)} are taken. Add it, or columns of these names."
    )


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
