"""Reads CSV files for any task: each key of an example has one or more columns.

| task | required columns | optional columns |
|---|---|---|
| text classification | text, label | text_pair |
| image classification | image (paths, from the file's folder), label | |
| several labels at once | text or image, labels (columns of yes or no, or one with a separator) | text_pair, separator |
| regression | text or image, value (one or several) | text_pair |
| text embedding | text, text_pair (texts that belong together) | |
| translation | text, translation | |
| recommendation | user_id, item_id | rating, time, title |
| forecasting | forecast | series (one or several), time, sequence (an id, for several series) |
| series classification | sequence (an id), series (one or several), label; one row per step | time |
| series classification | label, steps (several, or a pattern such as t*); one row per series | |
| tagging | sentence (an id), tokens, tags; one row per token | |
| tabular classification | label; all other columns are features | features |
| tabular regression | value (one or several); all other columns are features | features |
| several labels of a table | labels (as above); all other columns are features | features, separator |

Every task except forecasting may have `split`, with train, validation (or val, valid, dev) and test. Cells are read as
they are. In text columns only an empty cell is missing, so NA and None may be words. In number columns NA, NaN and null are
missing too. The options of `zoo.tables.formats` say how the file writes numbers and missing values.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from zoo.datasets.sources.labels import unified
from zoo.errors import UsageError, did_you_mean
from zoo.option_words import option
from zoo.tables import cells, formats, parsing
from zoo.tables.formats import DEFAULT, TableFormat
from zoo.tables.headers import named

if TYPE_CHECKING:
    import pandas as pd

    from zoo.datasets.data import Data


Columns = str | int | list[str | int]
"""One or several columns, by name, or by number from 0."""


@dataclasses.dataclass
class Table:
    """A CSV file and the meaning of its columns.

    Attributes:
        path: the file.
        frame: the remaining rows; all cells are texts.
        columns: the columns of every key, in order.
        about: metadata of the columns, and how many rows were left out.
        skip_broken: whether image files that cannot be read are left out.
        season: rows after which a series to forecast repeats itself, None to estimate them.
        settings: what the keys hold that have no column, such as `separator`.
        options: options of the source that the layout takes.
    """

    path: Path
    frame: pd.DataFrame
    columns: dict[str, list[str]]
    about: dict[str, Any]
    skip_broken: bool = False
    season: int | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.columns

    def text(self, key: str) -> list[str]:
        """Returns the cells of a key's column."""
        return self.frame[self.columns[key][0]].tolist()

    def labels(self, key: str) -> list[str]:
        """Returns the class names of a key's column."""
        return [unified(cell.strip()) for cell in self.text(key)]

    def named(self, *keys: str, **columns: Any) -> dict[str, Any]:
        """Returns columns by key, and the column of each of `keys` that has one."""
        return {**columns, **{key: self.columns[key][0] for key in keys if key in self}}

    def leave_out(self, wrong: Any, why: str) -> None:
        """Removes rows and counts them under a reason."""
        count = int(np.sum(wrong))
        if count:
            self.about["left_out"][why] = self.about["left_out"].get(why, 0) + count
            self.frame = self.frame[~np.asarray(wrong)]

    def require(self, *keys: str) -> None:
        """Removes the rows in which a key has no value.

        Raises:
            UsageError: no row remains.
        """
        for key in keys:
            for column in self.columns.get(key, []):
                self.leave_out(self.frame[column].str.strip() == "", f"rows without {column}")
        if self.frame.empty:
            held = self.about["left_out"] or "no row"
            raise UsageError(
                f"{self.path} has no complete row: {held}. Choose a file with values in {', '.join(keys)}."
            )

    def numbers(self, column: str, expected: str = "a number") -> np.ndarray:
        """Returns a column as float64, missing values as NaN.

        Raises:
            UsageError: a cell is not a finite number, or points may separate thousands.
        """
        return cells.numbers(self.path, self.frame[column], expected)

    def times(self) -> np.ndarray:
        """Returns the time column, see `cells.times`.

        Raises:
            UsageError: a cell is not a time.
        """
        return cells.times(self.path, self.frame[self.columns["time"][0]])


