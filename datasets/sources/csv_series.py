"""CSV files of series: one row per step, or one row per series with a column for each step."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.datasets.data import Data
from zoo.datasets.sources import seasons
from zoo.datasets.sources.csv_files import Columns, Table
from zoo.datasets.sources.csv_labels import classes_of, sequences_of, splits_of
from zoo.datasets.sources.in_memory import Rows, features_of, positive
from zoo.datasets.sources.labels import numbered
from zoo.datasets.sources.splitting import digest
from zoo.datasets.sources.windows import window_splits
from zoo.errors import UsageError
from zoo.tables import calendars
from zoo.tables import cells as csv_cells
from zoo.tables.headers import column_name, named

if TYPE_CHECKING:
    import pandas as pd

_MOST_GAPS = 0.2
"""Largest share of steps that can be gaps. With more, times are uneven, such as the 1st and 10th of every month."""
_FEWEST_STEPS = 8
"""With fewer columns, a table is not taken for series unless `steps` says so."""
_NUMBERED = re.compile(r"(.*?)(\d+)")
_STEP_NAMES = {"t", "time", "step", "timestep", "time_step", "ts"}
_NUMBER = re.compile(r"\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan)\s*", re.IGNORECASE)


# --- One row per series ----------------------------------------------------------------------------------------------


def lacks_header(path: Path) -> bool:
    """Whether a file is one of the UCR archive: a .tsv file whose first line has only numbers, as it has no header."""
    if path.suffix.lower() != ".tsv" or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(1 << 24).decode("utf-8", "replace").rstrip("\r\n").split("\t")
    return len(first) > _FEWEST_STEPS and bool(first[0]) and all(_NUMBER.fullmatch(cell) for cell in first if cell)


def with_steps(path: Path, frame: pd.DataFrame, columns: Mapping[str, Columns] | None) -> Mapping[str, Columns] | None:
    """Returns columns with `steps` for a table that has a series in each row without doubt; unchanged for any other.

    These are tables with a label whose other columns are numbers with names that count up, t0, t1 and so on; and .tsv
    files without names of columns that have a label in the first one, as those of the UCR archive.

    Args:
        path: the file.
        frame: the table, whose cells are texts.
        columns: the columns of every key; None if none were passed.
    """
    names = [name for name in frame.columns if name != "split"]
    if columns is None and path.suffix.lower() == ".tsv" and names == [str(number) for number in range(len(names))]:
        label = frame[names[0]].str.strip()
        is_label = not label.str.contains(".", regex=False).any() and 2 * label.nunique() <= max(len(label), 4)
        if is_label and len(names) > _FEWEST_STEPS and _are_numbers(frame, names[1:]):
            return {"label": 0, "steps": "*"}
        return columns
    label_column = (columns or {"label": "label"}).get("label")
    if set(columns or {"label": ""}) != {"label"} or not isinstance(label_column, str):
        return columns
    found = [(name, _NUMBERED.fullmatch(name)) for name in names if name != named(label_column)]
    if len(found) < _FEWEST_STEPS or len(found) == len(names) or not all(match for _, match in found):
        return columns
    parts = [(match[1], int(match[2])) for _, match in found if match]
    prefix, first = min(parts)
    is_counted = sorted(parts) == [(prefix, first + number) for number in range(len(parts))] and first <= 1
    is_step = prefix.rstrip(" _.-").lower() in _STEP_NAMES
    if not (is_counted and is_step and _are_numbers(frame, [name for name, _ in found])):
        return columns
    return {"label": label_column, "steps": f"{prefix}*"}


def _are_numbers(frame: pd.DataFrame, names: list[str]) -> bool:
    cells = frame[names].stack().str.strip()
    known = cells[~cells.str.lower().isin(csv_cells.MISSING_NUMBERS)]
    return len(known) > 0 and bool(known.str.fullmatch(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?").all())


def named_steps(path: Path, frame: pd.DataFrame, columns: Mapping[str, Columns] | None) -> Mapping[str, Columns] | None:
    """Returns columns with the names of the columns that a pattern of `steps` means, such as `t*`, in the order of their
    numbers. `*` means all columns without another key.

    Raises:
        UsageError: no column matches.
    """
    pattern = (columns or {}).get("steps")
    if columns is None or not isinstance(pattern, str) or column_name(pattern) in frame.columns:
        return columns
    header = list(frame.columns)
    held = [part for key, value in columns.items() if key != "steps" for part in _listed(value)]
    others = {"split", *(header[part] if isinstance(part, int) and part < len(header) else str(part) for part in held)}
    found = [name for name in header if name not in others and fnmatch.fnmatchcase(name, column_name(pattern))]
    if not found:
        raise UsageError(
            f"{path} has no column that matches steps={pattern!r}; its columns are {', '.join(header[:20])}. Pass the names "
            'of the columns as a list, or a pattern such as "t*".'
        )
    matches = [_NUMBERED.fullmatch(name) for name in found]
    if all(matches) and len({match[1] for match in matches if match}) == 1:
        numbers = [int(match[2]) for match in matches if match]
        found = [found[place] for place in np.argsort(numbers, kind="stable")]
    return {**columns, "steps": list(found)}


def _listed(value: Any) -> list[Any]:
    return [named(part) for part in (value if isinstance(value, (list, tuple)) else [value])]


def wide_series(table: Table) -> Rows:
    """Reads a series of one channel from each row. Empty cells at its end make it shorter; others are missing values."""
    table.require("label")
    steps = table.columns["steps"]
    values = np.stack([table.numbers(column) for column in steps], axis=1).astype(np.float32)
    known = ~np.isnan(values)
    held = known.any(axis=1)
    table.leave_out(~held, "rows without a value")
    table.require("label")
    values, known = values[held], known[held]
    lengths = values.shape[1] - known[:, ::-1].argmax(axis=1)
    labels = table.labels("label")
    classes = classes_of(table, labels)
    series = [row[:length, np.newaxis] for row, length in zip(values, lengths, strict=True)]
    (label,) = table.columns["label"]
    whole = f"{steps[0]} to {steps[-1]}, the steps" if len(steps) > 1 else steps[0]
    table.about["columns"] = {
        label: table.about["columns"][label],
        whole: {"dtype": "float64", "missing": int(values.size - known.sum())},
    }
    return Rows(
        tasks=("series_classification",),
        columns={"series": series, "label": numbered(labels, classes)},
        digests=[digest(each.tobytes()) for each in series],
        strata=labels,
        given=splits_of(table),
        class_names=classes,
        about={"channels": ["value"], "request_columns": {"steps": list(steps), "label": label}},
    )


# --- One row per step ------------------------------------------------------------------------------------------------


def classified_series(table: Table) -> Rows:
    """Reads the series of an id column, with one row per step."""
    table.require("sequence", "label", "time")
    channels = table.columns["series"]
    values = np.stack([table.numbers(column) for column in channels], axis=1).astype(np.float32)
    labels = table.labels("label")
    classes = classes_of(table, labels)
    sequences = sequences_of(table, "sequence")
    for part in sequences:
        if len({labels[i] for i in part}) > 1:
            raise UsageError(
                f"{table.path}: sequence {table.text('sequence')[part[0]]!r} has several labels. Give it one label."
            )
    if "time" in table:
        times = table.times()
        sequences = [part[np.argsort(times[part], kind="stable")] for part in sequences]
    kept = [part for part in sequences if not np.isnan(values[part]).all()]
    if len(kept) < len(sequences):
        table.about["left_out"]["sequences without a value"] = len(sequences) - len(kept)
    series = [values[part] for part in kept]
    firsts = [int(part[0]) for part in kept]
    return Rows(
        tasks=("series_classification",),
        columns={"series": series, "label": numbered([labels[i] for i in firsts], classes)},
        digests=[digest(part.tobytes()) for part in series],
        strata=[labels[i] for i in firsts],
        given=splits_of(table, firsts),
        class_names=classes,
        about={"channels": list(channels), "request_columns": table.named("time", "sequence", series=channels)},
    )


def forecasting(table: Table, name: str, arguments: dict[str, Any], source: str, memory_limit: int) -> Data:
    """One series, or one for each value of the column `sequence`, in the order of times or of rows. Each is split 70/10/20 by
    time."""
    for option in ("window", "horizon"):
        if arguments[option] is None:
            raise UsageError(
                f"Data set {name!r} needs {option}, a number of rows. Pass window=168 and horizon=24, say, to forecast 24 "
                "rows from 168 rows of history."
            )
    window, horizon = positive("window", arguments["window"], 168), positive("horizon", arguments["horizon"], 24)
    table.require("time", "sequence")
    (quantity,) = table.columns["forecast"]
    ahead = table.columns.get("known", [])
    if quantity in ahead:
        raise UsageError(f"{quantity} is to be forecast and is not known in advance. Leave it out of known.")
    channels = [quantity, *(c for c in table.columns.get("series", []) if c not in (quantity, *ahead)), *ahead]
    values = np.stack([table.numbers(column) for column in channels], axis=1).astype(np.float32)
    series, step = _in_time_order(table, _series_of(table), channels)
    for key, rows in series.items():
        if np.isnan(values[rows, 0]).all():
            if key:
                raise UsageError(f"{table.path} has no number in {quantity} for {key}. Leave its rows out.")
            raise UsageError(f"{table.path} has no number in {quantity}. Choose another column.")
    order = np.concatenate(list(series.values()))
    values, parts = values[order], _calendar(table)
    known = values[:, len(channels) - len(ahead) :]
    if parts:
        cells = table.frame[table.columns["time"][0]]
        known = np.concatenate([known, calendars.calendar(table.path, cells, parts)[order]], axis=1)
    missing = int(np.isnan(values[:, 0]).sum())
    if missing:
        table.about["left_out"]["missing values to forecast, and the windows with them"] = missing
    if table.about.get("gaps"):
        table.about["left_out"]["steps of the time that are too long; add the missing rows"] = table.about["gaps"]
    counts = {key: len(rows) for key, rows in series.items()}
    more = {"known": known} if known.shape[1] else {}
    splits = window_splits(name, values, window, horizon, parts=counts, **more)
    quantities = np.split(values[:, 0], np.cumsum(list(counts.values()))[:-1])
    lags = seasons.lags(table.season, quantities, window, horizon, step)
    return Data(
        name=name,
        arguments=arguments,
        tasks=("forecasting",),
        splits=splits,
        features=features_of(splits.get("train", splits["test"])),
        class_names=(),
        licence="not stated by the source",
        source=source,
        memory_limit=memory_limit,
        about={
            "channels": channels,
            "request_columns": table.named(
                "time", "sequence", series=channels, **({"calendar": parts} if parts else {})
            ),
            "unit": quantity,
            **({"known": list(ahead), "calendar": parts} if more else {}),
            "naive": lags,
            **({} if table.season is None else {"season": table.season}),
            **({"steps_of_series": counts} if "sequence" in table else {}),
            **table.about,
        },
    )


def _calendar(table: Table) -> list[str]:
    """Returns the parts of the time that are known in advance.

    Raises:
        UsageError: a part is unknown, or there is no column of times.
    """
    parts = calendars.check_parts(table.settings.get("calendar", False))
    if parts and "time" not in table:
        raise UsageError(f"calendar={list(parts)} needs the column of the time. Pass it as the key time of columns.")
    return list(parts)


def _series_of(table: Table) -> dict[str, np.ndarray]:
    """Returns the places of the rows of every series by its column and id; of all rows with the name "" without ids."""
    if "sequence" not in table:
        return {"": np.arange(len(table.frame))}
    (column,) = table.columns["sequence"]
    held = table.frame[column].str.strip().reset_index(drop=True)
    return {
        f"{column} {key!r}": np.sort(np.asarray(rows))
        for key, rows in sorted(held.groupby(held, sort=False).indices.items())
    }


def _in_time_order(
    table: Table, series: dict[str, np.ndarray], channels: list[str]
) -> tuple[dict[str, np.ndarray], float | None]:
    """Returns the places of the rows of every series in the order of their times, and the usual seconds of a step.

    Raises:
        UsageError: a time occurs twice in a series, or there are no times and the rows run backwards.
    """
    if "time" not in table:
        for column in table.frame.columns.difference([*channels, *table.columns.get("sequence", [])]):
            for rows in series.values():
                if csv_cells.runs_backwards(table.frame[column].iloc[rows]):
                    raise UsageError(
                        f'{table.path}: the rows run backwards in time, as {column} says. Add "time": "{column}" to the '
                        "columns, which sorts them."
                    )
        return series, None
    times = table.times()
    ordered = {key: rows[np.argsort(times[rows], kind="stable")] for key, rows in series.items()}
    for key, rows in ordered.items():
        again = np.flatnonzero(np.diff(times[rows]) == 0)
        if len(again):
            where = f" for {key}" if key else ""
            hint = "" if key else '; if the file has several series, add "sequence": "COLUMN" to the columns'
            row = table.frame.index[rows[int(again[0]) + 1]] + 1
            raise UsageError(f"{table.path} row {row}: the time occurs twice{where}. Leave one row per time{hint}.")
    gaps = np.concatenate([np.diff(times[rows]) for rows in ordered.values()])
    usual = np.median(gaps) if len(gaps) else 0
    # The threshold is above the ratio of the longest month to the shortest; a step twice as long is a missing row.
    longer = int((gaps > 1.5 * usual).sum())
    table.about["gaps"] = longer if longer <= _MOST_GAPS * len(gaps) else 0  # otherwise the steps are uneven
    return ordered, float(usual) if len(gaps) else None
