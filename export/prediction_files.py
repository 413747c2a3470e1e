"""Items of a prediction from paths: the files of a folder, and the rows of a table that has a column for each input."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, did_you_mean
from zoo.export.prediction_items import Input
from zoo.tables import cells, formats, parsing
from zoo.tables.formats import DEFAULT, TableFormat
from zoo.tables.headers import column_name
from zoo.tasks import REQUEST_KINDS

Named = list[tuple[str, Any]]
"""Items with what a printed line calls them: the path of a file, or that of a table with the number of a row."""

_TABLES = (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz")


def columns_of(data: Any, entries: Mapping[str, Mapping[str, Any]], inputs: Mapping[str, Input]) -> dict[str, str]:
    """Returns the column of the training data for each input whose column is known.

    Args:
        data: what zoo.json has as `data`; its `columns` has the columns by key, such as `text`.
        entries: the inputs in zoo.json.
        inputs: the inputs of the signature.

    Example:
        >>> columns_of({"columns": {"text": "message", "label": "kind"}}, {}, {"text": text})
        {'text': 'message'}
    """
    known = data.get("columns") if isinstance(data, Mapping) else None
    known = known if isinstance(known, Mapping) else {}
    found = {}
    for name in inputs:
        key = name if name in known else name.removesuffix("_bytes")  # as TensorFlow Serving ends the names of bytes
        column = entries.get(name, {}).get("columns", {}).get("column", known.get(key))
        if isinstance(column, (str, int)):
            found[name] = column_name(column)
    return found


def format_of(
    signature: str, inputs: Mapping[str, Input], columns: Mapping[str, str], data: Any, options: Mapping[str, Any]
) -> TableFormat:
    """Returns the format of CSV files and other tables: the options that are given, else those of the training data.

    Args:
        signature: the name of the signature, for messages.
        inputs: its inputs without a default by name.
        columns: see `columns_of`.
        data: what zoo.json has as `data`; its `format` is that of the training data.
        options: options of `predict`, some None.

    Raises:
        UsageError: an option is unknown, or the inputs do not come from CSV files.
    """
    given = [name for name, value in options.items() if value is not None]
    if unknown := [name for name in given if name not in formats.OPTIONS]:
        raise UsageError(f"predict takes no {unknown[0]}. {did_you_mean(unknown[0], formats.OPTIONS)}")
    kinds = [REQUEST_KINDS.get(value.kind) for value in inputs.values()]
    reads = any(kind.has_format or kind.read_rows is not None for kind in kinds)
    if given and not (reads or _are_texts(inputs) or _are_files(inputs, columns)):
        raise UsageError(
            f"{signature} takes {' and '.join(inputs)}, and reads no CSV file, so it takes no {given[0]}. Leave it out."
        )
    written = data.get("format") if isinstance(data, Mapping) else None
    return formats.for_request(written if isinstance(written, Mapping) else None, options)


def _are_texts(inputs: Mapping[str, Input]) -> bool:
    return all(value.is_single and value.spec.dtype == tf.string for value in inputs.values())


def _are_files(inputs: Mapping[str, Input], columns: Mapping[str, str]) -> bool:
    kinds = [REQUEST_KINDS.get(value.kind) for value in inputs.values()]
    return len(kinds) == 1 and kinds[0].is_path and kinds[0].is_bytes and bool(columns)


def items_of_path(
    path: str,
    inputs: Mapping[str, Input],
    columns: Mapping[str, str],
    format: TableFormat = DEFAULT,
    entries: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    optional: Mapping[str, Input] = MappingProxyType({}),
) -> tuple[Named, list[str]] | None:
    """Returns the items that a folder or a file holds, and the names of columns that are not used; None for a path that is
    an item itself, and for anything else.

    Args:
        path: the path, or a text that may be none.
        inputs: the signature's inputs without a default by name.
        columns: see `columns_of`.
        format: how a table is written.
        entries: the inputs in zoo.json.
        optional: the inputs with a default; a table may have a column for each.

    Raises:
        UsageError: a folder has no file for the input, a file cannot be read, or a table lacks a column.
    """
    kinds = [REQUEST_KINDS.get(value.kind) for value in inputs.values()]
    kind = kinds[0]
    if len(kinds) == 1 and kind.suffixes and os.path.isdir(path):
        files = _files(Path(path), kind.suffixes)
        if not files:
            raise UsageError(
                f"{path} is a folder without {', '.join(kind.suffixes)} files. Pass files, or another folder."
            )
        return [(file, file if kind.open is None else kind.open(file)) for file in files], []
    if not path.lower().endswith(_TABLES):
        opened = (
            len(kinds) == 1 and kind.open is not None and path.lower().endswith(kind.suffixes) and os.path.isfile(path)
        )
        return ([(path, kind.open(path))], []) if opened and kind.open else None
    if len(kinds) == 1 and kind.read_items is not None:
        return kind.read_items(path, entries.get(next(iter(inputs)), {}), format)
    of_texts, of_files = _are_texts(inputs), _are_files(inputs, columns)
    is_path = os.path.isfile(path) or not any(map(str.isspace, path))  # a name of no file is a mistake, no text
    if not (of_texts or of_files) or not is_path:
        return None
    return _rows(Path(path), inputs, columns, of_files, format, {} if of_files else optional)


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Returns the files below a folder in the order of their paths, without hidden ones."""
    found = (file for file in sorted(folder.rglob("*")) if file.name.lower().endswith(suffixes) and file.is_file())
    return [str(file) for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _rows(
    path: Path,
    inputs: Mapping[str, Input],
    columns: Mapping[str, str],
    of_files: bool,
    format: TableFormat,
    optional: Mapping[str, Input],
) -> tuple[Named, list[str]]:
    frame = parsing.parse(path, parsing.read_bytes(path), format=format)
    used = {name: columns.get(name, name) for name in inputs}
    if missing := [column for column in used.values() if column not in frame.columns]:
        why = "which the model was trained on" if columns else "as the input of the model is called"
        raise UsageError(
            f"{path} has no column {', '.join(map(repr, missing))}, {why}; its columns are {', '.join(frame.columns)}. "
            f"Rename a column, or pass {'the files' if of_files else 'the texts'} themselves."
        )
    values = {name: frame[column].tolist() for name, column in used.items()}
    if of_files:
        values = {name: [str(path.parent / cell.strip()) for cell in part] for name, part in values.items()}
    for name, given in optional.items():
        if (column := columns.get(name, name)) in frame.columns and column not in used.values():
            used[name] = column
            values[name] = _optional_values(path, frame[column], given)
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    items = [next(iter(row.values())) if len(row) == 1 else row for row in rows]
    named = [(f"{path} row {number}", item) for number, item in enumerate(items, start=1)]
    return named, [column for column in frame.columns if column not in used.values()]


def not_whole(numbers: np.ndarray, dtype: Any) -> dict[int, str]:
    """Returns, by its place, why a number is none of an integer type; empty for other types.

    Example:
        >>> not_whole(np.array([1.0, 1.7]), np.int32)
        {1: '1.7 is not a whole number of int32'}
    """
    if np.dtype(dtype).kind not in "iu":
        return {}
    limits = np.iinfo(dtype)
    least, most = max(limits.min, -(2**53)), min(limits.max, 2**53)  # a cell is read as float64
    fits = (numbers == np.round(numbers)) & (numbers >= least) & (numbers <= most)
    return {
        int(place): "the cell is empty"
        if np.isnan(numbers[place])
        else f"{numbers[place]:g} is not a whole number of {np.dtype(dtype)}"
        for place in np.flatnonzero(~fits)
    }


def _optional_values(path: Path, column: Any, given: Input) -> list[Any]:
    """Returns the cells of a column in the type of an input with a default; a list of one for an input that takes several."""
    if given.spec.dtype == tf.string:
        found = [text.encode("utf-8", "surrogatepass") for text in column]
    else:
        numbers = cells.numbers(path, column)
        if missing := [row for row, number in enumerate(numbers, start=1) if number != number]:
            raise UsageError(f"{path} row {missing[0]} has no {column.name}. Fill it in, or leave the column out.")
        dtype = given.spec.dtype.as_numpy_dtype
        if unfit := not_whole(numbers, dtype):
            row, why = next(iter(unfit.items()))
            raise UsageError(f"{path} row {row + 1}, {column.name}: {why}. Correct the cell, or leave the column out.")
        found = list(numbers.astype(dtype))
    return [[value] for value in found] if given.spec.shape.rank and given.spec.shape.rank > 1 else found
