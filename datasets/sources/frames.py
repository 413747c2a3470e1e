"""DataFrames as data sets, with the columns of a CSV file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.datasets.data import Data
from zoo.datasets.sources.arrays import NAME
from zoo.datasets.sources.csv_files import IN_MEMORY, Columns
from zoo.datasets.sources.tables import read_table
from zoo.errors import UsageError
from zoo.tables.formats import TableFormat
from zoo.tables.frames import as_texts

if TYPE_CHECKING:
    import pandas as pd


def from_frame(
    frame: pd.DataFrame,
    columns: Mapping[str, Columns] | None = None,
    *,
    window: int | None = None,
    horizon: int | None = None,
    log_values: bool = False,
    kinds: Mapping[str, str] | None = None,
    leave_out: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    time: str | None = None,
    group: str | None = None,
    scaling: str | None = None,
    clip: bool | None = None,
    min_count: int | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    missing: Sequence[str] | str | None = None,
    units: Sequence[str] | str | None = None,
    memory_limit: int = 2 << 30,
) -> Data:
    """Makes a data set from a DataFrame, with the columns that `csv:` takes.

    In tables of features, the dtypes decide the kinds of columns: numbers (also time differences, in seconds), booleans,
    categories and times. The cells of other columns decide as in files.

    Args:
        frame: one row per example; one row per step or token for series and tagging.
        columns: the column or columns of every key. By default, columns are named like the keys.
        window: rows of history, for a series to forecast.
        horizon: rows to forecast, for a series to forecast.
        log_values: whether a regression learns the logarithms log(1 + value).
        kinds: for this and the next options, which tables of features take, see `zoo.datasets.load`.
        leave_out: columns that are not used.
        keep: columns that are used although they would be left out.
        time: a column of times, by which rows are split.
        group: a column whose equal values stay in one split.
        scaling: `standard` or `quantile`.
        clip: whether numbers beyond those of the training split become the nearest of them.
        min_count: how often a category must occur to be known.
        decimal: the decimal mark of numbers that are texts, "." or ",".
        thousands: the mark between groups of three digits in such numbers.
        missing: further cells that are missing values, in all columns.
        units: units or signs before or after numbers, which are removed.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: the columns fit no task, or a value has the wrong type.

    Example:
        >>> frame = pd.DataFrame({"message": ["hello you", "win now"] * 9, "kind": ["ham", "spam"] * 9})
        >>> zoo.datasets.from_frame(frame, {"text": "message", "label": "kind"}).class_names
        ('ham', 'spam')
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "iloc"):
        raise UsageError(
            f"frame is a {type(frame).__name__}; expected a pandas DataFrame. Pass pd.DataFrame(frame), say."
        )
    if frame.empty:
        raise UsageError("The DataFrame has no rows. Pass one with rows.")
    steps = {"window": window, "horizon": horizon}
    options = {
        **{"kinds": kinds, "leave_out": leave_out, "keep": keep, "time": time, "group": group},
        **{"scaling": scaling, "clip": clip, "min_count": min_count},
    }
    format = TableFormat.of({"decimal": decimal, "thousands": thousands, "missing": missing, "units": units})
    texts = as_texts(frame, format=format)
    source = (
        f"a DataFrame in memory (SHA-256 {hashlib.sha256(texts.to_csv().encode('utf-8', 'replace')).hexdigest()[:16]})"
    )
    return read_table(
        texts,
        IN_MEMORY,
        NAME,
        source,
        memory_limit,
        columns,
        steps,
        log_values=log_values,
        options=options,
    )
