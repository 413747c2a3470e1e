"""Numbers and times in the cells of a CSV file: what they say for certain, or an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

MISSING_NUMBERS = ("", "na", "n/a", "nan", "null", "none")
"""What stands for a missing value in columns of numbers, dates and yes or no, in small letters."""
_DATE = re.compile(r"^\s*(\d{1,2})([./-])(\d{1,2})[./-]\d{2,4}\b")
_DATE_LIKE = re.compile(r"^\s*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b")
_THOUSANDS = r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+"
_GROUPED = r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?"
_FEWEST = 3  # cells; fewer prove nothing


def numbers(path: Path, cells: pd.Series, expected: str = "a number") -> np.ndarray:
    """Returns a column as float64, missing values as NaN.

    Args:
        path: the file, for messages.
        cells: the column; the index has the numbers of the rows, from 0.
        expected: what a cell should be, for messages.

    Raises:
        UsageError: a cell is not a finite number, or points may separate thousands. The message gives the row.

    Example:
        >>> numbers(Path("a.csv"), pd.Series(["1.5", "", "2e3"])).tolist()
        [1.5, nan, 2000.0]
    """
    import pandas as pd

    mark = "," if has_decimal_commas(cells) else "."
    held = with_points(cells)
    held = held.mask(held.str.lower().isin(MISSING_NUMBERS), "nan")
    values = pd.to_numeric(held, errors="coerce").to_numpy(np.float64)
    wrong = ~np.isfinite(values) & (held != "nan").to_numpy()
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        grouped = re.fullmatch(_THOUSANDS, held.iloc[at])
        point = " with a decimal point" if "," in held.iloc[at] else " without points for thousands" if grouped else ""
        if re.fullmatch(_GROUPED, held.iloc[at]):
            point = " without commas for thousands"
        raise UsageError(
            f"{path} row {cells.index[at] + 1}: {cells.name} is {cells.iloc[at]!r}; expected {expected}{point}. "
            "Correct it, or leave the cell empty."
        )
    _check_thousands(path, held[held != "nan"], values[(held != "nan").to_numpy()], mark)
    fractions = held[held.str.contains(".", regex=False)]
    if mark == "," and fractions.str.fullmatch(_THOUSANDS).all():
        shown = fractions.iloc[0].replace(".", ",")
        raise UsageError(
            f"{path}: {cells.name} has {shown}, as all of its commas precede three digits, so they may separate thousands. "
            f"Write {shown.replace(',', '')}, or {shown}0 if it is a fraction; convert the whole column."
        )
    return values


def check_range(path: Path, cells: pd.Series, values: np.ndarray) -> None:
    """Checks that numbers are in the range of float32.

    Raises:
        UsageError: one is beyond. The message gives the row.
    """
    with np.errstate(over="ignore"):
        beyond = np.isinf(values.astype(np.float32))
    if beyond.any():
        at = int(np.flatnonzero(beyond)[0])
        raise UsageError(
            f"{path} row {cells.index[at] + 1}: {cells.name} is {cells.iloc[at]!r}; expected at most 3.4e38. Correct it, or "
            "leave the cell empty."
        )


def with_points(cells: pd.Series) -> pd.Series:
    """Returns cells without blanks around them, and with decimal points if they have decimal commas."""
    held = cells.str.strip()
    return held.str.replace(",", ".", regex=False) if has_decimal_commas(cells) else held


def has_decimal_commas(cells: pd.Series) -> bool:
    """Returns whether the numbers of a column have decimal commas: no comma separates the cells of the file, and all numbers
    with a fraction have one.

    Example:
        >>> cells = pd.Series(["1,5", "2", ""])
        >>> cells.attrs["separator"] = ";"
        >>> has_decimal_commas(cells)
        True
    """
    if cells.attrs.get("separator", ",") == "," or not cells.str.contains(",", regex=False).any():
        return False
    held = cells.str.strip()
    known = held[~held.str.lower().isin(MISSING_NUMBERS)]
    return bool(known.str.fullmatch(r"[+-]?\d*,?\d+").all())


def _check_thousands(path: Path, held: pd.Series, values: np.ndarray, mark: str) -> None:
    """Rejects 1.176 beside 999: whoever writes three decimals writes them in every cell, so this is 1176."""
    pointed = held.str.contains(".", regex=False)
    if int(pointed.sum()) < _FEWEST:
        return
    grouped = held.str.fullmatch(_THOUSANDS)
    plain = ~pointed & held.str.fullmatch(r"[+-]?\d+")
    if int(grouped.sum()) < _FEWEST or not plain.any() or not (grouped | plain).all():
        return
    if np.abs(values[plain.to_numpy()]).max() < 1000:
        point, whole = held[grouped].iloc[0], held[plain].iloc[0]
        marks = "commas" if mark == "," else "points"
        raise UsageError(
            f"{path}: {held.name} has {point.replace('.', mark)} and {whole}, so its {marks} seem to separate thousands. "
            f"Remove these {marks}; or write {whole}{mark}000, if {point.replace('.', mark)} is about {float(point):.0f}."
        )


def times(path: Path, cells: pd.Series) -> np.ndarray:
    """Returns a column of times: whole numbers as they are (int64), other numbers as float64, and dates as seconds since
    1970 (int64), or as nanoseconds (int64) if they have parts of a second.

    01.02.2024 is February 1. Of 01/02/2024 and 01-02-2024, the other cells decide; if they do not, this is an error.

    Raises:
        UsageError: a cell is not a time, or day and month cannot be told apart.

    Example:
        >>> times(Path("a.csv"), pd.Series(["10.02.2021", "01.03.2021"])).tolist()
        [1612915200, 1614556800]
    """
    import pandas as pd

    held = cells.str.strip()
    values = pd.to_numeric(held, errors="coerce")
    if values.notna().all():
        exact = values.to_numpy()
        return exact.astype(np.int64) if (exact == np.floor(exact)).all() else exact.astype(np.float64)
    moments = pd.to_datetime(held, utc=True, dayfirst=_day_first(path, held), errors="coerce")
    if moments.isna().any():
        at = int(np.flatnonzero(moments.isna())[0])
        raise UsageError(
            f"{path} row {cells.index[at] + 1}: {cells.name} is {cells.iloc[at]!r}, which cannot be read as a time of the "
            "same form as in the other rows. Convert it to 2024-01-31 13:00, say, or to numbers."
        )
    since = moments - pd.Timestamp(0, tz="UTC")
    exact = since.to_numpy().astype("timedelta64[ns]").astype(np.int64)
    return exact if (exact % 1_000_000_000).any() else exact // 1_000_000_000


def _day_first(path: Path, held: pd.Series) -> bool:
    found = held.str.extract(_DATE)
    if found.isna().any(axis=None):
        return False
    first, second = found[0].astype(int), found[2].astype(int)
    if (found[1] == ".").all() or (first > 12).any():
        return True
    if (second > 12).any() or (first == second).all():
        return False
    raise UsageError(
        f"{path}: in {held.name}, {held.iloc[0]} may begin with the day or with the month. Convert them to 2024-01-31, say."
    )


def runs_backwards(cells: pd.Series) -> bool:
    """Whether a column has dates, each before the one in the row above.

    Example:
        >>> runs_backwards(pd.Series(["2024-01-03", "2024-01-02", "2024-01-01"]))
        True
    """
    if len(cells) < _FEWEST or not cells.str.match(_DATE_LIKE).all():
        return False
    try:
        return bool((np.diff(times(Path(), cells)) < 0).all())
    except UsageError:
        return False
