"""Rows of a table with features of any kind: which columns are used, what is left out, and how rows are split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.datasets.sources import table_kinds
from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.csv_targets import Read, Splits, Target
from zoo.datasets.sources.in_memory import Rows, positive
from zoo.datasets.sources.splitting import SHARES, digest
from zoo.errors import UsageError, did_you_mean
from zoo.tables import formats
from zoo.tables.headers import column_name

FITTED = ("scaling", "clip", "min_count")
OPTIONS = ("kinds", "leave_out", "keep", "time", "group", *FITTED)
"""The options of the source that tables of features take; `FITTED` are those of the preprocessor."""

_TARGETS = ("label", "labels", "value")
"""The keys of targets in an example, which no feature may have as its name."""

_RIGHT, _USUAL = 0.998, 0.98
"""A column with which alone this share of labels is right gives them away, unless one label has nearly that share."""
_EXPLAINED = 0.9995
"""A column that alone explains this share of a value's variance gives it away."""
_LEAST_ROWS = 50


def rows(table: Table, task: str, read: Read, splits: Splits) -> Rows:
    """Returns the rows of a table whose target `read` makes; the other columns are features.

    Raises:
        UsageError: an option names no column, a cell does not fit its column, or no feature remains.
    """
    _check_options(table.options)
    target = read(table)
    group, time = (_named(table, option) for option in ("group", "time"))
    _check_split(table, {"group": group, "time": time})
    used = {name for key, names in table.columns.items() if key != "features" for name in names} | {group}
    fixed = table_kinds.fixed_kinds()
    columns, about = _features(table, used, target) if fixed is None else _features_of_run(table, fixed)
    kept = _with_values(table, columns)
    columns = {name: values[kept] for name, values in columns.items()}
    orders = {name: entry["order"] for name, entry in about.items() if "order" in entry}
    fitted = {option: table.options[option] for option in FITTED if table.options.get(option) is not None}
    content = table.frame[list(map(column_name, columns))].itertuples(index=False, name=None)
    return target.rows(
        (task,),
        columns,
        kept.tolist(),
        digests=_digests(content, target.values[kept], _combinations(columns)),
        groups=[digest(cell.strip()) for cell in table.frame[group]] if group else None,
        given=splits(table),
        parts=_by_time(table, time) if time else None,
        about={
            "table": {name: about[name]["kind"] for name in columns},
            "table_columns": about,
            "table_options": {**fitted, "orders": orders},
            **({"split_by_time": time} if time else {}),
        },
    )


def _check_options(options: Mapping[str, Any]) -> None:
    """Raises UsageError for an option of another type or value."""
    scaling, clip = options.get("scaling"), options.get("clip")
    if scaling not in (None, "standard", "quantile"):
        raise UsageError(f"scaling is {scaling!r}. {did_you_mean(str(scaling), ['standard', 'quantile'])}")
    if clip not in (None, True, False):
        raise UsageError(f"clip is {clip!r}; expected true or false. Pass clip=True, or leave it out.")
    if options.get("min_count") is not None:
        positive("min_count", options["min_count"], 5)


def _check_split(table: Table, options: Mapping[str, str]) -> None:
    """Raises UsageError if more than one thing determines the splits."""
    chosen = [option for option, column in options.items() if column]
    chosen += ["a column or files with the splits"] if "split" in table else []
    if len(chosen) > 1:
        raise UsageError(
            f"{table.path} has {' and '.join(chosen)}, which split the rows in different ways. Pass one of them."
        )


