"""Tables in memory: rows of numbers, lists of dicts and DataFrames of features, with their targets in another array."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.datasets.sources import csv_files, table_rows
from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.csv_targets import Target
from zoo.datasets.sources.splitting import digest, divide, is_undivided
from zoo.errors import UsageError
from zoo.tables import formats
from zoo.tables.formats import DEFAULT, TableFormat
from zoo.tables.frames import as_texts
from zoo.tables.headers import column_name

if TYPE_CHECKING:
    import pandas as pd

    from zoo.datasets.data import Data

TASKS = ("tabular_classification", "tabular_multilabel", "tabular_regression")
_FLAT = 64
"""Rows of at least so many whole numbers may be images."""


def frames_of(given: Mapping[str, Any], task: str | None, among: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Returns the features of each split whose x is a DataFrame or a list of dicts; empty for other data.

    Args:
        given: x and y of each split.
        task: the task, if the user chose it.
        among: the tasks of the model; empty for any.

    Raises:
        UsageError: the task or the model is not for tables, or a split is none.
    """
    found = {role: _as_frame(part[0]) for role, part in given.items() if isinstance(part, tuple) and len(part) == 2}
    train = found.get("train")
    if train is None:
        return {}
    columns = ", ".join(map(str, train.columns))
    goals = [goal for goal in ((task,) if task else among) if goal not in TASKS]
    if (task or among) and len(goals) == len((task,) if task else among):
        raise UsageError(
            f"x is a table with the columns {columns}; expected the inputs of {' or '.join(goals)}. Pass a column of it, "
            f"x[{train.columns[0]!r}], say, or a model for tables, such as mlp."
        )
    if given["train"][1] is None:
        raise UsageError(
            f"x is a table with the columns {columns}, and y is None. Pass labels or values as y; or the whole DataFrame, "
            "with columns={'label': NAME} or columns={'value': NAME}."
        )
    for role in given:
        if found.get(role) is None:
            raise UsageError(f"x of the {role} split is no table with the columns {columns}. Pass (x, y) as for train.")
    return {role: frame for role, frame in found.items() if frame is not None}


def format_of(frames: Mapping[str, pd.DataFrame], **options: Any) -> TableFormat:
    """Returns the format of tables in memory.

    Raises:
        UsageError: an option is invalid, or x is no table.
    """
    format = TableFormat.of(options)
    if not frames and (given := format.asked()):
        raise UsageError(f"x is no table and takes no {next(iter(given))}. Leave it out.")
    return format


def _as_frame(x: Any) -> pd.DataFrame | None:
    """Returns a DataFrame, or a list of dicts as one; None for anything else.

    Raises:
        UsageError: dicts have different keys.
    """
    import pandas as pd

    if isinstance(x, list) and x and all(isinstance(row, Mapping) for row in x):
        for place, row in enumerate(x):
            if row.keys() != x[0].keys():
                differing = ", ".join(map(repr, sorted(map(str, row.keys() ^ x[0].keys()))))
                raise UsageError(f"x[{place}] and x[0] differ in {differing}. Pass dicts with the same keys.")
        return pd.DataFrame(x)
    return x if isinstance(x, pd.DataFrame) else None


def targets_of(given: Mapping[str, Any], frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Returns the targets of each split as y, and as x rows of a number that stands for the features."""
    return {role: (np.zeros((len(frame), 1)), given[role][1]) for role, frame in frames.items()}


def value_names(y: Any) -> list[str] | None:
    """Returns the names that a Series or a DataFrame of values has; None without names."""
    names = list(y.columns) if hasattr(y, "columns") else [getattr(y, "name", None)]
    texts = [name for name in names if isinstance(name, str) and name]
    return texts if len(texts) == len(names) else None


def frame_of_numbers(x: np.ndarray) -> pd.DataFrame:
    """Returns rows of numbers as a DataFrame with the columns `column 1`, `column 2`, ..."""
    import pandas as pd

    return pd.DataFrame(x, columns=[f"column {number}" for number in range(1, x.shape[1] + 1)])


def note(x: np.ndarray) -> str:
    """Returns a note if rows of numbers may be flat images; else ""."""
    side = round(x.shape[1] ** 0.5)
    if x.dtype.kind == "f" or x.shape[1] < _FLAT or side**2 != x.shape[1]:
        return ""
    return f"a table of {x.shape[1]} columns. If the rows are flat images, pass x.reshape(-1, {side}, {side})"


def table_of(
    task: str,
    frames: Mapping[str, pd.DataFrame],
    targets: Mapping[str, np.ndarray],
    *,
    name: str,
    target: str,
    class_names: Sequence[str],
    about: Mapping[str, Any],
    memory_limit: int,
    format: TableFormat = DEFAULT,
) -> Data:
    """Returns the data set of a table.

    Args:
        task: its task.
        frames: the features of every split that is given, all with the columns of `train`.
        targets: the targets of every split, class numbers for labels.
        name: the name of the data set.
        target: the key of the targets in an example.
        class_names: the labels; empty for values.
        about: metadata of the targets, and notes.
        memory_limit: see `zoo.datasets.load`.
        format: how texts write numbers and missing values.

    Raises:
        UsageError: a split has other columns, or no column remains.
    """
    import pandas as pd

    first = list(map(column_name, frames["train"].columns))
    for role, frame in frames.items():
        if set(map(column_name, frame.columns)) != set(first):
            raise UsageError(
                f"x of the {role} split has the columns {', '.join(map(str, frame.columns))}; expected those of x, "
                f"{', '.join(first)}. Rename or remove columns."
            )
    tables = [as_texts(frame, "x", format)[first] for frame in frames.values()]
    texts = formats.joined(pd.concat(tables, ignore_index=True), tables)
    recorded = texts.attrs["format"].recorded()
    values = np.concatenate([targets[role] for role in frames])
    given = [role for role, frame in frames.items() for _ in range(len(frame))] if len(frames) > 1 else None
    if given and "test" not in frames and not is_undivided():
        count = len(frames["train"])
        digests = [digest(*row) for row in texts[:count].itertuples(index=False, name=None)]
        parts = divide(digests, values[:count].tolist() if class_names and values.ndim == 1 else None, (0.9, 0.1))
        given[:count] = ["test" if part else "train" for part in parts]
    described = {column: csv_files.describe_column(texts[column]) for column in texts.columns}
    table = Table(Path("x"), texts, {}, {"columns": described, "left_out": {}, "format": recorded})
    rows = table_rows.rows(
        table,
        task,
        lambda _: Target(target, values, tuple(class_names), dict(about)),
        lambda kept: None if given is None else [given[row] for row in kept.frame.index],
    )
    rows.about = {**table.about, **rows.about}
    content = hashlib.sha256(
        texts.to_csv(index=False).encode("utf-8", "replace") + np.ascontiguousarray(values).tobytes()
    )
    source = f"arrays in memory (SHA-256 {content.hexdigest()[:16]})"
    return rows.to_data(name, format.asked(), source, memory_limit)
