"""Items of a prediction, from whatever users pass: lists, arrays, dicts of columns, DataFrames and Series."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, one_line
from zoo.pixels import as_uint8
from zoo.tables.formats import TableFormat
from zoo.tables.headers import column_name
from zoo.tasks import REQUEST_KINDS

Rows = list[dict[str, Any]]
ReadRows = Callable[[Any, Mapping[str, Any]], tuple[Rows, list[str]]]
"""The `read_rows` of a kind of request, in the format of the table."""
CheckScale = Callable[[str, float, bool], None]
"""Looks at images that were passed as arrays: the name of the input, the brightest pixel, and whether pixels are floats."""


def shown(value: Any) -> str:
    """Returns what a value is, for messages: an array by its type and shape, anything else as text of limited length."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with the shape {value.shape}"
    text = str(value) if isinstance(value, (str, Path)) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_LONGEST_SHOWN = 200


class Input(NamedTuple):
    """An input of a signature: its kind, and its type and shape with the batch."""

    kind: str
    spec: tf.TensorSpec

    @property
    def is_single(self) -> bool:
        """Whether one example is one value that is passed itself."""
        passed = REQUEST_KINDS.get(self.kind).read is None
        return passed and self.spec.shape.rank is not None and self.spec.shape[1:].as_list() in ([], [1])


def items_of_table(
    given: Any, read: ReadRows, entries: Mapping[str, Mapping[str, Any]], signature: str
) -> tuple[Rows, list[str]]:
    """Returns the items of a signature with an input per column, and the names of columns that it does not use.

    Args:
        given: the path of a CSV file, a DataFrame, a Series, a dict of columns, a list of dicts, or the array of numbers of a
            model that was trained on one.
        read: see `RequestKind.read_rows`.
        entries: the inputs in zoo.json.
        signature: its name.

    Raises:
        UsageError: it is something else, or a column is missing.
    """
    if isinstance(given, (str, os.PathLike)):
        return read(Path(given), entries)
    columns = [column_name(entry.get("columns", {}).get("column", name)) for name, entry in entries.items()]
    frame = _frame(given, columns, signature)
    return read(frame, entries) if len(frame) else ([], [])


def _frame(given: Any, columns: Sequence[str], signature: str) -> Any:
    import pandas as pd

    if isinstance(given, pd.DataFrame):
        return given
    if isinstance(given, pd.Series):
        is_row = set(columns) <= set(map(column_name, given.index))
        return pd.DataFrame([given.to_dict()]) if is_row else given.to_frame(columns[0] if len(columns) == 1 else None)
    takes = f"{signature} takes the columns {', '.join(columns)}"
    hint = "a DataFrame, a list of dicts with these names, or the path of a CSV file"
    if isinstance(given, Mapping):
        frame = pd.DataFrame(_equally_long(given, takes))
    else:
        items = _listed(given, takes, hint)
        dicts = [dict(item) if isinstance(item, Mapping) else None for item in items]
        if all(item is not None for item in dicts):
            for row, item in enumerate(dicts, start=1):
                if item is not None and item.keys() != (dicts[0] or {}).keys():
                    differing = ", ".join(map(repr, sorted(map(str, item.keys() ^ (dicts[0] or {}).keys()))))
                    raise UsageError(
                        f"{takes}; item {row} and item 1 differ in {differing}. Pass the same names in all."
                    )
            frame = pd.DataFrame(dicts)
        else:
            frame = _of_values(items, columns)
            if frame is None:
                came = next(shown(item) for item, found in zip(items, dicts, strict=True) if found is None)
                raise UsageError(f"{takes}; received {came}. Pass {hint}.")
    frame.attrs["name"] = "items"
    return frame


def _of_values(items: Sequence[Any], columns: Sequence[str]) -> Any:
    """Returns values of the only column, or rows of numbers for a model of an array; None for anything else."""
    import pandas as pd

    if len(columns) == 1 and not any(np.ndim(item) for item in items):
        return pd.DataFrame({columns[0]: items})
    numbered = [f"column {number}" for number in range(1, len(columns) + 1)]
    if sorted(columns) != sorted(numbered) or not all(np.shape(item) == (len(columns),) for item in items):
        return None
    return pd.DataFrame(np.stack([np.asarray(item) for item in items]), columns=numbered)