def _with_values(table: Table, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the places of the rows that have a value of any column, and leaves the others out: nothing can be predicted
    from them.

    Raises:
        UsageError: no row remains.
    """
    empty = np.logical_and.reduce([v == b"" if v.dtype == object else np.isnan(v) for v in columns.values()])
    table.leave_out(empty, "rows without a value of any feature")
    if empty.all():
        raise UsageError(f"{table.path} has no row with a value of {', '.join(columns)}. Choose a file with values.")
    return np.flatnonzero(~empty)


def _combinations(columns: Mapping[str, np.ndarray]) -> float:
    """Returns how many different rows the values of the columns could make."""
    return float(np.prod([float(len(np.unique(values))) for values in columns.values()]))


def _digests(content: Iterable[Sequence[str]], target: np.ndarray, combinations: float) -> list[bytes]:
    """Returns a digest for each row; rows with the same one stay in one split.

    Rows of few categories are equal by nature, and are no copies of each other: there are more rows than combinations of
    values. These are told apart by their targets and their number among the equal ones. The split still does not depend on
    the order.
    """
    digests = [digest(*(cell.strip() for cell in row)) for row in content]
    if combinations > len(digests):
        return digests
    seen: Counter[bytes] = Counter()
    for position, value in enumerate(target):
        whole = digest(digests[position], value.tobytes())
        seen[whole] += 1
        digests[position] = digest(whole, str(seen[whole]))
    return digests


def _named(table: Table, option: str) -> str:
    """Returns the column that an option names, or ""."""
    name = table.options.get(option)
    if name is not None and name not in table.frame.columns:
        raise UsageError(
            f"{table.path}{formats.read_as(table.frame)} has no column {name!r} for {option}. "
            f"{did_you_mean(name, table.frame.columns)}"
        )
    return name or ""


def _features(table: Table, used: Collection[str], target: Target) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the columns that models learn from, and what is known of every column."""
    options, keep = table.options, table.options.get("keep") or ()
    others = [name for name in table.frame.columns if name not in used]
    for option in ("leave_out", "keep"):
        for name in options.get(option) or ():
            if name not in others:
                raise UsageError(f"{table.path} has no column {name!r} for {option}. {did_you_mean(name, others)}")
    kinds: Mapping[str, str] = options.get("kinds") or {}
    table_kinds.check_kinds(table.path, kinds, others)
    columns: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for name in table.columns.get("features", others):
        if name in used:
            raise UsageError(
                f"{table.path}: features has {name!r}, which has another meaning in this table. Leave it out of features."
            )
        if name in _TARGETS:
            raise UsageError(f"{table.path} has a feature named {name!r}, a key of examples. Rename that column.")
        if name in (options.get("leave_out") or ()):
            about[name] = {"kind": "left out", "why": "as you chose"}
            continue
        column = table_kinds.read(table.path, table.frame[name], kinds.get(name), keep=name in keep)
        why = column.why
        _check_precision(table, name, column)
        if not why and name not in keep and (given_away := _gives_away(column, target)):
            why = f"{given_away} alone; keep it if it is known when the model predicts"
        about[name] = {
            **{"kind": column.kind, "missing": column.missing, "examples": list(column.examples)},
            **({"why": why} if why else {}),
            **({"order": column.order} if column.order else {}),
        }
        if not why:
            columns[name] = column.values
    if not columns:
        reasons = "; ".join(f"{name}: {entry['why']}" for name, entry in about.items()) or "It has no other column"
        raise UsageError(
            f"{table.path} has no column to learn from. {reasons}. Pass --data.keep '[\"NAME\"]', or another file."
        )
    return columns, about


def _features_of_run(table: Table, kinds: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the columns of a model that exists, and what is known of them.

    Raises:
        UsageError: a column is missing, or a cell does not fit its kind.
    """
    header = list(table.frame.columns)
    if missing := [name for name in kinds if column_name(name) not in header]:
        raise UsageError(
            f"{table.path} has no column {', '.join(map(repr, missing))}, which the run learned from. "
            f"{did_you_mean(missing[0], header)}"
        )
    found = {name: table_kinds.read(table.path, table.frame[column_name(name)], kind) for name, kind in kinds.items()}
    about = {
        name: {"kind": column.kind, "missing": column.missing, "examples": list(column.examples)}
        | ({"order": column.order} if column.order else {})
        for name, column in found.items()
    }
    return {name: column.values for name, column in found.items()}, about


def _gives_away(column: table_kinds.Column, target: Target) -> str:
    """Returns how well a column alone predicts the target, if that is nearly perfect; else "".

    A tree that is fitted to one half of the rows is measured on the other.
    """
    values, goal = column.values, target.values
    if values is None or len(goal) < _LEAST_ROWS or (goal.ndim > 1 and goal.shape[1] > 1) or goal.min() == goal.max():
        return ""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    codes = np.unique(values, return_inverse=True)[1] if values.dtype == object else values
    codes = np.nan_to_num(codes.astype(np.float64), nan=-1e30)
    order = np.random.default_rng(0).permutation(len(goal))[:_MOST_ROWS]
    one, other = order[::2, np.newaxis], order[1::2, np.newaxis]
    x, y = codes.reshape(-1, 1), goal.reshape(len(goal))
    if target.class_names:
        usual = np.bincount(y).max() / len(y)
        tree = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, random_state=0).fit(x[one[:, 0]], y[one[:, 0]])
        right = float(tree.score(x[other[:, 0]], y[other[:, 0]]))
        return f"gives {right:.1%} of the labels" if right >= _RIGHT and usual <= _USUAL else ""
    tree = DecisionTreeRegressor(max_leaf_nodes=_LEAVES, random_state=0).fit(x[one[:, 0]], y[one[:, 0]])
    explained = float(tree.score(x[other[:, 0]], y[other[:, 0]]))
    if values.dtype != object and x.std() > 0:
        explained = max(explained, float(np.corrcoef(x[order, 0], y[order])[0, 1] ** 2))
    return f"explains {explained:.2%} of the variance" if explained >= _EXPLAINED else ""


_MOST_ROWS, _LEAVES = 20_000, 1_000


def _check_precision(table: Table, name: str, column: table_kinds.Column) -> None:
    """Rejects numbers with more digits than float32 has, such as seconds since 1970 of one day: models would not see their
    differences."""
    if column.lost is not None:
        low, high, step = column.lost
        raise UsageError(
            f"{table.path}: {name} is between {low:.17g} and {high:.17g}; a model reads it in steps of {step:g}. Subtract "
            f"{low:.17g} from the column, or write times as 2024-01-31 13:00, say; or leave it out with --data.leave_out "
            f"'[\"{name}\"]'."
        )


def _by_time(table: Table, name: str) -> np.ndarray:
    """Returns the number of every row's split: the latest tenth is test, the tenth before it validation. Rows of one time are
    in one split."""
    kind = (table.options.get("kinds") or {}).get(name)
    column = table_kinds.read(table.path, table.frame[name], kind, keep=True)
    if column.kind not in ("time", "number") or column.values is None or np.isnan(column.values).any():
        raise UsageError(
            f"{table.path}: {name} is no column of times, or has missing ones; expected dates or numbers in every row. "
            "Choose another column for time."
        )
    times = table.numbers(name) if column.kind == "number" else column.values
    bounds = np.quantile(times, [SHARES[0], SHARES[0] + SHARES[1]], method="lower")
    return np.searchsorted(bounds, times, side="left").astype(np.int64)
