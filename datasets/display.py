"""How a data set shows itself: lines in a terminal, and a table with examples in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo import display
from zoo.datasets.raw import SPLITS
from zoo.datasets.sampling import spread
from zoo.errors import printable

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_CLASSES = ("label", "tags")
"""Keys of examples that hold class numbers."""
_MOST_COUNTED = 100_000
_BATCH = 1024
_MOST_SHOWN = 10
_EXAMPLES = 6
_MOST_CLASSES = 20
_MOST_COLUMNS, _MOST_CELLS, _MOST_LETTERS = 40, 12, 30
"""Columns of a table that are described, columns of which rows are shown, and letters of a value."""
_PIXELS = 64
"""Height of a picture."""
_MOST_PIXELS = 512
"""Larger images lose rows and columns before they are encoded."""


def as_text(data: RawData) -> str:
    """Returns the data set in at most five lines, and a line for each column of a table.

    Example:
        >>> print(as_text(zoo.datasets.load("digits")).splitlines()[0])
        digits (image_classification): image uint8 (8, 8, 1), label int64 ()
    """
    columns = describe_columns(data)
    features = {key: held for key, held in data.features.items() if not columns or key not in data.about["table"]}
    parts = [f"{len(data.about['table']):,} columns"] if columns else []
    parts += [f"{key} {held.dtype} {held.shape}" for key, held in features.items()]
    return "\n".join([f"{data.name} ({', '.join(data.tasks)}): {', '.join(parts)}", *columns, describe_splits(data)])


def describe_columns(data: RawData) -> list[str]:
    """Returns a line for each of the first columns of a table: its kind, missing values, and values or why it is not used;
    nothing for other data.

    Example:
        >>> describe_columns(zoo.datasets.load("iris"))[0]
        '  sepal length: number, such as 5.1, 4.9, 4.7'
    """
    rows = _column_rows(data)
    lines = [f"  {name}: {', '.join(filter(None, facts))}" for name, *facts in rows[:_MOST_COLUMNS]]
    return [*lines, f"  ... and {len(rows) - _MOST_COLUMNS:,} more"] if len(rows) > _MOST_COLUMNS else lines


def _column_rows(data: RawData) -> list[list[str]]:
    """Returns the name of every column of a table, its kind, its missing values, and values or why it is not used."""
    rows = []
    for name, facts in data.about.get("table_columns", {}).items():
        values = [
            printable(value[:_MOST_LETTERS]) + "..." * (len(value) > _MOST_LETTERS)
            for value in facts.get("examples", ())
        ]
        what = f"not used: {facts['why']}" if "why" in facts else f"such as {', '.join(values)}" if values else ""
        rows.append(
            [printable(name), facts["kind"], f"{facts['missing']:,} missing" if facts.get("missing") else "", what]
        )
    return rows


def describe_splits(data: RawData) -> str:
    """Returns lines with the sizes of the splits and the classes, with their numbers of examples if these are known.

    Example:
        >>> print(describe_splits(zoo.datasets.load("images:photos")))
        Examples: 48 train, 6 validation, 6 test.
        2 classes: 'cat' (24, 3, 3), 'dog' (24, 3, 3).
    """
    sizes = ", ".join(f"{data.splits[role].num_examples:,} {role}" for role in SPLITS if role in data.splits)
    lines = [f"Examples: {sizes}."]
    if repeated := data.about.get("also_in_train"):
        also = [f"{count:,} of {data.splits[role].num_examples:,} {role} examples" for role, count in repeated.items()]
        lines.append(f"Also in train: {', '.join(also)}. Metrics on them say nothing about new examples.")
    if data.class_names:
        counts = data.about.get("class_counts")
        shown = [
            repr(printable(label))
            + (f" ({', '.join(f'{counts[role][number]:,}' for role in SPLITS)})" if counts else "")
            for number, label in enumerate(data.class_names[:_MOST_SHOWN])
        ]
        more = ", ..." if len(data.class_names) > _MOST_SHOWN else ""
        what = "labels" if "labels" in data.features else "classes"
        lines.append(f"{len(data.class_names)} {what}: {', '.join(shown)}{more}.")
    if names := data.about.get("value_names"):
        what = "Logarithms of values" if data.about.get("log_values") else "Values"
        lines.append(f"{what}: {', '.join(printable(name) for name in names)}.")
    for of in ("users", "items"):
        if features := data.about.get(of):
            held = ", ".join(f"{printable(name)} ({kind})" for name, kind in features["kinds"].items()) or "none"
            apart = "".join(f"; not {printable(name)}: {why}" for name, why in features.get("left_out", {}).items())
            lines.append(f"Features of {of}: {held}{apart}.")
    if naive := data.about.get("naive"):
        lines.append(f"Forecasts are compared with {' and '.join(naive)}.")
    return "\n".join(lines)


def as_html(data: RawData) -> str:
    """Returns the data set for a notebook: its splits, classes with counts, and examples of several classes."""
    splits = [[name, f"{split.num_examples:,}"] for name, split in data.splits.items()]
    title = f"<b>{display.escaped(data.name)}</b> ({', '.join(data.tasks)})"
    parts = [title, display.table(["split", "examples"], splits)]
    if columns := _column_rows(data):
        more = [[f"... {len(columns) - _MOST_COLUMNS:,} more", "", "", ""]] if len(columns) > _MOST_COLUMNS else []
        parts.append(display.table(["column", "kind", "missing", "values"], [*columns[:_MOST_COLUMNS], *more]))
    labels = _labels(data)
    if data.class_names:
        parts.append(_class_table(data, labels))
    if examples := [_first_columns(example, data) for example in _examples(data, labels)]:
        rows = [[_shown(key, example[key], data) for key in example] for example in examples]
        head = list(examples[0])
        if any(cell.startswith("<img") for cell in rows[0]):  # side by side
            rows = [[f"<b>{display.escaped(key)}</b>", *cells] for key, *cells in zip(head, *rows, strict=True)]
            head = []
        parts.append(display.table(head, rows, raw=True))
    return display.stacked(parts)


def _first_columns(example: Mapping[str, Any], data: RawData) -> Mapping[str, Any]:
    """Returns an example with only the first columns of a table, and with its target."""
    left_out = [*data.about.get("table", ())][_MOST_CELLS:]
    return {key: value for key, value in example.items() if key not in left_out}


def _labels(data: RawData) -> dict[str, np.ndarray]:
    """Returns the class numbers of every split, flat; nothing for data without classes, or with very many examples."""
    key = next((key for key in _CLASSES if key in data.features), None)
    if key is None or not data.class_names or sum(s.num_examples for s in data.splits.values()) > _MOST_COUNTED:
        return {}
    found = {}
    for name, split in data.splits.items():
        numbers = (split.content or split.dataset)().map(lambda example: tf.reshape(example[key], [-1]))
        batches = list(numbers.unbatch().batch(_BATCH).as_numpy_iterator())
        found[name] = np.concatenate([*batches, np.zeros(0, np.int64)]).astype(np.int64)
    return found


def _class_table(data: RawData, labels: Mapping[str, np.ndarray]) -> str:
    """Returns the classes with their number of examples, or of words, in every split."""
    total = len(data.class_names)
    counts = data.about.get("class_counts") or {k: np.bincount(v[v >= 0], minlength=total) for k, v in labels.items()}
    rows = [
        [name, *(f"{count[place]:,}" for count in counts.values())]
        for place, name in enumerate(data.class_names[:_MOST_CLASSES])
    ]
    if total > _MOST_CLASSES:
        rows.append([f"... {total - _MOST_CLASSES} more", *[""] * len(counts)])
    return display.table(["class", *counts], rows)


def _examples(data: RawData, labels: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns examples of the first split, of different classes where single examples can be read."""
    name = next(iter(data.splits))
    dataset = data.splits[name].dataset()
    if name in labels and "label" in data.features:
        try:
            found = [tf.data.experimental.at(dataset, place) for place in spread(labels[name], _EXAMPLES)]
            return [{key: value.numpy() for key, value in example.items()} for example in found]
        except tf.errors.OpError:  # a source that can only be read in order
            pass
    return list(dataset.take(_EXAMPLES).as_numpy_iterator())