def read(path: Path, *, header: bool = True, format: TableFormat = DEFAULT) -> tuple[pd.DataFrame, str]:
    """Returns the rows of a file and its SHA-256. A name with * or ? means all files that match, in the order of their names;
    rows are counted through all of them.

    Raises:
        UsageError: no file matches, a file cannot be read, or it has other columns than the first.
    """
    import pandas as pd

    several = bool(set("*?") & set(path.name)) and not path.exists()
    paths = sorted(path.parent.glob(path.name)) if several else [path]
    if not paths:
        raise UsageError(f"No file matches {path}. Correct the name.")
    contents = [parsing.read_bytes(file) for file in paths]
    parts = [
        parsing.parse(file, content, header=header, format=format)
        for file, content in zip(paths, contents, strict=True)
    ]
    for file, part in zip(paths, parts, strict=True):
        if set(part.columns) != set(parts[0].columns):
            raise UsageError(
                f"{file} has the columns {', '.join(part.columns)}; expected those of {paths[0]}, "
                f"{', '.join(parts[0].columns)}. Rename or remove columns."
            )
    whole = parts[0] if len(parts) == 1 else formats.joined(pd.concat(parts, ignore_index=True), parts)
    return whole, hashlib.sha256(b"".join(contents)).hexdigest()


def with_splits(
    frame: pd.DataFrame, path: Path, others: Mapping[str, Path], *, header: bool, format: TableFormat = DEFAULT
) -> pd.DataFrame:
    """Returns the rows of a file, which are train, and of files that are the other splits, with a column `split`.

    Raises:
        UsageError: a file has other columns, or a column named split.
    """
    import pandas as pd

    parts = {"train": frame}
    for role, file in others.items():
        parts[role] = read(file, header=header, format=format)[0]
        if set(parts[role].columns) != set(frame.columns) or "split" in frame.columns:
            raise UsageError(
                f"{file} has the columns {', '.join(parts[role].columns)}; expected those of {path}, "
                f"{', '.join(frame.columns)}, without one named split. Rename or remove columns."
            )
    whole = pd.concat([part.assign(split=role) for role, part in parts.items()], ignore_index=True)
    return formats.joined(whole, list(parts.values()))


def with_titles(frame: pd.DataFrame, file: Path, item: str, format: TableFormat = DEFAULT) -> pd.DataFrame:
    """Returns ratings with a column `title`, from another CSV file with the columns `item` and `title`; "" for an item that
    is not in it.

    Raises:
        UsageError: a column is missing, the ratings have a column `title`, or an item has two titles.
    """
    table = parsing.parse(file, parsing.read_bytes(file), format=format)
    for column, held in ((item, frame), (item, table), ("title", table)):
        if column not in held.columns:
            where = file if held is table else "the ratings"
            raise UsageError(
                f"There is no column {column!r} in {where}, whose columns are {', '.join(held.columns)}. Rename one of them."
            )
    if "title" in frame.columns:
        raise UsageError("The ratings have a column named title, and so has the table of titles. Remove one of them.")
    twice = table[item][table.duplicated(item) & ~table.duplicated([item, "title"])]
    if len(twice):
        raise UsageError(f"Item {twice.iloc[0]!r} has two titles in {file}. Remove one of them.")
    return frame.assign(title=frame[item].map(dict(zip(table[item], table["title"], strict=True))).fillna(""))


def describe_column(column: pd.Series) -> dict[str, Any]:
    """Returns the type of a column (int64, float64 or string) and its number of empty cells."""
    held = column.str.strip()
    empty = held.str.lower().isin(cells.MISSING_NUMBERS)
    values = cells.as_numbers(held[~empty])
    if not len(values) or values.isna().any():
        return {"dtype": "string", "missing": int((held == "").sum())}
    whole = not empty.any() and bool((values == np.floor(values)).all())
    return {"dtype": "int64" if whole else "float64", "missing": int(empty.sum())}


def _guess(frame: pd.DataFrame) -> dict[str, str]:
    """The column that looks most like labels (the fewest values), and the one that looks like texts (the longest cells); a
    table of short cells has no texts."""
    text = max(frame.columns, key=lambda column: frame[column].str.len().sum())
    is_table = len(frame.columns) > 2 and frame[text].str.len().mean() < _SENTENCE
    others = [column for column in frame.columns if column != text or is_table] or [text]
    values = {column: frame[column].nunique() for column in others}
    if is_table and 1 < values[others[-1]] <= _CLASSES:  # where people put it
        return {"label": others[-1]}
    label = min(others, key=lambda column: (values[column] < 2, values[column]))
    return {"label": label} if is_table else {"text": text, "label": label}


_SENTENCE, _CLASSES = 20, 20
IN_MEMORY = Path("DataFrame")
"""The path of a table that is no file, in messages."""


