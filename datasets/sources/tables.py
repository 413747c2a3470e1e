"""The source `csv`: a CSV file, or a DataFrame, for any task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from zoo.datasets.data import Data
from zoo.datasets.sources import csv_files, csv_series
from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.csv_schemas import LAYOUTS
from zoo.datasets.sources.in_memory import positive
from zoo.datasets.sources.registry import register_source
from zoo.errors import UsageError
from zoo.tables.formats import DEFAULT, TableFormat
from zoo.tables.headers import column_name, named


@register_source("csv")
def read_csv(
    name: str,
    path: Path,
    memory_limit: int,
    columns: Mapping[str, str | int | list[str | int]] | None = None,
    window: int | None = None,
    horizon: int | None = None,
    season: int | str | None = None,
    skip_broken: bool = False,
    header: bool = True,
    log_values: bool = False,
    validation: str | None = None,
    test: str | None = None,
    titles: str | None = None,
    items: str | None = None,
    users: str | None = None,
    kinds: Mapping[str, str] | None = None,
    leave_out: list[str] | None = None,
    keep: list[str] | None = None,
    time: str | None = None,
    group: str | None = None,
    scaling: Literal["standard", "quantile"] | None = None,
    clip: bool | None = None,
    min_count: int | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    missing: list[str] | str | None = None,
    units: list[str] | str | None = None,
) -> Data:
    """Reads a CSV file: UTF-8, with a header, separated by commas, semicolons or tabs, possibly compressed with gzip; or a
    Parquet file, whose types decide the kinds of a table's columns. `csv:part-*.csv` reads several files as one table.

    Args:
        name: the name that `load` was called with.
        path: the file.
        memory_limit: see `zoo.datasets.load`.
        columns: the column or columns of every key, by name, or by number from 0. By default, columns are named like the
            keys.
        window: rows of history, for a series to forecast.
        horizon: rows to forecast, for a series to forecast.
        season: Rows after which a series to forecast repeats itself, such as 24 or 168 for hours; 1 for the last value,
            `none` for no season. Null or `auto` takes what is best on the validation split, and prints it.
        skip_broken: Leave out image files that cannot be read, and print their names.
        header: Whether the first line names the columns. Without names, pass numbers from 0 as columns.
        log_values: Whether a regression learns the logarithms log(1 + value).
        validation: Another CSV file with the same columns, from the folder of the first, which is the validation split.
        test: Another CSV file with the same columns, which is the test split.
        titles: For ratings, another CSV file with the columns item_id (named as in the first file) and title, from the folder
            of the first.
        items: For interactions, another CSV file from the folder of the first, with a row for each item. It has a column with
            its id, named as in the first file; its other columns are features, from which `two_tower` learns.
        users: For interactions, a file with a row for each user.
        kinds: For a table of features, the kind of columns: number, category, yes_no or time (time_dmy or time_mdy, if
            01/02/2024 may be two days). By default the cells decide.
        leave_out: For a table of features, columns that are not used.
        keep: For a table of features, columns that are used although they look like identifiers or give the label away.
        time: For a table of features, a column of times: the latest rows are the test split, those before them the
            validation split.
        group: For a table of features, a column whose equal values stay in one split, such as a customer. It is no feature.
        scaling: For a table of features, how numbers are scaled: standard (mean 0, deviation 1) or quantile (by rank, to a
            normal distribution).
        clip: For a table of features, whether numbers beyond those of the training split are replaced by the nearest of them.
        min_count: For a table of features, how often a category must occur in the training split to be known.
        encoding: The codec of a CSV file that is not UTF-8, by its name in Python, such as cp1252.
        decimal: The decimal mark of all numbers, "." or ",". By default the cells of each column decide, or it is an error.
        thousands: The mark between groups of three digits, which is removed: ".", ",", " ", "'" or "_".
        missing: Further cells that are missing values, in all columns.
        units: Units or signs before or after numbers, which are removed, such as "€" or "%".

    Raises:
        UsageError: the file or a column is missing (the message suggests the nearest), there are no rows, or a value has
            the wrong type.

    Example:
        >>> data = read_csv("csv:reviews.csv", Path("reviews.csv"), 1 << 30, {"text": "review", "label": "stars"})
        >>> data.task
        'text_classification'
    """
    format = TableFormat.of(
        {"encoding": encoding, "decimal": decimal, "thousands": thousands, "missing": missing, "units": units}
    )
    header = header and not (columns is None and csv_series.lacks_header(path))
    frame, sha256 = csv_files.read(path, header=header, format=format)
    files = {role: file for role, file in (("validation", validation), ("test", test)) if file}
    source = f"file {path.name} (SHA-256 {sha256[:16]})"
    if files:
        others = {role: path.parent / Path(file).expanduser() for role, file in files.items()}
        frame = csv_files.with_splits(frame, path, others, header=header, format=format)
        source = f"{source} with {' and '.join(f'{file} ({role})' for role, file in files.items())}"
        path = path.with_name(f"{path.name} + {' + '.join(file.name for file in others.values())}")  # in messages
    if titles is not None:
        file = path.parent / Path(titles).expanduser()
        frame = csv_files.with_titles(frame, file, _column_of("item_id", columns), format)
        columns = {**columns, "title": "title"} if columns else None
    recorded = {**({} if header else {"header": False}), **files, **({"titles": titles} if titles else {})}
    recorded |= {"log_values": True} if log_values else {}
    steps = {"window": window, "horizon": horizon, "season": season}
    options = {
        **{"kinds": kinds, "leave_out": leave_out, "keep": keep, "time": time, "group": group},
        **{"scaling": scaling, "clip": clip, "min_count": min_count, "items": items, "users": users},
    }
    more: dict[str, Any] = {"skip_broken": skip_broken, "log_values": log_values, "files": files, "recorded": recorded}
    return read_table(frame, path, name, source, memory_limit, columns, steps, options=options, **more)


register_source("parquet")(read_csv)


def _column_of(key: str, columns: Mapping[str, Any] | None) -> str:
    found = (columns or {}).get(key, key)
    return column_name(found[0] if isinstance(found, (list, tuple)) else found)


def read_table(
    frame: Any,
    path: Path,
    name: str,
    source: str,
    memory_limit: int,
    columns: Mapping[str, csv_files.Columns] | None,
    steps: Mapping[str, Any],
    *,
    skip_broken: bool = False,
    log_values: bool = False,
    files: Mapping[str, str] = MappingProxyType({}),
    recorded: Mapping[str, Any] = MappingProxyType({}),
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Data:
    """Returns the data set of a DataFrame whose cells are texts.

    Args:
        frame: the DataFrame.
        path: names it in messages; paths of images start at its folder.
        name: name of the data set.
        source: description of its source.
        memory_limit: see `zoo.datasets.load`.
        columns: the column or columns of every key.
        steps: window, horizon and season, for a series to forecast.
        skip_broken: whether to leave out image files that cannot be read.
        log_values: whether a regression learns logarithms.
        files: names of further files by split.
        recorded: further arguments that repeat the call.
        options: options that only some layouts take; None for those that are not set.
    """
    options = {option: named(value) for option, value in options.items() if value is not None}
    if not options:  # they are for tables of features
        columns = csv_series.with_steps(path, frame, columns)
    layout, chosen = csv_files.match(path, frame, csv_series.named_steps(path, frame, columns), LAYOUTS)
    format: TableFormat = frame.attrs.get("format", DEFAULT)
    described = {column: csv_files.describe_column(frame[column]) for column in frame.columns}
    about: dict[str, Any] = {"columns": described, "left_out": {}, "format": format.recorded()}
    if skip_broken and "image" not in layout.required:
        raise UsageError(f"Data set {name!r} is for {layout.task} and takes no skip_broken. Leave it out.")
    if log_values:
        if "value" not in layout.required:
            raise UsageError(f"Data set {name!r} is for {layout.task} and takes no log_values. Leave it out.")
        about["log_values"] = True
    season = _season(steps.get("season"))
    settings = {key: value for key, value in (columns or {}).items() if key in layout.settings}
    if unused := [option for option in options if option not in layout.options]:
        raise UsageError(f"Data set {name!r} is for {layout.task} and takes no {unused[0]}. Leave it out.")
    table = Table(path, frame, chosen, about, skip_broken, season, settings, dict(options))
    if not layout.forecasts:
        for option in (k for k, v in steps.items() if v is not None):
            raise UsageError(f"Data set {name!r} is for {layout.task} and takes no {option}. Leave it out.")
        given: dict[str, Any] = {}
    elif files:
        raise UsageError(f"Data set {name!r} is split by time and takes no {next(iter(files))} file. Leave it out.")
    else:
        given = {k: v for k, v in steps.items() if k != "season" or v is not None}
    asked = {"columns": {k: _plain(v) for k, v in columns.items()}} if columns else {}
    arguments = {**asked, **given, **recorded, **options, **format.asked()}
    return layout.read(table, name, arguments, source, memory_limit)


def _season(given: Any) -> int | None:
    """Returns the steps of a season, 0 for none, or None if it is open.

    Raises:
        UsageError: it is no whole number of at least 1, and no word that is known.
    """
    if isinstance(given, str) and given.isdecimal():
        given = int(given)
    if given is None or given == "auto":
        return None
    if given == "none":
        return 0
    if isinstance(given, str):
        raise UsageError(f"season is {given!r}; expected a number of steps, 'none' or 'auto'. Pass season=24, say.")
    return positive("season", given, 24)


def _plain(value: csv_files.Columns) -> csv_files.Columns:
    return list(value) if isinstance(value, (list, tuple)) else value
