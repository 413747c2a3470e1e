"""Numbers and times in the cells of a CSV file: what they say for certain, or an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UsageError
from zoo.tables import faults, formats

if TYPE_CHECKING:
    import pandas as pd

    from zoo.tables.formats import TableFormat

MISSING_NUMBERS = ("", "na", "n/a", "nan", "null", "none")
"""What stands for a missing value in columns of numbers, dates and yes or no, in small letters."""
_DATE = re.compile(r"^\s*(\d{1,2})([./-])(\d{1,2})[./-]\d{2,4}\b")
_DATE_LIKE = re.compile(r"^\s*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b")
_THOUSANDS = r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+"
_FEWEST = 3  # cells; fewer prove nothing
_NO_NUMBER = "?"


def numbers(path: Path, cells: pd.Series, expected: str = "a number") -> np.ndarray:
    """Returns a column as float64, missing values as NaN. `attrs["format"]` has the format of the table, see
    `formats.TableFormat`.

    Args:
        path: the file, for messages.
        cells: the column; the index has the numbers of the rows, from 0.
        expected: what a cell should be, for messages.

    Raises:
        UsageError: a cell is not a finite number, or points may separate thousands. The message gives the row, the part of
            the cell that is wrong, and the options with which it is a number.

    Example:
        >>> numbers(Path("a.csv"), pd.Series(["1.5", "", "2e3"])).tolist()
        [1.5, nan, 2000.0]
    """
    format = formats.of(cells)
    held, values, missing, wrong = _read(cells)
    if wrong.any():
        raise _not_a_number(path, cells, held, int(np.flatnonzero(wrong)[0]), expected)
    values[missing] = np.nan
    if format.units:
        _check_units(path, held[~missing], format)
    if format.point is None:
        _check_ambiguous(path, held[~missing], values[~missing], format)
    return values


def wrong_numbers(path: Path, cells: pd.Series, expected: str = "a number") -> dict[int, str]:
    """Returns why single cells of a column are no numbers: the message of `numbers`, by the number of the row, from 0.

    Example:
        >>> list(wrong_numbers(Path("a.csv"), pd.Series(["1.5", "", "old"])))
        [2]
    """
    held, _, _, wrong = _read(cells)
    places = [int(at) for at in np.flatnonzero(wrong)]
    return {int(cells.index[at]): str(_not_a_number(path, cells, held, at, expected)) for at in places}


def _read(cells: pd.Series) -> tuple[pd.Series, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the cells without spaces, their numbers, which are missing, and which are no numbers."""
    held = cells.str.strip()
    missing = held.str.lower().isin(MISSING_NUMBERS).to_numpy()
    values = np.array(as_numbers(cells), np.float64)
    return held, values, missing, ~np.isfinite(values) & ~missing


def _not_a_number(path: Path, cells: pd.Series, held: pd.Series, at: int, expected: str) -> UsageError:
    lacks, hint = faults.explain(held.iloc[at], formats.of(cells), as_numbers)
    return UsageError(
        f"{path} row {cells.index[at] + 1}: {cells.name} is {cells.iloc[at]!r}; expected {expected}{lacks}. {hint}"
        "Correct it or leave the cell empty if it is a mistake."
    )


def _check_ambiguous(path: Path, known: pd.Series, values: np.ndarray, format: TableFormat) -> None:
    """Rejects numbers whose points or commas may separate thousands, as all of them precede three digits."""
    plain = _without_units(known, format)
    mark = "," if _has_commas(plain, format) else "."
    if mark == ",":
        plain = plain.str.replace(",", ".", regex=False)
    fractions = plain[plain.str.contains(".", regex=False)]
    all_grouped = len(fractions) > 0 and bool(fractions.str.fullmatch(_THOUSANDS).all())
    if mark == "." and all_grouped and format.commas:
        shown = fractions.iloc[0]
        raise UsageError(
            f"{path} row {fractions.index[0] + 1}: {known.name} is {shown!r}, and {format.commas}, so the points of "
            f"{known.name} seem to separate thousands. Pass {format.flags(thousands='.')} to read it as "
            f"{shown.replace('.', '')}; or write {shown.replace('.', ',', 1)} if it is a fraction, in the whole column."
        )
    if mark == "," and known.name in format.comma_columns:
        return
    _check_thousands(path, plain, values, mark, format)
    if mark == "," and all_grouped:
        shown = fractions.iloc[0].replace(".", ",")
        raise UsageError(
            f"{path}: {known.name} has {shown}, as all of its commas precede three digits, so they may separate thousands. "
            f"Pass {format.flags(decimal=',')} if it is a fraction, or {format.flags(thousands=',')} if it is "
            f"{shown.replace(',', '')}."
        )


