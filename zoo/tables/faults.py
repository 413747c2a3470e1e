"""Which part of a cell keeps it from being a number, and the options with which it is one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.tables import formats
from zoo.tables.formats import is_unit, plain_mark

if TYPE_CHECKING:
    import pandas as pd

    from zoo.tables.formats import TableFormat

_PARTS = re.compile(r"(?P<head>[^\d+\-]*)(?P<sign>[+-]?)(?P<unit>[^\d.,]*)(?P<number>[.,]?\d(?:.*\d)?)(?P<tail>\D*)")
_MARKS = {".": "points", ",": "commas", " ": "spaces", "'": "apostrophes", "_": "underscores"}


Read = Callable[["pd.Series"], "pd.Series"]
"""Reads a column in its format, see `cells.as_numbers`."""


def explain(cell: str, format: TableFormat, read: Read) -> tuple[str, str]:
    """Returns what a cell lacks, to follow "expected a number", and a sentence with the options that allow it, or nothing.
    `read` is `cells.as_numbers`.

    Example:
        >>> explain("264 969,18 €", TableFormat(), as_numbers)[0]
        " without spaces for thousands, with a decimal point and without the unit '€'"
    """
    lacks, ways = _faults(cell, format)
    said = f"{', '.join(lacks[:-1])} and {lacks[-1]}" if len(lacks) > 1 else "".join(lacks)
    readings = [(options, value) for options in ways if (value := _value(cell, format, options, read)) is not None]
    if not readings:
        if not lacks and not re.search(r"\d", cell):
            return "", f"Pass {format.flags(missing=[*format.missing, cell])} if it stands for a missing value. "
        return f" {said}" if said else "", ""
    typed = "; or ".join(f"{format.flags(**options)} to read it as {value}" for options, value in readings)
    return f" {said}", f"Pass {typed}. "


def _faults(cell: str, format: TableFormat) -> tuple[list[str], list[dict[str, Any]]]:
    """Returns the faults of a cell, and the options that would allow it; several if it may be several numbers."""
    found = _PARTS.fullmatch(cell.strip())
    if found is None:
        return [], []
    lacks: list[str] = []
    units = [part.strip() for part in (found["head"], found["unit"], found["tail"]) if part.strip()]
    if not all(is_unit(unit) for unit in units):
        return [], []
    new = [unit for unit in dict.fromkeys(units) if unit not in format.units]
    common: dict[str, Any] = {"units": [*format.units, *new]} if new else {}
    letters = re.sub(r"\d", "", found["number"])
    marks = [mark for letter in letters if (mark := plain_mark(letter))]
    if len(marks) < len(letters):
        return [], []
    kinds, ways = list(dict.fromkeys(marks)), [dict(common)]
    if len(kinds) > 2 or (len(kinds) == 2 and marks.count(kinds[1]) > 1):
        return [], []
    thousands, decimal = (
        (kinds[0] if len(kinds) == 2 or len(marks) > 1 else None),
        (kinds[1] if len(kinds) == 2 else None),
    )
    point = format.point or "."
    if len(marks) == 1 and kinds[0] != point and kinds[0] != format.thousands:
        (mark,) = kinds
        ways = [{"decimal": mark, **common}] if mark in ".," else []
        if re.search(r"^[1-9]\d{0,2}\D\d{3}$", found["number"]):
            ways.append({"thousands": mark, **common})
            lacks.append(f"without {_MARKS[mark]} for thousands" if mark not in ".," or point == "," else "")
        if mark in ".,":
            lacks = [f"with a decimal {'point' if mark == ',' else 'comma'}"]
    elif len(marks) == 1 and kinds[0] == format.thousands:  # too few digits follow, or too many
        lacks.append(f"without {_MARKS[kinds[0]]}, unless three digits follow")
        ways = [{"decimal": kinds[0], **common}] if kinds[0] in ".," else []
    elif kinds:
        options: dict[str, Any] = {"decimal": decimal} if decimal in (".", ",") and decimal != point else {}
        options |= {"thousands": thousands} if thousands and thousands != format.thousands else {}
        ways = [{**options, **common}]
        lacks += [f"without {_MARKS[thousands]} for thousands"] if "thousands" in options and thousands else []
        lacks += [f"with a decimal {'point' if decimal == ',' else 'comma'}"] if "decimal" in options else []
    lacks += [f"without the unit {unit!r}" for unit in new]
    return [text for text in lacks if text], [way for way in ways if way]


def _value(cell: str, format: TableFormat, options: dict[str, Any], read: Read) -> str | None:
    """Returns the number that a cell is with further options; None if it is none."""
    import pandas as pd

    held = pd.Series([cell], dtype=str)
    try:
        given = formats.inherit(format.asked(), options)  # a decimal mark is no longer one of thousands
        held.attrs["format"] = formats.TableFormat.of(given, separator=format.separator)
    except UsageError:  # options that contradict those that are set
        return None
    value = float(read(held).iloc[0])
    return None if value != value else f"{value:.15g}"