def _shown(key: str, value: Any, data: RawData) -> str:
    """Returns the value of an example in HTML: a picture, a curve, a class name or text."""
    value = np.asarray(value)
    if data.about.get("table", {}).get(key) == "time":
        return "" if np.isnan(value) else str(value.astype("datetime64[s]")).replace("T", " ")
    if value.dtype == np.uint8 and value.ndim == 3 and value.size:
        apart = max(1, max(value.shape[:2]) // _MOST_PIXELS)
        channels = value.shape[2] if value.shape[2] in (1, 3, 4) else 1
        return display.picture(tf.io.encode_png(value[::apart, ::apart, :channels]).numpy(), _PIXELS)
    if key == "labels" and data.class_names:
        return display.escaped(", ".join(data.class_names[number] for number in np.flatnonzero(value)))
    if value.dtype.kind == "f" and value.ndim and len(value) > 1 and key != "value":
        return display.curve(value.reshape(len(value), -1).T)
    if data.class_names and value.dtype.kind in "iu" and key in _CLASSES:
        return display.escaped(" ".join(data.class_names[number] for number in value.ravel()))
    words = [
        part.decode("utf-8", "replace") if isinstance(part, bytes) else f"{part:.6g}" for part in value.ravel()[:64]
    ]
    return display.escaped(" ".join(words))
