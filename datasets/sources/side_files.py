"""Tables of features of users or items, in files next to their interactions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.datasets.preprocessing.columns.lists import is_list
from zoo.datasets.sources import table_kinds
from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.in_memory import texts
from zoo.errors import UsageError
from zoo.tables import formats, parsing

OPTIONS = {"users": "user_id", "items": "item_id"}
"""The options of the source, and the keys of the ids."""
_LEAST_ROWS = 2


def read(table: Table) -> dict[str, Any]:
    """Returns the metadata `users` and `items` of interactions for the options that name files, and `titles`, if the table of
    items has a column title and the interactions have none.

    Each has `ids`; `kinds`, `columns` and `orders` of the columns that models learn from; and `left_out`, why others are not
    used. The kinds are those of tables of features; a cell may also hold several categories, such as Comedy|Drama.

    Raises:
        UsageError: a file or its column of ids is missing, an id has two rows, or a cell does not fit its column.
    """
    found: dict[str, Any] = {}
    for option, key in OPTIONS.items():
        if table.options.get(option) is None:
            continue
        file = table.path.parent / Path(str(table.options[option])).expanduser()
        frame = parsing.parse(file, parsing.read_bytes(file), format=table.frame.attrs.get("format", formats.DEFAULT))
        name = table.columns[key][0]
        if name not in frame.columns:
            raise UsageError(
                f"{file} has no column {name!r}, the {key} of {table.path}; its columns are {', '.join(frame.columns)}. "
                "Rename the column of ids."
            )
        ids = frame[name]
        if (twice := ids[ids.duplicated()]).size:
            raise UsageError(f"{file} has two rows for {twice.iloc[0]!r} in {name}. Remove one of them.")
        if (ids.str.strip() == "").any() or len(ids) < _LEAST_ROWS:
            raise UsageError(
                f"{file} has {len(ids)} rows, some of them without {name}; expected an id in each of at least two rows. "
                "Correct the file."
            )
        found[option] = _features(file, frame, name, ("title",) if option == "items" else ())
        if option == "items" and "title" in frame.columns and "title" not in table:
            found["titles"] = dict(zip(ids, frame["title"], strict=True))
    return found


def _features(file: Path, frame: Any, id_column: str, no_features: tuple[str, ...]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    kinds, orders, left_out = {}, {}, {}
    for name in frame.columns:
        if name == id_column or name in no_features:
            continue
        cells = frame[name].str.strip()
        if is_list(cells.tolist()):
            kinds[name], columns[name] = "list", texts(cells.tolist())
            continue
        column = table_kinds.read(file, frame[name], None)
        if column.why:
            left_out[name] = column.why
            continue
        kinds[name], columns[name] = column.kind, column.values
        if column.order:
            orders[name] = column.order
    return {
        "ids": frame[id_column].tolist(),
        "kinds": kinds,
        "columns": columns,
        "orders": orders,
        "left_out": left_out,
    }
