"""DataFrames as tables of text: the cells of a CSV file that has exactly their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.tables import formats
from zoo.tables.formats import DEFAULT, TableFormat
from zoo.tables.headers import column_name

if TYPE_CHECKING:
    import pandas as pd

_EXACT = 2**53
"""Larger whole numbers in float64 may have been rounded before, and are written as floats."""


def as_texts(frame: pd.DataFrame, where: str = "The DataFrame", format: TableFormat = DEFAULT) -> pd.DataFrame:
    """Returns a DataFrame of texts, with row numbers from 0 and column names in NFC. `attrs["kinds"]` has the kinds
    of tables' columns by name, for columns whose dtype decides them: numbers, booleans, categories and times.
    `attrs["format"]` has the format of its texts.

    `where` names the table in messages. Missing words of the format become empty.

    Raises:
        UsageError: two columns have the same name, or a cell holds several values.

    Example:
        >>> frame = pd.DataFrame({"age": [39.0, None], "joined": pd.to_datetime(["2024-01-31", "2024-02-01"])})
        >>> as_texts(frame).to_numpy().tolist()
        [['39', '2024-01-31 00:00:00'], ['', '2024-02-01 00:00:00']]
    """
    import pandas as pd

    names = [column_name(column) for column in frame.columns]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{where} has two columns named {twice[0]!r}. Rename one of them.")
    point = format.point or "."
    columns = {name: _texts(frame.iloc[:, place], f"{where} row", name, point) for place, name in enumerate(names)}
    texts = pd.DataFrame(columns, dtype=str).fillna("")
    texts.attrs["kinds"] = {
        name: kind for place, name in enumerate(names) if (kind := _kind(frame.iloc[:, place].dtype)) is not None
    }
    return formats.applied(texts, format)


def _kind(dtype: Any) -> str | None:
    """Returns the kind of a table's column that a dtype means; None if its cells decide."""
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_bool_dtype(dtype):
        return "yes_no"
    if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        return "time_ymd"
    return None


def _texts(column: pd.Series, where: str, name: str, point: str) -> list[str]:
    """Returns the cells of a column. Floats among texts have the decimal mark of these, `point`."""
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    elif pd.api.types.is_timedelta64_dtype(dtype):
        column = column.dt.total_seconds()
    elif dtype in (np.float16, np.float32):  # as float64, 0.1 would become 0.10000000149011612
        return ["" if value != value else _number(float(value), str(value)) for value in column.to_numpy()]
    point = point if column.dtype == object else "."
    return [_cell(value, f"{where} {row}: {name}", point) for row, value in enumerate(column.astype(object), start=1)]


def _cell(value: Any, where: str, point: str) -> str:
    """Returns a value as a cell of a CSV file; a missing value is empty."""
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, float):
        return "" if value != value else _number(value, repr(float(value))).replace(".", point)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{where} is {value!r:.60}, not UTF-8. Convert it to text.") from error
    if isinstance(value, (list, tuple, dict, set, np.ndarray)):
        raise UsageError(
            f"{where} is {value!r:.60}; expected one value per cell. Make a column of each value, or a text."
        )
    return str(value)


def _number(value: float, shortest: str) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else shortest
