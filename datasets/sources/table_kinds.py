"""What the columns of a table hold: numbers, yes and no, dates, categories, identifiers or texts."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.datasets.preprocessing import moments
from zoo.datasets.preprocessing.columns import NO, YES
from zoo.errors import UsageError, did_you_mean
from zoo.tables import cells, faults, formats

if TYPE_CHECKING:
    import pandas as pd

USED = ("number", "category", "yes_no", "time")
"""The kinds that models learn from."""
DATES = {f"time_{order}": order for order in moments.EXAMPLES}
"""Further kinds that users may set: dates, and the order of their year, month and day."""
LEFT_OUT = ("identifier", "text", "constant")
"""The kinds that are left out."""

_UNIQUE = 0.95
"""Texts of which a larger share is different are identifiers, or texts if they are long."""
_LONG = 40
"""Texts of more letters on average, mostly different, are sentences."""
_RESOLUTION = 0.01
"""Numbers need steps that are at most this share of their standard deviation."""
_FEW = 20
"""Columns with fewer values prove nothing about identifiers."""


_FIXED: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar("fixed", default=None)


@contextlib.contextmanager
def reading_as(kinds: Mapping[str, str] | None) -> Iterator[None]:
    """Reads tables for a model that exists: in the block, tables have the model's columns and kinds, whatever their cells
    suggest, and other columns are not used. None changes nothing.

    Example:
        >>> with reading_as({"age": "number", "joined": "time_dmy"}):
        ...     data = zoo.datasets.load("csv:this_week.csv", columns={"label": "income"})
    """
    token = _FIXED.set(kinds)
    try:
        yield
    finally:
        _FIXED.reset(token)


def fixed_kinds() -> Mapping[str, str] | None:
    """Returns the kinds of the columns of a model that exists, see `reading_as`; None for a new model."""
    return _FIXED.get()


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        kind: see `USED` and `LEFT_OUT`.
        values: for used kinds, the raw values: float32, float64 seconds, or bytes.
        order: for dates, see `moments.order_of`.
        missing: number of missing values.
        examples: a few of the different values.
        why: why it is left out; "" if it is used.
        lost: for numbers that float32 cannot tell apart, the smallest, the largest, and the step of float32 there.
    """

    kind: str
    values: np.ndarray | None
    order: str = ""
    missing: int = 0
    examples: tuple[str, ...] = ()
    why: str = ""
    lost: tuple[float, float, float] | None = None


def read(path: Path, column: pd.Series, kind: str | None, *, keep: bool = False) -> Column:
    """Returns a column, of the kind that is given or, if None, that its cells have without doubt. With `keep`, a column that
    would be left out is one of numbers or categories. `column.attrs["kinds"]` may have the kinds of a DataFrame's dtypes.

    Raises:
        UsageError: a cell does not fit the kind, or dates have two forms; the message gives the row.
    """
    held = column.str.strip()
    missing = held.str.lower().isin(cells.MISSING_NUMBERS)
    known = held[~missing]
    different = known.unique()
    if kind is None:
        kind = _kind(path, known, different, column.attrs.get("kinds", {}).get(column.name), bool(missing.any()))
    if keep and kind in LEFT_OUT:
        kind = "number" if len(known) and _as_numbers(known).notna().all() else "category"
    if kind == "category":
        missing = held == ""  # NA may be a word
        different = held[~missing].unique()
    order = DATES.get(kind)
    found = Column("time" if order else kind, None, missing=int(missing.sum()), examples=tuple(map(str, different[:3])))
    if order:
        return dataclasses.replace(found, **_dates(path, column, missing, order))
    reader = {"number": _number, "yes_no": _yes_no, "time": _time, "category": _category}.get(found.kind)
    if reader is None:
        return dataclasses.replace(found, why=_WHY[found.kind] if len(known) else "no row has a value")
    return dataclasses.replace(found, **reader(path, column, missing))


_WHY = {
    "identifier": "each row has its own value",
    "text": "sentences; train a model of texts on them",
    "constant": "all rows have the same value",
}