def rejected(item: Any, kinds: Mapping[str, str], error: BaseException) -> UsageError:
    """Returns the error for an item that the graph rejects.

    Args:
        item: the item.
        kinds: the kinds of the inputs by name.
        error: the error of the graph.
    """
    is_file = isinstance(item, Path) or REQUEST_KINDS.get(next(iter(kinds.values()))).is_path
    what = "file" if is_file else " and ".join(kinds).replace("_", " ")
    return UsageError(f"Cannot predict for {shown(item)}: {one_line(error)} Pass another {what}.")


def rejected_row(
    row: int, request: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]], error: BaseException
) -> UsageError:
    """Returns the error for a row of a table that the graph rejects, with the column and the value.

    Args:
        row: its number, from 1.
        request: its values by input.
        entries: the inputs in zoo.json.
        error: the error of the graph, which begins with the name of an input.
    """
    said = re.sub(r"^row \d+: ", "", one_line(error)).removesuffix(".")
    for name, value in request.items():
        if said.startswith(f"{name} is "):
            text = repr(value.decode("utf-8", "replace")) if isinstance(value, bytes) else str(value)
            column = entries.get(name, {}).get("columns", {}).get("column", name)
            said = f"{column} is {shown(text)}, which is {said.removeprefix(f'{name} is ')}"
    hint = "" if "Send " in said else " Correct it, or leave the row out."
    return UsageError(f"Cannot predict for row {row}: {said}.{hint}")


def items_of(
    given: Any,
    inputs: Mapping[str, Input],
    signature: str,
    trained_on: Mapping[str, str],
    check_scale: CheckScale | None = None,
) -> tuple[list[Any], list[str]]:
    """Returns the items of a signature, with images as uint8, and the names of columns that it does not use.

    Args:
        given: a list or array of items, a dict of columns by input, a DataFrame or a Series.
        inputs: the signature's inputs by name.
        signature: its name.
        trained_on: the columns of the training data by input, as far as they are known.
        check_scale: is called with the pixels of images that are arrays.

    Raises:
        UsageError: it is something else, or fits no input.
    """
    unused: list[str] = []
    takes = f"{signature} takes {' and '.join(inputs)}"
    if isinstance(given, (str, bytes, os.PathLike)):
        raise UsageError(f"predict takes a list of items; received {given!r:.40}. Pass [{given!r:.40}].")
    if hasattr(given, "iloc") and hasattr(given, "columns"):
        items, unused = _of_frame(given, inputs, takes, trained_on)
    elif hasattr(given, "iloc"):  # a Series
        if len(inputs) > 1:
            raise UsageError(f"{takes}; received a Series. Pass a DataFrame with these columns, or a list of dicts.")
        items = given.tolist()
    elif isinstance(given, Mapping):
        items = _of_columns(given, inputs, takes)
    else:
        items = _listed(given, takes, "a list of items")
    for name, (kind, _) in inputs.items():
        known = REQUEST_KINDS.get(kind)
        if known.is_bytes:
            items = _with_images(items, name, single=len(inputs) == 1, check_scale=check_scale)
        elif known.read is not None:
            items = [_series(item, name, takes) for item in items]
    return items, unused


def _listed(given: Any, takes: str, hint: str) -> list[Any]:
    if isinstance(given, Iterable) and getattr(given, "shape", None) != ():
        return list(given.numpy() if isinstance(given, tf.Tensor) else given)
    raise UsageError(f"{takes}; received {shown(given)}. Pass {hint}.")


