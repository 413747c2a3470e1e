"""Rows of a table as JSON: an object in each line, or a list of objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, one_line
from zoo.tables import frames
from zoo.tables.formats import DEFAULT, TableFormat

if TYPE_CHECKING:
    import pandas as pd


def is_json(text: str) -> bool:
    """Returns whether a text begins as JSON objects do.

    Example:
        >>> is_json('{"text": "good"}'), is_json("text,label")
        (True, False)
    """
    return text.lstrip().startswith(("{", "[{", "[\n", "[ {"))


def parse(path: Path, text: str, format: TableFormat = DEFAULT) -> pd.DataFrame:
    """Returns the cells as texts, see `frames.as_texts`; a key that a row does not have is an empty cell.

    Raises:
        UsageError: a line (which the message names) is no JSON object, or a value is a list or an object.

    Example:
        >>> parse(Path("a.jsonl"), '{"text": "good", "stars": 5}').to_numpy().tolist()
        [['good', '5']]
    """
    import pandas as pd

    rows = _rows(path, text)
    for number, row in enumerate(rows, 1):
        for key, value in row.items():
            if isinstance(value, (dict, list)):
                raise UsageError(
                    f"{path} row {number}: {key} is {value!r:.60}; expected one value. Write a key for each value; lists of "
                    "words with their tags are read as jsonl:FILE. Remove the key if no model needs it."
                )
    return frames.as_texts(pd.DataFrame(rows, dtype=object).convert_dtypes(), str(path), format)


def _rows(path: Path, text: str) -> list[dict[str, Any]]:
    is_list = text.lstrip().startswith("[")
    # splitlines splits at other characters too, which JSON strings may contain.
    lines = [(1, text)] if is_list else enumerate(text.split("\n"), 1)
    found: list[Any] = []
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            where = "" if is_list else f" line {number}"
            raise UsageError(f"{path}{where} is not JSON: {one_line(error, 100)}. Correct it.") from error
        found += value if is_list else [value]
    for number, row in enumerate(found, 1):
        if not isinstance(row, dict):
            raise UsageError(f"{path} row {number} is {row!r:.60}; expected an object. Correct it.")
    if not found:
        raise UsageError(f"{path} has no rows. Choose a file with rows.")
    return found