def _kind(path: Path, known: pd.Series, different: np.ndarray, usual: str | None, gaps: bool) -> str:
    if len(different) == 0 or (len(different) == 1 and not gaps):  # with gaps, one value is a mark, such as a cross
        return "constant"
    numbers = _as_numbers(known)
    if usual is None and numbers.notna().all() and known.str.fullmatch(r"0\d+").any():  # as in post codes
        return "identifier" if len(known) >= _FEW and len(different) > _UNIQUE * len(known) else "category"
    if numbers.notna().all() and usual != "category":
        return "identifier" if _counts_rows(numbers) else usual or "number"
    if usual:
        return usual
    if any(set(known.str.lower()) <= {*pair} for pair in zip(YES, NO, strict=True)):
        return "yes_no"
    if all(moments.is_date(cell) for cell in different):
        return "time"
    _check_mixed(path, known, numbers)
    _check_marks(path, known, different)
    share = len(different) / len(known)
    if share > _UNIQUE and len(known) >= _FEW:
        return "text" if known.str.len().mean() > _LONG else "identifier"
    return "text" if known.str.len().mean() > _LONG and share > 0.5 else "category"


def _as_numbers(known: pd.Series) -> pd.Series:
    return cells.as_numbers(known)


def _counts_rows(numbers: pd.Series) -> bool:
    """Whether numbers are 0, 1, 2, ... or the same from another start, as in a column of row numbers."""
    steps = np.diff(numbers.to_numpy(np.float64))
    return len(numbers) >= _FEW and bool((steps == 1).all())


_NEARLY = 0.98
"""If at least this share of a column is numbers, the others are mistakes."""


def _check_mixed(path: Path, known: pd.Series, numbers: pd.Series) -> None:
    """Rejects numbers with a few words between them, or with one word: they may be mistakes, or stand for a missing value. It
    also rejects numbers up to some row, and words from there on, or the reverse."""
    is_number = numbers.notna()
    share = float(is_number.mean())
    if len(known) < _FEW or not is_number.any():
        return
    if share < _NEARLY and (share < 0.5 or known[~is_number].nunique() > 1 or numbers.nunique() <= _FEW):
        changes = np.flatnonzero(np.diff(is_number.to_numpy()))
        ordered = numbers.dropna().is_monotonic_increasing or numbers.nunique() <= _FEW
        if len(changes) != 1 or ordered:  # sorted cells have their numbers first
            return
        row = int(known.index[changes[0] + 1])
        one, other = ("a word", "a number") if is_number[row] == 0 else ("a number", "a word")
        raise UsageError(
            f"{path} row {row + 1}: {known.name} is {known[row]!r}, {one} as in all rows from here on, and {other} in all "
            f'rows before. Correct the column, or pass --data.kinds \'{{"{known.name}": "category"}}\'.'
        )
    row = int(numbers.index[~is_number][0])
    name, cell = known.name, known[row]
    lacks, hint = faults.explain(cell, formats.of(known), cells.as_numbers)
    raise UsageError(
        f"{path} row {row + 1}: {name} is {cell!r}, and a number{lacks} in {share:.1%} of the rows. {hint}"
        "Correct it or leave the cell empty if it is a mistake; if it is a word, "
        f'pass --data.kinds \'{{"{name}": "category"}}\'.'
    )


_BLANK = "[ \u00a0\u2009\u202f]"
_MARKED = (
    rf"[+-]?{_BLANK}?[$€£¥]?{_BLANK}?(?:\d{{1,3}}(?:[.,'\u2019 \u00a0\u2009\u202f]\d{{3}})+|\d+)(?:[.,]\d+)?"
    rf"{_BLANK}?[%€$£¥]?"
)
_MOSTLY = 0.8
"""If this share of a column is numbers with marks, the others are mistakes, or words for missing values."""


def _check_marks(path: Path, known: pd.Series, different: np.ndarray) -> None:
    """Rejects numbers that are written with marks, such as 1,234 or 12 %, which would be as many categories."""
    marked = known.str.fullmatch(_MARKED)
    format = formats.of(known)
    wrong = marked & _as_numbers(known).isna()
    given = format.commas or format.asked().keys() & {"decimal", "thousands", "units"}  # then few are enough
    if (len(different) < _FEW and not given) or marked.mean() < _MOSTLY or not wrong.any():
        return
    row = int(known.index[wrong][0])
    lacks, hint = faults.explain(known[row], format, cells.as_numbers)
    raise UsageError(
        f"{path} row {row + 1}: {known.name} is {known[row]!r}; expected a number{lacks}. {hint}"
        "Correct it or leave the cell empty if it is a mistake; if it is a word, pass "
        f'--data.kinds \'{{"{known.name}": "category"}}\'.'
    )


