"""What the columns of a table hold: numbers, yes and no, dates, categories, identifiers or texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.datasets.preprocessing import moments
from zoo.datasets.preprocessing.columns import NO, YES
from zoo.errors import UsageError, did_you_mean
from zoo.tables import cells

if TYPE_CHECKING:
    import pandas as pd

USED = ("number", "category", "yes_no", "time")
"""The kinds that models learn from."""
LEFT_OUT = ("identifier", "text", "constant")
"""The kinds that are left out."""

_UNIQUE = 0.95
"""Texts of which a larger share is different are identifiers, or texts if they are long."""
_LONG = 40
"""Texts of more letters on average, mostly different, are sentences."""
_FEW = 20
"""Columns with fewer values prove nothing about identifiers."""


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
    """

    kind: str
    values: np.ndarray | None
    order: str = ""
    missing: int = 0
    examples: tuple[str, ...] = ()
    why: str = ""


def read(path: Path, column: pd.Series, kind: str | None, *, keep: bool = False) -> Column:
    """Returns a column, of the kind that is given or, if None, that its cells have without doubt. With `keep`, a column that
    would be left out is one of numbers or categories.

    Raises:
        UsageError: a cell does not fit the kind, or dates have two forms; the message gives the row.
    """
    held = column.str.strip()
    missing = held.str.lower().isin(cells.MISSING_NUMBERS)
    known = held[~missing]
    different = known.unique()
    found = Column(
        kind or _kind(path, known, different), None, missing=int(missing.sum()), examples=tuple(map(str, different[:3]))
    )
    if keep and found.kind in LEFT_OUT:
        whole = bool(len(known)) and bool(_as_numbers(known).notna().all())
        found = dataclasses.replace(found, kind="number" if whole else "category")
    reader = {"number": _number, "yes_no": _yes_no, "time": _time, "category": _category}.get(found.kind)
    if reader is None:
        return dataclasses.replace(found, why=_WHY[found.kind])
    return dataclasses.replace(found, **reader(path, column, missing))


_WHY = {
    "identifier": "each row has its own value",
    "text": "sentences; train a model of texts on them",
    "constant": "all rows have the same value",
}


def _kind(path: Path, known: pd.Series, different: np.ndarray) -> str:
    if len(different) <= 1:
        return "constant"
    numbers = _as_numbers(known)
    if numbers.notna().all():
        return "identifier" if _counts_rows(numbers) else "number"
    if set(known.str.lower()) <= {*YES, *NO}:
        return "yes_no"
    if known.map(moments.is_date).all():
        return "time"
    _check_mixed(path, known, numbers)
    share = len(different) / len(known)
    if share > _UNIQUE and len(known) >= _FEW:
        return "text" if known.str.len().mean() > _LONG else "identifier"
    return "text" if known.str.len().mean() > _LONG and share > 0.5 else "category"


def _as_numbers(known: pd.Series) -> pd.Series:
    import pandas as pd

    return pd.to_numeric(known, errors="coerce")


def _counts_rows(numbers: pd.Series) -> bool:
    """Whether numbers are 0, 1, 2, ... or the same from another start, as in a column of row numbers."""
    steps = np.diff(numbers.to_numpy(np.float64))
    return len(numbers) >= _FEW and bool((steps == 1).all())


_NEARLY = 0.98
"""If at least this share of a column is numbers, the others are mistakes."""


def _check_mixed(path: Path, known: pd.Series, numbers: pd.Series) -> None:
    """Rejects numbers with a few words between them: the words may be mistakes, or stand for a missing value."""
    share = float(numbers.notna().mean())
    if share >= _NEARLY and len(known) >= _FEW:
        row = int(numbers.index[numbers.isna()][0])
        name, cell = known.name, known[row]
        comma = " with a decimal point" if "," in cell else ""
        raise UsageError(
            f"{path} row {row + 1}: {name} is {cell!r}, and a number{comma} in {share:.1%} of the rows. Correct these cells "
            f'or leave them empty; or pass --data.kinds \'{{"{name}": "category"}}\'.'
        )


def _number(path: Path, column: pd.Series, missing: pd.Series) -> dict[str, Any]:
    return {"values": cells.numbers(path, column).astype(np.float32)}


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
    known = column[~missing].str.strip()
    order = moments.order_of(known.tolist())
    if order is None:
        if moments.is_ambiguous(known.tolist()):
            raise UsageError(
                f"{path}: in {column.name}, {known.iloc[0]} may begin with the day or with the month. Convert the column to "
                "2024-01-31, say."
            )
        orders = [moments.order_of([cell]) or "" for cell in known]
        first = next((o for o in orders if o), "ymd")
        wrong = next(
            i for i, o in enumerate(orders) if o != first and moments.order_of([known.iloc[i], known.iloc[0]]) is None
        )
        raise UsageError(
            f"{path} row {known.index[wrong] + 1}: {column.name} is {known.iloc[wrong]!r}, which is no date of the same "
            f"form as {known.iloc[0]!r}. Convert all of them to 2024-01-31, say."
        )
    texts = column.str.strip().where(~missing, "")
    return {"values": moments.seconds(texts.tolist(), order), "order": order}


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
        if kind not in USED:
            raise UsageError(
                f"kinds has {kind!r} for {name}. {did_you_mean(str(kind), USED)} Pass one of {', '.join(USED)}."
            )