def _of_columns(given: Mapping[str, Any], inputs: Mapping[str, Input], takes: str) -> list[Any]:
    if set(given) != set(inputs):
        raise UsageError(f"{takes}; received {', '.join(map(str, given)) or 'nothing'}. Pass these names.")
    columns = {name: list(values) for name, values in _equally_long(given, takes).items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _equally_long(given: Mapping[str, Any], takes: str) -> Mapping[str, Any]:
    """Returns columns if they have a value for each item.

    Raises:
        UsageError: a column is one value, or they have different lengths.
    """
    for name, values in given.items():
        if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__") or np.shape(values)[:1] == ():
            raise UsageError(
                f"{takes}; received a dict whose {name} is {shown(values)}; expected a list with a value for each item. "
                "For one item, pass [item]."
            )
    if len({len(values) for values in given.values()}) > 1:
        counts = " and ".join(f"{len(values):,} of {name}" for name, values in given.items())
        raise UsageError(f"{takes}; received {counts}. Pass as many of each, or a list of dicts, one per item.")
    return given


def _of_frame(
    frame: Any, inputs: Mapping[str, Input], takes: str, trained_on: Mapping[str, str]
) -> tuple[list[Any], list[str]]:
    names = [column_name(name) for name in frame.columns]
    listed = ", ".join(names)
    columns = {name: trained_on[name] if trained_on.get(name) in names else name for name in inputs}
    if all(value.is_single for value in inputs.values()):
        if len(inputs) == len(names) == 1:
            return frame.iloc[:, 0].tolist(), []
        if lacking := [trained_on.get(name, name) for name in inputs if columns[name] not in names]:
            what = "on which the model was trained" if trained_on else "as the input is called"
            hint = "" if len(inputs) > 1 else ", or pass one column: df['NAME']"
            raise UsageError(
                f"{takes}; the DataFrame has the columns {listed}, not {lacking[0]!r}, {what}. Rename a column{hint}."
            )
        cells = [_texts(frame.iloc[:, names.index(columns[name])], columns[name]) for name in inputs]
        rows = [dict(zip(inputs, row, strict=True)) for row in zip(*cells, strict=True)]
        items = cells[0] if len(inputs) == 1 else rows
        return items, [name for name in names if name not in columns.values()]
    kinds = [REQUEST_KINDS.get(value.kind) for value in inputs.values()]
    if len(kinds) == 1 and kinds[0].is_bytes and {*trained_on.values()} & {*names}:  # of paths
        (column,) = columns.values()
        return frame.iloc[:, names.index(column)].tolist(), [other for other in names if other != column]
    first = next(iter(inputs.values()))
    if len(inputs) == 1 and first.kind == "number" and first.spec.shape.rank == 2 and first.spec.dtype != tf.string:
        return list(numbers_of(frame, first.spec.shape[1], takes)), []
    paths = any(REQUEST_KINDS.get(value.kind).is_path for value in inputs.values())
    hint = "a list of paths or arrays, one for each item" if paths else "a list of arrays, one for each item"
    raise UsageError(f"{takes}; received a DataFrame with the columns {listed}. Pass {hint}; for a column, df['NAME'].")


def _texts(column: Any, name: str) -> list[Any]:
    """Returns the cells of a column.

    Raises:
        UsageError: one is missing. The message gives the row.
    """
    missing = np.flatnonzero(column.isna().to_numpy())
    if len(missing):
        raise UsageError(f"Row {missing[0] + 1} has no {name}. Leave such rows out: df.dropna(subset=[{name!r}]).")
    return list(column.tolist())


def numbers_of(frame: Any, count: int | None, takes: str) -> np.ndarray:
    """Returns the numbers of a DataFrame, (rows, columns), for a model that takes `count` of them in their order.

    Raises:
        UsageError: it has another number of columns, or a column of something else.
    """
    import pandas as pd

    texts = [str(name) for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if texts:
        raise UsageError(
            f"{takes}, numbers; the DataFrame has other values in {', '.join(texts)}. Pass its columns of numbers: "
            "df.select_dtypes('number')."
        )
    if count not in (None, frame.shape[1]):
        raise UsageError(
            f"{takes}, {count} numbers for each item; the DataFrame has {frame.shape[1]} columns. Pass those that the model "
            "was trained on, in their order."
        )
    return np.asarray(frame.to_numpy(np.float64, na_value=np.nan).astype(np.float32))


def _with_images(items: Sequence[Any], name: str, *, single: bool, check_scale: CheckScale | None = None) -> list[Any]:
    """Returns items with the images of an input as uint8, by the brightest pixel of all, as in training."""
    is_whole = [single and not isinstance(item, Mapping) for item in items]
    held = [
        item if whole else item.get(name) if isinstance(item, Mapping) else None
        for item, whole in zip(items, is_whole, strict=True)
    ]
    arrays = [_image(value, name) for value in held]
    numbers = [image for image in arrays if image is not None and image.size]
    brightest = max((float(image.max()) for image in numbers), default=0.0)
    is_float = any(image.dtype.kind == "f" for image in numbers)
    if check_scale is not None and any(image.dtype.kind != "b" for image in numbers):
        check_scale(name, brightest, is_float)
    found: list[Any] = []
    for item, whole, image in zip(items, is_whole, arrays, strict=True):
        if image is None:
            found.append(item)
            continue
        pixels, _ = as_uint8(image, name, brightest)
        found.append(pixels if whole else {**item, name: pixels})
    return found


def _image(value: Any, name: str) -> np.ndarray | None:
    """Returns an image that was passed as numbers; None for anything else, such as a path."""
    if isinstance(value, (str, bytes, os.PathLike)) or not (
        hasattr(value, "__array__") or isinstance(value, (list, tuple))
    ):
        return None
    try:
        image = np.asarray(value)
    except ValueError:  # rows of different lengths
        image = np.zeros(0)
    if (
        image.dtype.kind not in "biuf"
        or image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[-1] not in (1, 2, 3, 4))
    ):
        raise UsageError(
            f"{name} takes images; received {shown(value)}. Pass a list of images, each a path, bytes, or an array (height, "
            "width) or (height, width, channels)."
        )
    return image


def _series(item: Any, name: str, takes: str) -> Any:
    if hasattr(item, "iloc") and hasattr(item, "columns"):
        raise UsageError(
            f"{takes}; received a DataFrame as an item. Pass its numbers, (steps, channels): df.to_numpy()."
        )
    return item


def value_of(value: Any, name: str, given: Input, signature: str, entry: Mapping[str, Any], format: TableFormat) -> Any:
    """Returns the value of an input for one example: bytes, or numbers.

    Args:
        value: what was passed for the example.
        name: the input.
        given: its kind, type and shape.
        signature: the signature, for messages.
        entry: the input's entry in zoo.json.
        format: how a CSV file is written.

    Raises:
        UsageError: it is a text in place of numbers, or a file cannot be read.
    """
    known, text = REQUEST_KINDS.get(given.kind), isinstance(value, str)
    if known.read is not None and (text or isinstance(value, Path)):
        return known.read(value, entry, format) if known.has_format else known.read(value, entry)
    if text and given.kind == "number":
        raise UsageError(
            f"{signature} takes {name} as numbers; received the text {shown(value)}. Leave the signature out, or "
            "pass the numbers of one example."
        )
    if known.is_bytes and isinstance(value, np.ndarray):  # an image, see `items_of`
        return tf.io.encode_png(value[..., np.newaxis] if value.ndim == 2 else value).numpy()
    # Command-line bytes that are not UTF-8 arrive as lone surrogates; this restores the bytes.
    value = value.encode("utf-8", "surrogateescape") if text else value
    shape = given.spec.shape
    if shape.rank and shape.rank > 1 and shape[-1] == 1 and np.ndim(value) == shape.rank - 2:
        value = [value] if not np.ndim(value) else np.asarray(value)[..., np.newaxis]  # a single channel, as in Keras
    is_array = given.kind == "number" and isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    if is_array and shape.rank is not None and not shape[1:].is_compatible_with(value.shape):
        sizes = ", ".join(str(size or "any") for size in shape[1:].as_list())
        raise UsageError(
            f"{signature} takes {name} of the shape ({sizes}) for each example; received {shown(value)}. Pass a list of "
            "examples: [x] for one example x."
        )
    return value