def _number(path: Path, column: pd.Series, missing: pd.Series) -> dict[str, Any]:
    exact = cells.numbers(path, column)
    cells.check_range(path, column, exact)
    known = exact[~np.isnan(exact)]
    step = float(np.spacing(np.float32(np.abs(known).max()))) if len(known) else 0.0
    lost = 0 < known.std() * _RESOLUTION < step if len(known) else False
    return {
        "values": exact.astype(np.float32),
        "lost": (float(known.min()), float(known.max()), step) if lost else None,
    }


def _yes_no(path: Path, column: pd.Series, missing: pd.Series) -> dict[str, Any]:
    words = column.str.strip().str.lower()
    wrong = ~(missing | words.isin([*YES, *NO]))
    if wrong.any():
        row = int(words.index[wrong][0])
        raise UsageError(
            f"{path} row {row + 1}: {column.name} is {column[row]!r}, neither yes nor no. Correct it, or pass "
            f'--data.kinds \'{{"{column.name}": "category"}}\'.'
        )
    values = np.where(words.isin(YES), 1.0, 0.0)
    return {"values": np.where(missing, np.nan, values).astype(np.float32)}


def _time(path: Path, column: pd.Series, missing: pd.Series) -> dict[str, Any]:
    known = column[~missing].str.strip().drop_duplicates()
    order = moments.order_of(known.tolist())
    if order is None:
        if moments.is_ambiguous(known.tolist()):
            raise UsageError(
                f"{path}: in {column.name}, {known.iloc[0]} may begin with the day or with the month. Pass --data.kinds "
                f'\'{{"{column.name}": "time_dmy"}}\' if it is the day, time_mdy if it is the month.'
            )
        orders = [moments.order_of([cell]) for cell in known]
        certain = next((place for place, order in enumerate(orders) if order), None)
        if certain is None:
            return _dates(path, column, missing, "ymd")
        return _dates(path, column, missing, orders[certain] or "", like=known.iloc[certain])
    return _dates(path, column, missing, order)


def _dates(path: Path, column: pd.Series, missing: pd.Series, order: str, like: str = "") -> dict[str, Any]:
    """Reads dates of one order. `like` is one of them, for messages."""
    texts = column.str.strip().where(~missing, "")
    values = moments.seconds(texts.tolist(), order)
    wrong = np.isnan(values) & ~missing.to_numpy()
    if wrong.any():
        row = int(column.index[wrong][0])
        raise UsageError(
            f"{path} row {row + 1}: {column.name} is {column[row]!r}, which is no date of the same form as "
            f"{like or moments.EXAMPLES[order]!r}. Convert all of them to 2024-01-31, say."
        )
    return {"values": values, "order": order}


def _category(path: Path, column: pd.Series, missing: pd.Series) -> dict[str, Any]:
    held = column.str.strip()
    broken = held.str.contains(r"[\r\n\0]", regex=True)
    if broken.any():
        row = int(held.index[broken][0])
        raise UsageError(
            f"{path} row {row + 1}: {column.name} is {column[row]!r:.60}; a category cannot have a line break. Remove it, or "
            f"leave the column out with --data.leave_out '[\"{column.name}\"]'."
        )
    values = np.empty(len(held), object)
    values[:] = [cell.encode("utf-8", "replace") for cell in held]
    return {"values": values}


def check_kinds(path: Path, kinds: Mapping[str, str], columns: list[str]) -> None:
    """Checks kinds that the user set.

    Raises:
        UsageError: an unknown column or kind.
    """
    for name, kind in kinds.items():
        if name not in columns:
            raise UsageError(f"{path} has no column {name!r} for kinds. {did_you_mean(name, columns)}")
        if kind not in (*USED, *DATES):
            raise UsageError(
                f"kinds has {kind!r} for {name}. {did_you_mean(str(kind), USED)} Pass one of {', '.join((*USED, *DATES))}."
            )