def _reject(path: Path, frame: pd.DataFrame, keys: Sequence[str]) -> NoReturn:
    """Raises UsageError for a table whose columns fit no task."""
    names, guess, unnamed = (
        ", ".join(frame.columns),
        option("data", "columns", _guess(frame)),
        option("data", "header", False),
    )
    if path == IN_MEMORY:
        raise UsageError(
            f"{path} has the columns {names}, which fit no task. Pass {guess}, say; the keys are {', '.join(keys)}."
        )
    raise UsageError(
        f"{path} has the columns {names}, which fit no task; its first line must name the columns. Pass {guess}, say; the "
        f"keys are {', '.join(keys)}. If the first line has data, pass {unnamed}, and the columns as numbers from 0."
    )


def match(
    path: Path, frame: pd.DataFrame, columns: Mapping[str, Columns] | None, layouts: Mapping[str, Any]
) -> tuple[Any, dict[str, list[str]]]:
    """Returns the layout that fits the keys, and the columns of every key."""
    header = list(frame.columns)
    keys = sorted({key for layout in layouts.values() for key in layout.keys})
    if columns is None:
        fitting = [layout for layout in layouts.values() if layout.inferred and set(layout.required) <= set(header)]
        layout = max(fitting, key=lambda layout: _fit(layout, header), default=None)
        if layout is None:
            _reject(path, frame, keys)
        rivals = [other.task for other in fitting if _fit(other, header) == _fit(layout, header)]
        if len(rivals) > 1:
            raise UsageError(
                f"{path} has columns for {' and '.join(rivals)}. Pass columns with the keys of one of them: "
                f"{', '.join(layout.required)}, say."
            )
        return layout, {key: [key] for key in layout.keys if key in header and key not in layout.settings}
    if not isinstance(columns, Mapping) or not columns:
        raise UsageError(
            f"columns is {columns!r}; expected a dict of keys and columns. Pass columns={{'text': {header[0]!r}}}, say."
        )
    if "values" in columns:  # the plural of value
        if "value" in columns:
            raise UsageError("columns has the keys value and values, which are the same. Pass one of them.")
        columns = {"value" if key == "values" else key: value for key, value in columns.items()}
    for key, value in columns.items():
        if key not in keys:
            if key in header and value in keys:
                raise UsageError(
                    f"columns has the column {key!r} in place of a key; keys come first. Pass columns={{{value!r}: {key!r}}}."
                )
            raise UsageError(f"columns has the key {key!r}. {did_you_mean(str(key), keys)}")
    fitting = [v for v in layouts.values() if set(v.required) <= set(columns) <= set(v.keys)]
    if not fitting:
        nearest = max(
            layouts.values(), key=lambda v: len(set(columns) & set(v.required)) - len(set(columns) - set(v.keys))
        )
        raise UsageError(
            f"columns has the keys {', '.join(sorted(columns))}; {nearest.task} needs {', '.join(nearest.required)}, and "
            f"may have {', '.join(sorted(set(nearest.keys) - set(nearest.required)))}. Pass these."
        )
    layout = fitting[0]
    chosen = {key: _named(path, header, value) for key, value in columns.items() if key not in layout.settings}
    for key, names in chosen.items():
        if len(names) != 1 and (key not in layout.several or not names):
            raise UsageError(
                f"columns has {names} for {key}; expected one column, since the model takes one {key}. Pass one of them, or "
                "join them into one column, and send requests that are joined in the same way."
            )
        for column in names:
            if column not in header:
                raise UsageError(
                    f"{path}{formats.read_as(frame)} has no column {column!r}. {did_you_mean(str(column), header)}"
                )
    if "split" in header:
        chosen.setdefault("split", ["split"])
    return layout, chosen


def _fit(layout: Any, header: list[str]) -> tuple[int, int]:
    """Returns how well a layout fits a header: the number of its required keys, then that of all its keys there."""
    return len(layout.required), len({*layout.keys} & {*header})


def _named(path: Path, header: list[str], value: Columns) -> list[str]:
    """Returns the names of columns that are given by name, or by number from 0."""
    names = []
    for column in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(column, int) and not 0 <= column < len(header):
            raise UsageError(f"{path} has no column {column}; expected 0 to {len(header) - 1}. Pass one of these.")
        names.append(header[column] if isinstance(column, int) else named(column))
    return names


Reader = Callable[[Table, str, dict[str, Any], str, int], "Data"]
"""Returns the data set of a table from: table, name, arguments, source, memory limit."""