def grouped_points(cells: pd.Series) -> str:
    """Returns a cell whose points may separate thousands, if all cells with a point are alike; "" without any.

    Example:
        >>> grouped_points(pd.Series(["1.234", "7"])), grouped_points(pd.Series(["1.234", "1.5"]))
        ('1.234', '')
    """
    held = cells.str.strip()
    pointed = held[held.str.contains(".", regex=False)]
    return str(pointed.iloc[0]) if len(pointed) and pointed.str.fullmatch(_THOUSANDS).all() else ""


def _check_thousands(path: Path, held: pd.Series, values: np.ndarray, mark: str, format: TableFormat) -> None:
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
            f"Remove these {marks}, or pass {format.flags(thousands=mark)}; or {format.flags(decimal=mark)}, if "
            f"{point.replace('.', mark)} is about {float(point):.0f}."
        )


def _check_units(path: Path, known: pd.Series, format: TableFormat) -> None:
    """Rejects a column with several units, or with and without one: 12 % and 0.12 may be equal."""
    unit = _units(format)
    found = known.str.extract(rf"(?:^[+-]?\s*({unit})|({unit})$)")
    which = found[0].fillna(found[1]).fillna("")
    if which.nunique() > 1:
        row = which.index[which != which.iloc[0]][0]
        one, other = (f"the unit {text}" if text else "no unit" for text in (which[row], which.iloc[0]))
        raise UsageError(
            f"{path} row {row + 1}: {known.name} is {known[row]!r}, with {one}; {known.iloc[0]!r} in row "
            f"{known.index[0] + 1} has {other}. Convert the column to one unit."
        )


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


def as_numbers(cells: pd.Series) -> pd.Series:
    """Returns the numbers of a column in the format of its table; NaN for all other cells.

    Example:
        >>> cells = pd.Series(["1.234,5 €", "k. A."])
        >>> cells.attrs["format"] = formats.TableFormat(decimal=",", thousands=".", units=("€",))
        >>> as_numbers(cells).tolist()
        [1234.5, nan]
    """
    import pandas as pd

    format = formats.of(cells)
    held = _without_units(cells.str.strip(), format)
    point = "[.,]" if format.point is None else re.escape(format.point)
    if format.thousands:
        mark = format.pattern(format.thousands)
        groups = rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+"
        if format.thousands == ",":
            groups += r"|[1-9]\d?(?:,\d{2})+,\d{3}"  # 12,34,567 in India
        grouped = held.str.fullmatch(rf"[+-]?(?:{groups})(?:{point}\d*)?")
        held = held.str.replace(mark, "", regex=True).where(grouped, held)
    if format.point:
        number = held.str.fullmatch(rf"[+-]?(?:\d+(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?")
        held = held.str.replace(format.point, ".", regex=False).where(number, _NO_NUMBER)
    elif _has_commas(held, format):
        held = held.str.replace(",", ".", regex=False)
    return pd.to_numeric(held, errors="coerce")


def _units(format: TableFormat) -> str:
    return "|".join(re.escape(unit) for unit in sorted(format.units, key=len, reverse=True))


def _without_units(held: pd.Series, format: TableFormat) -> pd.Series:
    if not format.units:
        return held
    unit = _units(format)
    return held.str.replace(rf"^([+-]?)\s*(?:{unit})\s*", r"\1", regex=True).str.replace(
        rf"\s*(?:{unit})$", "", regex=True
    )


def _has_commas(held: pd.Series, format: TableFormat) -> bool:
    """Returns whether the numbers of a column have decimal commas: no comma separates the cells of the file, or the model was
    trained on such numbers, and all numbers with a fraction have one."""
    if (format.separator == "," and not format.commas) or not held.str.contains(",", regex=False).any():
        return False
    known = held[~held.str.lower().isin(MISSING_NUMBERS)]
    return bool(known.str.fullmatch(r"[+-]?\d*,?\d+").all())


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
    values = as_numbers(cells)
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
