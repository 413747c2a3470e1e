"""Reads a CSV file as the series of a request, by the names of the columns that the model was trained on."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.tables.headers import column_name, named

if TYPE_CHECKING:
    import pandas as pd

_LARGEST = 1 << 30
"""Maximum bytes of a file."""


def read_series(file: Path, columns: Mapping[str, Any]) -> np.ndarray:
    """Reads a CSV file of numbers with one row per step; an empty cell is a missing value.

    Args:
        file: the file. Commas, semicolons, tabs or bars separate its cells.
        columns: the names of the columns by key: `series`, the channels in order, and perhaps `time` and `sequence`. If
            given, a header line may have them in any order, next to other columns. Without a header line, and if empty,
            the columns of the file are the channels in order.

    Returns:
        float32 (steps, channels).

    Raises:
        UsageError: the file cannot be read, lacks a column, has several sequences, or its rows run backwards in time.

    Example:
        >>> read_series(Path("sales.csv"), {"series": ["sold", "price"], "time": "day"}).shape
        (56, 2)
    """
    import pandas as pd

    columns = {key: named(value) for key, value in columns.items()}
    try:
        text = storage.read_bytes(file, _LARGEST).decode("utf-8-sig").rstrip("\r\n") + "\n"
        separator = max(",;\t|", key=text.split("\n", 1)[0].count)
        blank = separator in text  # in a file of one column an empty line is a missing value
        table = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, skipinitialspace=True, skip_blank_lines=blank, dtype=object
        )
        first = table.iloc[0].dropna()
        if len(first) and pd.to_numeric(first, errors="coerce").isna().all():
            table.columns = pd.Index([column_name(str(cell).strip()) for cell in table.iloc[0]])
            table = _channels(file, table.iloc[1:], columns) if columns else table.iloc[1:]
        elif columns and all(name.isdecimal() and int(name) < table.shape[1] for name in columns["series"]):
            table = table[[int(name) for name in columns["series"]]]  # the data had no header either
        elif columns and table.shape[1] != len(columns["series"]):
            raise UsageError(
                f"{file} has {table.shape[1]} columns and no header; expected {', '.join(columns['series'])}. Add a line "
                "with the names of its columns."
            )
        return table.apply(pd.to_numeric).to_numpy(np.float32)
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        raise UsageError(
            f"Cannot read {file}: {one_line(error, 200)} Pass a CSV file with one row of numbers per step."
        ) from error


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


def _runs_backwards(cells: pd.Series) -> bool:
    """Whether times are in disorder, whether days or months come first in dates."""
    import warnings

    import pandas as pd

    held = cells.astype(str)
    numbers = pd.to_numeric(held, errors="coerce")
    with warnings.catch_warnings(action="ignore"):  # of dates that are read the other way round
        dates = [pd.to_datetime(held, utc=True, dayfirst=first, errors="coerce") for first in (True, False)]
    whole = [times for times in ([numbers] if numbers.notna().all() else dates) if times.notna().all()]
    return bool(whole) and not any(times.is_monotonic_increasing for times in whole)
